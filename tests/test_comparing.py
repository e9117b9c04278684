"""Claims about the command `delta`: what its arguments may name, and what it says."""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.builders import link_inputs
from tests.ocibuilder import blob_path, copied, make_package, pack, write_layout

from sparkbake import comparing, process, recordedimages, saving
from sparkbake.cli import main
from sparkbake.compare import Difference
from sparkbake.comparing import Source, print_differences, source_of
from sparkbake.errors import PreflightError, UsageError, VerifyError
from sparkbake.expected import Expected, load_expected
from sparkbake.model import LocalImage
from sparkbake.project import Project, open_project
from sparkbake.saving import check_disk

ROOT = Path(__file__).parents[1]
TAGS = ("0.20.2-t4", "0.32.0-t5")
RAY = make_package("ray", "1.0", {"ray.py": b"ray"})
OLD = [copied("torch", make_package("torch", "2.0", {"t.py": b"a" * 999})), copied("rest", RAY)]
NEW = [copied("torch", make_package("torch", "2.1", {"t.py": b"b" * 999})), copied("rest", RAY)]
ENGINE = LocalImage(digest="sha256:1", labels=(), architecture="arm64", size_bytes=10**9)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "old", OLD)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return pack(write_layout(tmp_path / "layout", NEW), tmp_path / "new.tar")


def delta(*arguments: str | Path) -> int:
    return main(["--root", str(ROOT), "delta", *map(str, arguments)])


# ---- what an image is named by


def test_the_forms_of_an_image(tmp_path: Path) -> None:
    assert source_of("oci:x.tar", TAGS) == Source(kind="file", place="x.tar")
    assert source_of(str(tmp_path), TAGS) == Source(kind="file", place=str(tmp_path))
    assert source_of("0.32.0-t5", TAGS) == Source(kind="tag", place="0.32.0-t5")
    assert source_of("docker://r.example/a:1", TAGS) == Source(kind="registry", place="r.example/a:1")


@pytest.mark.parametrize("asked", ["", "0.33.0-t5", "oci:", "docker://", "none.tar"])
def test_anything_else_names_the_forms(asked: str) -> None:
    with pytest.raises(UsageError, match=rf"got '{asked}', expected an OCI.*oci:FILE.*0\.20\.2-t4.*docker://REGISTRY"):
        source_of(asked, TAGS)


def test_a_wrong_argument_ends_with_2_and_an_image_that_is_not_there_with_8(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert delta(old, "none") == 2
    assert "got 'none', expected" in capsys.readouterr().err
    assert delta(old, "oci:none") == 8
    assert "none: no such file or folder" in capsys.readouterr().err


# ---- what is said


def test_an_update_is_told_by_layers_groups_and_packages(
    old: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert delta(old, new) == 0
    shown = capsys.readouterr()
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert any(line.startswith("torch changed 0.0 0.0 ") for line in lines)
    assert any(line.startswith("rest shared 0.0 0.0 ") for line in lines)
    assert "torch 1 1 0.0 0.0 0.0" in lines
    assert "rest 1 0 0.0 0.0 0.0" in lines
    assert "torch torch changed 2.0 2.1 0.0 0.0" in lines
    assert lines[-1].startswith("to move: 0.0 MB of 0.0 MB compressed (0.0 MB on disk); least possible: 0.0 MB; ratio ")
    assert f"reading layer 1 of 2 of {new} (0 MB)" in shown.err


def test_an_update_to_the_same_says_that_nothing_moves(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert delta(old, f"oci:{old}") == 0
    assert capsys.readouterr().out.endswith("least possible: 0.0 MB; ratio none, nothing has to move\n")


def test_an_update_for_machines_is_json(old: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert delta(old, new, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["old"], said["new"]) == (str(old), str(new))
    assert said["ratio"] == said["moved_bytes"] / said["least_bytes"]
    assert [(one["name"], one["state"]) for one in said["packages"]] == [("torch", "changed")]
    assert [one["state"] for one in said["layers"]] == ["changed", "shared"]


def test_an_image_of_a_registry_is_told_by_layers_alone(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((tmp_path / "old/index.json").read_text())["manifests"][0]["digest"]

    def run(argv: Sequence[str], **_rest: Any) -> str:
        raw = blob_path(old, manifest).read_text()
        return raw if "--raw" in argv else blob_path(old, json.loads(raw)["config"]["digest"]).read_text()

    monkeypatch.setattr(process, "run", run)
    assert delta("docker://registry.example/a:1", old) == 0
    shown = capsys.readouterr().out
    assert "the contents of one image were not read, nor is its lock here: nothing is said of packages\n" in shown
    assert shown.splitlines()[-1].endswith("MB compressed (0.0 MB on disk); least possible: not known")


def test_differences_are_shown_also_of_names_that_are_no_utf_8(capsys: pytest.CaptureFixture[str]) -> None:
    print_differences([Difference(layer="1 (rest)", path="a\udcff", what="mode", first="0644", second="0755")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 differences"
    assert lines[2].split() == ["1", "(rest)", "a\\udcff", "mode", "0644", "0755"]


# ---- an image of the engine


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: Path) -> list[Path]:
    """An engine that has one image, and a checkout with a build folder of its own; the paths that it saved to."""
    paths: list[Path] = []

    def run(argv: Sequence[str | Path], **_rest: Any) -> str:
        assert argv[:3] == ["docker", "image", "save"]
        assert str(argv[3]).endswith(":0.32.0-t5")
        paths.append(Path(argv[-1]))
        pack(old, paths[-1])
        return ""

    def project_here(root: Path) -> Project:
        if not (tmp_path / "locks").exists():
            (tmp_path / "locks").symlink_to(ROOT / "locks")
            link_inputs(tmp_path)
        return replace(open_project(root), root=tmp_path)

    monkeypatch.setattr(comparing, "open_project", project_here)
    for module in (saving, comparing):
        monkeypatch.setattr(module, "local_image", lambda _reference: ENGINE, raising=False)
    monkeypatch.setattr(process, "run", run)
    return paths


def test_an_image_of_the_engine_is_saved_for_the_while(
    saved: list[Path], new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert delta("0.32.0-t5", new) == 0
    assert "reading layer 1 of 2 of 0.32.0-t5 (0 MB)" in capsys.readouterr().err
    (path,) = saved
    assert path.is_relative_to(tmp_path / "build")
    assert list((tmp_path / "build").iterdir()) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt, tarfile.TarError])
def test_what_was_saved_goes_also_when_reading_fails(
    saved: list[Path], new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    def fail(*_arguments: object) -> None:
        assert saved[0].is_file()
        raise failure

    monkeypatch.setattr(comparing, "read_delta", fail)
    if failure is KeyboardInterrupt:
        assert delta("0.32.0-t5", new) == 130
    else:
        with pytest.raises(failure):
            delta("0.32.0-t5", new)
    assert list((tmp_path / "build").iterdir()) == []


@pytest.fixture
def empty_engine(saved: list[Path], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An engine that has no image; the paths that it saved to."""
    for module in (saving, comparing):
        monkeypatch.setattr(module, "local_image", lambda _reference: None, raising=False)
    return saved


def test_a_tag_that_neither_engine_nor_records_have_says_how_to_build_it(
    empty_engine: list[Path], new: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recordedimages, "load_expected", lambda _locks, _tag: {})
    assert delta("0.32.0-t5", new) == 8
    said = capsys.readouterr().err
    assert "has no such image; run `nox -s build -- 0.32.0-t5`, or name an OCI file of it" in said


def recorded(tag: str) -> Expected:
    (found,) = load_expected(ROOT / "locks", tag).values()
    return found


def test_tags_that_the_engine_does_not_have_are_told_by_records_and_locks(
    empty_engine: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert delta("0.20.2-t4", "0.20.2-t5", "--json") == 0
    shown = capsys.readouterr()
    assert (
        f"0.20.2-t4: the engine does not have it; read from its record on debian-13, {recorded('0.20.2-t4').digest}"
        in shown.err
    )
    said = json.loads(shown.out)
    old, new = ({one.digest: one for one in recorded(tag).layers} for tag in ("0.20.2-t4", "0.20.2-t5"))
    assert {one["digest"]: (one["name"], one["compressed_bytes"]) for one in said["layers"]} == {
        digest: (one.name, one.compressed_bytes) for digest, one in new.items()
    }
    moved = {one["name"] for one in said["layers"] if one["state"] == "changed"}
    assert moved == {one.name for digest, one in new.items() if digest not in old}
    assert said["moved_bytes"] == sum(one.compressed_bytes for digest, one in new.items() if digest not in old)
    assert empty_engine == []


def test_packages_are_those_of_the_locks_where_the_records_are_of_these(
    empty_engine: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recordedimages, "_is_current", lambda *_rest: True)
    assert delta("0.20.2-t4", "0.20.2-t5") == 0
    shown = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    (line,) = [one for one in lines if one.startswith("transformers ")]
    old, new = (
        dict(open_project(ROOT).select([tag])[0].versions)["transformers"] for tag in ("0.20.2-t4", "0.20.2-t5")
    )
    assert line.startswith(f"transformers difference changed {old} {new} ")
    assert "contents were not read: packages are those of the locks" in shown
    assert "; least possible by the locks: " in lines[-1]


def test_records_of_other_inputs_say_nothing_of_packages(
    empty_engine: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recordedimages, "_is_current", lambda *_rest: False)
    assert delta("0.20.2-t4", "0.20.2-t5") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("; least possible: not known")


def test_what_the_engine_has_as_recorded_is_not_saved_where_contents_are_not_needed(
    saved: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = replace(ENGINE, digest=recorded("0.32.0-t5").digest)
    monkeypatch.setattr(comparing, "local_image", lambda reference: here if reference.endswith("-t5") else None)
    assert delta("0.20.2-t4", "0.32.0-t5", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["total_bytes"] == sum(
        {one.digest: one.compressed_bytes for one in recorded("0.32.0-t5").layers}.values()
    )
    assert saved == []


def test_an_engine_that_does_not_answer_is_told_and_records_are_read(
    saved: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_reference: str) -> None:
        raise VerifyError("x: the engine does not answer: refused")

    monkeypatch.setattr(comparing, "local_image", fail)
    assert delta("0.20.2-t4", "0.20.2-t5", "--json") == 0
    assert "x: the engine does not answer: refused\n" in capsys.readouterr().err


def test_a_tag_against_an_image_of_a_registry_is_told_by_the_locks_of_both(
    empty_engine: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = open_project(ROOT)
    (row,) = project.select(["0.20.2-t5"])
    base = next(one for one in project.matrix.bases if one.name == "debian-13")
    (target,) = project.plan([row], base).targets
    info = replace(recordedimages.recorded_image(project, row, base).info, labels=target.labels)
    monkeypatch.setattr(comparing, "remote_image", lambda _reference, *, platform: info)
    monkeypatch.setattr(recordedimages, "_is_current", lambda *_rest: True)
    assert delta("docker://registry.example/a:1", "0.20.2-t4", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["packages_by"] == "locks"
    assert "transformers" in {one["name"] for one in said["packages"]}
    other = tuple(pair for pair in target.labels if not pair[0].endswith("lock_digest"))
    info = replace(info, labels=other)
    assert delta("docker://registry.example/a:1", "0.20.2-t4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["packages_by"] is None


@pytest.mark.parametrize(("free", "is_enough"), [(None, True), (6_000_000_000, True), (5_900_000_000, False)])
def test_an_image_is_saved_only_where_there_is_room(free: int | None, *, is_enough: bool, tmp_path: Path) -> None:
    if is_enough:
        check_disk(ENGINE, "r/a:1", tmp_path, lambda _folder: free)
        return
    with pytest.raises(
        PreflightError, match=r"has 5\.9 GB free: expected 6\.0 GB to save r/a:1 .*docker builder prune"
    ):
        check_disk(ENGINE, "r/a:1", tmp_path, lambda _folder: free)
