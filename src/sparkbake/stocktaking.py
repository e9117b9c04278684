"""The command that says what device code an image has: `inventory`; and how that looks in a terminal."""

import argparse
import json
import posixpath
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict

from sparkbake.comparing import open_contents
from sparkbake.devicecode import VERDICTS, Tally
from sparkbake.inventory import DeviceFile, Inventory, inventory_of
from sparkbake.paths import shown
from sparkbake.project import open_project
from sparkbake.survey import read_survey
from sparkbake.tables import print_table, say

SCHEMA = 1

_HEADERS = ("package", "file", "verdict", "containers", "SASS", "PTX", "MB")


def inventory(options: argparse.Namespace) -> int:
    """Print what device code an image has, and how far the chip of the matrix can run it.

    Raises:
        UsageError: the image is in a registry, or named in no form that is known.
        ImageError: it cannot be read.
    """
    project = open_project(options.root)
    chip = project.matrix.chip
    with ExitStack() as stack:
        name, image = open_contents(project, options.image, platform=options.platform, stack=stack)
        survey = read_survey(image, name, say, compute_capability=chip.compute_capability)
    found = inventory_of(survey, compute_capability=chip.compute_capability)
    if options.json:
        print(json.dumps(as_json(found), indent=2, sort_keys=True))
    else:
        print_inventory(found)
    return 0


def as_json(found: Inventory) -> dict[str, object]:
    """An inventory for machines; a key may be added within a schema, none changes or goes."""
    files = [{**asdict(one), "containers": dict(one.containers), "size_bytes": one.size_bytes} for one in found.files]
    return {**asdict(found), "files": files, "schema": SCHEMA, "verdicts": dict(totals(found))}


def totals(found: Inventory) -> list[tuple[str, dict[str, int]]]:
    """How many files and bytes of device code have each verdict, best first; all verdicts are there."""
    return [
        (
            verdict,
            {
                "files": sum(one.verdict == verdict for one in found.files),
                "size_bytes": sum(one.size_bytes for one in found.files if one.verdict == verdict),
            },
        )
        for verdict in VERDICTS
    ]


# ---- how it looks


def print_inventory(found: Inventory) -> None:
    """An inventory for a person; cubins of one folder and verdict are one row."""
    rows = [_row(some) for some in _folded(found.files)]
    print_table(_HEADERS, rows, title=f"{found.image}: device code, for compute capability {found.compute_capability}")
    if found.unread:
        print_table(
            ("file", "why"),
            [(shown(one.path), one.why) for one in found.unread],
            title=f"{len(found.unread)} ELF files that could not be read",
        )
    print(last_line(found))


def _folded(files: Iterable[DeviceFile]) -> list[list[DeviceFile]]:
    groups: dict[tuple[str, ...], list[DeviceFile]] = {}
    for one in files:
        folder = posixpath.dirname(one.path)
        key = (one.verdict, one.package, folder) if one.is_cubin else (one.layer, one.path)
        groups.setdefault(key, []).append(one)
    return sorted(groups.values(), key=lambda some: (-VERDICTS.index(some[0].verdict), -_size(some), some[0].path))


def _row(some: Sequence[DeviceFile]) -> tuple[str, ...]:
    first = some[0]
    place = f"{shown(posixpath.dirname(first.path))}/ ({len(some)} cubins)" if len(some) > 1 else shown(first.path)
    return (
        first.package,
        place,
        first.verdict,
        _counts(first),
        _names([tally for one in some for tally in (*one.sass, *one.other)]),
        _names([tally for one in some for tally in one.ptx]),
        f"{_size(some) / 1e6:.1f}",
    )


def _counts(file: DeviceFile) -> str:
    """The verdicts of its containers: "all" of one verdict only, "-" of a file without SASS and PTX."""
    if len(file.containers) == 1:
        return "all"
    return ", ".join(f"{count} {verdict}" for verdict, count in file.containers) or "-"


def _names(some: Iterable[Tally]) -> str:
    """The architectures, each once: "75 80 90a 120f"."""
    names = dict.fromkeys(one.name.removeprefix("sm_").removeprefix("compute_") for one in some)
    return " ".join(sorted(names, key=lambda name: (len(name.rstrip("af")), name))) or "-"


def _size(some: Iterable[DeviceFile]) -> int:
    return sum(one.size_bytes for one in some)


def last_line(found: Inventory) -> str:
    """All in one line: "4 of 90 ELF files have device code, 12.0 MB: 1 native (3.0 MB), ..."."""
    line = f"{len(found.files)} of {found.elf_files} ELF files have device code, {_size(found.files) / 1e6:.1f} MB"
    parts = [f"{one['files']} {name} ({one['size_bytes'] / 1e6:.1f} MB)" for name, one in totals(found) if one["files"]]
    return f"{line}: {', '.join(parts)}" if parts else line
