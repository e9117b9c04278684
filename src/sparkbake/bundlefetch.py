"""Fetch the files of a bundle: where the package index has them, and what is there already and stays."""

import io
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from urllib.parse import unquote

import uv

from sparkbake import process
from sparkbake.bundle import TOOLS, BundledFile, Pin, is_for_linux, runs_on, wheel_path
from sparkbake.bundlefiles import Meter, hash_of
from sparkbake.errors import BundleError, ProcessError
from sparkbake.model import Wheel
from sparkbake.oci import Architecture
from sparkbake.remote import content_length, download, write_whole

_RESOLVE_TIMEOUT_S = 900
_PARALLEL_FETCHES = 4
_PARALLEL_REQUESTS = 16
Say = Callable[[str], None]


# Fetches a file to a path, and tells the size of each piece.
Fetching = Callable[[Path, Callable[[int], None]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file that a bundle is to have.

    Attributes:
        source: its address, the file that it is a copy of, its bytes, or what fetches it.
    """

    file: BundledFile
    source: str | Path | bytes | Fetching


@dataclass(frozen=True, kw_only=True, slots=True)
class Offered:
    """A wheel that the package index has."""

    file: str
    url: str
    sha256: str


def offered(requirements: Sequence[str], *, python: str, index: str | None, what: str) -> dict[str, Offered]:
    """Every wheel of some pinned releases, for all machines, by its SHA-256.

    Args:
        requirements: "name==version", with markers where they have some.
        python: oldest version of Python that the wheels are for.
        index: address of a simple index; None for uv's default.

    Raises:
        BundleError: the index does not answer, or lacks a release.
    """
    with tempfile.TemporaryDirectory(prefix="sparkbake-bundle-") as folder:
        output = Path(folder, "pylock.toml")
        argv: list[str | Path] = [uv.find_uv_bin(), "pip", "compile", "--quiet", "-", "--output-file", output]
        argv += ["--format", "pylock.toml", "--universal", "--no-deps", "--only-binary", ":all:", "--generate-hashes"]
        argv += ["--python-version", python]
        # In the environment: an address may hold a password, and a command line is for all to see.
        environment = {"UV_DEFAULT_INDEX": index} if index else None
        try:
            process.run(argv, timeout_s=_RESOLVE_TIMEOUT_S, stdin="\n".join(requirements), env=environment)
        except ProcessError as err:
            raise BundleError(
                [
                    f"{what}: the package index does not say where its files lie:\n{err.output}\n"
                    "is it reachable, and does it keep these releases? `package_index` in mirrors.yaml names another"
                ]
            ) from err
        packages = tomllib.loads(output.read_text(encoding="utf-8")).get("packages", [])
    wheels = [wheel for package in packages for wheel in package.get("wheels", [])]
    return {str(one["hashes"]["sha256"]): _offered(one) for one in wheels}


def _offered(wheel: Mapping[str, object]) -> Offered:
    url = str(wheel["url"])
    name = str(wheel.get("name") or unquote(url.partition("#")[0].rpartition("/")[2]))
    hashes = wheel["hashes"]
    return Offered(file=name, url=url, sha256=str(hashes["sha256"]) if isinstance(hashes, dict) else "")


def wanted_wheels(wheels: Sequence[Wheel], *, python: str, index: str | None) -> tuple[Wanted, ...]:
    """The locked wheels of a row, each with its address.

    Raises:
        BundleError: the index does not have all of them any more.
    """
    found = offered(sorted({f"{one.name}=={one.version}" for one in wheels}), python=python, index=index, what="wheels")
    if missing := [one.file for one in wheels if one.sha256 not in found]:
        remedy = "take an index that keeps it (`package_index` in mirrors.yaml), or lock the row anew"
        raise BundleError(
            [f"{one}: the package index has no such file with the locked hash; {remedy}" for one in missing]
        )
    return tuple(
        Wanted(
            file=BundledFile(path=wheel_path(one), sha256=one.sha256, size_bytes=one.size_bytes),
            source=found[one.sha256].url,
        )
        for one in wheels
    )


def wanted_tools(
    pins: Sequence[Pin], *, architectures: Sequence[Architecture], python: str, index: str | None
) -> tuple[Wanted, ...]:
    """The wheels of this project's own commands, for some machines and every Python that they have wheels for.

    Raises:
        BundleError: a package has no wheel for one of the machines.
    """
    installed = [one for one in pins if is_for_linux(one)]
    found = offered([one.requirement for one in installed], python=python, index=index, what="tools")
    chosen: dict[str, Offered] = {}
    for pin in installed:
        locked = [found[one] for one in sorted(pin.sha256 & found.keys())]
        for architecture in architectures:
            some = [one for one in locked if runs_on(one.file, architecture)]
            if not some:
                raise BundleError(
                    [
                        f"{pin.requirement}: the package index has no locked wheel for {architecture}; take an "
                        "index that keeps it (`package_index` in mirrors.yaml), or run `nox -s update_requirements`"
                    ]
                )
            chosen |= {one.file: one for one in some}
    with ThreadPoolExecutor(_PARALLEL_REQUESTS) as pool:
        sizes = pool.map(content_length, [one.url for one in chosen.values()])
        return tuple(
            Wanted(file=BundledFile(path=f"{TOOLS}/{name}", sha256=one.sha256, size_bytes=size), source=one.url)
            for (name, one), size in zip(chosen.items(), sizes, strict=True)
        )


def missing_of(folder: Path, wanted: Iterable[Wanted], say: Say) -> tuple[Wanted, ...]:
    """What a folder lacks: files that are not there, or not with their hash."""
    there = [one for one in wanted if _size(folder / one.file.path) == one.file.size_bytes]
    total = sum(one.file.size_bytes for one in there)
    if there:
        say(f"{folder}: checking {len(there)} files that are there, {total / 1e9:.2f} GB")
    meter = Meter(f"{folder}: checking", total, say)
    good = {one.file.path for one in there if hash_of(folder / one.file.path, meter) == one.file.sha256}
    return tuple(one for one in wanted if one.file.path not in good)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def fetch(folder: Path, missing: Sequence[Wanted], say: Say) -> None:
    """Fetch files, several at a time; each has its name only when it is whole and has its hash.

    Raises:
        LockError: one cannot be had whole, or is not what its hash says; what was fetched stays.
    """
    meter = Meter(f"{folder}: fetching", sum(one.file.size_bytes for one in missing), say)
    for parent in {(folder / one.file.path).parent for one in missing}:
        parent.mkdir(parents=True, exist_ok=True)
    stopped = Event()

    def count(size_bytes: int) -> None:
        if stopped.is_set():
            raise InterruptedError("stopped")
        meter.add(size_bytes)

    with ThreadPoolExecutor(_PARALLEL_FETCHES) as pool, _cancelling(pool, stopped):
        for done in as_completed([pool.submit(_fetch, folder, one, count) for one in missing]):
            done.result()


@contextmanager
def _cancelling(pool: ThreadPoolExecutor, stopped: Event) -> Iterator[None]:
    """Let an error or an interruption end all fetches at their next piece, not at the end of a wheel."""
    try:
        yield
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _fetch(folder: Path, one: Wanted, count: Callable[[int], None]) -> None:
    target = folder / one.file.path
    if isinstance(one.source, str):
        download(one.source, target, sha256=one.file.sha256, count=count)
    elif callable(one.source):
        one.source(target, count)
    else:
        with io.BytesIO(one.source) if isinstance(one.source, bytes) else one.source.open("rb") as file:
            write_whole(file, target, sha256=one.file.sha256, count=count)
