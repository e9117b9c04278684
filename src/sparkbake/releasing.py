"""The command `notes`: release notes of one row, and what the update to it moves between two images."""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial

from sparkbake.comparing import open_source, source_of, with_locks
from sparkbake.delta import Delta
from sparkbake.deltaread import Named, read_delta
from sparkbake.errors import ImageError, UsageError
from sparkbake.labels import OCI
from sparkbake.model import Row
from sparkbake.notes import previous_row
from sparkbake.notespage import page
from sparkbake.project import Project, open_project, write_file
from sparkbake.releasepages import notes_of
from sparkbake.tables import say


def notes(options: argparse.Namespace) -> int:
    """Write the release notes of one row.

    Raises:
        UsageError: no such row, or --from without --to, or nothing to compare with.
        ImageError: an image cannot be read, or is of another row.
    """
    if options.output and options.output.is_dir():
        raise UsageError(f"--output: {options.output} is a folder, expected a file")
    project = open_project(options.root)
    row = _only(project, options.tag)
    since = _only(project, options.since) if options.since else previous_row(row, project.rows)
    if since and since.tag == row.tag:
        raise UsageError(f"--since {since.tag}: got the row itself, expected another one")
    images = _images(project, options, row, since)
    found = notes_of(project, row, since, images)
    text = json.dumps(asdict(found), indent=2, sort_keys=True) + "\n" if options.json else page(found)
    if options.output:
        write_file(options.output, text)
        say(f"{options.output}: written")
    else:
        sys.stdout.write(text)
    return 0


def _only(project: Project, tag: str) -> Row:
    rows = project.select([tag])
    if len(rows) > 1:
        raise UsageError(f"got '{tag}', which matches {', '.join(one.tag for one in rows)}; expected one tag")
    return rows[0]


# ---- images that were given


def _images(project: Project, options: argparse.Namespace, row: Row, since: Row | None) -> Delta | None:
    """Hold the images of two rows against each other; None when none are named."""
    asked = (options.old, options.new)
    if not any(asked):
        return None
    if not all(asked):
        raise UsageError("--from and --to go together: the image of the row before, and that of the row")
    if since is None:
        raise UsageError(f"{row.tag} is the first of its major, so --from is of no row; name one with --since")
    tags = [one.tag for one in project.rows]
    platform = project.matrix.chip.platform
    with ExitStack() as stack:
        opened = partial(open_source, project, platform=platform, stack=stack)
        old, new = (opened(one, source_of(one, tags)) for one in asked)
        for named, expected in ((old, since), (new, row)):
            _check_image(named, expected)
        return read_delta(*with_locks(project, old, new), say)


def _check_image(named: Named, row: Row) -> None:
    found = dict(named.info.labels).get(f"{OCI}version", "none")
    if found != row.tag:
        raise ImageError(
            f"{named.name}: its label {OCI}version is '{found}', expected {row.tag}; name an image of that row"
        )
