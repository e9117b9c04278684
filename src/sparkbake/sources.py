"""Source distributions of released packages: found through uv's own configuration, kept in the cache, checked by hash.

Addresses come from the package index that uv is configured for; none is written down here.
"""

import hashlib
import re
import shutil
import tarfile
import tempfile
import tomllib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import uv

from sparkbake import process
from sparkbake.errors import LockError, ProcessError
from sparkbake.remote import RemoteFile

_ASK_TIMEOUT_S = 300
_PIECE_BYTES = 1 << 24
_MOST_MEMBER_BYTES = 1 << 24
_NOTE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)\n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sdist:
    """A source distribution on the package index.

    Attributes:
        file: "vllm-0.32.0.tar.gz".
        sha256: 64 hex digits.
    """

    name: str
    version: str
    file: str
    url: str
    sha256: str


def fetch_sdist(name: str, version: str, cache: Path) -> Path:
    """The source distribution of a release, from the cache or else from the package index.

    Beside a file in the cache lies "<file>.sha256", as sha256sum writes it, with the hash that the index gave; the file
    is held against it each time, and needs no network then.

    Args:
        cache: of this user (`project.cache_folder()`); the file is in its folder "sources".

    Raises:
        LockError: the index does not have it, or has something else than it says.
    """
    folder = cache / "sources"
    kept = _kept(folder, name, version)
    if kept is not None:
        return kept
    found = find_sdist(name, version)
    if found is None:
        raise LockError(
            f"{name} {version}: the package index has no source distribution of it, only wheels; "
            "take another release, or its git commit"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return _download(found, folder)


def is_kept(name: str, version: str, cache: Path) -> bool:
    """Whether the cache has the source distribution of a release, so that no network is needed."""
    return _kept(cache / "sources", name, version) is not None


def find_sdist(name: str, version: str) -> Sdist | None:
    """Ask the package index, as uv is configured, for a source distribution; None when it has wheels only.

    Raises:
        LockError: the index cannot be asked, or does not know the release.
    """
    # For a Spark, whose wheel there always is: without a wheel uv would build the source to learn what it requires.
    argv = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-deps", "--format", "pylock.toml", "--generate-hashes"]
    argv += ["--python-platform", "aarch64-manylinux_2_39", "--python-version", "3.12", "-"]
    try:
        text = process.run(argv, timeout_s=_ASK_TIMEOUT_S, stdin=f"{name}=={version}\n")
    except ProcessError as err:
        raise LockError(f"{name} {version}: the package index does not give it:\n{err.output or err}") from err
    return parse_sdist(name, version, text)


def parse_sdist(name: str, version: str, pylock: str) -> Sdist | None:
    """The one source distribution in a pylock.toml (PEP 751) of one package; None when there is none.

    Raises:
        LockError: it has no sha256.
    """
    packages: list[dict[str, Any]] = tomllib.loads(pylock).get("packages", [])
    said = packages[0].get("sdist") if len(packages) == 1 else None
    if said is None:
        return None
    url, sha256 = str(said["url"]), str(said.get("hashes", {}).get("sha256", ""))
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise LockError(f"{name} {version}: the package index gives no sha256 of its source distribution")
    file = unquote(url.partition("#")[0].rpartition("/")[2])
    return Sdist(name=name, version=version, file=file, url=url, sha256=sha256)


def read_members(sdist: Path, wanted: Callable[[str], bool]) -> dict[str, str]:
    """The text of some files of a source distribution.

    Args:
        wanted: given a path without the folder that all is in ("cmake/utils.cmake"), says whether to read it.

    Raises:
        LockError: it is damaged, or such a file is larger than 16 MiB.
    """
    found: dict[str, str] = {}
    try:
        with tarfile.open(sdist, mode="r:gz") as archive:
            for member in archive:
                path = member.name.partition("/")[2]
                if not member.isfile() or not wanted(path):
                    continue
                if member.size > _MOST_MEMBER_BYTES:
                    raise LockError(f"{sdist.name}: {path} has {member.size} bytes, more than {_MOST_MEMBER_BYTES}")
                content = archive.extractfile(member)
                if content is not None:
                    found[path] = content.read().decode()
    except (tarfile.TarError, zlib.error, EOFError, OSError, UnicodeDecodeError) as err:
        raise LockError(f"{sdist}: cannot be read: {err}; remove it and run this again") from err
    return found


def _kept(folder: Path, name: str, version: str) -> Path | None:
    """The file in the cache, if it still has the hash noted beside it; a damaged one is as good as none."""
    for note in sorted(folder.glob("*.sha256")):
        said = _NOTE.fullmatch(note.read_text(encoding="utf-8"))
        if said and _release(said[2]) == _release(f"{name}-{version}.tar.gz"):
            path = folder / said[2]
            if path.is_file() and _sha256(path) == said[1]:
                return path
    return None


def _release(file: str) -> str:
    """A file's name without what index and author may spell in two ways: PEP 625."""
    return re.sub(r"[-_.]+", "-", file.lower())


def _download(found: Sdist, folder: Path) -> Path:
    path = folder / found.file
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
        part = Path(file.name)
        try:
            shutil.copyfileobj(RemoteFile(found.url), file, _PIECE_BYTES)
            file.flush()
            sha256 = _sha256(part)
            if sha256 != found.sha256:
                raise LockError(f"{found.file}: got the sha256 {sha256}, the package index says {found.sha256}")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    (folder / f"{found.file}.sha256").write_text(f"{found.sha256}  {found.file}\n", encoding="utf-8")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
