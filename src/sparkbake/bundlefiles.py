"""A bundle on disk: read it, hold its files against its manifest, and see that a build has all it needs."""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sparkbake.bundle import MACHINES, Bundle, BundledFile, parse_bundle, standing_faults, wheel_path, wheels_of
from sparkbake.errors import BundleError
from sparkbake.mirrors import MANIFEST
from sparkbake.model import Plan

_TOLD_EVERY_S = 5.0
_PIECE_BYTES = 1 << 20
Say = Callable[[str], None]


class Meter:
    """Says now and then how far a long work on files has got."""

    def __init__(self, what: str, total_bytes: int, say: Say) -> None:
        self._what, self._total, self._say = what, total_bytes, say
        self._done, self._told = 0, time.monotonic()

    def add(self, size_bytes: int) -> None:
        self._done += size_bytes
        if time.monotonic() - self._told >= _TOLD_EVERY_S:
            self._told = time.monotonic()
            self._say(f"{self._what}: {self._done / 1e9:.2f} of {self._total / 1e9:.2f} GB")


def read_bundle(folder: Path) -> Bundle:
    """Read the manifest of a bundle.

    Raises:
        BundleError: there is none, since the folder is none or was not finished; or it is damaged.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise BundleError(
            [f"{path}: cannot be read: {err}; expected a folder that `nox -s bundle -- TAG --output DIR` finished"]
        ) from err
    return parse_bundle(text, str(path))


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep others from making or removing a bundle meanwhile; the folder itself is what is locked.

    Raises:
        BundleError: another run has it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise BundleError([f"{folder}: another run makes or removes this bundle; wait for it"]) from err
        yield
    finally:
        os.close(handle)


def damage(folder: Path, files: Sequence[BundledFile], say: Say) -> list[str]:
    """Which files of a bundle are missing or not what its manifest says, one line a file."""
    meter = Meter(f"{folder}: checking", sum(one.size_bytes for one in files), say)
    return [fault for one in files if (fault := _damage(folder, one, meter)) is not None]


def _damage(folder: Path, file: BundledFile, meter: Meter) -> str | None:
    path = folder / file.path
    size = path.stat().st_size if path.is_file() else None
    if size is None:
        return f"{path}: missing, expected {file.size_bytes} bytes"
    if size != file.size_bytes:
        return f"{path}: has {size} bytes, expected {file.size_bytes}"
    found = hash_of(path, meter)
    return None if found == file.sha256 else f"{path}: changed: its hash is {found[:12]}, expected {file.sha256[:12]}"


def hash_of(path: Path, meter: Meter) -> str:
    """SHA-256 of a file, 64 hex digits.

    Raises:
        BundleError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                meter.add(len(piece))
    except OSError as err:
        raise BundleError([f"{path}: cannot be read: {err}; copy the bundle anew"]) from err
    return digest.hexdigest()


def strangers(folder: Path, bundle: Bundle) -> list[str]:
    """Files below a bundle that its manifest does not list."""
    known = {one.path for one in bundle.files} | {MANIFEST}
    found = [one for one in folder.rglob("*") if one.is_symlink() or not one.is_dir()]
    return sorted(f"{one}: is not of this bundle" for one in found if one.relative_to(folder).as_posix() not in known)


def require_inputs(folder: Path, plan: Plan, say: Say) -> Bundle:
    """See before a build that a bundle has every wheel of a plan, each with its locked hash.

    The base is left to BuildKit, which holds every blob of it against its digest.

    Raises:
        BundleError: with all reasons why it cannot be built from.
    """
    bundle = read_bundle(folder)
    faults = [fault for target in plan.targets for fault in standing_faults(bundle, target)]
    here = {machine: architecture for architecture, machine in MACHINES.items()}.get(os.uname().machine)
    if here not in bundle.architectures:
        faults.append(f"has its base for {', '.join(bundle.architectures)}, and this machine is {os.uname().machine}; "
                      "make the bundle on a machine like this one")  # fmt: skip
    if faults:
        raise BundleError([f"{folder}: {fault}" for fault in faults])
    wanted = {wheel_path(one) for target in plan.targets for one in wheels_of(target)}
    files = [one for one in bundle.files if one.path in wanted]
    size = sum(one.size_bytes for one in files)
    say(f"{folder}: checking {len(files)} wheels, {size / 1e9:.2f} GB")
    if faults := damage(folder, files, say):
        raise BundleError([*faults, f"copy the bundle anew, or mend it where there is a network: nox -s bundle -- "
                           f"{bundle.tag} --base {bundle.base} --output {folder}"])  # fmt: skip
    return bundle
