"""Serve to a build of what is compiled, on loopback, what lies in folders of this machine: a bundle, or packages."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from sparkbake.bundle import APT, CRATES, GIT, Bundle, wheel_path
from sparkbake.bundlefiles import damage, read_bundle
from sparkbake.errors import BuildError, BundleError, PreflightError
from sparkbake.gitserver import answer_git
from sparkbake.loopback import LOOPBACK, Answer, LoopbackServer, Request, listen, serving
from sparkbake.mirrors import PACKAGES, Mirrors
from sparkbake.sourcebundle import (
    FILES,
    INDEX,
    REPOSITORIES,
    Crate,
    parse_repositories,
    source_standing_faults,
    wheels_of_plan,
)
from sparkbake.sourceresolve import SourcePlan
from sparkbake.wheelserver import SIMPLE, Shelf, port_of

_FILE_TYPE = "application/octet-stream"
_GIT, _APT, _CRATES = (f"/{one}/" for one in (GIT, APT, CRATES))
_CONFIG = f"{_CRATES}{INDEX}/config.json"
# As apt names a folder that has no suites.
_FLAT = "./"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """What is served, and what was asked of it.

    Attributes:
        folders: what a path begins with, to the folder that it leads to; of git's below `/git/`, of repositories.
        shelf: the wheels of a bundle.
        asked: paths, in the order in which they were asked for.
    """

    folders: tuple[tuple[str, Path], ...]
    shelf: Shelf | None = None
    asked: list[str] = field(default_factory=list)

    def answer(self, request: Request) -> Answer | None:
        """What lies at a path; None when nothing does. No path leads out of a folder."""
        path = request.path
        self.asked.append(path)
        for begin, folder in self.folders:
            rest = path.removeprefix(begin)
            if path == _CONFIG and begin == _CRATES:
                return _config(request.headers.get("host", ""))
            if path.startswith(begin):
                return answer_git(folder, rest, request) if begin == _GIT else _file(folder, rest)
        return self.shelf.answer(path) if self.shelf else None


def _file(folder: Path, path: str) -> Answer | None:
    parts = [one for one in unquote(path).split("/") if one != "."]
    place = folder.joinpath(*parts)
    if any(one in ("", "..") for one in parts) or not place.is_file():
        return None
    return Answer(media_type=_FILE_TYPE, body=place)


def _config(host: str) -> Answer:
    """Where cargo finds the crates of the index."""
    named = Crate(name="{crate}", version="{version}", sha256="").file
    body = json.dumps({"dl": f"http://{host}{_CRATES}{FILES}/{named}"})
    return Answer(media_type="application/json", body=body.encode())


@contextmanager
def reachable(mirrors: Mirrors, plan: SourcePlan) -> Iterator[Mirrors]:
    """Serve the folders of some mirrors for as long as a build lasts; yields mirrors that are addresses alone.

    Args:
        mirrors: a bundle in them is one that `require_sources` has found whole.

    Raises:
        PreflightError: no port of loopback is free, or a listed package is not there.
        BuildError: that of the build, which says so if no step of it came here.
    """
    if mirrors.bundle is None:
        with packages_served(mirrors) as reached:
            yield reached
        return
    folders = tuple((f"/{one}/", mirrors.bundle / one) for one in (GIT, CRATES, APT))
    shelf = Shelf(folder=mirrors.bundle, wheels=wheels_of_plan(plan))
    with _serving(Served(folders=folders, shelf=shelf), port_of(read_bundle(mirrors.bundle))) as address:
        yield _of_bundle(mirrors, mirrors.bundle, address)


@contextmanager
def packages_served(mirrors: Mirrors) -> Iterator[Mirrors]:
    """The same of mirrors without a bundle: a folder of packages is all that they may have."""
    if not isinstance(mirrors.apt, Path):
        yield mirrors
        return
    check_packages(mirrors.apt)
    with _serving(Served(folders=((_APT, mirrors.apt),)), 0) as address:
        yield _packages_at(mirrors, address)


@contextmanager
def _serving(served: Served, port: int) -> Iterator[str]:
    """Serve something at a port if that is free; yields the address."""
    server = _listen(port, served)
    address = f"http://{LOOPBACK}:{server.server_address[1]}"
    try:
        with serving(server):
            yield address
    except BuildError as err:
        if served.asked:
            raise
        raise BuildError(
            f"{err}\nno step of this build asked {address} for what mirrors.yaml has in folders: if one needed it, the "
            "engine must run on this machine, in its network"
        ) from err


def _listen(port: int, served: Served) -> LoopbackServer:
    try:
        return listen(port, served.answer)
    except OSError as err:
        raise PreflightError([f"no port of {LOOPBACK} can be had to serve what the build needs at: {err}"]) from err


def _packages_at(mirrors: Mirrors, address: str) -> Mirrors:
    return replace(mirrors, apt=f"{address}{_APT} {_FLAT}")


def _of_bundle(mirrors: Mirrors, folder: Path, address: str) -> Mirrors:
    path = folder / GIT / REPOSITORIES
    repositories = parse_repositories(path.read_text(encoding="utf-8"), str(path))
    return replace(
        _packages_at(mirrors, address),
        bundle=None,
        package_index=f"{address}{SIMPLE}",
        git=tuple((repository, f"{address}{_GIT}{name}") for repository, name in sorted(repositories.items())),
        crates=f"sparse+{address}{_CRATES}{INDEX}/" if (folder / CRATES).is_dir() else None,
    )


def check_packages(folder: Path) -> None:
    """See before a build that a folder has the packages that its list names; their hashes are apt's business.

    Raises:
        PreflightError: with all that are missing.
    """
    listed = re.findall(r"^Filename: *(.+)$", (folder / PACKAGES).read_text(encoding="utf-8"), re.MULTILINE)
    missing = [folder / one for one in listed if not (folder / one).is_file()]
    if missing:
        remedy = f"copy what is missing there, or write {folder / PACKAGES} anew"
        raise PreflightError([*(f"apt: {one}: missing, and {PACKAGES} lists it" for one in missing), remedy])


def require_sources(folder: Path, plan: SourcePlan, say: Say) -> Bundle:
    """See before a build that a bundle is that of a plan, and has all that its steps will ask for.

    The images are left to BuildKit, which holds every blob of them against its digest.

    Raises:
        BundleError: with all reasons why it cannot be built from.
    """
    bundle = read_bundle(folder)
    if faults := source_standing_faults(bundle, plan):
        raise BundleError([f"{folder}: {fault}" for fault in faults])
    wheels = {wheel_path(one) for one in wheels_of_plan(plan)}
    files = [one for one in bundle.files if one.path in wheels or one.path.partition("/")[0] in (GIT, CRATES, APT)]
    size = sum(one.size_bytes for one in files)
    say(f"{folder}: checking {len(files)} files, {size / 1e9:.2f} GB")
    if faults := damage(folder, files, say):
        raise BundleError([*faults, f"copy the bundle anew, or mend it where there is a network: nox -s bundle -- "
                           f"{bundle.tag} --output {folder}"])  # fmt: skip
    return bundle
