"""Claims about recorded digests: what they are of, how a build stands to them; a damaged file is not believed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.builders import ROOT

from sparkbake.errors import LockError
from sparkbake.expected import (
    Built,
    Expected,
    RecordedLayer,
    Standing,
    load_expected,
    record_json,
    record_path,
    standing,
)
from sparkbake.project import open_project

TAG = "0.20.2-t4"


def make_expected(digest: str = "sha256:" + 64 * "a", plan_digest: str = "sha256:" + 64 * "b") -> Expected:
    layers = (
        RecordedLayer(name="base", digest="sha256:" + 64 * "c", compressed_bytes=100),
        RecordedLayer(name="cuda.nvidia-cublas", digest="sha256:" + 64 * "d", compressed_bytes=1000),
    )
    return Expected(digest=digest, config="sha256:" + 64 * "9", plan_digest=plan_digest, engine="28.5.2", layers=layers)


def write(locks: Path, text: str) -> Path:
    path = record_path(locks, TAG)
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    bases = {"ubuntu-24.04": make_expected("sha256:" + 64 * "e"), "debian-13": make_expected()}
    write(tmp_path, record_json(TAG, bases))
    assert load_expected(tmp_path, TAG) == bases
    assert make_expected().compressed_bytes == 1100


def test_sizes_on_disk_are_kept_where_they_are_known(tmp_path: Path) -> None:
    old = make_expected()
    assert old.disk_bytes is None
    assert "disk_bytes" not in record_json(TAG, {"debian-13": old})
    first, second = (replace(one, disk_bytes=10 * one.compressed_bytes) for one in old.layers)
    new = replace(old, layers=(first, second), trimmed_bytes=7)
    assert new.disk_bytes == 11000
    assert replace(new, layers=(first, old.layers[1])).disk_bytes is None
    bases = {"ubuntu-24.04": old, "debian-13": new}
    write(tmp_path, record_json(TAG, bases))
    assert load_expected(tmp_path, TAG) == bases


def test_a_layer_is_a_line_so_that_a_change_of_one_is_a_change_of_a_line() -> None:
    lines = record_json(TAG, {"debian-13": make_expected()}).splitlines()
    assert sum('"name": ' in line for line in lines) == 2
    assert all(line.count("sha256:") <= 1 for line in lines)


def test_nothing_recorded_is_nothing(tmp_path: Path) -> None:
    assert load_expected(tmp_path, TAG) == {}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"schema": 1', '"schema": 2', "is of schema 2 and tag '0.20.2-t4'"),
        ('"tag": "0.20.2-t4"', '"tag": "0.20.2-t5"', "is of schema 1 and tag '0.20.2-t5'"),
        ('"plan_digest"', '"plan"', "keys are"),
        ('"compressed_bytes": 1100', '"compressed_bytes": 1', "its layers have 1100 bytes, not 1"),
        ("}\n", "", "Expecting"),
    ],
)
def test_a_damaged_record_is_an_error_that_says_what_to_do(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = record_json(TAG, {"debian-13": make_expected()})
    head, found, tail = text.rpartition(old) if new == "" else text.partition(old)
    assert found
    path = write(tmp_path, head + new + tail)
    with pytest.raises(LockError) as caught:
        load_expected(tmp_path, TAG)
    assert str(caught.value).startswith(f"{path}: not a record of {TAG}: ")
    assert told in str(caught.value)
    assert str(caught.value).endswith(f"remove it and run `nox -s build -- {TAG} --record`")


def test_a_build_stands_to_its_record_in_one_of_five_ways() -> None:
    record = make_expected()
    other = "sha256:" + 64 * "f"
    same = Built(digest=record.digest, config=record.config, plan_digest=record.plan_digest, engine=record.engine)
    assert standing(same, record) is Standing.AS_RECORDED
    assert standing(replace(same, engine="29.0.0"), record) is Standing.AS_RECORDED
    assert standing(replace(same, digest=other, engine="29.0.0"), record) is Standing.REPACKED
    assert standing(replace(same, digest=other), record) is Standing.DIFFERENT
    assert standing(replace(same, digest=other, config=other, engine="29.0.0"), record) is Standing.DIFFERENT
    assert standing(replace(same, digest=other, config=None, engine="29.0.0"), record) is Standing.DIFFERENT
    assert standing(replace(same, plan_digest=other), record) is Standing.OUTDATED
    assert standing(same, None) is Standing.UNKNOWN


def test_every_record_of_the_real_rows_can_be_read_and_is_of_a_row() -> None:
    project = open_project(ROOT)
    tags = {row.tag for row in project.rows}
    recorded = sorted(path.stem for path in (project.locks / "digests").glob("*.json"))
    assert set(recorded) <= tags
    for tag in recorded:
        for base, record in load_expected(project.locks, tag).items():
            assert base in {one.name for one in project.matrix.bases}
            assert len({one.digest for one in record.layers}) > 1, f"{tag} on {base}"
            assert json.loads(record_path(project.locks, tag).read_text())["bases"][base]["digest"] == record.digest
