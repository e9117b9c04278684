"""Put a bill of materials and a provenance beside an image as BuildKit does: statements, their manifest, an index.

Formats: https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md, in-toto statements
https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkbake.errors import ImageError
from sparkbake.imageinfo import checked_digest, is_attestation, parse_json, platform_of
from sparkbake.lockfile import canonical, sha256_of

SPDX = "https://spdx.dev/Document"
SLSA = "https://slsa.dev/provenance/v1"
STATEMENT = "https://in-toto.io/Statement/v1"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
IN_TOTO_TYPE = "application/vnd.in-toto+json"
PREDICATE = "in-toto.io/predicate-type"
ABOUT = "vnd.docker.reference.digest"
KIND = "vnd.docker.reference.type"
KIND_VALUE = "attestation-manifest"

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_UNKNOWN = {"architecture": "unknown", "os": "unknown"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Some bytes that a registry keeps under their digest.

    Attributes:
        digest: 'sha256:' + 64 hex.
    """

    digest: str
    media_type: str
    body: bytes

    def described(self, **more: object) -> dict[str, Any]:
        """As a manifest or an index names it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.body), **more}


@dataclass(frozen=True, kw_only=True, slots=True)
class Attestation:
    """What is said of an image: the blobs of a manifest, and that."""

    blobs: tuple[Part, ...]
    manifest: Part


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """What a tag names in a registry.

    Attributes:
        digest: of the index, or of the image itself.
        images: digest to platform of each image in it; "" of one that the tag names itself.
        attestations: digest of each attestation manifest to that of the image it is about.
    """

    digest: str
    images: tuple[tuple[str, str], ...]
    attestations: tuple[tuple[str, str], ...]

    def is_of(self, digest: str) -> bool:
        """Whether it is this image and no other."""
        return [one for one, _platform in self.images] == [digest]

    @property
    def is_attested(self) -> bool:
        return bool(self.attestations)

    @property
    def digests(self) -> tuple[str, ...]:
        """Its own, then those of all that is in it; each once."""
        return tuple(dict.fromkeys((self.digest, *(one for one, _of in (*self.images, *self.attestations)))))


# ---- writing


def part_of(value: object, media_type: str) -> Part:
    body = canonical(value)
    return Part(digest=sha256_of(body), media_type=media_type, body=body)


def attest(predicates: Mapping[str, object], *, name: str, digest: str) -> Attestation:
    """Say some things of an image.

    Args:
        predicates: type to what is said.
        name: of the image: its package URL.
        digest: of the image.
    """
    subject = [{"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}]
    statements = [
        part_of({"_type": STATEMENT, "subject": subject, "predicateType": kind, "predicate": said}, IN_TOTO_TYPE)
        for kind, said in predicates.items()
    ]
    layers = [one.described(annotations={PREDICATE: kind}) for kind, one in zip(predicates, statements, strict=True)]
    rootfs = {"type": "layers", "diff_ids": [one.digest for one in statements]}
    config = part_of({**_UNKNOWN, "config": {}, "rootfs": rootfs}, _CONFIG_TYPE)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config.described(), "layers": layers}
    return Attestation(blobs=(*statements, config), manifest=part_of(manifest, MANIFEST_TYPE))


def index_of(image: Part, attestation: Part, *, platform: str) -> Part:
    """An index of one image and what is said of it.

    Args:
        platform: "linux/arm64".
    """
    system, _slash, architecture = platform.partition("/")
    manifests = [
        image.described(platform={"architecture": architecture, "os": system}),
        attestation.described(annotations={ABOUT: image.digest, KIND: KIND_VALUE}, platform=_UNKNOWN),
    ]
    return part_of({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}, INDEX_TYPE)


# ---- reading


def read_named(where: str, digest: str, body: bytes) -> Named:
    """Say what is in the manifest or index that a tag names.

    Args:
        where: the tag, for messages.

    Raises:
        ImageError: it is neither.
    """
    found = parse_json(where, body)
    if "manifests" not in found:
        return Named(digest=digest, images=((digest, ""),), attestations=())
    images, attestations = [], []
    for one in descriptors(where, found, "manifests"):
        its, platform = checked_digest(where, one.get("digest")), platform_of(_object(one, "platform"))
        about = _object(one, "annotations").get(ABOUT)
        if about is not None or is_attestation(platform):
            attestations.append((its, str(about)))
        else:
            images.append((its, platform))
    return Named(digest=digest, images=tuple(images), attestations=tuple(attestations))


def descriptors(where: str, manifest: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """What a manifest or index lists under a key.

    Raises:
        ImageError: it has no such list.
    """
    found = manifest.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ImageError(f"{where}: has no list '{key}' as the OCI format has it; publish it anew")
    return found


def _object(described: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = described.get(key)
    return found if isinstance(found, dict) else {}


def described_image(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The package of an SPDX document that the document is about; empty without one.

    https://spdx.github.io/spdx-spec/v2.3/, section 11: a relationship DESCRIBES.
    """
    about = [
        one.get("relatedSpdxElement")
        for one in _objects(document, "relationships")
        if one.get("relationshipType") == "DESCRIBES"
    ]
    return next((one for one in _objects(document, "packages") if one.get("SPDXID") in about), {})


def digest_in_bill(text: str) -> str | None:
    """The image that a bill of materials in SPDX is of; None of what is none."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    version = described_image(document).get("versionInfo") if isinstance(document, dict) else None
    return version if isinstance(version, str) else None


def _objects(document: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    found = document.get(key)
    yield from (one for one in (found if isinstance(found, Sequence) else ()) if isinstance(one, dict))
