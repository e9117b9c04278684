"""Say which repository of which registry a name is of, and open it."""

import re

from sparkbake.errors import UsageError
from sparkbake.exchange import login_of
from sparkbake.project import Project
from sparkbake.registry import Repository
from sparkbake.tables import say
from sparkbake.tagging import HOST, NAME

_PLACE = re.compile(rf"({HOST})/({NAME})")
_REFERENCE = re.compile(rf"({NAME})(?::(\w[\w.-]{{0,127}}))?(?:@(sha256:[0-9a-f]{{64}}))?", re.ASCII)


def repository_of_row(project: Project, place: str | None, reference: str) -> Repository:
    """Where images go.

    Args:
        place: "<host>/<namespace>"; None for that of the matrix.
        reference: of an image as the matrix names it.

    Raises:
        UsageError: it is no place.
    """
    named = project.matrix.project
    found = _PLACE.fullmatch(f"{named.registry}/{named.namespace}" if place is None else place)
    if found is None:
        raise UsageError(
            f"--registry: got '{place}', expected HOST/NAMESPACE such as {named.registry}/{named.namespace}"
        )
    registry, namespace = found.groups()
    name = f"{namespace}/{reference.rpartition('/')[2].partition(':')[0]}"
    return _open(project, registry, name, writes=True)


def repository_of(project: Project, reference: str) -> tuple[Repository, str | None, str | None]:
    """The repository that an image is in, for reading, with the tag and the digest that it is asked for by.

    Args:
        reference: as `docker pull` takes it; one without a registry is of that of the matrix.

    Raises:
        UsageError: it is none, or without tag and digest.
    """
    registry, slash, rest = reference.partition("/")
    if not slash or not (re.search(r"[.:]", registry) or registry == "localhost"):
        registry, rest = project.matrix.project.registry, reference
    found = _REFERENCE.fullmatch(rest)
    if found is None or not re.fullmatch(HOST, registry) or not (found[2] or found[3]):
        raise UsageError(f"got '{reference}', expected a TAG as `list` shows it, NAME:TAG or NAME@sha256:DIGEST")
    return _open(project, registry, found[1], writes=False), found[2], found[3]


def repository_named(project: Project, place: str, *, writes: bool) -> Repository:
    """The repository of a name "<host>/<name>", which is one."""
    registry, _slash, name = place.partition("/")
    return _open(project, registry, name, writes=writes)


def _open(project: Project, registry: str, name: str, *, writes: bool) -> Repository:
    host = dict(project.matrix.tagging.hosts).get(registry, registry)
    return Repository(host, name, shown=f"{registry}/{name}", login=login_of(registry), say=say, writes=writes)
