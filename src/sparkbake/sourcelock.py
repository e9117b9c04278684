"""Locks of what is compiled, as files: foundations in `locks/foundations/`, rows beside those of the wheels strategy.

They carry digests as `lockfile` has them. What no one has found yet stands under `open_pins`, and no build takes it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparkbake.errors import LockError
from sparkbake.lockfile import SCHEMA, canonical, checked_body, expect_keys, lock_path, pretty, sha256_of, wheel_of
from sparkbake.model import Base, Environment, Foundation, Matrix, Row, Wheel
from sparkbake.sourcedata import Digests
from sparkbake.sourcepins import Pin, cuda_images, foundation_pins, requires_of, row_pins, sources_of

Requirements = tuple[tuple[str, tuple[Wheel, ...]], ...]
# What is installed to build each part; "runtime" is what torch needs to run.
FOUNDATION_REQUIRES = ("tools", "torch", "runtime")
IMAGE_REQUIRES = ("triton", "vllm")
_COMMON_KEYS = (
    "schema",
    "strategy",
    "entry_digest",
    "source_date_epoch",
    "metadata_of",
    "pins",
    "open_pins",
    "requires",
)
_FOUNDATION_KEYS = (*_COMMON_KEYS, "foundation", "images", "installer")
_ROW_KEYS = (*_COMMON_KEYS, "tag", "environment")


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundationLock:
    """What a compiled foundation resolved to.

    Attributes:
        images: of CUDA, for development and to run on.
        metadata_of: the version of torch whose requirements it has; another one when the index lacks its own.
        requires: component to the wheels that it is built with, by `FOUNDATION_REQUIRES`.
        installer: the uv wheels that install them.
    """

    name: str
    entry_digest: str
    source_date_epoch: int
    metadata_of: str
    images: tuple[Digests, Digests]
    pins: tuple[Pin, ...]
    requires: Requirements
    installer: tuple[Wheel, ...]

    @property
    def open_pins(self) -> tuple[str, ...]:
        """What is not known yet, each as a user is told."""
        images = [f"{one.reference}: {kind} digest" for one in self.images for kind in _missing(one)]
        return (*images, *_open(self.pins))


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceLock:
    """What a compiled row resolved to, beside its foundation.

    Attributes:
        metadata_of: the version of vLLM whose requirements it has; another one when the index lacks its own.
        environment: all it runs with but what is compiled.
    """

    tag: str
    entry_digest: str
    source_date_epoch: int
    metadata_of: str
    pins: tuple[Pin, ...]
    requires: Requirements
    environment: Environment

    @property
    def open_pins(self) -> tuple[str, ...]:
        """What is not known yet, each as a user is told."""
        return _open(self.pins)


def _missing(image: Digests) -> list[str]:
    return [kind for kind, found in (("index", image.index), ("manifest", image.manifest)) if found is None]


def _open(pins: tuple[Pin, ...]) -> tuple[str, ...]:
    return tuple(one.told for one in pins if not one.commit)


# ---- what a lock belongs to


def foundation_digest(matrix: Matrix, foundation: Foundation) -> str:
    """Digest of all that decides what a foundation resolves to."""
    sources, versions = sources_of(matrix), dict(foundation.versions)
    return _digest(
        matrix,
        {
            "versions": versions,
            "as_of": foundation.as_of,
            "images": [asdict(one) for one in cuda_images(matrix, foundation)],
            "pins": [asdict(one) for one in foundation_pins(matrix, foundation)],
            "requires": {one: requires_of(sources, one, versions) for one in FOUNDATION_REQUIRES},
        },
    )


def row_digest(matrix: Matrix, row: Row) -> str:
    """Digest of all that decides what a compiled row resolves to."""
    sources, versions = sources_of(matrix), dict(row.versions)
    return _digest(
        matrix,
        {
            "versions": versions,
            "as_of": row.release.as_of,
            "newer": {one.package: one.as_of for one in row.release.newer},
            "declares": dict(row.release.declares),
            "overrides": [one.package for one in row.overrides],
            "extras": sorted(one.requirement for one in matrix.extras),
            "pins": [asdict(one) for one in row_pins(matrix, row)],
            "requires": {one: requires_of(sources, one, versions) for one in IMAGE_REQUIRES},
        },
    )


def _digest(matrix: Matrix, more: Mapping[str, object]) -> str:
    base = source_base(matrix)
    common = {
        "platform": matrix.chip.platform,
        "base": (base.name, base.python, base.manylinux),
        "uv": matrix.uv,
        "replaced": sorted(sources_of(matrix).replaced),
    }
    return sha256_of(canonical({**common, **more}))


def source_base(matrix: Matrix) -> Base:
    """The base whose Python the CUDA images have."""
    name = sources_of(matrix).base
    return next(one for one in matrix.bases if one.name == name)


# ---- writing


def foundation_path(locks: Path, name: str) -> Path:
    return locks / "foundations" / f"{name}.json"


def foundation_to_json(lock: FoundationLock) -> str:
    """The file of a foundation's lock, with its own digest."""
    body = _foundation_body(lock)
    return pretty({**body, "digest": sha256_of(canonical(body))})


def source_lock_to_json(lock: SourceLock) -> str:
    """The file of a row's lock, with its own digest."""
    body = _row_body(lock)
    return pretty({**body, "digest": sha256_of(canonical(body))})


def digest_of(lock: FoundationLock | SourceLock) -> str:
    """Digest of all that a lock says; its file carries it."""
    body = _foundation_body(lock) if isinstance(lock, FoundationLock) else _row_body(lock)
    return sha256_of(canonical(body))


def _foundation_body(lock: FoundationLock) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "strategy": "source",
        "foundation": lock.name,
        "entry_digest": lock.entry_digest,
        "source_date_epoch": lock.source_date_epoch,
        "metadata_of": lock.metadata_of,
        "images": [asdict(one) for one in lock.images],
        "pins": [asdict(one) for one in lock.pins],
        "open_pins": list(lock.open_pins),
        "requires": _requires_body(lock.requires),
        "installer": [asdict(one) for one in lock.installer],
    }


def _row_body(lock: SourceLock) -> dict[str, object]:
    wheels = [asdict(one) for one in lock.environment.wheels]
    return {
        "schema": SCHEMA,
        "strategy": "source",
        "tag": lock.tag,
        "entry_digest": lock.entry_digest,
        "source_date_epoch": lock.source_date_epoch,
        "metadata_of": lock.metadata_of,
        "pins": [asdict(one) for one in lock.pins],
        "open_pins": list(lock.open_pins),
        "requires": _requires_body(lock.requires),
        "environment": {"base": lock.environment.base, "python": lock.environment.python, "wheels": wheels},
    }


def _requires_body(requires: Requirements) -> dict[str, list[dict[str, object]]]:
    return {name: [asdict(one) for one in wheels] for name, wheels in requires}


# ---- reading


def load_foundation_lock(locks: Path, matrix: Matrix, foundation: Foundation) -> FoundationLock:
    """Read the lock of a foundation and check that it belongs to the matrix.

    Raises:
        LockError: it is missing, damaged, or was made from another entry.
    """
    path, remedy = foundation_path(locks, foundation.name), "run `nox -s lock` for a row that is built on it"
    lock = parse_foundation_lock(_read(path, foundation.name, remedy), str(path), remedy)
    _belongs(path, lock.entry_digest, foundation_digest(matrix, foundation), remedy)
    return lock


def load_source_lock(locks: Path, matrix: Matrix, row: Row) -> SourceLock:
    """Read the lock of a compiled row and check that it belongs to the matrix; raises like `load_foundation_lock`."""
    path, remedy = lock_path(locks, row.tag), f"run `nox -s lock -- {row.tag}`"
    lock = parse_source_lock(_read(path, row.tag, remedy), str(path), remedy)
    if lock.tag != row.tag:
        raise LockError(f"{path}: is the lock of '{lock.tag}', expected {row.tag}; {remedy}")
    _belongs(path, lock.entry_digest, row_digest(matrix, row), remedy)
    return lock


def _read(path: Path, name: str, remedy: str) -> str:
    if not path.exists():
        raise LockError(f"{path}: there is no lock for {name}; {remedy}", state="missing")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise LockError(f"{path}: cannot be read: {err}; restore it with git, or {remedy}") from err


def _belongs(path: Path, made_from: str, wanted: str, remedy: str) -> None:
    if made_from != wanted:
        raise LockError(
            f"{path}: stale: made from the matrix entry {made_from[:19]}, but matrix.yaml now says {wanted[:19]}; "
            f"{remedy}",
            state="stale",
        )


def parse_foundation_lock(text: str, where: str, remedy: str) -> FoundationLock:
    """Parse the file of a foundation's lock.

    Raises:
        LockError: it is no JSON, has other keys than expected, or does not match its own digest.
    """
    body = checked_body(text, where, remedy)
    try:
        expect_keys("it", body, _FOUNDATION_KEYS)
        devel, runtime = (Digests(**one) for one in body["images"])
        return FoundationLock(
            name=str(body["foundation"]),
            entry_digest=str(body["entry_digest"]),
            source_date_epoch=int(body["source_date_epoch"]),
            metadata_of=str(body["metadata_of"]),
            images=(devel, runtime),
            pins=tuple(Pin(**one) for one in body["pins"]),
            requires=_requires(body["requires"]),
            installer=tuple(wheel_of(one) for one in body["installer"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise LockError(f"{where}: not a lock of a foundation: {err!r}; {remedy}") from err


def parse_source_lock(text: str, where: str, remedy: str) -> SourceLock:
    """Parse the file of a compiled row's lock; raises like `parse_foundation_lock`."""
    body = checked_body(text, where, remedy)
    try:
        expect_keys("it", body, _ROW_KEYS)
        expect_keys("environment", body["environment"], ("base", "python", "wheels"))
        return SourceLock(
            tag=str(body["tag"]),
            entry_digest=str(body["entry_digest"]),
            source_date_epoch=int(body["source_date_epoch"]),
            metadata_of=str(body["metadata_of"]),
            pins=tuple(Pin(**one) for one in body["pins"]),
            requires=_requires(body["requires"]),
            environment=Environment(
                base=str(body["environment"]["base"]),
                python=str(body["environment"]["python"]),
                wheels=tuple(wheel_of(one) for one in body["environment"]["wheels"]),
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise LockError(f"{where}: not a lock of a compiled row: {err!r}; {remedy}") from err


def _requires(body: Mapping[str, Any]) -> Requirements:
    return tuple((str(name), tuple(wheel_of(one) for one in wheels)) for name, wheels in body.items())
