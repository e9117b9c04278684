"""Find what this project made in the engine: its images, and what of the build cache can be told as its own."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkbake import process
from sparkbake.cleaning import LOCK_LABEL, Item, Kind
from sparkbake.engine import cache_records
from sparkbake.imageinfo import is_last_step
from sparkbake.project import Project

_TIMEOUT_S = 300
# What our recipes mount, and the ID of their cache mount, as BuildKit describes a record.
_OUR_RECORD = re.compile(r'/dev/sparkbake/|with id "/?sparkbake-')


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """An image of the engine that has our labels, or is built on one of ours.

    Attributes:
        image_id: 'sha256:' + 64 hex.
        names: its tags as the engine shows them: without "docker.io/".
        is_named_otherwise: whether somebody pulled it by digest.
        is_ours: whether its history is just that of our recipes: nobody built on it.
    """

    image_id: str
    names: tuple[str, ...]
    is_named_otherwise: bool
    is_ours: bool
    size_bytes: int


def held_images(project: Project) -> tuple[Held, ...]:
    """All images of the engine with our labels.

    Raises:
        ProcessError: the engine does not answer.
    """
    label = f"label={project.matrix.project.label_prefix}.{LOCK_LABEL}"
    found = set(_docker("image", "ls", "--all", "--quiet", "--no-trunc", "--filter", label).split())
    shown = _docker("image", "inspect", *sorted(found)) if found else "[]"
    return tuple(_held(one) for one in json.loads(shown))


def _held(shown: Mapping[str, Any]) -> Held:
    history = _docker("history", "--no-trunc", "--format", "{{json .CreatedBy}}", shown["Id"])
    return Held(
        image_id=str(shown["Id"]),
        names=tuple(sorted(shown["RepoTags"] or ())),
        is_named_otherwise=not shown["RepoTags"] and bool(shown["RepoDigests"]),
        is_ours=is_our_history([json.loads(line) for line in history.splitlines()]),
        size_bytes=int(shown["Size"]),
    )


def is_our_history(steps: Sequence[str]) -> bool:
    """Whether an image is as our recipes leave it; one built on it has its labels, and further steps.

    After the step that ends its layers comes what has no layer, and CMD is the last.

    Args:
        steps: the newest first.
    """
    last = next((number for number, step in enumerate(steps) if is_last_step(step)), None)
    if last is None:
        return False
    commands = [number for number, step in enumerate(steps[:last]) if step.startswith("CMD ")]
    return commands == [0]


def image_items(project: Project, images: Sequence[Held], tags: Collection[str], *, everything: bool) -> Iterator[Item]:
    """The images that may go: superseded ones without a name, those of some rows, or all.

    Of an image that has other names too, only ours goes.

    Args:
        tags: of rows and foundations that are named.
    """
    ours = our_names(project)
    for image in images:
        if not image.is_ours:
            continue
        if not image.names and not image.is_named_otherwise and not tags:
            why = "superseded: another image has its name"
            yield Item(kind=Kind.IMAGE, place=image.image_id, size_bytes=image.size_bytes, why=why)
        for name in image.names:
            repository, _colon, tag = name.rpartition(":")
            if repository in ours and (everything or tag in tags):
                is_last = len(image.names) == 1
                why = "all is asked for" if everything else "its row is named"
                why += "" if is_last else "; only the name goes, it has others"
                size = image.size_bytes if is_last else 0
                yield Item(kind=Kind.IMAGE, place=name, size_bytes=size, why=why)


def our_names(project: Project) -> frozenset[str]:
    """Repositories of our images as the engine shows them.

    It leaves out the host and the namespace that docker takes where none is said.
    """
    named = project.matrix.project
    full = {f"{named.registry}/{named.namespace}/{one.name}" for one in project.matrix.images}
    return frozenset(one.removeprefix("docker.io/") for one in full)


def record_items() -> Iterator[Item]:
    """The records of the build cache that name what only our recipes have.

    Raises:
        PreflightError: the engine does not answer.
    """
    ours = [one for one in cache_records() if _OUR_RECORD.search(one.description)]
    if ours:
        yield Item(
            kind=Kind.BUILD_CACHE,
            place=" ".join(sorted(one.record_id for one in ours)),
            size_bytes=sum(one.size_bytes for one in ours),
            why=f"{len(ours)} records name our recipes; what else is ours cannot be told: docker builder prune",
        )


def remove_image(place: str) -> None:
    """Remove an image or one of its names; one that a container needs stays.

    Raises:
        ProcessError: it stays.
    """
    _docker("image", "rm", place)


def _docker(*words: str) -> str:
    return process.run(["docker", *words], timeout_s=_TIMEOUT_S)
