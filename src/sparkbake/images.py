"""Read images back: from an OCI layout folder or archive with all their contents, from a registry without them.

An archive is an uncompressed tar of a layout, as BuildKit and (since Docker 25) `docker image save` write it.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

from sparkbake import process
from sparkbake.blobs import (
    CHUNK_BYTES,
    LayerStream,
    Locate,
    archive,
    find_blob,
    folder,
    open_blob,
    plain_path,
    read_json_blob,
)
from sparkbake.errors import ImageError
from sparkbake.imageinfo import (
    Entry,
    ImageInfo,
    Kind,
    LayerInfo,
    checked_digest,
    choose,
    is_attestation,
    parse_image,
    parse_json,
    platform_of,
)

_LEFT_OUT_HEADERS = ("path", "linkpath", "size", "mtime")
_INDEX_TYPES = (".image.index.v1+json", ".manifest.list.v2+json")
_REGISTRY_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenImage:
    """An image whose layers can be read, one at a time or several at once; nothing stays open in between."""

    place: Path
    info: ImageInfo
    locate: Locate

    def entries(self, layer: LayerInfo) -> Iterator[Entry]:
        """Every entry of a layer in the order of its tar, each file's content hashed.

        Raises:
            ImageError: the blob is damaged; known at the latest after the last entry.
        """
        for entry, chunks in self.contents(layer):
            yield hashed(entry, chunks)

    def contents(self, layer: LayerInfo) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Every entry of a layer, without its sha256, and its content, which may be read until the next entry.

        Raises:
            ImageError: the blob is damaged; known at the latest after the last entry.
        """
        where = f"{self.place}: layer {layer.digest}"
        with ExitStack() as stack:
            blob = stack.enter_context(open_blob(self.locate, layer.digest, str(self.place)))
            stream = LayerStream(blob, where, digest=layer.digest, media_type=layer.media_type)
            try:
                # tarfile's stream mode needs no more of a file than read().
                file = cast("IO[bytes]", stream)
                tar = stack.enter_context(tarfile.open(fileobj=file, mode="r|", bufsize=CHUNK_BYTES))
                for member in tar:
                    yield _entry(member), _chunks(stream, where, tar.extractfile(member) if member.isreg() else None)
            except tarfile.TarError as err:
                stream.drain()
                raise ImageError(f"{where}: is no whole tar: {err}; make the image anew") from err
            stream.drain()


def hashed(entry: Entry, chunks: Iterator[bytes]) -> Entry:
    """An entry with the digest of its content."""
    if entry.kind != "file":
        return entry
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return replace(entry, sha256=digest.hexdigest())


def _chunks(stream: LayerStream, where: str, file: IO[bytes] | None) -> Iterator[bytes]:
    try:
        while file and (chunk := file.read(CHUNK_BYTES)):
            yield chunk
    except tarfile.TarError as err:
        stream.drain()
        raise ImageError(f"{where}: its tar ends within a file: {err}; make the image anew") from err


def _entry(member: tarfile.TarInfo) -> Entry:
    kinds: Sequence[tuple[bool, Kind]] = (
        (member.isreg(), "file"),
        (member.isdir(), "folder"),
        (member.issym(), "link"),
        (member.islnk(), "hardlink"),
    )
    kind: Kind = next((one for fits, one in kinds if fits), "other")
    headers = {name: value for name, value in member.pax_headers.items() if name not in _LEFT_OUT_HEADERS}
    return Entry(
        path=plain_path(member.name),
        kind=kind,
        mode=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        mtime=int(member.mtime),
        size_bytes=member.size if kind == "file" else 0,
        target=_target(member, kind),
        sha256="",
        headers=tuple(sorted(headers.items())),
    )


def _target(member: tarfile.TarInfo, kind: Kind) -> str:
    if member.ischr() or member.isblk():
        return f"{member.devmajor}:{member.devminor}"
    if kind == "hardlink":
        return plain_path(member.linkname)
    return member.linkname if kind == "link" else ""


# ---- on this machine


def open_image(place: Path, *, platform: str) -> OpenImage:
    """Open the image in a layout folder or an archive, having seen that every layer is there with its full size.

    Args:
        platform: "linux/arm64"; says which image it is where there are several.

    Raises:
        ImageError: it is no OCI image, not exactly one fits, or a blob is missing or damaged.
    """
    if not place.exists():
        raise ImageError(f"{place}: no such file or folder; expected an OCI layout folder or an OCI archive")
    locate = folder(place) if place.is_dir() else archive(place)
    top = locate("index.json")
    if top is None:
        raise ImageError(
            f"{place}: has no index.json, expected an OCI layout; `nox -s build -- TAG --output oci:FILE` writes one, "
            "and `docker image save` does since Docker 25"
        )
    with top.path.open("rb") as file:
        file.seek(top.offset)
        index = parse_json(f"{place}: index.json", file.read(top.size_bytes))
    digest = choose(str(place), dict(_images(locate, index, str(place))), platform)
    manifest = read_json_blob(locate, digest, str(place))
    config = read_json_blob(locate, _config_digest(str(place), manifest), str(place))
    info = parse_image(str(place), digest, manifest, config)
    for layer in info.layers:
        found = find_blob(locate, layer.digest)
        if found is None or found.size_bytes != layer.size_bytes:
            size = f"{found.size_bytes} bytes" if found else "is not there"
            raise ImageError(f"{place}: layer {layer.digest}: {size}, expected {layer.size_bytes} bytes; save it anew")
    return OpenImage(place=place, info=info, locate=locate)


def _images(locate: Locate, index: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """Digest and platform of each image that an index leads to, by way of further indexes too."""
    for one in _descriptors(where, index):
        digest = checked_digest(where, one.get("digest"))
        platform = platform_of(one.get("platform") or {})
        if str(one.get("mediaType")).endswith(_INDEX_TYPES):
            yield from _images(locate, read_json_blob(locate, digest, where), where)
        elif not platform:
            manifest = read_json_blob(locate, digest, where)
            yield digest, platform_of(read_json_blob(locate, _config_digest(where, manifest), where))
        elif not is_attestation(platform):
            yield digest, platform


def _descriptors(where: str, index: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = index.get("manifests")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ImageError(f"{where}: its index has no list 'manifests'; make the image anew")
    return found


def _config_digest(where: str, manifest: Mapping[str, Any]) -> str:
    config = manifest.get("config")
    if not isinstance(config, dict):
        raise ImageError(f"{where}: its manifest names no config; expected a manifest of an OCI or Docker image")
    return checked_digest(where, config.get("digest"))


# ---- in a registry


def remote_image(reference: str, *, platform: str) -> ImageInfo:
    """An image of a registry, without its contents.

    Args:
        reference: "<registry>/<name>:<tag>" or "<registry>/<name>@<digest>".
        platform: "linux/arm64".

    Raises:
        ProcessError: the registry does not answer, or has no such image.
        ImageError: not exactly one of several images is for the platform, or the answer is no image.
    """
    raw = _inspect("--raw", reference)
    manifest = parse_json(reference, raw)
    digest = f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}"
    if "manifests" in manifest:
        images = {
            checked_digest(reference, one.get("digest")): platform_of(one.get("platform") or {})
            for one in _descriptors(reference, manifest)
        }
        some = {one: found for one, found in images.items() if not is_attestation(found)}
        digest = choose(reference, some, platform)
        manifest = parse_json(reference, _inspect("--raw", _pinned(reference, digest)))
    config = parse_json(reference, _inspect("--format", "{{json .Image}}", _pinned(reference, digest)))
    return parse_image(reference, digest, manifest, config)


def _inspect(*words: str) -> str:
    return process.run(["docker", "buildx", "imagetools", "inspect", *words], timeout_s=_REGISTRY_TIMEOUT_S)


def _pinned(reference: str, digest: str) -> str:
    """The same repository by digest; a colon before the last slash is of the registry's port."""
    folders, slash, name = reference.partition("@")[0].rpartition("/")
    return f"{folders}{slash}{name.partition(':')[0]}@{digest}"
