"""Serve to a build of what is compiled, on loopback, what mirrors.yaml has in folders of this machine."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from sparkbake.errors import BuildError, PreflightError
from sparkbake.loopback import LOOPBACK, Answer, listen, serving
from sparkbake.mirrors import PACKAGES, Mirrors

_FILE_TYPE = "application/octet-stream"
_APT = "/apt/"
# As apt names a folder that has no suites.
_FLAT = "./"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counter:
    """What is served, and what was asked of it.

    Attributes:
        folders: what a path begins with, to the folder that it leads to.
        asked: paths, in the order in which they were asked for.
    """

    folders: tuple[tuple[str, Path], ...]
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> Answer | None:
        """The file that lies at a path; None when none does. No path leads out of a folder."""
        self.asked.append(path)
        for begin, folder in self.folders:
            parts = [one for one in unquote(path.removeprefix(begin)).split("/") if one != "."]
            if path.startswith(begin) and not any(one in ("", "..") for one in parts):
                place = folder.joinpath(*parts)
                return Answer(media_type=_FILE_TYPE, body=place) if place.is_file() else None
        return None


@contextmanager
def reachable(mirrors: Mirrors) -> Iterator[Mirrors]:
    """Serve the folders of some mirrors for as long as a build lasts; yields mirrors that are addresses alone.

    Raises:
        PreflightError: no port of loopback is free, or a listed package is not there.
        BuildError: that of the build, which says so if no step of it came here.
    """
    if not isinstance(mirrors.apt, Path):
        yield mirrors
        return
    _check_packages(mirrors.apt)
    counter = Counter(folders=((_APT, mirrors.apt),))
    try:
        server = listen(0, counter.answer)
    except OSError as err:
        raise PreflightError([f"no port of {LOOPBACK} can be had to serve {mirrors.apt} at: {err}"]) from err
    address = f"http://{LOOPBACK}:{server.server_address[1]}"
    try:
        with serving(server):
            yield replace(mirrors, apt=f"{address}{_APT} {_FLAT}")
    except BuildError as err:
        if counter.asked:
            raise
        raise BuildError(
            f"{err}\nno step of this build asked {address} for what mirrors.yaml has in folders: if one needed it, the "
            "engine must run on this machine, in its network"
        ) from err


def _check_packages(folder: Path) -> None:
    """See before a build that a folder has the packages that its list names; their hashes are apt's business."""
    listed = re.findall(r"^Filename: *(.+)$", (folder / PACKAGES).read_text(encoding="utf-8"), re.MULTILINE)
    missing = [folder / one for one in listed if not (folder / one).is_file()]
    if missing:
        remedy = f"copy what is missing there, or write {folder / PACKAGES} anew"
        raise PreflightError([*(f"apt: {one}: missing, and {PACKAGES} lists it" for one in missing), remedy])
