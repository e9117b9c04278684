"""The command that removes what this project made, once it was shown and agreed to."""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from sparkbake.build import exclusive
from sparkbake.buildx import forget
from sparkbake.bundlefiles import claimed
from sparkbake.cleanimages import Held, held_images, image_items, record_items, remove_image
from sparkbake.cleaning import Item, Kind, build_items, bundle_items, cache_items, check_places, row_items
from sparkbake.engine import default_builder
from sparkbake.errors import BundleError, ProcessError, UsageError
from sparkbake.model import Strategy
from sparkbake.project import Project, open_project
from sparkbake.tables import print_table, say
from sparkbake.variants import alternatives

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """What became of something that may go; `error` says why it stays, "" when it does not or was not to go."""

    item: Item
    removed: bool
    error: str = ""


def clean(options: argparse.Namespace) -> int:
    """Remove what may go, having shown it and asked; 1 when something of it stays, else 0.

    Raises:
        UsageError: tags and --all at once, nobody can be asked, or a place is a link.
        BuildError: a build runs in this checkout.
        LockError: the lock of a base is missing or damaged, so that nobody can say which bases are stale.
    """
    project = open_project(options.root)
    if options.tags and (options.all or options.build_cache):
        raise UsageError("TAG: got tags and --all or --build-cache, expected one of the two")
    check_places(project)
    with ExitStack() as stack:
        if project.build.is_dir() and not options.dry_run:
            stack.enter_context(exclusive(project.build))
        items = tuple(_items(project, options))
        if not options.json:
            _print(items)
        if not items or options.dry_run or not _agreed(options):
            found = [Removal(item=one, removed=False) for one in items]
        else:
            found = [_removed(one) for one in items]
    return _told(found, options)


# ---- what may go


def _items(project: Project, options: argparse.Namespace) -> Iterator[Item]:
    images = _images(project)
    if options.tags:
        tags, names = _named(project, options.tags)
        yield from row_items(project, tags, names)
        yield from bundle_items(project, tags, everything=False, now=time.time())
        yield from image_items(project, images or (), tags, everything=False)
        return
    digests = None if images is None else {one.image_id for one in images}
    yield from build_items(project, digests, everything=options.all, now=time.time())
    yield from bundle_items(project, (), everything=options.all, now=time.time())
    yield from cache_items(project, everything=options.all, now=time.time())
    yield from image_items(project, images or (), (), everything=options.all)
    if options.build_cache:
        yield from record_items()


def _named(project: Project, patterns: Sequence[str]) -> tuple[set[str], set[str]]:
    """The tags of what is asked for, and the names of its targets.

    Of a compiled row these are all its variants, too. Its foundation has to be named: other rows may stand on it.

    Raises:
        UsageError: a pattern matches neither a row nor a foundation.
    """
    compiled = [one for one in project.rows if one.release.strategy is Strategy.SOURCE]
    foundations = {one.foundation.name: one for one in compiled if one.foundation.name in patterns}
    others = [one for one in patterns if one not in foundations]
    rows = project.select(others) if others else ()
    from_wheels = [one for one in rows if one.release.strategy is not Strategy.SOURCE]
    targets = [(one.tag, one.name) for one in project.plan(from_wheels, project.matrix.bases[0]).targets]
    for row in foundations.values():
        targets += [(one.tag, one.name) for one in project.source_plan([row]).targets if one.is_foundation]
    for row in (one for one in rows if one.release.strategy is Strategy.SOURCE):
        known = [one.name for one in alternatives(project.matrix, row, project.series()) if one.refused is None]
        for variant in (None, *known):
            targets += [(one.tag, one.name) for one in project.source_plan([row], variant).targets[-1:]]
    return {tag for tag, _name in targets}, {name for _tag, name in targets}


def _images(project: Project) -> tuple[Held, ...] | None:
    try:
        return held_images(project)
    except ProcessError as err:
        say(f"the engine does not answer, so its images and their reports stay: {err}")
        return None


# ---- doing it


def _agreed(options: argparse.Namespace) -> bool:
    """Whether it may be done.

    Raises:
        UsageError: nobody is there to be asked.
    """
    if options.yes:
        return True
    if options.json or not sys.stdin.isatty():
        raise UsageError("nobody can be asked here, so nothing was removed; say --yes, or --dry-run to look")
    try:
        return input("Remove all of this? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _removed(item: Item) -> Removal:
    try:
        _REMOVERS.get(item.kind, _remove_path)(item.place)
    except (BundleError, ProcessError, OSError) as err:
        return Removal(item=item, removed=False, error=getattr(err, "output", "") or str(err))
    return Removal(item=item, removed=True)


def _remove_path(place: str) -> None:
    path = Path(place)
    # It may have become a link since it was looked at; rmtree refuses one, and follows none below.
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _remove_bundle(place: str) -> None:
    with claimed(Path(place)):
        _remove_path(place)


def _forget(place: str) -> None:
    forget(default_builder(), place.split())


_REMOVERS: dict[Kind, Callable[[str], None]] = {
    Kind.IMAGE: remove_image,
    Kind.BUNDLE: _remove_bundle,
    Kind.BUILD_CACHE: _forget,
}


# ---- how it looks


def _print(items: Sequence[Item]) -> None:
    rows = [(one.kind.value, _place(one), f"{one.size_bytes / 1e6:.1f}", one.why) for one in items]
    total = sum(one.size_bytes for one in items)
    print_table(("what", "where", "MB", "why"), rows, title=f"{len(items)} may go, {total / 1e6:.1f} MB at most")


def _place(item: Item) -> str:
    return "engine" if item.kind is Kind.BUILD_CACHE else item.place


def _told(found: Sequence[Removal], options: argparse.Namespace) -> int:
    gone = [one for one in found if one.removed]
    failed = [one for one in found if one.error]
    for one in failed:
        say(f"{_place(one.item)}: stays: {one.error}")
    freed = sum(one.item.size_bytes for one in gone)
    say(f"removed {len(gone)} of {len(found)}, {freed / 1e6:.1f} MB at most")
    if options.json:
        items = [{**asdict(one.item), "removed": one.removed, "error": one.error} for one in found]
        body = {"schema": SCHEMA, "dry_run": options.dry_run, "removed_bytes": freed, "items": items}
        print(json.dumps(body, indent=2, sort_keys=True))
    return 1 if failed else 0
