"""Say of every file in an image which Python distribution it belongs to, by the RECORD files in its layers."""

import csv
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sparkbake.errors import ImageError
from sparkbake.imageinfo import Entry
from sparkbake.model import Pairs

_RECORD = re.compile(r"((?:.+/)?(?:site|dist)-packages)/([^/]+)-([^-/]+)\.dist-info/RECORD")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerContents:
    """What was read of a layer.

    Attributes:
        group: "cuda" of the layer "cuda.nvidia-cublas".
        disk_bytes: of the files in it.
        entries: all but folders, each file's content hashed; empty of a layer that both images have.
        records: path of each RECORD file in it to its text.
    """

    digest: str
    group: str
    disk_bytes: int
    entries: tuple[Entry, ...]
    records: Pairs


def is_record(path: str) -> bool:
    """Whether a path is the RECORD of an installed distribution; not of one that another carries inside itself."""
    return _RECORD.fullmatch(path) is not None


def record_text(content: bytes, where: str) -> str:
    """The text of a RECORD.

    Raises:
        ImageError: it is not UTF-8; the message begins with `where`.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as err:
        raise ImageError(f"{where}: is not UTF-8: {err}; expected the RECORD of an installed distribution") from err


def versions(layers: Sequence[LayerContents]) -> dict[str, str]:
    """Distribution name to version, by the names of the dist-info folders; several versions with commas."""
    found: dict[str, set[str]] = {}
    for name, version, _paths in _distributions(layers):
        found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(some)) for name, some in found.items()}


def attribution(layers: Sequence[LayerContents]) -> dict[tuple[str, str], str]:
    """The one package of every entry: layer digest and path to name.

    Of several distributions that claim a path, the first by name with its RECORD in the same layer has it, else the
    first by name at all. What stands beside a RECORD is of its distribution, too (the notes of recipes/scripts/
    layout.py). All else is of the pseudo package "(<group>)" of its layer.

    Raises:
        ImageError: a RECORD is no CSV.
    """
    everywhere = _claims(layers)
    folders = {posixpath.dirname(paths[0]): name for name, _version, paths in _distributions(layers)}
    owners: dict[tuple[str, str], str] = {}
    for layer in layers:
        here = _claims([layer])
        for entry in layer.entries:
            claimed = here.get(entry.path) or everywhere.get(entry.path)
            beside = folders.get(posixpath.dirname(entry.path))
            owners[layer.digest, entry.path] = claimed or beside or f"({layer.group})"
    return owners


def _claims(layers: Sequence[LayerContents]) -> dict[str, str]:
    claims: dict[str, str] = {}
    for name, _version, paths in sorted(_distributions(layers), key=lambda one: one[:2]):
        for path in paths:
            claims.setdefault(path, name)
    return claims


def _distributions(layers: Sequence[LayerContents]) -> Iterator[tuple[str, str, list[str]]]:
    """Name, version and paths of each distribution; its RECORD comes first."""
    for layer in layers:
        for path, text in layer.records:
            found = _RECORD.fullmatch(path)
            if found:
                _site, name, version = found.groups()
                yield _normalised(name), version, [path, *recorded(path, text)]


def _normalised(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def recorded(path: str, text: str) -> Iterator[str]:
    """Paths in an image that a RECORD lists.

    https://packaging.python.org/en/latest/specifications/recording-installed-packages/

    Raises:
        ImageError: it is no CSV.
    """
    site = posixpath.dirname(posixpath.dirname(path))
    try:
        for row in csv.reader(text.splitlines(keepends=True), strict=True):
            if row:
                yield posixpath.normpath(posixpath.join("/", site, row[0])).lstrip("/")
    except csv.Error as err:
        raise ImageError(f"{path}: is no CSV: {err}; expected the RECORD of an installed distribution") from err
