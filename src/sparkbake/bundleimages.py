"""CUDA's images of a bundle, as one layout: manifests and blobs of a registry or of OCI layouts, byte for byte."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sparkbake.blobs import Locate, find_blob, folder, open_blob
from sparkbake.bundle import IMAGES, BundledFile
from sparkbake.bundlefetch import Wanted
from sparkbake.errors import BundleError, ImageError
from sparkbake.imageinfo import parse_json
from sparkbake.lockfile import sha256_of
from sparkbake.mirrors import Mirrors
from sparkbake.places import repository_of
from sparkbake.project import Project
from sparkbake.pulling import download_blob
from sparkbake.sourcebundle import BaseImage

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_LAYOUT = "oci-layout:"
Say = Callable[[str], None]


def wanted_images(project: Project, images: Sequence[BaseImage], mirrors: Mirrors, say: Say) -> tuple[Wanted, ...]:
    """All files of a layout with some images; blobs that they share are there once.

    Raises:
        RegistryError: the registry does not give a manifest.
        BundleError: an OCI layout has not all of an image.
    """
    found: dict[str, Wanted] = {}
    described = []
    for one in images:
        say(f"{one.reference}: asking for {one.manifest[:19]}")
        place = dict(mirrors.images).get(one.reference, one.reference)
        body, some = _in_layout(one, place) if place.startswith(_LAYOUT) else _in_registry(project, one, place)
        manifest = parse_json(f"{one.reference}: manifest", body)
        kind = str(manifest.get("mediaType") or _MANIFEST_TYPE)
        described.append({"mediaType": kind, "digest": one.manifest, "size": len(body)})
        found |= {wanted.file.path: wanted for wanted in (*some, _small(_blob(one.manifest), body))}
    top = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": described}
    small = (_small("index.json", _json(top)), _small("oci-layout", _json({"imageLayoutVersion": "1.0.0"})))
    return (*(found[path] for path in sorted(found)), *small)


def _in_layout(image: BaseImage, place: str) -> tuple[bytes, list[Wanted]]:
    root = Path(place.removeprefix(_LAYOUT).removeprefix("//").rpartition("@")[0])
    locate = folder(root)
    try:
        body = _whole(locate, image.manifest, str(root))
        return body, [_copied(locate, digest, size_bytes, str(root)) for digest, size_bytes in _blobs(body, str(root))]
    except ImageError as err:
        told = f"mirrors.yaml names a layout that has not all of {image.manifest}, which is locked: {err}"
        raise BundleError([f"{image.reference}: {told}"]) from err


def _copied(locate: Locate, digest: str, size_bytes: int, where: str) -> Wanted:
    place = find_blob(locate, digest)
    if place is None:
        raise ImageError(f"{where}: has no blob {digest}")
    return _wanted(digest, size_bytes, place.path)


def _whole(locate: Locate, digest: str, where: str) -> bytes:
    with open_blob(locate, digest, where) as blob:
        body = blob.read()
        blob.check(f"{where}: blob {digest}", digest)
    return body


def _in_registry(project: Project, image: BaseImage, place: str) -> tuple[bytes, list[Wanted]]:
    reference = place.partition("@")[0]
    repository, _tag, _digest = repository_of(project, f"{reference}@{image.manifest}")
    body = repository.manifest(image.manifest).body
    return body, [
        _wanted(digest, size_bytes, partial(download_blob, repository, digest))
        for digest, size_bytes in _blobs(body, image.reference)
    ]


def _blobs(body: bytes, where: str) -> list[tuple[str, int]]:
    """Digest and size of config and layers.

    Raises:
        ImageError: it is no manifest of an image.
    """
    manifest: Mapping[str, Any] = parse_json(where, body)
    try:
        return [(str(one["digest"]), int(one["size"])) for one in (manifest["config"], *manifest["layers"])]
    except (KeyError, TypeError, ValueError) as err:
        raise ImageError(f"{where}: the locked digest is of no manifest of an image: {err!r}; lock it anew") from err


def _wanted(digest: str, size_bytes: int, source: Path | Callable[[Path, Callable[[int], None]], None]) -> Wanted:
    sha256 = digest.removeprefix("sha256:")
    return Wanted(
        file=BundledFile(path=f"{IMAGES}/{_blob(digest)}", sha256=sha256, size_bytes=size_bytes), source=source
    )


def _small(path: str, body: bytes) -> Wanted:
    sha256 = sha256_of(body).removeprefix("sha256:")
    return Wanted(file=BundledFile(path=f"{IMAGES}/{path}", sha256=sha256, size_bytes=len(body)), source=body)


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
