"""Claims about `bundle` as a user calls it: what is gathered, what stays, what is refused, and what `--check` finds."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.bundlebuilder import (
    BASE,
    INSTALLER,
    LOCKED,
    QUICKSTART,
    TAG,
    FakeIndex,
    make_base,
    make_project,
    play,
    sha256,
    wheel_bytes,
)

from sparkbake import oci, preflight
from sparkbake.bundlefiles import claimed
from sparkbake.bundlemake import OLDEST_PYTHON
from sparkbake.cli import main
from sparkbake.lockfile import canonical, sha256_of
from sparkbake.mirrors import load_mirrors
from sparkbake.project import Project

ROOT = Path(__file__).parents[1]
TORCH = "torch-2.11.0-py3-none-any.whl"


@dataclass(kw_only=True)
class World:
    """A checkout, the index, and where a bundle goes.

    Attributes:
        mirrors: the file that says where the base lies.
    """

    project: Project
    index: FakeIndex
    layout: Path
    mirrors: Path
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def bundle(self, *words: str | Path) -> int:
        return main(["--root", str(self.project.root), "bundle", *map(str, words)])

    def make(self, *words: str | Path) -> int:
        return self.bundle(TAG, "--mirrors", self.mirrors, "--output", self.folder, *words)

    def check(self, *words: str) -> tuple[int, list[str]]:
        """Status, and what it found."""
        self.capsys.readouterr()
        status = self.bundle("--check", self.folder, *words)
        return status, self.capsys.readouterr().out.splitlines()

    def error(self) -> str:
        return self.capsys.readouterr().err


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> World:
    layout = make_base(tmp_path / "base")
    mirrors = tmp_path / "mirrors.yaml"
    digest = oci.read_index_digest(layout)
    mirrors.write_text(f'schema: "1"\nbases:\n  {BASE}: oci-layout:base/layout@{digest}\n', encoding="utf-8")
    return World(
        project=make_project(tmp_path / "checkout", layout),
        index=play(monkeypatch),
        layout=layout,
        mirrors=mirrors,
        folder=tmp_path / "bundle",
        capsys=capsys,
    )


def files_of(folder: Path) -> set[str]:
    return {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}


# ---- what is gathered


def test_a_bundle_has_wheels_base_tools_and_says_what_is_in_it(world: World) -> None:
    assert world.make("--json") == 0
    base = {f"bases/{BASE}/{one}" for one in files_of(world.layout)}
    wheels = {f"wheels/{one.file}" for one in (*LOCKED, *INSTALLER)}
    tools = {f"tools/{one}" for one in (*QUICKSTART[:3], "docker-7.0-py3-none-any.whl")}
    assert files_of(world.folder) == base | wheels | tools | {"bundle.json", "mirrors.yaml"}
    manifest = json.loads((world.folder / "bundle.json").read_text())
    assert set(manifest["files"]) == files_of(world.folder) - {"bundle.json"}
    said = json.loads(world.capsys.readouterr().out)
    assert (said["tag"], said["base"], said["wheels"], said["architectures"]) == (TAG, BASE, 5, ["amd64", "arm64"])
    assert said["size_bytes"] == sum((world.folder / one).stat().st_size for one in manifest["files"])


def test_its_mirrors_file_holds_wherever_it_is_moved(world: World) -> None:
    assert world.make() == 0
    moved = world.folder.rename(world.folder.parent / "elsewhere")
    mirrors = load_mirrors(moved / "mirrors.yaml", (BASE,))
    digest = oci.read_index_digest(world.layout)
    assert mirrors.bundle == moved / "."
    assert mirrors.bases == ((BASE, f"oci-layout:{moved}/bases/{BASE}@{digest}"),)


def test_tools_are_for_linux_and_without_what_windows_needs(world: World) -> None:
    world.make()
    assert "pywin32" not in "".join(world.index.asked)
    assert not [one for one in files_of(world.folder) if "macosx" in one]


def test_the_address_of_the_index_is_given_to_uv_where_nobody_sees_it(world: World) -> None:
    world.mirrors.write_text(world.mirrors.read_text() + "package_index: https://user:password@index.example/simple\n")
    assert world.make() == 0
    assert world.index.environments == [{"UV_DEFAULT_INDEX": "https://user:password@index.example/simple"}] * 2


def test_the_oldest_python_is_that_of_the_project() -> None:
    assert f'requires-python = ">={OLDEST_PYTHON}"' in (ROOT / "pyproject.toml").read_text()


def test_a_dry_run_asks_nobody_and_writes_nothing(world: World) -> None:
    size = sum(one.size_bytes for one in (*LOCKED, *INSTALLER))
    assert world.make("--dry-run", "--json") == 0
    assert json.loads(world.capsys.readouterr().out) == {
        "tag": TAG, "base": BASE, "folder": str(world.folder), "wheels": 5, "wheels_bytes": size, "tools": 4,
    }  # fmt: skip
    assert world.make("--dry-run") == 0
    assert "5, 0.00 GB" in world.capsys.readouterr().out
    assert world.index.asked == []
    assert not world.folder.exists()


def test_its_place_is_named_for_row_and_base(world: World) -> None:
    assert world.bundle(TAG, "--mirrors", world.mirrors) == 0
    assert (world.project.root / "build" / "bundles" / f"{TAG}-{BASE}" / "bundle.json").is_file()


# ---- what is there stays


def test_a_second_run_fetches_nothing(world: World) -> None:
    world.make()
    world.index.fetched.clear()
    before = (world.folder / "bundle.json").read_bytes()
    assert world.make("--json") == 0
    assert world.index.fetched == []
    assert json.loads(world.capsys.readouterr().out)["fetched_bytes"] == 0
    assert (world.folder / "bundle.json").read_bytes() == before


def test_a_run_that_ended_goes_on_with_what_is_missing(world: World) -> None:
    world.index.gone.add(TORCH)
    assert world.make() == 3
    assert f"{TORCH}: cannot be read from the package index" in world.error()
    assert not (world.folder / "bundle.json").exists()
    (world.folder / "wheels" / f".{TORCH}.part").write_bytes(b"half")
    world.index.gone.clear()
    # Of uv there is a file among the tools, too.
    there = {Path(one).name for one in files_of(world.folder)} & {one.file for one in LOCKED}
    world.index.fetched.clear()
    assert world.make() == 0
    assert TORCH in world.index.fetched
    assert not there & set(world.index.fetched)
    assert world.check()[0] == 0


def test_a_spoilt_file_is_fetched_again(world: World) -> None:
    world.make()
    world.index.fetched.clear()
    (world.folder / "wheels" / TORCH).write_bytes(b"x" * len(wheel_bytes(TORCH)))
    assert world.make() == 0
    assert world.index.fetched == [TORCH]


def test_what_an_earlier_lock_had_goes_when_the_bundle_is_renewed(world: World) -> None:
    world.make()
    manifest = world.folder / "bundle.json"
    old = world.folder / "wheels" / "old-1.0-py3-none-any.whl"
    old.write_bytes(b"old")
    rewrite(manifest, lambda body: body["files"].update({"wheels/" + old.name: {"sha256": "0" * 64, "size_bytes": 3}}))
    assert world.make() == 0
    assert not old.exists()
    assert world.check()[0] == 0


def rewrite(manifest: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest as a person could not: with its digest made right again."""
    body = json.loads(manifest.read_text())
    body.pop("digest")
    change(body)
    manifest.write_text(json.dumps({**body, "digest": sha256_of(canonical(body))}))


# ---- what is refused


def test_a_file_of_the_index_with_another_hash_is_not_kept(world: World) -> None:
    world.index.files[TORCH] = b"another file"
    assert world.make() == 3
    assert f"{TORCH}: got 12 bytes with the hash " in world.error()
    assert TORCH not in {Path(one).name.strip(".") for one in files_of(world.folder)}
    assert not (world.folder / "bundle.json").exists()


def test_an_index_that_does_not_answer_is_told_in_its_words(world: World) -> None:
    world.index.fault = "error: dns error"
    assert world.make() == 10
    assert (
        "wheels: the package index does not say where its files lie:\nerror: dns error\nis it reachable"
        in world.error()
    )


def test_a_wheel_that_the_index_no_longer_has_is_named(world: World) -> None:
    del world.index.files[TORCH]
    world.index.files["torch-2.11.0-cp313-cp313-manylinux_2_28_aarch64.whl"] = b""
    assert world.make() == 10
    assert f"{TORCH}: the package index has no such file with the locked hash; take an index that" in world.error()


def test_a_tool_without_a_wheel_for_a_machine_is_named(world: World) -> None:
    requirements = world.project.root / "tools" / "requirements" / "quickstart.txt"
    hashes = requirements.read_text()
    requirements.write_text(hashes.replace(sha256(wheel_bytes(QUICKSTART[1])), "0" * 64))
    assert world.make() == 10
    assert "uv==0.13.8: the package index has no locked wheel for arm64; take an index that keeps it" in world.error()


def test_requirements_that_are_not_there_are_named(world: World) -> None:
    (world.project.root / "tools" / "requirements" / "run.txt").unlink()
    assert world.make() == 10
    assert "run.txt: cannot be read: " in world.error()


def test_a_base_that_needs_an_archive_is_refused(world: World) -> None:
    assert world.make("--base", "ubuntu-24.04") == 2
    assert (
        "--base: got 'ubuntu-24.04': builds on it fetch packages from an archive snapshot, which a bundle does not "
        f"hold; expected auto or one of {BASE}"
    ) in world.error()


def test_a_base_in_a_registry_is_refused(world: World) -> None:
    world.mirrors.write_text(world.mirrors.read_text().replace("oci-layout:base/layout", "registry.example/debian"))
    assert world.make() == 2
    assert f"--mirrors: has {BASE} in a registry, expected an OCI layout" in world.error()


def test_a_bundle_is_no_index_for_another(world: World) -> None:
    world.make()
    assert world.bundle(TAG, "--mirrors", world.folder / "mirrors.yaml") == 2
    assert "--mirrors: names a bundle" in world.error()


def test_several_rows_are_refused(world: World) -> None:
    assert world.bundle("0.20.2-*") == 2
    assert "bundle: '0.20.2-*' matches 2 tags, expected one; a bundle is of one row" in world.error()


@pytest.mark.parametrize("words", [(), (TAG, "--check", "x")])
def test_either_a_tag_or_a_folder_to_check_is_expected(world: World, words: tuple[str, ...]) -> None:
    assert world.bundle(*words) == 2
    assert "bundle: expected either a TAG or --check DIR" in world.error()


def test_a_folder_of_something_else_is_left_alone(world: World) -> None:
    world.folder.mkdir()
    (world.folder / "photos").mkdir()
    assert world.make() == 2
    assert f"--output: {world.folder} has photos, expected a new folder or a bundle" in world.error()
    assert world.index.fetched == []


def test_a_file_is_no_place_for_a_bundle(world: World) -> None:
    world.folder.write_text("")
    assert world.make() == 2
    assert f"--output: {world.folder} is no folder" in world.error()


def test_a_strange_file_among_the_wheels_is_not_removed_but_named(world: World) -> None:
    (world.folder / "wheels").mkdir(parents=True)
    mine = world.folder / "wheels" / "mine.whl"
    mine.write_text("mine")
    assert world.make() == 10
    assert f"{mine}: is not of this bundle; remove it, or name another folder" in world.error()
    assert mine.read_text() == "mine"


def test_the_bundle_of_another_row_is_not_overwritten(world: World) -> None:
    world.make()
    assert world.bundle("0.20.2-t5", "--mirrors", world.mirrors, "--output", world.folder) == 2
    assert f"--output: {world.folder} is the bundle of {TAG} on {BASE}; name another folder" in world.error()


def test_too_little_room_is_told_before_anything_is_fetched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "free_bytes", lambda _folder: 10**9)
    assert world.make() == 4
    assert "has 1.0 GB free: expected 5.0 GB (0.0 for the bundle, 5 to spare); free some, or name " in world.error()
    assert world.index.fetched == []


def test_two_runs_do_not_make_one_bundle_at_once(world: World) -> None:
    half = world.folder / "wheels" / f".{TORCH}.part"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    with claimed(world.folder):
        assert world.make() == 10
        assert f"{world.folder}: another run makes or removes this bundle; wait for it" in world.error()
        assert (half.read_text(), world.index.fetched) == ("half", [])
    assert world.make() == 0
    assert not half.exists()


# ---- --check


def test_a_whole_bundle_is_said_to_be_whole(world: World) -> None:
    world.make()
    assert world.check() == (0, [f"{world.folder}: {TAG} on {BASE}: whole, and of the locks of this checkout"])


def test_every_damage_is_named(world: World) -> None:
    world.make()
    wheels = world.folder / "wheels"
    (wheels / TORCH).write_bytes(b"x" * len(wheel_bytes(TORCH)))
    (wheels / LOCKED[0].file).unlink()
    (wheels / LOCKED[2].file).write_bytes(b"short")
    (wheels / "more.whl").write_bytes(b"")
    status, found = world.check()
    assert status == 1
    assert [one.partition(": ")[2] for one in found] == [
        f"missing, expected {LOCKED[0].size_bytes} bytes",
        f"changed: its hash is {found[1].split('hash is ')[1][:12]}, expected {LOCKED[1].sha256[:12]}",
        f"has 5 bytes, expected {LOCKED[2].size_bytes}",
        "is not of this bundle",
    ]
    status, text = world.check("--json")
    assert (status, json.loads("\n".join(text))["faults"]) == (1, found)


def test_a_bundle_of_another_lock_is_told(world: World) -> None:
    world.make()
    path = world.project.root / "locks" / f"{TAG}.json"
    rewrite(path, lambda body: body.update(source_date_epoch=1))
    status, found = world.check()
    assert status == 1
    assert found[0].startswith(f"{world.folder}: is of another lock of {TAG}, sha256:")
    path.unlink()
    assert f"cannot be held against the lock of {TAG}: " in world.check()[1][0]


def test_a_bundle_of_a_row_that_is_not_here_is_told(world: World) -> None:
    world.make()
    rewrite(world.folder / "bundle.json", lambda body: body.update(tag="9.9.9-t9"))
    status, found = world.check()
    assert status == 1
    assert found == [f"{world.folder}: is of 9.9.9-t9 on {BASE}, which the matrix of this checkout does not have"]


def test_a_folder_that_was_not_finished_is_no_bundle(world: World) -> None:
    world.make()
    (world.folder / "bundle.json").unlink()
    assert world.bundle("--check", world.folder) == 10
    assert "expected a folder that `nox -s bundle -- TAG --output DIR` finished" in world.error()
