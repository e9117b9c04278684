"""The command that holds images against each other: `delta`; and how differences look in a terminal."""

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from sparkbake.compare import DIFFERENCE_HEADERS, Difference, difference_rows
from sparkbake.delta import Delta, PackageChange
from sparkbake.deltaread import Named, read_delta
from sparkbake.engine import local_image
from sparkbake.errors import UsageError, VerifyError
from sparkbake.images import OpenImage, open_image, remote_image
from sparkbake.model import Base
from sparkbake.project import Project, open_project
from sparkbake.recordedimages import labelled_layers, recorded_bases, recorded_image
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
        old, new = _open_both(project, (options.old, options.new), sources, platform=platform, stack=stack)
        found = read_delta(*with_locks(project, old, new), say)
    if options.json:
        print(json.dumps({**asdict(found), "ratio": found.ratio}, indent=2, sort_keys=True))
    else:
        print_delta(found)
    return 0


def _open_both(
    project: Project, asked: Sequence[str], sources: Sequence[Source], *, platform: str, stack: ExitStack
) -> list[Named]:
    """Open two images; of one that the engine does not have, its record is read.

    Where the contents of one cannot be read, none of the other are needed: it is not saved, if it is the recorded one.
    """
    digests = [_digest_in_engine(project, one) for one in sources]
    absent = [one.kind == "tag" and digest is None for one, digest in zip(sources, digests, strict=True)]
    is_closed = any(absent) or any(one.kind == "registry" for one in sources)
    bases = _common_bases(project, [one for one in sources if one.kind == "tag"])
    found = []
    for name, source, digest, is_absent in zip(asked, sources, digests, absent, strict=True):
        recorded = None
        if source.kind == "tag" and bases and (is_absent or is_closed):
            (row,) = project.select([source.place])
            recorded = recorded_image(project, row, bases[0])
            if is_absent:
                place = f"{bases[0].name}, {recorded.info.digest}"
                say(f"{name}: the engine does not have it; read from its record on {place}")
        if recorded and (is_absent or recorded.info.digest == digest):
            found.append(recorded)
        else:
            found.append(open_source(project, name, source, platform=platform, stack=stack))
    return found


def _digest_in_engine(project: Project, source: Source) -> str | None:
    """Digest of an image of a tag that the engine has; None when it has none, or does not answer."""
    if source.kind != "tag":
        return None
    (row,) = project.select([source.place])
    reference = project.reference(row)
    try:
        image = local_image(reference)
    except VerifyError as err:
        say(str(err))
        return None
    return image.digest if image else None


def _common_bases(project: Project, sources: Sequence[Source]) -> list[Base]:
    """The bases on which all of some tags are recorded."""
    rows = [row for one in sources for row in project.select([one.place])]
    recorded = [recorded_bases(project, row) for row in rows]
    return [base for base in project.matrix.bases if all(base in some for some in recorded)]


def with_locks(project: Project, old: Named, new: Named) -> tuple[Named, Named]:
    """Two images with what their locks say of them, where contents will not: see `read_delta`."""
    if old.opened and new.opened:
        return old, new
    one, other = (
        each if each.locked else replace(each, locked=labelled_layers(project, each.info)) for each in (old, new)
    )
    return one, other


def open_source(project: Project, asked: str, source: Source, *, platform: str, stack: ExitStack) -> Named:
    """Open one image; what is made for that goes when `stack` ends."""
    if source.kind == "registry":
        return Named(name=asked, info=remote_image(source.place, platform=platform), opened=None)
    path = Path(source.place)
    if source.kind == "tag":
        project.build.mkdir(parents=True, exist_ok=True)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="delta-", dir=project.build))
        path = Path(folder, "image.tar")
        (row,) = project.select([source.place])
        save_image(project.reference(row), source.place, path)
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
    if found.packages_by is None:
        print("the contents of one image were not read, nor is its lock here: nothing is said of packages")
    if found.packages_by == "locks":
        print("contents were not read: packages are those of the locks, and each has the share of its layer that its "
              "wheel has of the layer's wheels")  # fmt: skip
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
    by = " by the locks" if found.packages_by == "locks" else ""
    return f"{line}; least possible{by}: {_mb(found.least_bytes)} MB; ratio {ratio}"


def _mb(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.1f}"


def print_differences(found: Sequence[Difference]) -> None:
    """Differences of two images, for a person: the first 50 of each layer, and how many more there are."""
    # A file name that is no UTF-8 must not end the output.
    rows = difference_rows(found)
    print_table(DIFFERENCE_HEADERS, rows, title=f"{len(found)} differences")
