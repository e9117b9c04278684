"""Claims about recording: what a build is told of its record, what fails it, and what is written of a clean one."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.builders import SMALL_MATRIX, link_inputs, make_lock, make_matrix, write_base_locks
from tests.ocibuilder import MadeLayer, copied, make_file, pack, write_layout

from sparkbake import process, recording, saving
from sparkbake.buildx import BakeResult
from sparkbake.cli import main
from sparkbake.errors import ImageError, LockError, UsageError
from sparkbake.expected import Expected, RecordedLayer, load_expected, record_json, record_path
from sparkbake.imageinfo import ImageInfo
from sparkbake.images import open_image
from sparkbake.lockfile import lock_to_json
from sparkbake.matrix import rows
from sparkbake.model import LocalImage, Plan
from sparkbake.project import Project, open_project
from sparkbake.recording import check_options, check_records, hold_against_records

TAG = "0.20.2-t4"
SECOND = "0.20.2-t5"
BASE = "debian-13"
ENGINE = "29.0.1"
OTHER = "sha256:" + 64 * "f"
LEFT_OUT = b'{"t/tests/a.py": 1000, "t/tests/b.py": 42}'
IMAGE = [
    MadeLayer(members=[make_file("etc/os", b"debian")], step="RUN /bin/sh -c x # buildkit"),
    MadeLayer(members=[make_file("etc/passwd", b"root")], step="RUN /bin/sh -c y # buildkit"),
    copied("torch", [make_file("opt/t.py", b"torch"), make_file("site-packages/t-1.dist-info/TRIMMED.json", LEFT_OUT)]),
    copied("torch.triton", [make_file("opt/triton.py", b"triton")]),
]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A checkout of the small matrix, with all its locks."""
    root = tmp_path / "checkout"
    matrix = make_matrix()
    write_base_locks(root / "locks", matrix)
    for row in rows(matrix):
        (root / "locks" / f"{row.tag}.json").write_text(lock_to_json(make_lock(row)), encoding="utf-8")
    (root / "matrix.yaml").write_text(SMALL_MATRIX, encoding="utf-8")
    link_inputs(root)
    (root / "build").mkdir()
    return open_project(root)


@pytest.fixture
def info(tmp_path: Path) -> ImageInfo:
    """The image that is built, and that the engine has."""
    return open_image(write_layout(tmp_path / "layout", IMAGE), platform="linux/arm64").info


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, info: ImageInfo) -> list[str]:
    """An engine that has the image; the references it was asked to save."""
    references: list[str] = []

    def run(argv: Sequence[str | Path], **_rest: Any) -> str:
        assert argv[:3] == ["docker", "image", "save"]
        assert argv[-2] == "--output"
        references.append(str(argv[3]))
        pack(tmp_path / "layout", Path(argv[-1]))
        return ""

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(saving, "local_image", lambda _reference: IN_ENGINE)
    return references


IN_ENGINE = LocalImage(digest=OTHER, labels=(), architecture="arm64", size_bytes=1000)


def plan_of(project: Project, *tags: str) -> Plan:
    return project.plan(project.select(tags or [TAG]), project.matrix.bases[1])


def options(**changed: Any) -> argparse.Namespace:
    usual = {"trim": True, "compression": "zstd", "record": False, "recorded": False, "output": None, "builder": None}
    return argparse.Namespace(**{**usual, "no_verify": False, **changed})


def hold(
    project: Project, info: ImageInfo, *tags: str, clean: bool = True, engine: str = ENGINE, **changed: Any
) -> bool:
    plan = plan_of(project, *tags)
    result = BakeResult(
        digests={one.name: info.digest for one in plan.targets},
        executed=(),
        configs={one.name: info.config_digest for one in plan.targets},
    )
    return hold_against_records(project, plan, result, engine=engine, options=options(**changed), clean=clean)


def as_built(project: Project, info: ImageInfo, tag: str = TAG) -> Expected:
    """A record that the image is as, but for the engine and the layers that are listed."""
    (target,) = plan_of(project, tag).targets
    layers = (RecordedLayer(name="torch", digest=OTHER, compressed_bytes=1),)
    return Expected(
        digest=info.digest,
        config=info.config_digest,
        plan_digest=project.plan_digest(target),
        engine="28.5.2",
        layers=layers,
    )


def record(project: Project, expected: Expected, tag: str = TAG, base: str = BASE) -> Path:
    path = record_path(project.locks, tag)
    path.parent.mkdir(exist_ok=True)
    path.write_text(record_json(tag, {**load_expected(project.locks, tag), base: expected}), encoding="utf-8")
    return path


def spoilt(project: Project, info: ImageInfo, standing: str) -> None:
    """Write a record that the image stands to in one of the five ways."""
    same = as_built(project, info)
    records = {
        "as recorded": same,
        "repacked": replace(same, digest=OTHER),
        "different": replace(same, digest=OTHER, config=OTHER),
        "outdated": replace(same, plan_digest=OTHER),
    }
    if standing in records:
        record(project, records[standing])


# ---- what is said, and what fails a build

AGAIN = f"`nox -s build -- {TAG} --base {BASE} --record`"
STANDINGS = [
    ("as recorded", "its digest is the recorded one", True, True),
    (
        "repacked",
        f"every file is as recorded, but layers are compressed to other bytes (recorded with engine 28.5.2, this is "
        f"{ENGINE}): the digest is not the recorded {OTHER}",
        True,
        True,
    ),
    (
        "different",
        f"its digest is not the recorded {OTHER}, though the inputs are the same (recorded with engine 28.5.2, this is "
        f"{ENGINE}); `nox -s reproduce -- {TAG}",
        False,
        False,
    ),
    ("outdated", "the recorded digest is of other inputs (recipes, lock or matrix have changed); ", True, False),
    ("unknown", f"its digest is not recorded yet; {AGAIN} does", True, False),
]


@pytest.mark.parametrize(("standing", "told", "is_good", "is_recorded"), STANDINGS, ids=[one[0] for one in STANDINGS])
def test_how_a_build_stands_to_its_record_is_said_and_decides(
    project: Project,
    info: ImageInfo,
    capsys: pytest.CaptureFixture[str],
    standing: str,
    told: str,
    *,
    is_good: bool,
    is_recorded: bool,
) -> None:
    spoilt(project, info, standing)
    assert hold(project, info) is is_good
    said = capsys.readouterr().err
    assert said.startswith(f"sparkbake: {TAG} on {BASE}: {told}")
    assert said.count("\n") == 1
    assert hold(project, info, recorded=True) is is_recorded
    assert capsys.readouterr().err == said


def test_a_record_of_other_inputs_says_how_to_renew_it(
    project: Project, info: ImageInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt(project, info, "outdated")
    hold(project, info)
    assert f"; {AGAIN} renews it\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("builder", "is_good", "told"),
    [
        ("remote", True, "compressed to other bytes (recorded with engine 28.5.2, this is the builder 'remote'): "),
        ("the-engine", False, "though the inputs are the same (recorded with engine 28.5.2, this is 28.5.2)"),
        (None, False, "though the inputs are the same (recorded with engine 28.5.2, this is 28.5.2)"),
    ],
)
def test_another_builder_than_the_engine_may_compress_to_other_bytes_whatever_the_engines_version(
    project: Project,
    info: ImageInfo,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    builder: str | None,
    *,
    is_good: bool,
    told: str,
) -> None:
    monkeypatch.setattr(recording, "default_builder", lambda: "the-engine", raising=False)
    spoilt(project, info, "repacked")
    assert hold(project, info, engine="28.5.2", builder=builder) is is_good
    assert told in capsys.readouterr().err


def test_other_contents_of_another_builder_are_not_as_recorded(
    project: Project, info: ImageInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "default_builder", lambda: "the-engine", raising=False)
    spoilt(project, info, "different")
    assert not hold(project, info, builder="remote")


def test_contents_that_are_not_known_are_not_taken_for_the_recorded(project: Project, info: ImageInfo) -> None:
    spoilt(project, info, "repacked")
    plan = plan_of(project)
    result = BakeResult(digests={plan.targets[0].name: info.digest}, executed=())
    assert not hold_against_records(project, plan, result, engine=ENGINE, options=options(), clean=True)


def test_the_record_of_another_base_is_of_another_image(
    project: Project, info: ImageInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    record(project, as_built(project, info), base="ubuntu-24.04")
    assert hold(project, info)
    assert "its digest is not recorded yet" in capsys.readouterr().err


@pytest.mark.parametrize("different", [TAG, SECOND])
def test_of_several_images_each_is_told_of_and_one_that_differs_decides(
    project: Project, info: ImageInfo, capsys: pytest.CaptureFixture[str], different: str
) -> None:
    for tag in (TAG, SECOND):
        same = as_built(project, info, tag)
        record(project, replace(same, digest=OTHER, config=OTHER) if tag == different else same, tag)
    assert not hold(project, info, TAG, SECOND)
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in said] == [TAG, SECOND]
    assert [line.split()[1] for line in said if "is not the recorded" in line] == [different]


@pytest.mark.parametrize("other_way", [{"trim": False}, {"compression": "gzip"}], ids=["no-trim", "gzip"])
@pytest.mark.parametrize("standing", ["different", "damaged"])
def test_an_image_that_is_not_as_published_is_held_against_nothing(
    project: Project,
    info: ImageInfo,
    capsys: pytest.CaptureFixture[str],
    standing: str,
    other_way: dict[str, Any],
) -> None:
    spoilt(project, info, "different")
    if standing == "damaged":
        record_path(project.locks, TAG).write_text("{}", encoding="utf-8")
    assert hold(project, info, **other_way)
    assert capsys.readouterr().err == ""


def test_a_damaged_record_is_an_error_and_stays(project: Project, info: ImageInfo, saved: list[str]) -> None:
    path = record(project, as_built(project, info))
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(LockError, match="not a record of"):
        hold(project, info, record=True)
    assert path.read_text(encoding="utf-8") == "{}"
    assert saved == []


# ---- before a build


@pytest.mark.parametrize(("standing", "told"), [("unknown", "not recorded yet"), ("outdated", "is of other inputs")])
def test_what_cannot_turn_out_as_recorded_is_told_before_it_is_built(
    project: Project, info: ImageInfo, standing: str, told: str
) -> None:
    spoilt(project, info, standing)
    check_records(project, plan_of(project), options())
    with pytest.raises(LockError, match=f"{TAG} on {BASE}: .*{told}.*--record"):
        check_records(project, plan_of(project), options(recorded=True))


@pytest.mark.parametrize("standing", ["as recorded", "repacked", "different"])
def test_what_may_turn_out_as_recorded_is_built(project: Project, info: ImageInfo, standing: str) -> None:
    spoilt(project, info, standing)
    check_records(project, plan_of(project), options(recorded=True))


def test_a_damaged_record_is_told_before_anything_is_built(project: Project, info: ImageInfo) -> None:
    record(project, as_built(project, info)).write_text("{}", encoding="utf-8")
    with pytest.raises(LockError, match="not a record of"):
        check_records(project, plan_of(project), options())


# ---- what is written


def written(project: Project, info: ImageInfo) -> Expected:
    """What a record of the image is to be."""
    names = ("base", "system", "torch", "torch.triton")
    layers = tuple(
        RecordedLayer(name=name, digest=one.digest, compressed_bytes=one.size_bytes, disk_bytes=disk_bytes)
        for name, one, disk_bytes in zip(names, info.layers, (6, 4, 5 + len(LEFT_OUT), 6), strict=True)
    )
    return replace(as_built(project, info), engine=ENGINE, layers=layers, trimmed_bytes=1042)


@pytest.mark.parametrize("standing", [one[0] for one in STANDINGS])
def test_a_clean_image_is_recorded_however_it_stood(
    project: Project, info: ImageInfo, saved: list[str], capsys: pytest.CaptureFixture[str], standing: str
) -> None:
    spoilt(project, info, standing)
    assert hold(project, info, record=True)
    path = record_path(project.locks, TAG)
    assert load_expected(project.locks, TAG) == {BASE: written(project, info)}
    said = capsys.readouterr().err
    assert said.endswith(f"sparkbake: {path}: written\n")
    # Who is recording need not be told to.
    assert "--record`" not in said
    assert saved == [f"registry.example:5000/sparks/spark-vllm:{TAG}"]
    assert list(project.build.iterdir()) == []
    assert hold(project, info, recorded=True)
    assert capsys.readouterr().err.endswith("its digest is the recorded one\n")


@pytest.mark.parametrize("standing", ["repacked", "different"])
def test_a_record_that_is_replaced_is_said_not_to_have_been_met(
    project: Project, info: ImageInfo, saved: list[str], capsys: pytest.CaptureFixture[str], standing: str
) -> None:
    spoilt(project, info, standing)
    hold(project, info, record=True)
    assert f"is not the recorded {OTHER}" in capsys.readouterr().err


def test_records_of_other_bases_stay(project: Project, info: ImageInfo, saved: list[str]) -> None:
    other = replace(as_built(project, info), digest=OTHER)
    record(project, other, base="ubuntu-24.04")
    assert hold(project, info, record=True)
    assert load_expected(project.locks, TAG) == {"ubuntu-24.04": other, BASE: written(project, info)}


def test_a_record_that_is_the_same_is_left_alone(
    project: Project, info: ImageInfo, saved: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = record(project, written(project, info))
    os.utime(path, (1, 1))
    assert hold(project, info, record=True)
    assert path.stat().st_mtime == 1
    assert capsys.readouterr().err.endswith(f"sparkbake: {path}: unchanged\n")


def test_each_of_several_images_is_recorded_in_a_file_of_its_own(
    project: Project, info: ImageInfo, saved: list[str]
) -> None:
    assert hold(project, info, TAG, SECOND, record=True)
    assert [reference.rpartition(":")[2] for reference in saved] == [TAG, SECOND]
    assert sorted(path.name for path in (project.locks / "digests").iterdir()) == [f"{TAG}.json", f"{SECOND}.json"]


@pytest.mark.parametrize(("standing", "is_good"), [("unknown", True), ("outdated", True), ("different", False)])
def test_an_image_that_is_not_clean_is_not_recorded(
    project: Project, info: ImageInfo, saved: list[str], standing: str, *, is_good: bool
) -> None:
    spoilt(project, info, standing)
    before = load_expected(project.locks, TAG)
    assert hold(project, info, record=True, clean=False) is is_good
    assert saved == []
    assert load_expected(project.locks, TAG) == before
    assert record_path(project.locks, TAG).exists() is bool(before)


def test_findings_are_said_to_be_why_nothing_is_recorded(
    project: Project, info: ImageInfo, saved: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    hold(project, info, record=True, clean=False)
    assert f"{TAG} on {BASE}: not recorded, since verify has findings" in capsys.readouterr().err


def test_another_image_under_the_tag_than_was_verified_is_not_recorded(
    project: Project, info: ImageInfo, saved: list[str]
) -> None:
    plan = plan_of(project)
    result = BakeResult(digests={plan.targets[0].name: OTHER}, executed=())
    with pytest.raises(ImageError, match=f"the engine now has {info.digest} under this tag, expected {OTHER}"):
        hold_against_records(project, plan, result, engine=ENGINE, options=options(record=True), clean=True)
    assert not record_path(project.locks, TAG).exists()


def test_without_being_asked_nothing_is_recorded(project: Project, info: ImageInfo, saved: list[str]) -> None:
    assert hold(project, info)
    assert saved == []
    assert not record_path(project.locks, TAG).exists()


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_what_was_saved_goes_also_when_that_fails_and_the_record_stays(
    project: Project, info: ImageInfo, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    def run(argv: Sequence[str | Path], **_rest: Any) -> str:
        Path(argv[-1]).write_bytes(b"half")
        raise failure

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(saving, "local_image", lambda _reference: IN_ENGINE)
    spoilt(project, info, "outdated")
    before = load_expected(project.locks, TAG)
    with pytest.raises(failure):
        hold(project, info, record=True)
    assert list(project.build.iterdir()) == []
    assert load_expected(project.locks, TAG) == before


# ---- what may be asked together

WAYS: list[tuple[str, dict[str, Any]]] = [
    ("--no-trim", {"trim": False}),
    ("--compression", {"compression": "gzip"}),
    ("--output", {"output": "oci:x.tar"}),
    ("--no-verify", {"no_verify": True}),
]


@pytest.mark.parametrize("asked", ["record", "recorded"])
@pytest.mark.parametrize(("name", "way"), WAYS, ids=[name for name, _way in WAYS])
def test_what_is_no_image_as_published_has_no_record(asked: str, name: str, way: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^--{asked} and {name} exclude each other: "):
        check_options(options(**{asked: True, **way}))
    check_options(options(**way))
    check_options(options(**{asked: True}))


def test_what_does_not_go_together_ends_with_2_before_anything_is_built(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(project.root), "build", TAG, "--record", "--no-verify"]) == 2
    assert "--record and --no-verify exclude each other" in capsys.readouterr().err
    assert list(project.build.iterdir()) == []
