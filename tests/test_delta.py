"""Claims about what an update costs: which layers move, which packages needed it, and that nothing is left out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ocibuilder import (
    EPOCH,
    SITE,
    MadeLayer,
    Member,
    copied,
    make_device,
    make_file,
    make_folder,
    make_hardlink,
    make_link,
    make_package,
    write_layout,
)

from sparkbake.delta import Delta, LayerChange, PackageChange, locked_changes, summed
from sparkbake.deltaread import Named, packed_bytes, read_delta, read_layers
from sparkbake.errors import ImageError
from sparkbake.images import OpenImage, open_image
from sparkbake.model import Wheel
from sparkbake.ownership import attribution, is_record

BASE = MadeLayer(members=[make_file("etc/os", b"13")], step="mmdebstrap")
TORCH = make_package("torch", "2.0", {"torch/a.py": b"a" * 999, "../../../bin/torchrun": b"run"})
RAY = make_package("Ray_Core", "1.0", {"ray.py": b"ray"})


def quiet(_line: str) -> None:
    """Where progress goes that no test looks at."""


def opened(folder: Path, layers: Sequence[MadeLayer]) -> OpenImage:
    return open_image(write_layout(folder, layers), platform="linux/arm64")


def named(name: str, image: OpenImage) -> Named:
    return Named(name=name, info=image.info, opened=image)


def cost(
    tmp_path: Path, old: Sequence[MadeLayer], new: Sequence[MadeLayer], say: Callable[[str], None] = quiet
) -> Delta:
    return read_delta(
        named("old", opened(tmp_path / "old", old)),
        named("new", opened(tmp_path / "new", new)),
        say,
    )


def packages(found: Delta) -> dict[str, PackageChange]:
    return {one.name: one for one in found.packages}


def owners(folder: Path, layers: Sequence[MadeLayer]) -> dict[str, str]:
    """Path to package of every entry, of all layers."""
    read = read_layers(opened(folder, layers), "x", quiet, known=())
    return {path: package for (_digest, path), package in attribution(read).items()}


# ---- whose a file is


def test_a_file_belongs_to_the_distribution_that_records_it(tmp_path: Path) -> None:
    loose = [make_link("usr/local/cuda", "/x"), make_device("dev/null")]
    found = owners(tmp_path, [BASE, copied("torch.a", [*TORCH, *loose]), copied("rest", RAY), MadeLayer(step="RUN x")])
    assert found == {
        "etc/os": "(base)",
        f"{SITE}/torch/a.py": "torch",
        "opt/venv/bin/torchrun": "torch",
        f"{SITE}/torch-2.0.dist-info/RECORD": "torch",
        f"{SITE}/ray.py": "ray-core",
        f"{SITE}/Ray_Core-1.0.dist-info/RECORD": "ray-core",
        "usr/local/cuda": "(torch)",
        "dev/null": "(torch)",
    }


def test_a_file_that_two_claim_belongs_to_the_one_of_its_layer(tmp_path: Path) -> None:
    first = make_package("aaa", "1", {}, claims=["shared.py"])
    second = make_package("bbb", "1", {"shared.py": b""})
    third = make_package("ccc", "1", {}, claims=["shared.py"])
    found = owners(tmp_path, [copied("one", first), copied("two", [*third, *second])])
    assert found[f"{SITE}/shared.py"] == "bbb"


def test_a_record_in_another_layer_counts_where_none_is_in_the_same(tmp_path: Path) -> None:
    first = make_package("aaa", "1", {}, claims=["shared.py", "/usr/bin/tool"])
    found = owners(tmp_path, [copied("one", first), copied("two", [make_file(f"{SITE}/shared.py")]), BASE])
    assert found[f"{SITE}/shared.py"] == "aaa"


def test_a_file_beside_a_record_belongs_to_its_distribution(tmp_path: Path) -> None:
    note = make_file(f"{SITE}/Ray_Core-1.0.dist-info/TRIMMED.json")
    stray = make_file(f"{SITE}/other-1.0.dist-info/METADATA")
    found = owners(tmp_path, [copied("rest", [*RAY, note, stray])])
    assert found[note[0].name] == "ray-core"
    assert found[stray[0].name] == "(rest)"


def test_a_distribution_inside_another_is_none() -> None:
    assert is_record("usr/lib/python3/dist-packages/pip-1.dist-info/RECORD")
    assert not is_record(f"{SITE}/setuptools/_vendor/wheel-1.dist-info/RECORD")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'"a', "RECORD: is no CSV: .*; expected the RECORD"), (b"\xff", "RECORD: is not UTF-8: ")],
)
def test_a_record_that_cannot_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        owners(tmp_path, [copied("one", [make_file(f"{SITE}/a-1.dist-info/RECORD", content)])])


PATHS = st.lists(st.sampled_from(["a/x", "a/y", "b", "c/d/e", "../../../bin/t"]), unique=True)


@given(layers=st.lists(st.tuples(PATHS, PATHS, PATHS), max_size=3))
def test_every_entry_but_folders_has_exactly_one_package(
    tmp_path_factory: pytest.TempPathFactory, layers: Sequence[tuple[list[str], list[str], list[str]]]
) -> None:
    made = []
    for number, (files, claims, links) in enumerate(layers):
        members: list[Member] = [make_folder("opt")]
        members += make_package(f"p{number}", "1", dict.fromkeys(files, b"x"), claims=claims)
        members += [make_link(f"links/{path.removeprefix('../../../')}", "x") for path in links]
        made.append(copied(f"l{number}", members))
    image = opened(tmp_path_factory.mktemp("image"), made)
    read = read_layers(image, "x", quiet, known=())
    expected = {
        (layer.digest, entry.path)
        for layer in image.info.layers
        for entry in image.entries(layer)
        if entry.kind != "folder"
    }
    found = attribution(read)
    assert set(found) == expected
    assert set(packed_bytes(image, "x", read, quiet)) == set(found.values())


# ---- layers


def test_an_image_to_itself_moves_nothing(tmp_path: Path) -> None:
    layers = [BASE, copied("torch", TORCH)]
    found = cost(tmp_path, layers, layers)
    assert (found.moved_bytes, found.moved_disk_bytes, found.least_bytes, found.ratio) == (0, 0, 0, None)
    assert found.packages == ()
    assert {one.state for one in found.layers} == {"shared"}
    assert found.total_bytes == sum(one.compressed_bytes for one in found.layers) > 0


@given(st.lists(st.sampled_from([BASE, copied("torch", TORCH), copied("rest", RAY), MadeLayer()]), max_size=5))
def test_layers_are_shared_wherever_they_stand_and_counted_once(
    tmp_path_factory: pytest.TempPathFactory, layers: list[MadeLayer]
) -> None:
    found = cost(tmp_path_factory.mktemp("images"), layers, list(reversed(layers)))
    assert (found.moved_bytes, found.packages) == (0, ())
    assert len(found.layers) == len({one.packed()[1] for one in layers})


def test_layers_have_names_groups_and_sizes(tmp_path: Path) -> None:
    system = MadeLayer(members=[make_file("etc/x", b"123")], step="RUN os-packages.sh")
    said: list[str] = []
    found = cost(tmp_path, [BASE], [BASE, system, copied("cuda.nvidia-cublas", TORCH, compression="tar")], said.append)
    assert [(one.name, one.group, one.state) for one in found.layers] == [
        ("base", "base", "shared"),
        ("system", "system", "changed"),
        ("cuda.nvidia-cublas", "cuda", "changed"),
    ]
    assert [one.disk_bytes for one in found.layers][:2] == [2, 3]
    assert found.moved_disk_bytes == sum(one.disk_bytes or 0 for one in found.layers[1:])
    assert found.moved_bytes == found.total_bytes - found.layers[0].compressed_bytes
    assert "reading layer 2 of 3 of new (0 MB)" in said
    assert "packing layer 3 of 3 of new (0 MB)" in said


def test_an_image_in_a_registry_is_compared_by_layers_alone(tmp_path: Path) -> None:
    old = opened(tmp_path / "old", [BASE])
    new = opened(tmp_path / "new", [BASE, copied("torch", TORCH)])
    found = read_delta(Named(name="old", info=old.info, opened=None), named("new", new), pytest.fail)
    assert found.moved_bytes == new.info.layers[1].size_bytes
    assert (found.packages, found.least_bytes, found.moved_disk_bytes, found.ratio) == ((), None, None, None)


# ---- packages


def test_only_what_changed_had_to_move(tmp_path: Path) -> None:
    newer = make_package("torch", "2.1", {"torch/a.py": b"b" * 999})
    gone = make_package("gone", "1", {"gone.py": b"gone"})
    fresh = make_package("fresh", "3", {"fresh.py": b"fresh"})
    found = cost(tmp_path, [copied("rest", [*TORCH, *RAY, *gone])], [copied("rest", [*newer, *RAY, *fresh])])
    assert {
        name: (one.state, one.old_version, one.new_version, one.moved) for name, one in packages(found).items()
    } == {
        "torch": ("changed", "2.0", "2.1", True),
        "ray-core": ("unchanged", "1.0", "1.0", True),
        "gone": ("removed", "1", None, False),
        "fresh": ("new", None, "3", True),
    }
    moved = packages(found)
    assert found.least_bytes == moved["torch"].compressed_bytes + moved["fresh"].compressed_bytes
    assert moved["gone"].compressed_bytes == moved["gone"].disk_bytes == 0
    assert sum(one.disk_bytes or 0 for one in found.packages) == found.moved_disk_bytes
    assert found.least_bytes
    assert found.ratio == found.moved_bytes / found.least_bytes
    sizes = [one.compressed_bytes for one in found.packages]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"mtime": EPOCH + 1}, "unchanged"),
        ({"mode": 0o755}, "changed"),
        ({"uid": 1}, "changed"),
        ({"headers": {"SCHILY.xattr.user.a": "b"}}, "changed"),
        ({"headers": {"atime": "1"}}, "unchanged"),
        ({"content": b"other"}, "changed"),
    ],
)
def test_other_times_alone_move_a_package_in_vain(tmp_path: Path, change: dict[str, Any], state: str) -> None:
    record = make_package("a", "1", {}, claims=["a.py"])
    old, new = ([*record, make_file(f"{SITE}/a.py", **{"content": b"a", **some})] for some in ({}, change))
    found = cost(tmp_path, [copied("rest", old)], [copied("rest", new)])
    assert [(one.name, one.state) for one in found.packages] == [("a", state)]


@pytest.mark.parametrize("other", [make_link("x/b", "d"), make_hardlink("x/b", "x/a"), make_file("x/b", b"d")])
def test_another_link_or_kind_is_a_change(tmp_path: Path, other: Member) -> None:
    file = make_file("x/a")
    found = cost(tmp_path, [copied("rest", [file, make_link("x/b", "c")])], [copied("rest", [file, other])])
    assert [(one.name, one.group, one.state, one.new_version) for one in found.packages] == [
        ("(rest)", "rest", "changed", None)
    ]


def test_a_package_that_only_goes_to_another_layer_is_moved_in_vain(tmp_path: Path) -> None:
    found = cost(
        tmp_path,
        [copied("rest", [*RAY, *TORCH])],
        [copied("torch", TORCH), copied("rest", RAY)],
    )
    assert {one.name: (one.group, one.state) for one in found.packages} == {
        "torch": ("torch", "unchanged"),
        "ray-core": ("rest", "unchanged"),
    }
    assert found.least_bytes == 0


def test_a_package_of_which_a_shared_layer_has_a_part_is_not_new(tmp_path: Path) -> None:
    part = copied("torch", make_package("torch", "2.0", {}, claims=["extra.py"]))
    found = cost(tmp_path, [part], [part, copied("rest", [make_file(f"{SITE}/extra.py")])])
    assert [(one.name, one.state, one.old_version) for one in found.packages] == [("torch", "changed", "2.0")]


def test_what_a_package_comes_to_packed_is_about_what_its_own_layer_would(tmp_path: Path) -> None:
    content = bytes(range(256)) * 400
    members = make_package("big", "1", {f"big/{number}": content[number:] for number in range(20)})
    image = opened(tmp_path, [copied("big", members)])
    read = read_layers(image, "x", quiet, known=())
    (packed,) = packed_bytes(image, "x", read, quiet).values()
    assert packed == pytest.approx(image.info.layers[0].size_bytes, rel=0.1)


# ---- by the locks


def wheel(name: str, version: str, size_bytes: int) -> Wheel:
    return Wheel(
        name=name, version=version, file=f"{name}-{version}.whl", sha256=f"{name} {version}", size_bytes=size_bytes
    )


def layer(name: str, state: Literal["shared", "changed"], compressed_bytes: int) -> LayerChange:
    return LayerChange(
        digest=name,
        name=name,
        group=name.partition(".")[0],
        state=state,
        compressed_bytes=compressed_bytes,
        disk_bytes=None,
    )


OLD_LOCK = {
    "cuda.blas": [wheel("blas", "1", 90)],
    "rest": [wheel("a", "1", 30), wheel("b", "1", 10), wheel("c", "1", 5)],
}
NEW_LOCK = {
    "cuda.blas": [wheel("blas", "1", 90)],
    "rest": [wheel("a", "2", 30), wheel("b", "1", 10)],
    "vllm": [wheel("v", "1", 7)],
}
LAYERS = (
    layer("base", "shared", 50),
    layer("cuda.blas", "shared", 70),
    layer("rest", "changed", 20),
    layer("vllm", "changed", 6),
    layer("manifest", "changed", 1),
)


def test_by_the_locks_a_package_has_the_share_of_its_layer_that_its_wheel_has() -> None:
    found = {one.name: one for one in locked_changes(OLD_LOCK, NEW_LOCK, LAYERS)}
    assert {name: (one.state, one.compressed_bytes, one.moved) for name, one in found.items()} == {
        "(manifest)": ("changed", 1, True),
        "a": ("changed", 15, True),
        "b": ("unchanged", 5, True),
        "c": ("removed", 0, False),
        "v": ("new", 6, True),
    }
    assert (found["a"].old_version, found["a"].new_version) == ("1", "2")
    assert (found["v"].group, found["c"].group) == ("vllm", "rest")


def test_by_the_locks_the_least_is_what_changed_and_disk_is_not_known() -> None:
    found = summed("old", "new", LAYERS, locked_changes(OLD_LOCK, NEW_LOCK, LAYERS), packages_by="locks")
    assert (found.moved_bytes, found.least_bytes, found.moved_disk_bytes) == (27, 22, None)
    assert found.packages_by == "locks"
