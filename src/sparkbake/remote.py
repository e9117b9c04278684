"""Files on a package index: their size, and single members of a wheel without the rest of it."""

import hashlib
import http.client
import io
import re
import shutil
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sparkbake.elf import build_id, read_elf
from sparkbake.errors import ImageError, LockError

_REQUEST_TIMEOUT_S = 60
_WAITS_S = (1.0, 4.0)
_SERVER_FAULT = 500
_PIECE_BYTES = 1 << 20
# How the name of a file ends that is not whole yet.
PART = ".part"


def _open(url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401  (as urlopen has it)
    """Ask for a file; what may pass (no name, no connection, a fault of the server) is tried again, a no is not."""
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))  # noqa: S310  (from the index)
    for wait_s in (*_WAITS_S, None):
        try:
            return urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT_S)  # noqa: S310
        except OSError as err:
            definite = isinstance(err, urllib.error.HTTPError) and err.code < _SERVER_FAULT
            if definite or wait_s is None:
                tries = "" if definite else f", {len(_WAITS_S) + 1} times"
                name = url.rpartition("/")[2]
                raise LockError(
                    f"{name}: cannot be read from the package index{tries}: {err}; is it reachable?"
                ) from err
            time.sleep(wait_s)
    raise AssertionError  # the last turn returns or raises


def content_length(url: str) -> int:
    """Size of a file in bytes.

    Raises:
        LockError: it cannot be read.
    """
    with _open(url, method="HEAD") as answer:
        length = answer.headers.get("Content-Length")
    if length is None:
        raise LockError(f"{url.rpartition('/')[2]}: the package index does not say how large it is")
    return int(length)


def fetch_bytes(url: str) -> bytes:
    """A small file.

    Raises:
        LockError: it cannot be read.
    """
    with _open(url) as answer:
        try:
            return bytes(answer.read())
        except (OSError, http.client.HTTPException) as err:
            raise LockError(f"{url.rpartition('/')[2]}: reading it broke off: {err}; run it again") from err


def download(url: str, path: Path, *, sha256: str, count: Callable[[int], None]) -> None:
    """Fetch a file; it gets its name only when it is whole and has its hash.

    Args:
        sha256: 64 hex digits.
        count: told the size of each piece, in bytes.

    Raises:
        LockError: it cannot be fetched or written, or has another hash.
    """
    with _open(url) as answer:
        write_whole(answer, path, sha256=sha256, count=count)


def write_whole(source: BinaryIO, path: Path, *, sha256: str, count: Callable[[int], None]) -> None:
    """Write what a stream gives to a file, whole and with its hash or not at all; see `download`."""
    part = path.with_name(f".{path.name}{PART}")
    digest = hashlib.sha256()
    try:
        with part.open("wb") as file:
            while piece := source.read(_PIECE_BYTES):
                digest.update(piece)
                file.write(piece)
                count(len(piece))
        if digest.hexdigest() != sha256:
            raise LockError(
                f"{path.name}: got {part.stat().st_size} bytes with the hash {digest.hexdigest()[:12]}, expected "
                f"{sha256[:12]}: it broke off, or is another file; run it again"
            )
        part.replace(path)
    except (OSError, http.client.HTTPException) as err:
        raise LockError(f"{path.name}: fetching it broke off: {err}; run it again") from err
    finally:
        part.unlink(missing_ok=True)


class RemoteFile(io.RawIOBase):
    """A file behind a URL, read in pieces: enough of a file for zipfile to read one member without the rest."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._size = content_length(url)
        self._position = 0
        self._start, self._piece = 0, b""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._position + size, self._size)
        if self._position >= end:
            return b""
        if not self._start <= self._position <= end <= self._start + len(self._piece):
            self._fetch(self._position, max(end, min(self._position + _PIECE_BYTES, self._size)))
        data = self._piece[self._position - self._start : end - self._start]
        self._position += len(data)
        return data

    def _fetch(self, start: int, end: int) -> None:
        with _open(self._url, headers={"Range": f"bytes={start}-{end - 1}"}) as answer:
            if answer.status != 206:  # noqa: PLR2004  (Partial Content)
                raise LockError(f"{self._url.rpartition('/')[2]}: the package index does not answer range requests")
            try:
                self._start, self._piece = start, answer.read()
            except (OSError, http.client.HTTPException) as err:
                raise LockError(f"{self._url.rpartition('/')[2]}: reading it broke off: {err}; run it again") from err


def read_member(wheel: zipfile.ZipFile, pattern: str) -> str:
    names: Iterator[str] = (name for name in wheel.namelist() if re.fullmatch(pattern, name))
    name = next(names, None)
    if name is None:
        raise LockError(f"the wheel has no file {pattern}")
    return wheel.read(name).decode()


def read_build_id(url: str, member: str) -> str:
    """The Build-ID of an ELF file in a wheel, hex digits.

    Raises:
        LockError: the wheel has no such file, it is no ELF file, or has no Build-ID.
    """
    where = f"{url.rpartition('/')[2]}: {member}"
    with zipfile.ZipFile(RemoteFile(url)) as wheel, tempfile.TemporaryFile() as file:
        if member not in wheel.namelist():
            raise LockError(f"{where}: the wheel has no such file; correct `library` in matrix.yaml")
        with wheel.open(member) as packed:
            shutil.copyfileobj(packed, file, _PIECE_BYTES)
        try:
            found = build_id(where, file, read_elf(where, file))
        except ImageError as err:
            raise LockError(f"{err}; correct `library` in matrix.yaml") from err
    if found is None:
        raise LockError(f"{where}: has no Build-ID; remove `library` in matrix.yaml")
    return found
