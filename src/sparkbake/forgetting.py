"""Remove from the build cache what a build added to it, and nothing that may be another build's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sparkbake.buildx import PastBuild, forget, past_builds
from sparkbake.engine import CacheRecord, cache_records
from sparkbake.errors import SparkbakeError
from sparkbake.tables import say


@contextmanager
def forgetting(builder: str, *, namespace: str | None = None, builds: int = 1) -> Iterator[None]:
    """Let a build run, and remove afterwards what it added to the engine's build cache, however it ended.

    BuildKit does not say whose a record is. Where another build ran meanwhile, only those go that are this one's for
    sure, its own package cache: the others may be what that build is about to use.

    Args:
        namespace: of cache mounts that only this build has.
        builds: how many times bake is called.

    Raises:
        PreflightError, ProcessError: the engine does not answer before the build.
    """
    records = frozenset(one.record_id for one in cache_records())
    before = past_builds(builder)
    try:
        yield
    finally:
        # What cannot be removed must not hide how the build ended.
        try:
            added = [one for one in cache_records() if one.record_id not in records]
            is_alone = _was_alone(before, past_builds(builder), builds)
            _forget(builder, added, [one for one in added if is_alone or _is_in(one, namespace)])
        except SparkbakeError as err:
            say(f"what the build left in the cache could not be removed: {err}; docker builder prune removes it")


def _forget(builder: str, added: Sequence[CacheRecord], ours: Sequence[CacheRecord]) -> None:
    forget(builder, [one.record_id for one in ours])
    if left := [one for one in added if one not in ours]:
        size = sum(one.size_bytes for one in left)
        say(
            f"{len(left)} records ({size / 1e9:.1f} GB) stay in the build cache: another build of this engine ran at "
            "the same time, and BuildKit does not say whose they are; docker builder prune removes them"
        )


def _is_in(record: CacheRecord, namespace: str | None) -> bool:
    return namespace is not None and f'with id "{namespace}/' in record.description


def _was_alone(before: tuple[PastBuild, ...], after: tuple[PastBuild, ...], builds: int) -> bool:
    """Whether no more builds ran between two looks than those that were asked for here."""
    ended = {one.ref for one in before if not one.is_running}
    ran = {one.ref for one in after} - ended
    return len(ran) <= builds and not any(one.is_running for one in before)
