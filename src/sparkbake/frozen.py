"""Read what the locks of bases say: pure look-ups in files, no registry, no mirror."""

from pathlib import Path

from sparkbake.baselock import base_lock_from_json
from sparkbake.errors import LockError, UsageError
from sparkbake.lockfile import base_lock_path, parse_image_lock
from sparkbake.model import Base, ImageLock, Matrix
from sparkbake.resolve import FrozenBase

AUTO = "auto"


def registry_base(matrix: Matrix, locks: Path) -> ImageLock:
    """The lock of the base that Dockerfiles name: the first of the matrix that comes from a registry.

    Raises:
        LockError: the matrix has none, or its lock is missing or damaged.
    """
    base = next((one for one in matrix.bases if one.image), None)
    if base is None:
        raise LockError("matrix.yaml: bases: none has an image; add one, since Dockerfiles must name a base by digest")
    return _image_lock(base, locks)


def _image_lock(base: Base, locks: Path) -> ImageLock:
    path = base_lock_path(locks, base)
    lock = parse_image_lock(read_base_lock(base, locks), str(path), remedy(base))
    if lock.reference != base.image:
        raise LockError(f"{path}: locks {lock.reference}, expected {base.image}; {remedy(base)}", state="stale")
    return lock


def freeze(base: Base, matrix: Matrix, locks: Path) -> FrozenBase:
    """A base as its lock has it.

    Raises:
        LockError: the lock is missing, damaged, or was made for other packages than the matrix lists.
    """
    architecture = matrix.chip.architecture
    path, text = base_lock_path(locks, base), read_base_lock(base, locks)
    if base.image:
        image = _image_lock(base, locks)
        reference, manifests, snapshot = image.reference, dict(image.manifests), image.apt_snapshot
    else:
        debian = base_lock_from_json(text, str(path))
        if (sorted(debian.include), debian.suites) != (sorted(matrix.os_packages), base.suites):
            raise LockError(
                f"{path}: stale: matrix.yaml now lists other packages or suites; {remedy(base)}", state="stale"
            )
        reference, manifests, snapshot = base.name, dict(debian.manifests), None
    if architecture not in manifests:
        raise LockError(f"{path}: manifests: has none for {architecture}; {remedy(base)}")
    return FrozenBase(base=base, reference=reference, digest=manifests[architecture], apt_snapshot=snapshot)


def candidates(choice: str, matrix: Matrix) -> tuple[Base, ...]:
    """The bases to try, in order: the named one, or all with "auto".

    Raises:
        UsageError: there is no base of that name.
    """
    if choice == AUTO:
        return matrix.bases
    found = tuple(one for one in matrix.bases if one.name == choice)
    if not found:
        names = ", ".join(one.name for one in matrix.bases)
        raise UsageError(f"--base: got '{choice}', expected {AUTO} or one of {names}")
    return found


def read_base_lock(base: Base, locks: Path) -> str:
    path = base_lock_path(locks, base)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as err:
        raise LockError(f"{path}: there is no lock for the base {base.name}; {remedy(base)}", state="missing") from err


def remedy(base: Base) -> str:
    return f"run `nox -s lock -- --base {base.name}`"
