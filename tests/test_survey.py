"""Claims about what is read of an image: every file once, with its layers on top of each other."""

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cudabuilder import make_elf, make_program
from tests.elfbuilder import make_library
from tests.imagebuilder import PTX_80, SASS_120
from tests.ocibuilder import (
    SITE,
    MadeLayer,
    Member,
    blob_path,
    copied,
    digest_of,
    make_device,
    make_file,
    make_folder,
    make_hardlink,
    make_link,
    make_tar,
    write_layout,
)

from sparkbake.errors import ImageError
from sparkbake.images import open_image
from sparkbake.survey import is_text, read_survey
from sparkbake.surveyed import Survey

RECORD = f"{SITE}/a-1.dist-info/RECORD"
LIBRARY = make_library("liba.so", needed=["libc.so.6"], note=b"\xab\xcd")


def surveyed(tmp_path: Path, *layers: Sequence[Member] | MadeLayer, told: list[str] | None = None) -> Survey:
    made = [one if isinstance(one, MadeLayer) else MadeLayer(members=one) for one in layers]
    image = open_image(write_layout(tmp_path / "layout", made), platform="linux/arm64")
    return read_survey(image, "it", (told if told is not None else []).append, compute_capability="12.1")


def paths(survey: Survey) -> list[str]:
    return list(survey.seen)


# ---- one layer


def test_every_kind_of_entry_is_there_in_the_order_of_paths(tmp_path: Path) -> None:
    members = [
        make_folder("opt"),
        make_file("opt/b", b"text", mode=0o755),
        make_link("opt/a", "../etc"),
        make_hardlink("opt/c", "opt/b"),
        make_device("dev/null"),
    ]
    found = surveyed(tmp_path, members)
    kinds = {path: (one.entry.kind, one.entry.target, one.entry.size_bytes) for path, one in found.seen.items()}
    assert list(kinds.items()) == [
        ("dev/null", ("other", "1:3", 0)),
        ("opt", ("folder", "", 0)),
        ("opt/a", ("link", "../etc", 0)),
        ("opt/b", ("file", "", 4)),
        ("opt/c", ("hardlink", "opt/b", 0)),
    ]
    assert found.seen["opt/b"].entry.mode == 0o755


def test_a_file_has_both_digests_and_nothing_else_has_one(tmp_path: Path) -> None:
    found = surveyed(
        tmp_path, [make_file("a", b"text"), make_file("empty"), make_link("b", "a"), make_hardlink("c", "a")]
    )
    sha256 = {path: one.entry.sha256 for path, one in found.seen.items()}
    md5 = {path: one.md5 for path, one in found.seen.items()}
    assert sha256["a"] == hashlib.sha256(b"text").hexdigest()
    assert md5["a"] == hashlib.md5(b"text", usedforsecurity=False).hexdigest()
    assert sha256["empty"] == hashlib.sha256(b"").hexdigest()
    assert (sha256["b"], md5["b"], sha256["c"], md5["c"]) == ("", "", "", "")


def test_the_digest_that_dpkg_notes_is_taken_where_dpkg_installs_alone(tmp_path: Path) -> None:
    """So a file of a recipe in the place of one of dpkg's is another."""
    found = surveyed(tmp_path, [make_file("a", b"1")], [make_file("b", b"2")], copied("torch", [make_file("c", b"3")]))
    assert {path: bool(one.md5) for path, one in found.seen.items()} == {"a": True, "b": True, "c": False}
    assert all(one.entry.sha256 for one in found.seen.values())


def test_what_is_said_of_the_image_is_kept(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "layout", [MadeLayer(members=[make_file("a")])])
    image = open_image(folder, platform="linux/arm64")
    found = read_survey(image, "it", lambda _text: None, compute_capability="12.1")
    assert (found.image, found.digest) == ("it", image.info.digest)
    assert (found.labels, found.config) == ((("one", "1"),), image.info.config)


def test_each_layer_is_told_of(tmp_path: Path) -> None:
    told: list[str] = []
    surveyed(tmp_path, [make_file("a")], [make_file("b")], told=told)
    assert sorted(told) == [f"reading layer {at} of 2 of it (0 MB)" for at in (1, 2)]


@pytest.mark.parametrize(
    "path",
    [
        RECORD,
        f"{SITE}/a-1.dist-info/METADATA",
        f"{SITE}/a-1.dist-info/TRIMMED.json",
        f"{SITE}/a-1.dist-info/PRUNED.json",
        "var/lib/dpkg/status",
        "var/lib/dpkg/status.d/base",
        "var/lib/dpkg/status.d/base.md5sums",
        "var/lib/dpkg/diversions",
        "var/lib/dpkg/alternatives/awk",
        "var/lib/dpkg/info/libc6:arm64.list",
        "var/lib/dpkg/info/libc6:arm64.md5sums",
        "usr/share/sparkbake/manifest.json",
        "usr/share/sparkbake/files.json",
        "etc/os-release",
        "usr/lib/os-release",
        "etc/ld.so.conf",
        "etc/ld.so.conf.d/a.conf",
        f"{SITE}/torch/version.py",
        f"{SITE}/vllm/E=8,N=64,device_name=NVIDIA_GB10.json",
    ],
)
def test_what_says_something_of_other_files_is_kept(path: str) -> None:
    assert is_text(path)


@pytest.mark.parametrize(
    "path",
    [
        f"{SITE}/a/RECORD",
        f"{SITE}/a-1.dist-info/licenses/RECORD.txt",
        "var/lib/dpkg/info/a.postinst",
        "opt/var/lib/dpkg/status",
        "usr/share/sparkbake/more/a.json",
        f"{SITE}/torchvision/version.py",
        f"{SITE}/vllm/E=8,N=64,device_name=NVIDIA_H100.json",
    ],
)
def test_other_files_are_not(path: str) -> None:
    assert not is_text(path)


def test_texts_are_kept_whole(tmp_path: Path) -> None:
    text = b"a,,\n" * 400_000  # of several chunks
    found = surveyed(tmp_path, [make_file(RECORD, text), make_file("etc/other", b"x"), make_file("etc/ld.so.conf")])
    assert found.texts == {"etc/ld.so.conf": b"", RECORD: text}


def test_elf_files_are_read(tmp_path: Path) -> None:
    code = make_program(SASS_120, PTX_80)
    found = surveyed(tmp_path, [make_file("liba.so", LIBRARY), make_file("c.so", code), make_hardlink("d.so", "c.so")])
    assert list(found.binaries) == ["c.so", "liba.so"]
    library, program = found.binaries["liba.so"], found.binaries["c.so"]
    assert (library.machine, library.build_id, library.code) == (183, "abcd", None)
    assert library.dynamic is not None
    assert (library.dynamic.soname, library.dynamic.needed) == ("liba.so", ("libc.so.6",))
    assert program.dynamic is None
    assert program.code is not None
    assert (program.code.verdict, program.code.containers) == ("same-major", (("same-major", 1), ("ptx", 1)))


def test_a_large_elf_file_is_read_through_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkbake.survey._MOST_IN_MEMORY_BYTES", 64)
    found = surveyed(tmp_path, [make_file("liba.so", LIBRARY)])
    assert found.binaries["liba.so"].build_id == "abcd"
    assert found.seen["liba.so"].entry.sha256 == hashlib.sha256(LIBRARY).hexdigest()


def test_an_elf_file_that_cannot_be_read_is_named_with_its_layer(tmp_path: Path) -> None:
    found = surveyed(tmp_path, [make_file("b.so", LIBRARY[:-10]), make_file("a.so", make_elf()[:40])])
    assert [one.path for one in found.unread] == ["a.so", "b.so"]
    assert found.unread[0].layer == found.seen["a.so"].layer
    assert found.unread[0].why.startswith("a.so: ends within the ELF header")
    assert found.binaries == {}


def test_of_a_path_that_a_layer_has_twice_the_last_counts(tmp_path: Path) -> None:
    """As unpacking has it."""
    twice = [
        make_file("a.so", LIBRARY),
        make_file("b.so", LIBRARY[:-10]),
        make_file(RECORD, b"old"),
        make_file("a.so", b"no program"),
        make_file("b.so", LIBRARY),
        make_link(RECORD, "elsewhere"),
    ]
    found = surveyed(tmp_path, twice)
    assert (list(found.binaries), found.unread, found.texts) == (["b.so"], (), {})


# ---- layers on top of each other


def test_each_file_is_of_the_layer_that_has_it_last(tmp_path: Path) -> None:
    found = surveyed(
        tmp_path,
        [make_file("a", b"old"), make_file("b")],
        [make_file("c")],
        copied("cuda.nvidia-cublas", [make_file("a", b"new")]),
    )
    assert {path: one.layer_name for path, one in found.seen.items()} == {
        "a": "cuda.nvidia-cublas",
        "b": "base",
        "c": "system",
    }
    assert found.seen["a"].entry.sha256 == hashlib.sha256(b"new").hexdigest()
    assert len({one.layer for one in found.seen.values()}) == 3


def test_a_whiteout_removes_a_file_of_a_lower_layer(tmp_path: Path) -> None:
    below = [
        make_folder("etc"),
        make_file("etc/os-release", b"ID=a"),
        make_file("etc/keep"),
        make_file("a.so", LIBRARY),
    ]
    found = surveyed(tmp_path, below, [make_file("etc/.wh.os-release"), make_file(".wh.a.so")])
    assert paths(found) == ["etc", "etc/keep"]
    assert (found.texts, found.binaries) == ({}, {})


def test_a_whiteout_removes_a_folder_with_all_in_it(tmp_path: Path) -> None:
    below = [
        make_folder("opt"),
        make_folder("opt/a"),
        make_file("opt/a/b/c"),
        make_file("opt/ab"),
        make_file("x", b"\x7fELF"),
    ]
    found = surveyed(tmp_path, below, [make_file("opt/.wh.a"), make_file(".wh.x")])
    assert paths(found) == ["opt", "opt/ab"]
    assert found.unread == ()


def test_a_whiteout_leaves_what_its_own_layer_has(tmp_path: Path) -> None:
    """Whiteouts are of lower layers, wherever they stand in their own."""
    above = [make_folder("opt"), make_file("opt/new"), make_file("opt/.wh.old"), make_file("opt/.wh..wh..opq")]
    found = surveyed(tmp_path, [make_folder("opt"), make_file("opt/old"), make_file("opt/other")], above)
    assert paths(found) == ["opt", "opt/new"]


def test_an_opaque_folder_hides_all_that_was_in_it(tmp_path: Path) -> None:
    below = [make_folder("etc"), make_file("etc/a"), make_file("etc/b/c"), make_file("etcetera")]
    found = surveyed(tmp_path, below, [make_folder("etc"), make_file("etc/.wh..wh..opq"), make_file("etc/a", b"new")])
    assert paths(found) == ["etc", "etc/a", "etcetera"]
    assert found.seen["etc/a"].entry.size_bytes == 3


def test_what_was_removed_may_come_back(tmp_path: Path) -> None:
    found = surveyed(tmp_path, [make_file("a", b"1")], [make_file(".wh.a")], [make_file("a", b"222")])
    assert found.seen["a"].entry.size_bytes == 3


def test_a_file_takes_the_place_of_a_folder_with_all_in_it(tmp_path: Path) -> None:
    found = surveyed(
        tmp_path, [make_folder("a"), make_file("a/b"), make_file("a/c.so", LIBRARY)], [make_link("a", "b")]
    )
    assert paths(found) == ["a"]
    assert found.binaries == {}


def test_a_folder_takes_the_place_of_a_file_and_leaves_what_is_in_a_folder(tmp_path: Path) -> None:
    below = [make_file("a.so", LIBRARY), make_folder("b"), make_file("b/c")]
    found = surveyed(tmp_path, below, [make_folder("a.so"), make_folder("b", mode=0o700)])
    assert paths(found) == ["a.so", "b", "b/c"]
    assert found.binaries == {}
    assert found.seen["b"].entry.mode == 0o700


def test_what_takes_the_place_of_a_program_and_is_none_leaves_nothing_of_it(tmp_path: Path) -> None:
    found = surveyed(
        tmp_path, [make_file("a.so", LIBRARY), make_file("b.so", b"\x7fELF")], [make_file("a.so"), make_file("b.so")]
    )
    assert (found.binaries, found.unread) == ({}, ())


def test_a_hard_link_keeps_leading_to_a_path(tmp_path: Path) -> None:
    """BuildKit writes both ends of one into a layer; of a lower layer it is the file that stands there last."""
    found = surveyed(tmp_path, [make_file("a", b"1"), make_hardlink("b", "a")], [make_file("a", b"22")])
    assert (found.seen["b"].entry.kind, found.seen["b"].entry.target) == ("hardlink", "a")


# ---- what cannot be read


def test_a_damaged_layer_is_an_error(tmp_path: Path) -> None:
    tar = make_tar([make_file("a", b"x" * 5000)])
    with pytest.raises(ImageError, match="its tar ends within a file"):
        surveyed(tmp_path, MadeLayer(tar=tar[:1024]))


def test_a_layer_of_another_content_than_its_digest_is_an_error(tmp_path: Path) -> None:
    layer = MadeLayer(members=[make_file("a", b"one")], compression="gzip")
    folder = write_layout(tmp_path / "layout", [layer])
    tar, blob = layer.packed()
    forged = gzip.compress(tar.replace(b"one", b"two"), mtime=0)
    assert len(forged) == len(blob)
    blob_path(folder, digest_of(blob)).write_bytes(forged)
    image = open_image(folder, platform="linux/arm64")
    with pytest.raises(ImageError, match="sha256:"):
        read_survey(image, "it", lambda _text: None, compute_capability="12.1")
