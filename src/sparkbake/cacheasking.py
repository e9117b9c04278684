"""Ask registries for the caches of compiled images, before and after they are built."""

import argparse
from collections.abc import Collection, Mapping, Sequence

from sparkbake.buildcache import TargetCache, caches_of, check_caches, narrowed
from sparkbake.errors import RegistryError
from sparkbake.model import Strategy
from sparkbake.places import repository_named
from sparkbake.project import Project
from sparkbake.sourcemodel import SourceTarget
from sparkbake.tables import say


def named_caches(
    project: Project, targets: Sequence[SourceTarget], options: argparse.Namespace
) -> dict[str, TargetCache]:
    """Target name to the references that its cache has by what `--cache-from` and `--cache-to` name.

    Raises:
        UsageError: they name something that is not for caches.
    """
    read, write = options.cache_from or (), options.cache_to
    names = [one.name for one in project.matrix.images]
    check_caches({"--cache-from": read, "--cache-to": [write] if write is not None else []}, names)
    siblings = _siblings(project, targets) if read else ()
    return caches_of(targets, project.matrix.project.label_prefix, read=read, write=write, siblings=siblings)


def _siblings(project: Project, targets: Sequence[SourceTarget]) -> tuple[SourceTarget, ...]:
    """The targets of all rows that can be built on the foundations of some."""
    foundations = {one.tag for one in targets if not one.environment}
    rows = [
        row
        for row in project.rows
        if row.release.strategy is Strategy.SOURCE
        and row.foundation.name in foundations
        and project.lock_state(row) == "yes"
    ]
    return project.source_plan(rows, None).targets if rows else ()


def ask_caches(project: Project, caches: Mapping[str, TargetCache], present: Collection[str]) -> dict[str, TargetCache]:
    """The caches of what is built, without those that cannot be read; each of these is said, and ends nothing.

    Args:
        present: names of targets that are there already.

    Raises:
        RegistryError: what is compiled could not be kept there, which is known before it takes hours.
    """
    for name in sorted(present):
        if caches[name].write:
            say(f"cache: {name} is there already and not built, so that its cache is not written")
    asked = {name: one for name, one in caches.items() if name not in present}
    for place in sorted({one.write.rpartition(":")[0] for one in asked.values() if one.write}):
        try:
            repository_named(project, place, writes=True).check_writable()
        except RegistryError as err:
            told = f"--cache-to: {err}; nothing was built: mend it, or leave --cache-to out"
            raise RegistryError(told, status=err.status) from err
    own = [reference for one in asked.values() for reference in one.read]
    others = [reference for one in asked.values() for reference in one.others]
    return narrowed(asked, _readable(project, own, others))


def _readable(project: Project, own: Sequence[str], others: Sequence[str]) -> set[str]:
    """Those of some references that a registry has; one that does not answer is asked once.

    Args:
        others: that need not be there, so that nothing is said of those that are not.
    """
    found: set[str] = set()
    silent: set[str] = set()
    for reference in dict.fromkeys((*own, *others)):
        place, _colon, tag = reference.rpartition(":")
        if place in silent:
            continue
        try:
            digest = repository_named(project, place, writes=False).digest_of(tag)
        except RegistryError as err:
            silent.add(place)
            say(f"--cache-from: {err}; nothing is taken from there")
            continue
        if digest:
            found.add(reference)
        if digest or reference in own:
            say(f"cache: {reference}: {'is there' if digest else 'is not there; nothing is taken from it'}")
    return found


def check_written(unwritten: Sequence[str], place: str | None) -> None:
    """See that all caches were written.

    Args:
        unwritten: why some were not.
        place: the repository.

    Raises:
        RegistryError: some were not.
    """
    if unwritten:
        raise RegistryError(
            f"--cache-to: {place}: {len(unwritten)} not written: {'; '.join(dict.fromkeys(unwritten))}; what was built "
            "is in the engine. Once the registry takes it, remove the foundations that were built (docker image rm) "
            "and run the same again: all steps come from BuildKit's cache, and are written then"
        )
