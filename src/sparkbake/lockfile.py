"""Locks as files: what a row resolved to, written so that a change of one package is a change of one line.

A lock carries the digest of the matrix entry it was made from and a digest of itself, so that a stale lock and a
damaged one are told apart and neither is ever built from.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sparkbake.errors import LockError
from sparkbake.model import Base, Environment, ImageLock, Lock, Matrix, Row, Wheel

SCHEMA = 1
_LOCK_KEYS = (
    "schema",
    "tag",
    "entry_digest",
    "source_date_epoch",
    "wheel_commit",
    "build_ids",
    "installer",
    "environments",
)
_ENVIRONMENT_KEYS = ("python", "wheels")
_WHEEL_KEYS = ("name", "version", "file", "sha256", "size_bytes")
_IMAGE_LOCK_KEYS = ("schema", "name", "reference", "index", "manifests", "apt_snapshot")


def sha256_of(data: bytes) -> str:
    """'sha256:' + 64 hex."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no white space, for digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def entry_digest(matrix: Matrix, row: Row) -> str:
    """Digest of all that decides what a row resolves to; a change of anything else leaves its lock valid."""
    return sha256_of(
        canonical(
            {
                "platform": matrix.chip.platform,
                "bases": sorted((base.name, base.python, base.manylinux) for base in matrix.bases),
                "uv": matrix.uv,
                "components": {
                    one.name: (one.distribution, sorted(one.extras), one.library) for one in matrix.components
                },
                "extras": sorted(one.requirement for one in matrix.extras),
                "versions": dict(row.versions),
                "as_of": row.release.as_of,
                "newer": {one.package: one.as_of for one in row.release.newer},
                "declares": dict(row.release.declares),
                "overrides": [one.package for one in row.overrides],
                "git": (row.release.tag, row.release.commit),
            }
        )
    )


def lock_path(locks: Path, tag: str) -> Path:
    return locks / f"{tag}.json"


def base_lock_path(locks: Path, base: Base) -> Path:
    return locks / "bases" / f"{base.name}.json"


# ---- writing


def lock_to_json(lock: Lock) -> str:
    """The file of a lock: JSON, one package a line, with its own digest."""
    return pretty({**_lock_body(lock), "digest": lock_digest(lock)})


def lock_digest(lock: Lock) -> str:
    """Digest of all that a lock says; its file carries it."""
    return sha256_of(canonical(_lock_body(lock)))


def _lock_body(lock: Lock) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "tag": lock.tag,
        "entry_digest": lock.entry_digest,
        "source_date_epoch": lock.source_date_epoch,
        "wheel_commit": lock.wheel_commit,
        "build_ids": dict(lock.build_ids),
        "installer": [asdict(one) for one in lock.installer],
        "environments": {
            one.base: {"python": one.python, "wheels": [asdict(wheel) for wheel in one.wheels]}
            for one in lock.environments
        },
    }


def image_lock_to_json(lock: ImageLock) -> str:
    """The file of a registry base."""
    body = {
        "schema": SCHEMA,
        "name": lock.name,
        "reference": lock.reference,
        "index": lock.index,
        "manifests": dict(lock.manifests),
        "apt_snapshot": lock.apt_snapshot,
    }
    return pretty({**body, "digest": sha256_of(canonical(body))})


def pretty(value: object, depth: int = 0) -> str:
    """JSON whose innermost mappings stand on one line each."""
    inner, outer = "  " * (depth + 1), "  " * depth
    end = "\n" if depth == 0 else ""
    if isinstance(value, dict) and any(isinstance(one, dict | list) for one in value.values()):
        lines = [f"{inner}{json.dumps(key)}: {pretty(one, depth + 1)}" for key, one in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{outer}}}{end}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(inner + pretty(one, depth + 1) for one in value) + f"\n{outer}]{end}"
    return json.dumps(value, ensure_ascii=False) + end


# ---- reading


def load_lock(locks: Path, matrix: Matrix, row: Row) -> Lock:
    """Read the lock of a row and check that it belongs to the matrix entry.

    Raises:
        LockError: it is missing, damaged, or was made from another entry.
    """
    path = lock_path(locks, row.tag)
    remedy = f"run `nox -s lock -- {row.tag}`"
    if not path.exists():
        raise LockError(f"{path}: there is no lock for {row.tag}; {remedy}", state="missing")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise LockError(f"{path}: cannot be read: {err}; restore it with git, or {remedy}") from err
    lock = parse_lock(text, str(path), remedy)
    wanted = entry_digest(matrix, row)
    if lock.tag != row.tag:
        raise LockError(f"{path}: is the lock of '{lock.tag}', expected {row.tag}; {remedy}")
    if lock.entry_digest != wanted:
        raise LockError(
            f"{path}: stale: made from the matrix entry {lock.entry_digest[:19]}, but matrix.yaml now says "
            f"{wanted[:19]}; {remedy}",
            state="stale",
        )
    for base in matrix.bases:
        if lock.environment(base.name) is None:
            raise LockError(f"{path}: environments: has none for the base {base.name}; {remedy}")
    return lock


def parse_lock(text: str, where: str, remedy: str) -> Lock:
    """Parse the file of a lock.

    Args:
        remedy: what messages tell the user to run.

    Raises:
        LockError: it is no JSON, has other keys than expected, or does not match its own digest.
    """
    body = checked_body(text, where, remedy)
    try:
        expect_keys("it", body, _LOCK_KEYS)
        lock = Lock(
            tag=str(body["tag"]),
            entry_digest=str(body["entry_digest"]),
            source_date_epoch=int(body["source_date_epoch"]),
            wheel_commit=str(body["wheel_commit"]),
            build_ids=tuple((str(name), str(found)) for name, found in body["build_ids"].items()),
            installer=tuple(wheel_of(one) for one in body["installer"]),
            environments=tuple(_environment(base, one) for base, one in body["environments"].items()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise LockError(f"{where}: not a lock of this format: {err!r}; {remedy}") from err
    return lock


def parse_image_lock(text: str, where: str, remedy: str) -> ImageLock:
    """Parse the file of a registry base; raises like `parse_lock`."""
    body = checked_body(text, where, remedy)
    try:
        expect_keys("it", body, _IMAGE_LOCK_KEYS)
        return ImageLock(
            name=str(body["name"]),
            reference=str(body["reference"]),
            index=str(body["index"]),
            manifests=tuple(sorted((str(key), str(value)) for key, value in body["manifests"].items())),
            apt_snapshot=str(body["apt_snapshot"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise LockError(f"{where}: not a base lock of this format: {err!r}; {remedy}") from err


def checked_body(text: str, where: str, remedy: str) -> Mapping[str, Any]:
    try:
        body = json.loads(text)
    except json.JSONDecodeError as err:
        raise LockError(f"{where}:{err.lineno}:{err.colno}: not JSON: {err.msg}; {remedy}") from err
    if not isinstance(body, dict):
        raise LockError(f"{where}: got {type(body).__name__}, expected a JSON object; {remedy}")
    claimed = body.pop("digest", None)
    actual = sha256_of(canonical(body))
    if claimed != actual:
        raise LockError(
            f"{where}: damaged or edited by hand: its digest line says {str(claimed)[:19]}, its content has "
            f"{actual[:19]}; restore it with git, or {remedy}"
        )
    if body.get("schema") != SCHEMA:
        raise LockError(f"{where}: schema: got {body.get('schema')!r}, expected {SCHEMA}; {remedy}")
    return body


def expect_keys(what: str, value: Mapping[str, Any], keys: Collection[str]) -> None:
    if set(value) != set(keys):
        raise ValueError(f"{what} has the keys {sorted(value)}, expected {sorted(keys)}")


def _environment(base: str, value: Mapping[str, Any]) -> Environment:
    expect_keys("an environment", value, _ENVIRONMENT_KEYS)
    return Environment(base=base, python=str(value["python"]), wheels=tuple(wheel_of(one) for one in value["wheels"]))


def wheel_of(value: Mapping[str, Any]) -> Wheel:
    expect_keys("a package", value, _WHEEL_KEYS)
    return Wheel(
        name=str(value["name"]),
        version=str(value["version"]),
        file=str(value["file"]),
        sha256=str(value["sha256"]),
        size_bytes=int(value["size_bytes"]),
    )
