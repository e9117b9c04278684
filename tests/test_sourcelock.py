"""Claims about the locks of what is compiled: whole, belonging to their entry, and honest about what is not known."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.builders import LOCKS, ROOT, make_wheel, real_matrix
from tests.compiledbuilder import (
    COMMIT,
    FOUNDATION,
    MANIFEST,
    T4,
    T5,
    compiled,
    make_compiled,
    make_foundation_lock,
    make_source_lock,
)

from sparkbake.errors import LockError
from sparkbake.lockfile import lock_path
from sparkbake.matrix import parse_matrix, rows
from sparkbake.model import Row, Strategy
from sparkbake.sourcelock import (
    FoundationLock,
    SourceLock,
    digest_of,
    foundation_path,
    foundation_to_json,
    load_foundation_lock,
    load_source_lock,
    parse_foundation_lock,
    parse_source_lock,
    source_lock_to_json,
)
from sparkbake.versions import same_version


def test_a_lock_is_read_as_it_was_written() -> None:
    one, two = make_foundation_lock(), make_source_lock()
    assert parse_foundation_lock(foundation_to_json(one), "x", "y") == one
    assert parse_source_lock(source_lock_to_json(two), "x", "y") == two


def test_a_package_is_a_line_of_its_file() -> None:
    before = source_lock_to_json(make_source_lock()).splitlines()
    lock = make_source_lock()
    wheels = (*lock.environment.wheels[:1], make_wheel("ray", "2.0"))
    after = source_lock_to_json(replace(lock, environment=replace(lock.environment, wheels=wheels))).splitlines()
    differing = [new for old, new in zip(before, after, strict=True) if old != new]
    assert len(differing) == 2
    assert '"version": "2.0"' in differing[0]
    assert differing[1].startswith('  "digest": ')


def test_what_is_not_known_is_listed_with_what_was_asked_for() -> None:
    assert make_foundation_lock().open_pins == (
        "registry.example/cuda:13.1.0-runtime: manifest digest",
        "nccl-tests: commit of v2.19.6",
    )
    assert json.loads(foundation_to_json(make_foundation_lock()))["open_pins"] == list(make_foundation_lock().open_pins)
    pins = tuple(replace(one, commit=None) for one in make_source_lock().pins)
    assert replace(make_source_lock(), pins=pins).open_pins[0] == "llvm: commit of what this release fetches"
    assert make_source_lock().open_pins == ()


def write(locks: Path, *, foundation: FoundationLock | None = None, row: SourceLock | None = None) -> None:
    (locks / "foundations").mkdir(exist_ok=True)
    if foundation:
        foundation_path(locks, FOUNDATION.name).write_text(foundation_to_json(foundation), encoding="utf-8")
    if row:
        lock_path(locks, row.tag).write_text(source_lock_to_json(row), encoding="utf-8")


def test_a_lock_is_loaded_for_its_entry(tmp_path: Path) -> None:
    write(tmp_path, foundation=make_foundation_lock(), row=make_source_lock())
    assert load_foundation_lock(tmp_path, make_compiled(), FOUNDATION) == make_foundation_lock()
    assert load_source_lock(tmp_path, make_compiled(), T4) == make_source_lock()


def test_a_missing_lock_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"there is no lock for 2\.10\.0-cu131; run `nox -s lock` for a row") as caught:
        load_foundation_lock(tmp_path, make_compiled(), FOUNDATION)
    assert caught.value.state == "missing"
    with pytest.raises(LockError, match=r"there is no lock for 0\.14\.0-t4; run `nox -s lock -- 0\.14\.0-t4`"):
        load_source_lock(tmp_path, make_compiled(), T4)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('    nccl: "2.29.2-1"\n', '    nccl: "2.29.3-1"\n'),
        ("requires: [ninja]", "requires: [ninja, wheel]"),
        ("v2.19.6: null", f"v2.19.6: {COMMIT}"),
        ("manifest: null", f'manifest: "{MANIFEST}"'),
        ('    as_of: "2026-02-02"\n  2.11', '    as_of: "2026-02-03"\n  2.11'),
    ],
)
def test_a_foundation_of_another_entry_is_stale(tmp_path: Path, old: str, new: str) -> None:
    text = compiled(old, new).replace(
        "commits: {v2.29.2-1: ", "commits: {v2.29.3-1: 0123456789abcdef0123456789abcdef01234567, v2.29.2-1: "
    )
    matrix = parse_matrix(text, "matrix.yaml")
    write(tmp_path, foundation=make_foundation_lock())
    with pytest.raises(LockError, match="stale: made from the matrix entry") as caught:
        load_foundation_lock(tmp_path, matrix, matrix.foundations[0])
    assert caught.value.state == "stale"


def test_a_row_of_another_entry_is_stale_and_of_another_row_refused(tmp_path: Path) -> None:
    write(tmp_path, row=make_source_lock())
    other = make_compiled('        version: "4.57.6"\n        git', '        version: "4.57.5"\n        git')
    row = next(one for one in rows(other) if one.tag == T4.tag)
    with pytest.raises(LockError, match=r"0\.14\.0-t4\.json: stale"):
        load_source_lock(tmp_path, other, row)
    lock_path(tmp_path, T5.tag).write_text(source_lock_to_json(make_source_lock()), encoding="utf-8")
    with pytest.raises(LockError, match=r"is the lock of '0\.14\.0-t4', expected 0\.14\.0-t5"):
        load_source_lock(tmp_path, make_compiled(), T5)


def test_a_damaged_lock_is_told(tmp_path: Path) -> None:
    text = source_lock_to_json(make_source_lock())
    with pytest.raises(LockError, match="damaged or edited by hand"):
        parse_source_lock(text.replace("ray", "rya"), "x", "y")
    with pytest.raises(LockError, match=r"x: not a lock of a compiled row: .* has the keys"):
        parse_source_lock(foundation_to_json(make_foundation_lock()), "x", "y")
    with pytest.raises(LockError, match=r"x: not a lock of a foundation: .* has the keys"):
        parse_foundation_lock(text, "x", "y")
    lock_path(tmp_path, T4.tag).write_bytes(b"\xff")
    with pytest.raises(LockError, match="cannot be read"):
        load_source_lock(tmp_path, make_compiled(), T4)


def test_the_digest_of_a_lock_is_the_one_in_its_file() -> None:
    assert json.loads(source_lock_to_json(make_source_lock()))["digest"] == digest_of(make_source_lock())
    assert json.loads(foundation_to_json(make_foundation_lock()))["digest"] == digest_of(make_foundation_lock())


# ---- the real ones

REAL = [one for one in rows(real_matrix()) if one.release.strategy is Strategy.SOURCE]
# Why the others have none stands in docs/building.md.
LOCKED = [one for one in REAL if lock_path(LOCKS, one.tag).exists()]


@pytest.mark.parametrize("row", LOCKED, ids=lambda one: one.tag)
def test_a_real_lock_belongs_to_its_row_and_has_nothing_that_is_compiled(row: Row) -> None:
    matrix = real_matrix()
    lock = load_source_lock(LOCKS, matrix, row)
    foundation = load_foundation_lock(LOCKS, matrix, row.foundation)
    assert matrix.sources is not None
    names = {one.name: one.version for one in lock.environment.wheels}
    assert list(names) == sorted(names)
    assert not set(names) & set(matrix.sources.replaced)
    assert same_version(names["flashinfer-python"], dict(row.versions)["flashinfer"])
    if row.variant.exceptions.transformers:
        assert "transformers" not in names
    else:
        assert same_version(names["transformers"], dict(row.versions)["transformers"])
    assert {"ray", "pip", "cupy-cuda13x"} <= set(names)
    assert [name for name, _wheels in foundation.requires] == ["tools", "torch", "runtime"]
    assert all(wheels for _name, wheels in (*foundation.requires, *lock.requires))


def test_the_rows_of_one_release_differ_in_little() -> None:
    files = {
        one.tag: {w.sha256 for w in load_source_lock(LOCKS, real_matrix(), one).environment.wheels} for one in LOCKED
    }
    for tag, own in files.items():
        sibling = files.get(tag.replace("-t5", "-t4"))
        if sibling is not None:
            assert len(own - sibling) <= 20, tag


def test_no_lock_of_a_foundation_is_left_over() -> None:
    names = {one.foundation.name for one in REAL}
    assert {one.stem for one in (ROOT / "locks" / "foundations").glob("*.json")} <= names
