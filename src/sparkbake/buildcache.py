"""Decide where a registry keeps the build cache of compiled images, and tell bake so.

https://docs.docker.com/build/cache/backends/registry/
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sparkbake.bake import COMPRESSIONS
from sparkbake.errors import UsageError
from sparkbake.sourcelabels import LOCK_DIGEST
from sparkbake.sourcemodel import SourceTarget
from sparkbake.tagging import HOST, NAME

_REPOSITORY = re.compile(rf"({HOST})/({NAME})")
_SHORT = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetCache:
    """The references of one target's cache, "registry.example/sparks/cache:cache-vllm-0_14_1-t4-0123456789ab".

    Attributes:
        read: where steps may come from.
        others: where some may come from, too: caches of other rows on the same foundation. Those have the same LLVM and
            Triton, and one of the same release has the same vLLM.
        write: where they go; None for nowhere.
    """

    read: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    write: str | None = None


def check_caches(options: Mapping[str, Sequence[str]], images: Collection[str]) -> None:
    """See that each option names repositories, and none that images have.

    Tags of caches are made here, but rows may have any tag: so a cache never goes where images do. `publish` sends
    these to any registry and namespace; what their repositories are called there is the same everywhere.

    Args:
        options: option to the repositories that it names.
        images: names of all images of the matrix.

    Raises:
        UsageError: one does not, or does.
    """
    for option, names in options.items():
        for name in names:
            found = _REPOSITORY.fullmatch(name)
            if found is None or not (re.search(r"[.:]", found[1]) or found[1] == "localhost"):
                raise UsageError(
                    f"{option}: got '{name}', expected a repository as HOST/NAME, such as "
                    "registry.example:5000/sparks/build-cache; the tag of each target's cache is made by rule"
                )
            if found[2].rpartition("/")[2] in images:
                raise UsageError(
                    f"{option}: got '{name}', which is where images are published; expected a repository of its own "
                    f"for the cache, such as {name.rpartition('/')[0]}/build-cache"
                )


def caches_of(
    targets: Sequence[SourceTarget],
    prefix: str,
    *,
    read: Sequence[str],
    write: str | None,
    siblings: Sequence[SourceTarget] = (),
) -> dict[str, TargetCache]:
    """Target name to the references of its cache.

    By its lock, and not by its recipe: of what a changed recipe leaves as it was the steps are still found.

    Args:
        prefix: of the labels.
        read, write: repositories.
        siblings: further targets, whose caches may be read.
    """
    tags = {one.name: _tag(one, prefix) for one in (*siblings, *targets)}
    parents = {one.name: one.parents for one in (*siblings, *targets)}
    places = tuple(dict.fromkeys(read))
    found = {}
    for one in targets:
        others = [name for name in tags if name != one.name and one.parents and parents[name] == one.parents]
        found[one.name] = TargetCache(
            read=tuple(f"{place}:{tags[one.name]}" for place in places),
            others=tuple(f"{place}:{tags[name]}" for name in others for place in places),
            write=f"{write}:{tags[one.name]}" if write else None,
        )
    return found


def _tag(target: SourceTarget, prefix: str) -> str:
    digest = dict(target.labels)[f"{prefix}.{LOCK_DIGEST}"].removeprefix("sha256:")
    return f"cache-{target.name}-{digest[:_SHORT]}"


def narrowed(caches: Mapping[str, TargetCache], readable: Collection[str]) -> dict[str, TargetCache]:
    """The caches without references that cannot be read."""

    def kept(references: Sequence[str]) -> tuple[str, ...]:
        return tuple(one for one in references if one in readable)

    return {name: replace(one, read=kept(one.read), others=kept(one.others)) for name, one in caches.items()}


def cache_bodies(
    caches: Mapping[str, TargetCache], *, compression: str, is_borne: bool
) -> dict[str, dict[str, list[str]]]:
    """Target name to what bake is told of its cache; nothing where it has none.

    All stages are kept, since what took hours to compile is in none of the image's own.

    Args:
        compression: as `bake_file` has it; of layers that are packed for it.
        is_borne: whether a cache that cannot be written leaves the build whole.
    """
    words = f"mode=max,oci-mediatypes=true,image-manifest=true,compression={COMPRESSIONS[compression]}"
    words += ",ignore-error=true" if is_borne else ""
    return {
        name: {
            **({"cache-from": [f"type=registry,ref={one}" for one in places]} if places else {}),
            **({"cache-to": [f"type=registry,ref={cache.write},{words}"]} if cache.write else {}),
        }
        for name, cache in caches.items()
        for places in [(*cache.read, *cache.others)]
    }
