"""Paths of an image: where links lead, and how paths are shown."""

import re
from collections.abc import Mapping

from sparkbake.surveyed import Seen

_SITE = re.compile(r"^.*/(?:site|dist)-packages/")
_MOST_LINKS = 40  # MAXSYMLINKS of Linux


def follow(seen: Mapping[str, Seen], path: str) -> str | None:
    """Where a path leads with all links followed, be something there or not; None of links that go in a circle."""
    todo, done, links = path.split("/")[::-1], list[str](), 0
    while todo:
        part = todo.pop()
        if part == "..":
            del done[-1:]
        elif part not in ("", "."):
            done.append(part)
            here = seen.get("/".join(done))
            if here and here.entry.kind == "link":
                links += 1
                if links > _MOST_LINKS:
                    return None
                done = [] if here.entry.target.startswith("/") else done[:-1]
                todo += here.entry.target.split("/")[::-1]
    return "/".join(done)


def real_path(seen: Mapping[str, Seen], path: str) -> str | None:
    """The path of an image at which a file lies, with all links followed, also those of folders and hard ones.

    Returns:
        None of what is not there, or links to itself.
    """
    place = follow(seen, path)
    found = seen.get(place) if place is not None else None
    if not found:
        return None
    return found.entry.target if found.entry.kind == "hardlink" else found.entry.path


def below_site(path: str) -> str:
    """A path below the folder of packages it is in; as it is, if it is in none."""
    return _SITE.sub("", path)


def shown(path: str) -> str:
    """A path that fits into a table: below the folder of packages; a name that is no UTF-8 must not end it."""
    return below_site(path).encode(errors="backslashreplace").decode()
