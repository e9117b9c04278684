"""The command that holds images against each other: `delta`; and how differences look in a terminal."""

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sparkbake.compare import DIFFERENCE_HEADERS, Difference, difference_rows
from sparkbake.delta import Delta, PackageChange
from sparkbake.deltaread import Named, read_delta
from sparkbake.errors import UsageError
from sparkbake.images import OpenImage, open_image, remote_image
from sparkbake.project import Project, open_project
from sparkbake.saving import save_image
from sparkbake.tables import print_table, say

_FILE = "oci:"
_REGISTRY = "docker://"
_STATES = {"unchanged": "in vain"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where an image is to be read from: a file or folder, the engine by a tag of the matrix, or a registry."""

    kind: Literal["file", "tag", "registry"]
    place: str


def source_of(asked: str, tags: Sequence[str]) -> Source:
    """What an argument names; a tag of the matrix goes before a file of that name.

    Raises:
        UsageError: it is none of the three forms.
    """
    if asked.startswith(_REGISTRY) and asked != _REGISTRY:
        return Source(kind="registry", place=asked.removeprefix(_REGISTRY))
    if asked.startswith(_FILE) and asked != _FILE:
        return Source(kind="file", place=asked.removeprefix(_FILE))
    if asked in tags:
        return Source(kind="tag", place=asked)
    if asked and Path(asked).exists():
        return Source(kind="file", place=asked)
    raise UsageError(
        f"got '{asked}', expected an OCI archive or layout folder that exists (oci:FILE), a tag of the matrix "
        f"({', '.join(tags)}), or an image of a registry (docker://REGISTRY/NAME:TAG)"
    )


def delta(options: argparse.Namespace) -> int:
    """Print what an update from one image to another costs."""
    project = open_project(options.root)
    platform = options.platform or project.matrix.chip.platform
    tags = [row.tag for row in project.rows]
    sources = [source_of(asked, tags) for asked in (options.old, options.new)]
    with ExitStack() as stack:
        old, new = (
            open_source(project, asked, source, platform=platform, stack=stack)
            for asked, source in zip((options.old, options.new), sources, strict=True)
        )
        found = read_delta(old, new, say)
    if options.json:
        print(json.dumps({**asdict(found), "ratio": found.ratio}, indent=2, sort_keys=True))
    else:
        print_delta(found)
    return 0


def open_source(project: Project, asked: str, source: Source, *, platform: str, stack: ExitStack) -> Named:
    """Open one image; what is made for that goes when `stack` ends."""
    if source.kind == "registry":
        return Named(name=asked, info=remote_image(source.place, platform=platform), opened=None)
    path = Path(source.place)
    if source.kind == "tag":
        project.build.mkdir(parents=True, exist_ok=True)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="delta-", dir=project.build))
        path = Path(folder, "image.tar")
        row = project.select([source.place])
        save_image(project.plan(row, project.matrix.bases[0]).targets[0].reference, source.place, path)
    opened = open_image(path, platform=platform)
    return Named(name=asked, info=opened.info, opened=opened)


def open_contents(project: Project, asked: str, *, platform: str | None, stack: ExitStack) -> tuple[str, OpenImage]:
    """Open one image whose layers are on this machine; what is made for that goes when `stack` ends.

    Args:
        platform: which of several images; None for that of the matrix.

    Returns:
        Its name for people, and the image.

    Raises:
        UsageError: it is in a registry, or named in no form that is known.
        ImageError: it cannot be read.
    """
    source = source_of(asked, [row.tag for row in project.rows])
    named = None
    if source.kind != "registry":
        named = open_source(project, asked, source, platform=platform or project.matrix.chip.platform, stack=stack)
    if named is None or named.opened is None:
        raise UsageError(
            f"got '{asked}', whose layers would have to be fetched whole; expected an image that is here: "
            "pull it, `docker image save` it to a file, and name that as oci:FILE"
        )
    return named.name, named.opened


# ---- how it looks


def print_delta(found: Delta) -> None:
    """What an update costs, for a person."""
    print_table(
        ("layer", "state", "compressed MB", "on disk MB", "digest"),
        [
            (one.name, one.state, _mb(one.compressed_bytes), _mb(one.disk_bytes), one.digest[7:19])
            for one in found.layers
        ],
        title=f"{found.old} to {found.new}",
    )
    if found.layers:
        print_table(("group", "layers", "to move", "MB of", "MB in all", "MB in vain"), _group_rows(found))
    if found.packages:
        print()
        print_table(
            ("package", "group", "state", "old", "new", "compressed MB", "on disk MB"),
            map(_package_row, found.packages),
        )
    if found.least_bytes is None:
        print("one image is in a registry: its contents were not read, so nothing is said of packages and disk")
    print(last_line(found))


def _group_rows(found: Delta) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for group in dict.fromkeys(one.group for one in found.layers):
        layers = [one for one in found.layers if one.group == group]
        moved = [one for one in layers if one.state == "changed"]
        vain = sum(one.compressed_bytes for one in found.packages if one.group == group and one.state == "unchanged")
        rows.append(
            (
                group,
                str(len(layers)),
                str(len(moved)),
                _mb(sum(one.compressed_bytes for one in moved)),
                _mb(sum(one.compressed_bytes for one in layers)),
                _mb(None if found.least_bytes is None else vain),
            )
        )
    return rows


def _package_row(one: PackageChange) -> tuple[str, ...]:
    return (
        one.name,
        one.group,
        _STATES.get(one.state, one.state),
        one.old_version or "-",
        one.new_version or "-",
        _mb(one.compressed_bytes),
        _mb(one.disk_bytes),
    )


def last_line(found: Delta) -> str:
    """The cost in one line: "to move: 12.0 MB of 80.0 MB compressed (30.0 MB on disk); least possible: ..."."""
    line = f"to move: {_mb(found.moved_bytes)} MB of {_mb(found.total_bytes)} MB compressed"
    if found.moved_disk_bytes is not None:
        line += f" ({_mb(found.moved_disk_bytes)} MB on disk)"
    if found.least_bytes is None:
        return f"{line}; least possible: not known"
    ratio = "none, nothing has to move" if found.ratio is None else f"{found.ratio:.2f}"
    return f"{line}; least possible: {_mb(found.least_bytes)} MB; ratio {ratio}"


def _mb(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.1f}"


def print_differences(found: Sequence[Difference]) -> None:
    """Differences of two images, for a person: the first 50 of each layer, and how many more there are."""
    # A file name that is no UTF-8 must not end the output.
    rows = difference_rows(found)
    print_table(DIFFERENCE_HEADERS, rows, title=f"{len(found)} differences")
