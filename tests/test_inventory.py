"""Claims about the inventory of device code: which files have some, whose they are, and what a chip can run of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from tests.cudabuilder import PAYLOAD, make_container, make_cubin, make_elf, make_entry, make_packed, make_program
from tests.ocibuilder import (
    SITE,
    MadeLayer,
    copied,
    make_file,
    make_folder,
    make_hardlink,
    make_package,
    pack,
    write_layout,
)

from sparkbake.cli import main
from sparkbake.devicecode import Tally, Verdict, best_verdict, chip_number, tallies, verdict_of, verdicts_of
from sparkbake.errors import ImageError
from sparkbake.fatbin import Code, Kind, Suffix
from sparkbake.images import open_image
from sparkbake.inventory import DeviceFile, Inventory, inventory_of
from sparkbake.survey import read_survey

ROOT = Path(__file__).parents[1]

SASS_120F = make_container(make_entry("sass", 120, "f"))
PTX_80 = make_container(make_entry("sass", 80), make_entry("ptx", 80))
SASS_90A = make_container(make_entry("sass", 90, "a"))
PROGRAM = make_program(SASS_120F, PTX_80, SASS_90A)


def make_code(name: str, stored_bytes: int = 0) -> Code:
    """Of "sm_120f", "compute_80" or "lto_121"."""
    kind, number = name.split("_")
    digits = number.rstrip("af")
    kinds: dict[str, tuple[Kind, int]] = {"sm": ("sass", 2), "compute": ("ptx", 1), "lto": ("other", 8)}
    return Code(
        kind=kinds[kind][0],
        number=kinds[kind][1],
        architecture=int(digits),
        suffix=cast("Suffix", number.removeprefix(digits)),
        stored_bytes=stored_bytes,
    )


def taken(tmp_path: Path, *layers: MadeLayer) -> Inventory:
    image = open_image(write_layout(tmp_path / "layout", layers), platform="linux/arm64")
    survey = read_survey(image, "it", lambda _text: None, compute_capability="12.1")
    return inventory_of(survey, compute_capability="12.1")


def layer(*members: Any) -> MadeLayer:
    return MadeLayer(members=members)


def paths(found: Inventory) -> list[str]:
    return [one.path for one in found.files]


# ---- what a chip can run


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("sm_121", "native"),
        ("sm_121a", "native"),
        ("sm_121f", "native"),
        ("sm_120f", "family"),
        ("sm_120", "same-major"),
        ("sm_120a", "none"),
        ("sm_122", "none"),
        ("sm_122f", "none"),
        ("sm_110", "none"),
        ("sm_100f", "none"),
        ("sm_90a", "none"),
        ("sm_80", "none"),
        ("sm_21", "none"),
        ("compute_121", "ptx"),
        ("compute_121a", "ptx"),
        ("compute_121f", "ptx"),
        ("compute_120", "ptx"),
        ("compute_120f", "ptx"),
        ("compute_120a", "none"),
        ("compute_100f", "none"),
        ("compute_90", "ptx"),
        ("compute_90a", "none"),
        ("compute_52", "ptx"),
        ("compute_122", "none"),
        ("compute_130", "none"),
        ("lto_121", "none"),
    ],
)
def test_what_a_chip_of_12_1_runs(name: str, verdict: Verdict) -> None:
    assert verdict_of(make_code(name), 121) == verdict


@pytest.mark.parametrize(
    ("name", "verdict"), [("sm_120a", "native"), ("sm_121", "none"), ("sm_120f", "native"), ("compute_121f", "none")]
)
def test_code_for_a_higher_minor_version_does_not_run(name: str, verdict: Verdict) -> None:
    assert verdict_of(make_code(name), 120) == verdict


def test_a_container_has_the_verdict_of_its_best_code() -> None:
    some = [[make_code("sm_80"), make_code("compute_80")], [make_code("sm_120"), make_code("compute_120")]]
    assert verdicts_of([*some, [make_code("sm_90a")]], 121) == (("same-major", 1), ("ptx", 1), ("none", 1))


def test_a_container_that_has_no_kernel_for_any_chip_is_not_counted() -> None:
    assert verdicts_of([[make_code("lto_75")], [], [make_code("compute_75"), make_code("lto_75")]], 121) == (
        ("ptx", 1),
    )


def test_the_best_of_no_verdict_is_none() -> None:
    assert best_verdict([]) == "none"


def test_code_is_counted_by_architecture() -> None:
    found = tallies([make_code("sm_120f", 3), make_code("sm_90a", 1), make_code("sm_120f", 4), make_code("sm_120", 9)])
    assert found == (
        Tally(name="sm_90a", count=1, size_bytes=1),
        Tally(name="sm_120", count=1, size_bytes=9),
        Tally(name="sm_120f", count=2, size_bytes=7),
    )


@pytest.mark.parametrize(("text", "number"), [("12.1", 121), ("9.0", 90)])
def test_a_compute_capability_is_numbered_as_architectures_are(text: str, number: int) -> None:
    assert chip_number(text) == number


# ---- what an image has


def test_all_that_is_known_of_a_file(tmp_path: Path) -> None:
    found = taken(tmp_path, MadeLayer(), copied("torch.vllm", make_package("vllm", "1", {"vllm/_C.so": PROGRAM})))
    (one,) = found.files
    assert one == DeviceFile(
        path=f"{SITE}/vllm/_C.so",
        package="vllm",
        layer=one.layer,
        layer_name="torch.vllm",
        build_id="abcd",
        is_cubin=False,
        verdict="family",
        containers=(("family", 1), ("ptx", 1), ("none", 1)),
        unlisted=0,
        emptied=(),
        lost=(),
        foreign=tuple(Tally(name=name, count=1, size_bytes=8) for name in ("sm_80", "sm_90a")),
        sass=tuple(Tally(name=name, count=1, size_bytes=8) for name in ("sm_80", "sm_90a", "sm_120f")),
        ptx=(Tally(name="compute_80", count=1, size_bytes=8),),
        other=(),
    )
    assert one.size_bytes == 32


def test_programs_without_device_code_and_other_files_are_no_part_of_it(tmp_path: Path) -> None:
    found = taken(tmp_path, layer(make_file("lib/a.so", make_elf()), make_file("b.txt", b"text"), make_file("empty")))
    assert (found.files, found.unread, found.elf_files) == ((), (), 1)


def test_relocatable_code_counts_too(tmp_path: Path) -> None:
    found = taken(tmp_path, layer(make_file("a.so", make_program(SASS_120F, section="__nv_relfatbin"))))
    assert [one.verdict for one in found.files] == ["family"]


def test_containers_in_other_sections_are_found(tmp_path: Path) -> None:
    """As libcufft and libcurand have them; the magic number alone, as in the code of a tool, is none."""
    chance = SASS_120F[:8]
    data = bytes(8) + SASS_120F + bytes(24) + PTX_80 + chance + bytes(8) + chance + b"\xff" * 8 + b"x" + SASS_90A
    long = chance + (1 << 17).to_bytes(8, "little") + b"\1" * (1 << 17) + SASS_120F
    found = taken(tmp_path, layer(make_file("a.so", make_elf({".data": data, ".rodata": long, ".text": chance}))))
    assert [(one.unlisted, one.containers) for one in found.files] == [(3, (("family", 2), ("ptx", 1)))]


def test_code_that_is_overwritten_counts_as_not_there(tmp_path: Path) -> None:
    pieces = {"sass 90": ("sass", 90), "sass 120": ("sass", 120), "sass 121": ("sass", 121), "ptx 120": ("ptx", 120)}
    gone = ("sass 90", "sass 121", "ptx 120")
    entries = [make_entry(*one, payload=bytes(16) if name in gone else PAYLOAD) for name, one in pieces.items()]
    (one,) = taken(tmp_path, layer(make_file("a.so", make_program(make_container(*entries))))).files
    names = {key: [tally.name for tally in getattr(one, key)] for key in ("sass", "ptx", "emptied", "lost", "foreign")}
    assert names == {
        "sass": ["sm_120"],
        "ptx": [],
        "emptied": ["sm_90", "compute_120", "sm_121"],
        "lost": ["compute_120", "sm_121"],
        "foreign": [],
    }
    assert (one.verdict, one.size_bytes) == ("same-major", 8)


def test_a_cubin_is_a_file_with_device_code(tmp_path: Path) -> None:
    found = taken(tmp_path, layer(make_file("k.cubin", make_cubin(121, "a"))))
    assert [(one.is_cubin, one.verdict, one.sass[0].name) for one in found.files] == [(True, "native", "sm_121a")]


def test_other_kinds_are_listed(tmp_path: Path) -> None:
    found = taken(tmp_path, layer(make_file("a.so", make_program(make_container(make_entry(8, 75))))))
    assert [(one.verdict, one.containers, one.other) for one in found.files] == [
        ("none", (), (Tally(name="kind 8 of 75", count=1, size_bytes=8),))
    ]


def test_the_worst_come_first_and_of_these_the_largest(tmp_path: Path) -> None:
    members = [
        make_file(name, make_program(*some))
        for name, some in {
            "native.so": [make_container(make_packed([(121, ""), (90, "")]))],
            "ptx.so": [PTX_80],
            "small.so": [SASS_90A],
            "large.so": [SASS_90A, SASS_90A],
        }.items()
    ]
    assert paths(taken(tmp_path, layer(*members))) == ["large.so", "small.so", "ptx.so", "native.so"]


def test_a_large_file_is_read_through_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkbake.survey._MOST_IN_MEMORY_BYTES", 100)
    assert paths(taken(tmp_path, layer(make_file("a.so", PROGRAM)))) == ["a.so"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (make_elf()[:40], "a.so: ends within the ELF header"),
        (b"\x7fELF\x01\x01\x01" + bytes(90), "expected a 64-bit little-endian ELF file"),
        (make_program(SASS_120F[:-8]), "a.so: section '.nv_fatbin': a fat binary up to byte"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_read(tmp_path: Path, data: bytes, why: str) -> None:
    found = taken(tmp_path, layer(make_file("a.so", data), make_file("b.so", PROGRAM)))
    assert paths(found) == ["b.so"]
    assert [(one.path, why in one.why) for one in found.unread] == [("a.so", True)]


def test_a_damaged_record_ends_it(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"RECORD: is not UTF-8: .*; expected the RECORD"):
        taken(tmp_path, layer(make_file(f"{SITE}/x-1.dist-info/RECORD", b"\xff")))


# ---- layers on top of each other


@pytest.mark.parametrize(
    "later",
    [
        [make_file("opt/lib/.wh.a.so")],
        [make_file("opt/.wh.lib")],
        [make_file("opt/lib/.wh..wh..opq")],
        [make_file(".wh..wh..opq")],
        [make_file("opt/lib/a.so", b"other")],
        [make_file("opt/lib", b"a file now")],
        [make_folder("opt/lib/a.so")],
        [make_hardlink("opt/lib/a.so", "opt/b")],
    ],
)
def test_what_a_later_layer_removes_or_replaces_is_gone(tmp_path: Path, later: Sequence[Any]) -> None:
    members = [make_file("opt/lib/a.so", PROGRAM), make_file("opt/lib/bad.so", b"\x7fELF"), make_file("b.so", PROGRAM)]
    found = taken(tmp_path, layer(*members), layer(*later))
    assert "opt/lib/a.so" not in paths(found)
    assert ("b.so" in paths(found)) == (later[0][0].name != ".wh..wh..opq")


def test_what_a_later_layer_does_not_touch_stays(tmp_path: Path) -> None:
    found = taken(
        tmp_path,
        layer(make_file("opt/lib/a.so", PROGRAM), make_file("opt/bad.so", b"\x7fELF")),
        layer(make_folder("opt/lib"), make_file("opt/lib/.wh.b.so"), make_file("opt/lib/a.so.1", b"")),
    )
    assert paths(found) == ["opt/lib/a.so"]
    assert [one.path for one in found.unread] == ["opt/bad.so"]


def test_a_file_that_is_replaced_by_another_with_device_code_counts_once(tmp_path: Path) -> None:
    found = taken(tmp_path, layer(make_file("a.so", PROGRAM)), layer(make_file("a.so", make_program(make_container()))))
    assert paths(found) == []
    found = taken(tmp_path, layer(make_file("a.so", PROGRAM)), layer(make_file("a.so", make_program(SASS_90A))))
    assert [one.verdict for one in found.files] == ["none"]


def test_an_opaque_folder_hides_nothing_of_its_own_layer(tmp_path: Path) -> None:
    found = taken(tmp_path, layer(make_file("opt/.wh..wh..opq"), make_file("opt/a.so", PROGRAM)))
    assert paths(found) == ["opt/a.so"]


# ---- the command


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    cubins = {f"cubins/{name}.cubin": make_cubin(100, "f") for name in "abc"}
    members = [
        *make_package("vllm", "1", {"vllm/_C.so": PROGRAM}),
        *make_package("flashinfer", "1", cubins),
        make_file("usr/lib/bad[1].so", b"\x7fELF"),
        make_file("usr/lib/a.so", make_elf()),
    ]
    return pack(write_layout(tmp_path / "layout", [MadeLayer(members=members)]), tmp_path / "it.tar")


def inventory(*arguments: str) -> int:
    return main(["--root", str(ROOT), "inventory", *arguments])


def test_a_person_gets_a_table_and_one_last_line(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inventory(f"oci:{archive}") == 0
    lines = capsys.readouterr().out.splitlines()
    size = 3 * len(make_cubin(100, "f")) + 32
    assert [line.split() for line in lines[1:4]] == [
        ["package", "file", "verdict", "containers", "SASS", "PTX", "MB"],
        ["flashinfer", "cubins/", "(3", "cubins)", "none", "all", "100f", "-", "0.0"],
        ["vllm", "vllm/_C.so", "family", "1", "family,", "1", "ptx,", "1", "none", "80", "90a", "120f", "80", "0.0"],
    ]
    assert "1 ELF files that could not be read" in lines
    assert any(line.startswith("usr/lib/bad[1].so") for line in lines)
    assert lines[-1] == (f"4 of 6 ELF files have device code, {size / 1e6:.1f} MB: 1 family (0.0 MB), 3 none (0.0 MB)")


def test_a_machine_gets_json(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inventory(f"oci:{archive}", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["compute_capability"], found["elf_files"]) == (1, "12.1", 6)
    assert found["verdicts"]["family"] == {"files": 1, "size_bytes": 32}
    assert found["verdicts"]["native"] == {"files": 0, "size_bytes": 0}
    assert [one["package"] for one in found["files"]] == ["flashinfer", "flashinfer", "flashinfer", "vllm"]
    assert found["files"][3]["containers"] == {"family": 1, "ptx": 1, "none": 1}
    assert found["files"][3]["ptx"] == [{"name": "compute_80", "count": 1, "size_bytes": 8}]
    assert found["files"][3]["size_bytes"] == 32
    assert [one["path"] for one in found["unread"]] == ["usr/lib/bad[1].so"]


def test_an_image_without_device_code_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = write_layout(tmp_path / "layout", [layer(make_file("a.so", make_elf()))])
    assert inventory(f"oci:{place}") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 1 ELF files have device code, 0.0 MB"


def test_an_image_of_a_registry_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert inventory("docker://registry/name:tag") == 2
    assert "pull it, `docker image save` it to a file" in capsys.readouterr().err


def test_a_damaged_layer_ends_it(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(archive.read_bytes())
    at = data.find(b"\x28\xb5\x2f\xfd") + 60
    data[at] ^= 1
    archive.write_bytes(data)
    assert inventory(f"oci:{archive}") == 8
    assert "damaged" in capsys.readouterr().err


def test_a_file_without_sass_and_ptx_has_no_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = make_program(make_container(make_entry(8, 75)))
    place = write_layout(tmp_path / "layout", [layer(make_file("a.so", program))])
    assert inventory(f"oci:{place}") == 0
    assert capsys.readouterr().out.splitlines()[2].split() == [
        "(base)",
        "a.so",
        "none",
        "-",
        "kind",
        "8",
        "of",
        "75",
        "-",
        "0.0",
    ]
