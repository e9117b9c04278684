"""The lock of a bootstrapped base: what it consists of, down to each package's hash, as a value and as a file."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sparkbake.errors import LockError

# Part of content_hash: raise it when the same lock gives other bytes, that is, when rootfs or oci write other ones.
_FORMAT = 1
_SHOWN_CHARS = 60
_NAME = r"[a-z0-9][a-z0-9+.-]*"
_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class DebianPackage:
    """One .deb of the archive.

    Attributes:
        architecture: "arm64", "amd64", or "all" for packages that are the same on both.
        sha256: 64 hex digits, of the .deb.
    """

    name: str
    version: str
    architecture: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseLock:
    """What a bootstrapped base consists of.

    Attributes:
        include: the packages asked for; the rest is what Debian calls essential, apt, and what those depend on.
        source_date_epoch: seconds since 1970; the date of the newest suite's Release file.
        packages: (architecture, its packages sorted by name), sorted.
        index_digest: of the image index over all architectures of the lock; None while it was never built.
        manifests: (architecture, manifest digest), sorted; empty while it was never built.
        generator: (tool, version) that made the lock, sorted; a record, nothing is decided by it.
    """

    name: str
    suites: tuple[str, ...]
    include: tuple[str, ...]
    source_date_epoch: int
    packages: tuple[tuple[str, tuple[DebianPackage, ...]], ...]
    index_digest: str | None
    manifests: tuple[tuple[str, str], ...]
    generator: tuple[tuple[str, str], ...]

    def packages_of(self, architecture: str) -> tuple[DebianPackage, ...]:
        return dict(self.packages)[architecture]

    @property
    def remedy(self) -> str:
        """What messages tell the user to do about this lock."""
        return f"run `nox -s lock -- --base {self.name}` to renew the lock"


def content_hash(lock: BaseLock) -> str:
    """Return 12 hex digits that change with whatever goes into the image, and not with what came of it."""
    content = dataclasses.replace(lock, index_digest=None, manifests=(), generator=())
    return hashlib.sha256(f"{_FORMAT}\n{base_lock_to_json(content)}".encode()).hexdigest()[:12]


def base_lock_to_json(lock: BaseLock) -> str:
    """Return the lock as JSON with sorted keys, one package on a line, and a final newline."""
    value = {**dataclasses.asdict(lock), "manifests": dict(lock.manifests), "generator": dict(lock.generator)}
    texts = {key: json.dumps(value[key], sort_keys=True) for key in value}
    architectures = []
    for architecture, packages in lock.packages:
        rows = [f"      {json.dumps(dataclasses.asdict(package), sort_keys=True)}" for package in packages]
        architectures.append(f"    {json.dumps(architecture)}: [\n" + ",\n".join(rows) + "\n    ]")
    texts["packages"] = "{\n" + ",\n".join(architectures) + "\n  }"
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {texts[key]}" for key in sorted(texts)) + "\n}\n"


def base_lock_from_json(text: str, where: str) -> BaseLock:
    """Read what base_lock_to_json wrote.

    Args:
        text: the JSON.
        where: the file's name, for messages.

    Raises:
        LockError: no JSON, a key unknown or missing, or a value of another form.
    """
    try:
        return _base_lock(json.loads(text))
    except ValueError as err:
        advice = f"run `nox -s lock -- --base {Path(where).stem}` to write it anew"
        raise LockError(f"{where}: not a lock of a base: {err}; {advice}") from err


def _base_lock(value: object) -> BaseLock:
    fields = _record("lock", value, BaseLock)
    digest = fields["index_digest"]
    return BaseLock(
        name=_text("name", fields["name"], _NAME, "a name such as 'debian-13'"),
        suites=_texts("suites", fields["suites"], r"[a-z0-9-]+", "a suite name"),
        include=_texts("include", fields["include"], _NAME, "a package name"),
        source_date_epoch=_number("source_date_epoch", fields["source_date_epoch"]),
        packages=_pairs("packages", fields["packages"], _packages),
        index_digest=None if digest is None else _digest("index_digest", digest),
        manifests=_pairs("manifests", fields["manifests"], _digest),
        generator=_pairs("generator", fields["generator"], lambda key, each: _text(key, each, r".+", "a version")),
    )


def _packages(key: str, value: object) -> tuple[DebianPackage, ...]:
    return tuple(_package(f"{key}[{number}]", each) for number, each in enumerate(_list(key, value)))


def _package(key: str, value: object) -> DebianPackage:
    fields = _record(key, value, DebianPackage)
    # What is checked here goes into command lines and files of apt.
    return DebianPackage(
        name=_text(f"{key}.name", fields["name"], _NAME, "a package name"),
        version=_text(f"{key}.version", fields["version"], r"[0-9A-Za-z.+:~-]+", "a Debian version"),
        architecture=_text(f"{key}.architecture", fields["architecture"], r"all|amd64|arm64", "all, amd64 or arm64"),
        sha256=_text(f"{key}.sha256", fields["sha256"], r"[0-9a-f]{64}", "64 hex digits"),
        size_bytes=_number(f"{key}.size_bytes", fields["size_bytes"]),
    )


def _record(key: str, value: object, kind: type[BaseLock | DebianPackage]) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(kind)}
    given = _mapping(key, value)
    for name in sorted(given.keys() ^ known):
        fault = "missing, expected this key" if name in known else f"unknown, expected {', '.join(sorted(known))}"
        raise ValueError(f"{key}: {name}: {fault}")
    return given


def _pairs(key: str, value: object, read: Callable[[str, object], _Value]) -> tuple[tuple[str, _Value], ...]:
    given = _mapping(key, value)
    return tuple((name, read(f"{key}.{name}", given[name])) for name in sorted(given))


def _mapping(key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _fault(key, value, "an object")
    return value


def _list(key: str, value: object) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _fault(key, value, "a list that is not empty")
    return value


def _texts(key: str, value: object, pattern: str, expected: str) -> tuple[str, ...]:
    return tuple(_text(f"{key}[{i}]", each, pattern, expected) for i, each in enumerate(_list(key, value)))


def _digest(key: str, value: object) -> str:
    return _text(key, value, r"sha256:[0-9a-f]{64}", "'sha256:' and 64 hex digits")


def _text(key: str, value: object, pattern: str, expected: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise _fault(key, value, expected)
    return value


def _number(key: str, value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise _fault(key, value, "a whole number above 0")
    return value


def _fault(key: str, found: object, expected: str) -> ValueError:
    return ValueError(f"{key}: got {json.dumps(found)[:_SHOWN_CHARS]}, expected {expected}")
