"""Find the blobs of an OCI layout, in a folder or a tar of one; read them unpacked, and checked as they go by."""

import gzip
import hashlib
import io
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import zstandard

from sparkbake.errors import ImageError
from sparkbake.imageinfo import parse_json

CHUNK_BYTES = 1 << 20
# Of OCI ("...tar+zstd") and of Docker ("...tar.gzip") alike.
_COMPRESSION = re.compile(r"[.+](tar|gzip|zstd)$")
_DAMAGE = (zstandard.ZstdError, zlib.error, EOFError, OSError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the bytes of a blob lie: that many, from `offset` on, in a file."""

    path: Path
    offset: int
    size_bytes: int


# Name below the layout ("index.json", "blobs/sha256/<hex>") to its place; None of what is not there.
Locate: TypeAlias = Callable[[str], Place | None]


def folder(place: Path) -> Locate:
    """The blobs of a layout folder."""

    def locate(name: str) -> Place | None:
        path = place / name
        return Place(path=path, offset=0, size_bytes=path.stat().st_size) if path.is_file() else None

    return locate


def archive(place: Path) -> Locate:
    """The blobs of an OCI archive, which is not unpacked: only its headers are read.

    Raises:
        ImageError: it is no uncompressed tar, or ends too early.
    """
    try:
        with tarfile.open(place, "r:") as tar:
            found = {
                plain_path(one.name): Place(path=place, offset=one.offset_data, size_bytes=one.size)
                for one in tar
                if one.isreg()
            }
    except (tarfile.TarError, OSError) as err:
        raise ImageError(f"{place}: {err}; expected an OCI layout folder, or a whole uncompressed tar of one") from err
    return found.get


def plain_path(name: str) -> str:
    """A path without leading "./" or "/"; "." is the root."""
    return posixpath.normpath(name.lstrip("/") or ".")


def find_blob(locate: Locate, digest: str) -> Place | None:
    return locate(f"blobs/sha256/{digest.removeprefix('sha256:')}")


def read_json_blob(locate: Locate, digest: str, where: str) -> dict[str, Any]:
    """A small blob.

    Raises:
        ImageError: it is not there, damaged, or no JSON object.
    """
    with open_blob(locate, digest, where) as blob:
        text = blob.read()
        blob.check(f"{where}: blob {digest}", digest)
    return parse_json(f"{where}: blob {digest}", text)


def open_blob(locate: Locate, digest: str, where: str) -> "Blob":
    """Open a blob for reading from its start.

    Raises:
        ImageError: it is not there.
    """
    found = find_blob(locate, digest)
    if found is None:
        raise ImageError(f"{where}: has no blob {digest}, which it names; save the image anew")
    return Blob(found)


class Blob(io.RawIOBase):
    """The bytes of one blob, hashed as they are read."""

    def __init__(self, found: Place) -> None:
        super().__init__()
        self._file = found.path.open("rb")
        self._file.seek(found.offset)
        self._left = found.size_bytes
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self._digest.update(data)
        return data

    def check(self, where: str, digest: str) -> None:
        """Read what is left, and compare the digest.

        Raises:
            ImageError: it is another.
        """
        while self.read(CHUNK_BYTES):
            continue
        found = f"sha256:{self._digest.hexdigest()}"
        if found != digest:
            raise ImageError(f"{where}: damaged: its bytes have the digest {found}; save the image anew")

    def close(self) -> None:
        self._file.close()
        super().close()


class LayerStream:
    """The tar of a layer, unpacked as it is read; at its end the blob's digest is checked.

    Args:
        where: the layer, for messages.
        media_type: says how it is compressed.

    Raises:
        ImageError: from the constructor, when the media type is not known.
    """

    def __init__(self, blob: Blob, where: str, *, digest: str, media_type: str) -> None:
        self._blob = blob
        self._where = where
        self._digest = digest
        self._unpacked = _unpacked(cast("IO[bytes]", blob), where, media_type)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end.

        Raises:
            ImageError: the blob is damaged.
        """
        try:
            data = self._unpacked.read(size)
        except _DAMAGE as err:
            self._blob.check(self._where, self._digest)
            raise ImageError(f"{self._where}: cannot be unpacked: {err}; make the image anew") from err
        if not data:
            self._blob.check(self._where, self._digest)
        return data

    def drain(self) -> None:
        """Read to the end, for the digest's sake."""
        while self.read(CHUNK_BYTES):
            continue


def _unpacked(blob: IO[bytes], where: str, media_type: str) -> IO[bytes]:
    found = _COMPRESSION.search(media_type)
    match found and found.group(1):
        case "tar":
            return blob
        case "gzip":
            return cast("IO[bytes]", gzip.GzipFile(fileobj=blob))
        case "zstd":
            # A compressor that works in parallel writes several frames.
            reader = zstandard.ZstdDecompressor().stream_reader(blob, read_size=CHUNK_BYTES, read_across_frames=True)
            return cast("IO[bytes]", reader)
    raise ImageError(f"{where}: got the media type '{media_type}', expected one that ends with tar, gzip or zstd")
