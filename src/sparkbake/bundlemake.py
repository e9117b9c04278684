"""Make a bundle: gather what belongs in it, fetch what the folder lacks, and write its manifest last."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sparkbake import preflight
from sparkbake.bundle import (
    MACHINES,
    MIRRORS,
    Bundle,
    BundledFile,
    Pin,
    base_folder,
    bundle_json,
    locked_digest,
    mirrors_yaml,
    stray,
    wheels_of,
)
from sparkbake.bundlefetch import Wanted, fetch, missing_of, wanted_tools, wanted_wheels
from sparkbake.bundlefiles import Meter, claimed, hash_of, read_bundle
from sparkbake.engine import engine_state
from sparkbake.errors import BundleError, PreflightError, UsageError
from sparkbake.lockfile import sha256_of
from sparkbake.mirrors import MANIFEST, Mirrors
from sparkbake.model import Target
from sparkbake.oci import Architecture, read_index_digest, read_manifest_digests
from sparkbake.preflight import KEPT_FREE_BYTES
from sparkbake.project import Project, write_file
from sparkbake.ready import ready_base
from sparkbake.remote import PART
from sparkbake.tables import say

# The oldest Python that this project runs on, as pyproject.toml has it.
OLDEST_PYTHON = "3.11"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """The base as an OCI layout.

    Attributes:
        digest: by which mirrors.yaml names it, 'sha256:' + 64 hex.
        architectures: those it has.
    """

    folder: Path
    digest: str
    architectures: tuple[Architecture, ...]


def make(project: Project, target: Target, pins: tuple[Pin, ...], folder: Path, mirrors: Mirrors) -> tuple[Bundle, int]:
    """Make the bundle of a target, or finish or renew the one that is there; what it has already is not fetched again.

    Args:
        pins: of this project's own commands.

    Returns:
        Its manifest, and how many bytes were fetched.

    Raises:
        UsageError: the folder is of something else.
        BundleError, LockError: a file cannot be had, or another run makes the same bundle.
        PreflightError: the disk has too little room.
    """
    before = claim(folder, target.tag, target.base.name)
    layout = _base_layout(project, target, mirrors)
    say(f"{target.tag}: asking the package index where the files lie")
    index, wheels = mirrors.package_index, wheels_of(target)
    wanted = (
        *wanted_wheels(wheels, python=target.environment.python, index=index),
        *wanted_tools(pins, architectures=layout.architectures, python=OLDEST_PYTHON, index=index),
        *_base_files(target, layout),
    )
    refuse_strangers(folder, {one.file.path for one in wanted}, before)
    missing = missing_of(folder, wanted, say)
    fetched = sum(one.file.size_bytes for one in missing)
    require_disk(folder, fetched)
    say(f"{folder}: {len(missing)} of {len(wanted)} files to fetch, {fetched / 1e9:.2f} GB")
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        for part in parts_of(folder):
            part.unlink()
        fetch(folder, missing, say)
        made = _finish(folder, target, layout, wanted)
        for path in paths_of(before) - paths_of(made):
            (folder / path).unlink(missing_ok=True)
    return made, fetched


def claim(folder: Path, tag: str, base: str) -> Bundle | None:
    """Take a folder that is new, empty, or a bundle of this row that is not finished or is to be renewed."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output: {folder} is no folder")
    names = [one.name for one in folder.iterdir()] if folder.exists() else []
    if others := stray(names):
        raise UsageError(f"--output: {folder} has {', '.join(others[:5])}, expected a new folder or a bundle")
    if MANIFEST not in names:
        return None
    before = read_bundle(folder)
    if (before.tag, before.base) != (tag, base):
        raise UsageError(f"--output: {folder} is the bundle of {before.tag} on {before.base}; name another folder")
    return before


def paths_of(bundle: Bundle | None) -> set[str]:
    return {one.path for one in bundle.files} if bundle else set()


def _base_layout(project: Project, target: Target, mirrors: Mirrors) -> _Layout:
    """Have the base made for this machine and for the image."""
    chosen = ready_base(project, argparse.Namespace(base=target.base.name), mirrors, [engine_state().architecture])
    if chosen.folder is None:
        raise UsageError(f"--mirrors: has {target.base.name} in a registry, expected an OCI layout, or no entry for it")
    manifests = dict(read_manifest_digests(chosen.folder))
    architectures: tuple[Architecture, ...] = tuple(one for one in ("amd64", "arm64") if one in manifests)
    # The lock has the digest of an index of all architectures alone.
    whole = len(architectures) == len(MACHINES)
    digest = read_index_digest(chosen.folder) if whole else target.base_digest
    return _Layout(folder=chosen.folder, digest=digest, architectures=architectures)


def _base_files(target: Target, layout: _Layout) -> tuple[Wanted, ...]:
    files = sorted(one for one in layout.folder.rglob("*") if one.is_file())
    meter = Meter(f"{layout.folder}: reading", sum(one.stat().st_size for one in files), say)
    return tuple(
        Wanted(
            file=BundledFile(
                path=(base_folder(target.base.name) / one.relative_to(layout.folder)).as_posix(),
                sha256=hash_of(one, meter),
                size_bytes=one.stat().st_size,
            ),
            source=one,
        )
        for one in files
    )


def refuse_strangers(folder: Path, wanted: set[str], before: Bundle | None, but_in: Sequence[str] = ()) -> None:
    """See that nothing lies in the folder that would be there for no reason; what an ended run left goes later.

    Args:
        but_in: folders of which is not known yet what will be in them.
    """
    known = {folder / one for one in (*wanted, *paths_of(before), MANIFEST, MIRRORS)} | set(parts_of(folder))
    found = [one for one in folder.rglob("*") if not one.is_dir()] if folder.exists() else []
    others = sorted(
        str(one) for one in found if one not in known and one.relative_to(folder).parts[0] not in set(but_in)
    )
    if others:
        raise BundleError([f"{one}: is not of this bundle; remove it, or name another folder" for one in others])


def parts_of(folder: Path) -> tuple[Path, ...]:
    """Files that are not whole yet: of a run that ended, or of one that has the folder now."""
    return tuple(folder.rglob(f".*{PART}")) if folder.exists() else ()


def require_disk(folder: Path, needed: int) -> None:
    place = next(one for one in (folder, *folder.parents) if one.exists())
    free = preflight.free_bytes(str(place))
    if free is not None and free < needed + KEPT_FREE_BYTES:
        raise PreflightError(
            [
                f"{place} has {free / 1e9:.1f} GB free: expected {(needed + KEPT_FREE_BYTES) / 1e9:.1f} GB "
                f"({needed / 1e9:.1f} for the bundle, {KEPT_FREE_BYTES / 1e9:.0f} to spare); free some, or name "
                "another place: --output DIR"
            ]
        )


def _finish(folder: Path, target: Target, layout: _Layout, wanted: tuple[Wanted, ...]) -> Bundle:
    made = Bundle(
        tag=target.tag,
        base=target.base.name,
        lock_digest=locked_digest(target),
        base_digest=layout.digest,
        architectures=layout.architectures,
        files=tuple(one.file for one in wanted),
    )
    return finish(folder, made, mirrors_yaml(target.tag, target.base.name, layout.digest))


def finish(folder: Path, made: Bundle, mirrors: str) -> Bundle:
    """Write mirrors.yaml, and last the manifest, without which a folder is no bundle.

    Args:
        made: without mirrors.yaml, its files in any order.
        mirrors: the text of that.
    """
    write_file(folder / MIRRORS, mirrors)
    body = mirrors.encode()
    own = BundledFile(path=MIRRORS, sha256=sha256_of(body).removeprefix("sha256:"), size_bytes=len(body))
    whole = replace(made, files=tuple(sorted((own, *made.files), key=lambda one: one.path)))
    write_file(folder / MANIFEST, bundle_json(whole))
    return whole
