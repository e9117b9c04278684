"""The `lock` command: resolve rows or a base anew and replace their locks."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sparkbake.baselock import base_lock_to_json
from sparkbake.bootstrap import lock_base
from sparkbake.buildx import image_index
from sparkbake.debianmirror import find_mirror
from sparkbake.errors import LockError, ProcessError, UsageError
from sparkbake.frozen import AUTO, candidates
from sparkbake.lock import Index, Locker
from sparkbake.lockfile import base_lock_path, image_lock_to_json, lock_path, lock_to_json, parse_image_lock
from sparkbake.mirrors import Mirrors
from sparkbake.model import Base, ImageLock, Release, Strategy
from sparkbake.oci import Architecture
from sparkbake.project import Project, open_project, write_file
from sparkbake.sourcelock import foundation_path, foundation_to_json, parse_source_lock, source_lock_to_json
from sparkbake.sourcelocking import SourceLocker
from sparkbake.tables import say

_ARCHITECTURES: tuple[Architecture, ...] = ("amd64", "arm64")


def lock(options: argparse.Namespace) -> int:
    """Resolve rows or a base anew and write their locks."""
    if bool(options.tags) == bool(options.base):
        raise UsageError("lock: expected either tags or --base NAME")
    project = open_project(options.root)
    mirrors = project.mirrors(options.mirrors)
    if mirrors.bundle:
        raise UsageError(
            "lock --mirrors: names a bundle, which holds what is locked already; leave its key `bundle` out"
        )
    if options.base:
        return _lock_base(project, mirrors, options)
    chosen = project.select(options.tags)
    locker = Locker(matrix=project.matrix, index=Index(url=mirrors.package_index), say=say)
    compiled = SourceLocker(locker=locker, mirrors=mirrors, say=say)
    for foundation in dict.fromkeys(row.foundation for row in chosen if row.release.strategy is Strategy.SOURCE):
        made = compiled.lock_foundation(foundation)
        _write_lock(foundation_path(project.locks, foundation.name), foundation_to_json(made), frozen=False)
        _tell_open(foundation.name, made.open_pins)
    failed = [one for one in dict.fromkeys(row.release for row in chosen) if not _lock(project, one, locker, compiled)]
    if failed:
        names = ", ".join(one.vllm for one in failed)
        raise LockError(f"vllm {names}: not locked, as said above; the locks of the others are written")
    return 0


def _lock(project: Project, release: Release, locker: Locker, compiled: SourceLocker) -> bool:
    """Lock all majors of a release together, since each takes its sibling's pins as preferences.

    What is compiled has many parts that may not resolve: that is said, and the other releases are locked all the same.
    """
    rows = [row for row in project.rows if row.release == release]
    if release.strategy is Strategy.WHEELS:
        for one in locker.lock_release(rows):
            _write_lock(lock_path(project.locks, one.tag), lock_to_json(one), frozen=release.published)
        return True
    try:
        for made in compiled.lock_release(rows):
            path = lock_path(project.locks, made.tag)
            # What is published is what no pin is open of; until then a lock may be filled.
            frozen = release.published and not made.open_pins and _is_whole(path)
            _write_lock(path, source_lock_to_json(made), frozen=frozen)
            _tell_open(made.tag, made.open_pins)
    except LockError as err:
        say(f"error: {err}")
        return False
    return True


def _is_whole(path: Path) -> bool:
    """Whether there is a lock that no pin is open of."""
    return path.exists() and not parse_source_lock(path.read_text(encoding="utf-8"), str(path), "mend it").open_pins


def _tell_open(name: str, pins: Sequence[str]) -> None:
    for one in pins:
        say(f"{name}: open: {one}")


def _lock_base(project: Project, mirrors: Mirrors, options: argparse.Namespace) -> int:
    if options.base == AUTO:
        names = ", ".join(one.name for one in project.matrix.bases)
        raise UsageError(f"lock --base: got '{AUTO}', expected one of {names}")
    (base,) = candidates(options.base, project.matrix)
    path = base_lock_path(project.locks, base)
    if base.image:
        _write_lock(path, image_lock_to_json(_image_lock(base, base.image, options.apt_snapshot, path)), frozen=False)
        return 0
    locked, layout = lock_base(
        name=base.name,
        suites=base.suites,
        include=sorted(project.matrix.os_packages),
        architectures=_ARCHITECTURES,
        mirror=find_mirror(mirrors.debian),
        work_dir=project.cache,
        say=say,
    )
    _write_lock(path, base_lock_to_json(locked), frozen=False)
    say(f"the base lies in {layout}")
    return 0


def _image_lock(base: Base, reference: str, snapshot: str | None, path: Path) -> ImageLock:
    if snapshot is None:
        if not path.exists():
            raise UsageError("lock: a registry base needs --apt-snapshot, such as 20260917T000000Z")
        snapshot = parse_image_lock(path.read_text(encoding="utf-8"), str(path), "mend it").apt_snapshot
    try:
        index, manifests = image_index(reference, timeout_s=60)
    except ProcessError as err:
        raise LockError(f"{base.name}: the registry does not give {reference}: {err}") from err
    wanted = tuple((name, manifests[name]) for name in _ARCHITECTURES if name in manifests)
    if len(wanted) != len(_ARCHITECTURES):
        raise LockError(
            f"{base.name}: {reference} is there for {', '.join(sorted(manifests))}, expected amd64 and arm64"
        )
    return ImageLock(name=base.name, reference=reference, index=index, manifests=wanted, apt_snapshot=snapshot)


def _write_lock(path: Path, text: str, *, frozen: bool) -> None:
    """Replace a lock whole or not at all; the lock of a published row may not change."""
    before = path.read_text(encoding="utf-8") if path.exists() else None
    if before == text:
        say(f"{path}: unchanged")
        return
    if frozen and before is not None:
        raise LockError(
            f"{path}: belongs to a published row, which may not change; give the row a higher `revision` in matrix.yaml"
        )
    write_file(path, text)
    say(f"{path}: written")
