"""Claims about the `lock` command: what is resolved together, what is written, and what is never replaced."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import debian
from tests.builders import SMALL_MATRIX, edited, make_image_lock, make_lock, make_matrix, write_base_locks
from tests.compiledbuilder import COMPILED_MATRIX, make_foundation_lock, make_source_lock

from sparkbake import relock
from sparkbake.baselock import BaseLock, base_lock_to_json
from sparkbake.errors import LockError, ProcessError, UsageError
from sparkbake.lock import Locker
from sparkbake.lockfile import image_lock_to_json, lock_to_json
from sparkbake.model import Foundation, Lock, Row
from sparkbake.sourcelock import FoundationLock, SourceLock, source_lock_to_json
from sparkbake.sourcelocking import SourceLocker

PUBLISHED = edited("published: false", "published: true")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "matrix.yaml").write_text(SMALL_MATRIX, encoding="utf-8")
    return tmp_path


def lock(root: Path, *tags: str, base: str | None = None, snapshot: str | None = None) -> int:
    return relock.lock(argparse.Namespace(root=root, tags=list(tags), base=base, mirrors=None, apt_snapshot=snapshot))


# ---- the file


def test_a_lock_that_is_the_same_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_text("text", encoding="utf-8")
    before = path.stat().st_mtime_ns
    relock._write_lock(path, "text", frozen=True)
    assert path.stat().st_mtime_ns == before
    assert capsys.readouterr().err == f"sparkbake: {path}: unchanged\n"


@pytest.mark.parametrize("before", [None, "a longer text that stood there"])
def test_a_lock_is_replaced_whole(tmp_path: Path, before: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "locks" / "x.json"
    if before is not None:
        path.parent.mkdir()
        path.write_text(before, encoding="utf-8")
    relock._write_lock(path, "täxt\n", frozen=False)
    assert path.read_bytes() == "täxt\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]
    assert capsys.readouterr().err == f"sparkbake: {path}: written\n"


def test_the_lock_of_a_published_row_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("text", encoding="utf-8")
    with pytest.raises(LockError) as caught:
        relock._write_lock(path, "other", frozen=True)
    assert str(caught.value) == (
        f"{path}: belongs to a published row, which may not change; give the row a higher `revision` in matrix.yaml"
    )
    assert path.read_text(encoding="utf-8") == "text"


def test_a_published_row_that_has_no_lock_gets_one(tmp_path: Path) -> None:
    relock._write_lock(tmp_path / "x.json", "text", frozen=True)
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == "text"


# ---- rows


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Tags of what was resolved together; each resolves to a lock with the same packages."""
    asked: list[list[str]] = []

    def lock_release(self: Locker, rows: Sequence[Row]) -> tuple[Lock, ...]:
        asked.append([row.tag for row in rows])
        return tuple(make_lock(row, self.matrix) for row in rows)

    monkeypatch.setattr(Locker, "lock_release", lock_release)
    return asked


def test_all_majors_of_a_release_are_locked_together(checkout: Path, releases: list[list[str]]) -> None:
    assert lock(checkout, "0.20.2-t5") == 0
    assert releases == [["0.20.2-t4", "0.20.2-t5"]]
    assert sorted(one.name for one in (checkout / "locks").iterdir()) == ["0.20.2-t4.json", "0.20.2-t5.json"]
    assert (checkout / "locks/0.20.2-t4.json").read_text(encoding="utf-8") == lock_to_json(make_lock())


def test_a_release_is_resolved_once(checkout: Path, releases: list[list[str]]) -> None:
    assert lock(checkout, "*") == 0
    assert releases == [["0.20.2-t4", "0.20.2-t5"], ["0.32.0-t5"]]


def test_a_published_release_that_would_change_is_refused(checkout: Path, releases: list[list[str]]) -> None:
    (checkout / "matrix.yaml").write_text(PUBLISHED, encoding="utf-8")
    assert lock(checkout, "0.20.2-t4") == 0
    assert lock(checkout, "0.20.2-t4") == 0
    (checkout / "locks/0.20.2-t4.json").write_text("another", encoding="utf-8")
    with pytest.raises(LockError, match=r"0\.20\.2-t4\.json: belongs to a published row"):
        lock(checkout, "0.20.2-t4")


@pytest.mark.parametrize(("tags", "base"), [((), None), (("0.20.2-t4",), "debian-13")])
def test_either_rows_or_a_base_is_locked(checkout: Path, tags: tuple[str, ...], base: str | None) -> None:
    with pytest.raises(UsageError, match="lock: expected either tags or --base NAME"):
        lock(checkout, *tags, base=base)


# ---- bases


MANIFESTS = {"amd64": "sha256:" + 64 * "2", "arm64": "sha256:" + 64 * "3", "s390x": "sha256:" + 64 * "9"}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """References that the registry was asked for; it has what make_image_lock() says, and one architecture more."""
    asked: list[str] = []

    def image_index(reference: str, *, timeout_s: float) -> tuple[str, Mapping[str, str]]:
        asked.append(reference)
        return make_image_lock().index, MANIFESTS

    monkeypatch.setattr(relock, "image_index", image_index)
    return asked


def test_a_registry_base_is_locked_with_the_architectures_that_are_used(checkout: Path, registry: list[str]) -> None:
    assert lock(checkout, base="ubuntu-24.04", snapshot=make_image_lock().apt_snapshot) == 0
    written = (checkout / "locks/bases/ubuntu-24.04.json").read_text(encoding="utf-8")
    assert written == image_lock_to_json(make_image_lock())
    assert registry == ["registry.example/library/ubuntu:24.04"]


def test_a_registry_base_keeps_its_snapshot(checkout: Path, registry: list[str]) -> None:
    write_base_locks(checkout / "locks", make_matrix())
    assert lock(checkout, base="ubuntu-24.04") == 0
    written = (checkout / "locks/bases/ubuntu-24.04.json").read_text(encoding="utf-8")
    assert written == image_lock_to_json(make_image_lock())


def test_the_first_lock_of_a_registry_base_needs_a_snapshot(checkout: Path, registry: list[str]) -> None:
    with pytest.raises(UsageError, match="a registry base needs --apt-snapshot, such as 20260917T000000Z"):
        lock(checkout, base="ubuntu-24.04")


def test_a_registry_that_does_not_answer_leaves_the_lock(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_base_locks(checkout / "locks", make_matrix())

    def image_index(_reference: str, *, timeout_s: float) -> tuple[str, Mapping[str, str]]:
        raise ProcessError("docker buildx: exit status 1\nno such host")

    monkeypatch.setattr(relock, "image_index", image_index)
    with pytest.raises(
        LockError, match=r"ubuntu-24\.04: the registry does not give registry\.example/.*\nno such host"
    ):
        lock(checkout, base="ubuntu-24.04", snapshot="20270101T000000Z")
    written = (checkout / "locks/bases/ubuntu-24.04.json").read_text(encoding="utf-8")
    assert written == image_lock_to_json(make_image_lock())


def test_a_bootstrapped_base_is_locked_for_both_architectures(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def lock_base(**options: Any) -> tuple[BaseLock, Path]:
        asked.update(options)
        return debian.make_lock(), Path("/cache/bases/x")

    monkeypatch.setattr(relock, "lock_base", lock_base)
    monkeypatch.setattr(relock, "find_mirror", lambda _configured: debian.MIRROR)
    assert lock(checkout, base="debian-13") == 0
    assert (asked["name"], asked["suites"], asked["include"]) == ("debian-13", ("trixie",), ["curl", "python3"])
    assert (asked["architectures"], asked["mirror"]) == (("amd64", "arm64"), debian.MIRROR)
    written = (checkout / "locks/bases/debian-13.json").read_text(encoding="utf-8")
    assert written == base_lock_to_json(debian.make_lock())
    assert "the base lies in /cache/bases/x" in capsys.readouterr().err


def test_a_bundle_is_nothing_to_lock_from(checkout: Path) -> None:
    (checkout / "bundle.json").touch()
    (checkout / "mirrors.yaml").write_text('schema: "1"\nbundle: .\n', encoding="utf-8")
    options = argparse.Namespace(
        root=checkout, tags=["0.20.2-t4"], base=None, mirrors=checkout / "mirrors.yaml", apt_snapshot=None
    )
    with pytest.raises(UsageError, match="lock --mirrors: names a bundle, which holds what is locked already"):
        relock.lock(options)


# ---- compiled rows


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a compiled release, whose resolutions are made up."""
    (tmp_path / "matrix.yaml").write_text(COMPILED_MATRIX, encoding="utf-8")

    def lock_foundation(_self: SourceLocker, _foundation: Foundation) -> FoundationLock:
        return make_foundation_lock()

    def lock_release(_self: SourceLocker, rows: Sequence[Row]) -> tuple[SourceLock, ...]:
        return tuple(make_source_lock(row) for row in rows)

    monkeypatch.setattr(SourceLocker, "lock_foundation", lock_foundation)
    monkeypatch.setattr(SourceLocker, "lock_release", lock_release)
    return tmp_path


def test_a_compiled_row_is_locked_with_its_foundation_and_open_pins_are_said(
    compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lock(compiled, "0.14.0-t5") == 0
    written = sorted(str(one.relative_to(compiled / "locks")) for one in (compiled / "locks").rglob("*.json"))
    assert written == ["0.14.0-t4.json", "0.14.0-t5.json", "foundations/2.10.0-cu131.json"]
    told = capsys.readouterr().err
    assert "2.10.0-cu131: open: registry.example/cuda:13.1.0-runtime: manifest digest\n" in told
    assert "2.10.0-cu131: open: nccl-tests: commit of v2.19.6\n" in told


def test_what_cannot_be_resolved_is_told_and_the_others_are_locked(
    compiled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], releases: list[list[str]]
) -> None:
    def fail(_self: SourceLocker, _rows: Sequence[Row]) -> tuple[SourceLock, ...]:
        raise LockError("0.14.0-t4: cannot be resolved:\n  numba==1.0 has no wheel")

    monkeypatch.setattr(SourceLocker, "lock_release", fail)
    with pytest.raises(LockError, match=r"vllm 0\.14\.0: not locked, as said above; the locks of"):
        lock(compiled, "0.14.0-t4", "0.32.0-t5")
    assert "error: 0.14.0-t4: cannot be resolved:\n  numba==1.0 has no wheel" in capsys.readouterr().err
    assert (compiled / "locks/0.32.0-t5.json").exists()
    assert releases == [["0.32.0-t5"]]


def test_the_lock_of_a_published_compiled_row_changes_only_while_a_pin_is_open(
    compiled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = COMPILED_MATRIX.replace("    limits:\n", "    published: true\n    limits:\n")
    (compiled / "matrix.yaml").write_text(text, encoding="utf-8")
    half = replace(make_source_lock(), pins=tuple(replace(one, commit=None) for one in make_source_lock().pins))
    path = compiled / "locks" / "0.14.0-t4.json"
    path.parent.mkdir()
    path.write_text(source_lock_to_json(half), encoding="utf-8")
    assert lock(compiled, "0.14.0-t4") == 0
    assert path.read_text(encoding="utf-8") == source_lock_to_json(make_source_lock())

    def other(_self: SourceLocker, rows: Sequence[Row]) -> tuple[SourceLock, ...]:
        return tuple(replace(make_source_lock(row), source_date_epoch=1) for row in rows)

    monkeypatch.setattr(SourceLocker, "lock_release", other)
    with pytest.raises(LockError, match=r"vllm 0\.14\.0: not locked"):
        lock(compiled, "0.14.0-t4")
    assert "0.14.0-t4.json: belongs to a published row, which may not change" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == source_lock_to_json(make_source_lock())
