"""What an image is made of, as values: its layers and their entries, parsed from an OCI manifest and its config.

Spec: https://github.com/opencontainers/image-spec v1.1: manifest.md, config.md, layer.md.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sparkbake.errors import ImageError
from sparkbake.lockfile import canonical
from sparkbake.model import Pairs

Kind = Literal["file", "folder", "link", "hardlink", "other"]

# What BuildKit notes of a step of our recipes: `COPY --link --from=layout /layers/cuda/ /`.
_COPIED_LAYER = re.compile(r"^COPY (?:--\S+ )*/layers/([^/\s]+)/ /(?:\s|$)")
# And of the step that ends a compiled image: recipes/vllm-source.Dockerfile.j2, and the two of foundations.
_DESCRIBED = re.compile(r"RUN .*/dev/sparkbake/(?:describe\.sh|settled\.sh install .*/dev/sparkbake/manifest\.json)\b")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry of a layer's tar; a whiteout (".wh.<name>") is a file like any other.

    Attributes:
        path: "opt/venv/x", without leading "./" or "/"; "." is the root.
        mode: permission bits, 0o755.
        mtime: whole seconds since 1970.
        size_bytes: of a file's content, else 0.
        target: what a link or hard link points to; "<major>:<minor>" of a device; else "".
        sha256: 64 hex digits of a file's content; "" of anything else, or when the content was not read.
        headers: pax headers other than path, linkpath, size and mtime, sorted; extended attributes are among them.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    size_bytes: int
    target: str
    sha256: str
    headers: Pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerInfo:
    """A layer as manifest and config describe it.

    Attributes:
        digest: of the compressed blob, 'sha256:' + 64 hex.
        diff_id: of the tar in it, 'sha256:' + 64 hex.
        size_bytes: of the compressed blob.
        created_by: the step that made it, from the config's history; "" when that does not say.
    """

    digest: str
    diff_id: str
    media_type: str
    size_bytes: int
    created_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInfo:
    """An image without its contents.

    Attributes:
        digest: of the manifest, 'sha256:' + 64 hex.
        config_digest: names all contents whatever packs them: the config has the digests of the layers' tars.
        config: the config as canonical JSON.
        layers: lowest first.
    """

    digest: str
    config_digest: str
    config: str
    labels: Pairs
    layers: tuple[LayerInfo, ...]


def layer_name(layer: LayerInfo) -> str | None:
    """What our recipes call a layer ("cuda", "cuda.nvidia-cublas"); None of a layer that another step made."""
    found = _COPIED_LAYER.match(layer.created_by)
    return found.group(1) if found else None


def is_last_step(step: str) -> bool:
    """Whether a step made the layer that ends an image of ours, with what that says of itself.

    Args:
        step: as BuildKit notes it.
    """
    copied = _COPIED_LAYER.match(step)
    return bool(_DESCRIBED.match(step)) or (copied is not None and copied.group(1) == "manifest")


def layer_step(name: str) -> str:
    """What BuildKit notes of the step of our recipes that makes a layer; see `layer_name`."""
    return f"COPY /layers/{name}/ /"


def parse_json(where: str, text: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ImageError: it is none; the message begins with `where`.
    """
    try:
        value = json.loads(text)
    except ValueError as err:
        raise ImageError(f"{where}: is no JSON: {err}; make the image anew") from err
    if not isinstance(value, dict):
        raise ImageError(f"{where}: got a JSON {type(value).__name__}, expected an object; make the image anew")
    return value


def checked_digest(where: str, digest: object) -> str:
    """A digest of the one kind that is read here.

    Raises:
        ImageError: it is not 'sha256:' + 64 hex digits.
    """
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ImageError(f"{where}: got the digest {digest!r}, expected 'sha256:' and 64 hex digits")
    return digest


def parse_image(where: str, digest: str, manifest: Mapping[str, Any], config: Mapping[str, Any]) -> ImageInfo:
    """Put manifest and config together.

    Args:
        where: the image, for messages.
        digest: of the manifest.

    Raises:
        ImageError: a key is missing, or the two do not have the same number of layers.
    """
    try:
        blobs: list[dict[str, Any]] = manifest["layers"]
        diff_ids: list[str] = config["rootfs"]["diff_ids"]
        labels: dict[str, str] = (config.get("config") or {}).get("Labels") or {}
        if len(blobs) != len(diff_ids):
            raise ImageError(f"{where}: the manifest has {len(blobs)} layers, the config {len(diff_ids)}")
        steps = _steps(config, len(blobs))
        config_digest = checked_digest(where, manifest["config"]["digest"])
        layers = tuple(
            LayerInfo(
                digest=checked_digest(where, blob["digest"]),
                diff_id=checked_digest(where, diff_id),
                media_type=str(blob["mediaType"]),
                size_bytes=int(blob["size"]),
                created_by=step,
            )
            for blob, diff_id, step in zip(blobs, diff_ids, steps, strict=True)
        )
    except (KeyError, TypeError, AttributeError) as err:
        raise ImageError(f"{where}: its manifest or config is not as the OCI format has it: {err!r}") from err
    return ImageInfo(
        digest=digest,
        config_digest=config_digest,
        config=canonical(config).decode(),
        labels=tuple(sorted(labels.items())),
        layers=layers,
    )


def _steps(config: Mapping[str, Any], layers: int) -> list[str]:
    """The step behind each layer; empty texts when the history does not go with the layers."""
    history = config.get("history") or []
    found = [str(one.get("created_by", "")) for one in history if not one.get("empty_layer")]
    return found if len(found) == layers else [""] * layers


# ---- which image of an index


def platform_of(described: Mapping[str, Any]) -> str:
    """What a config or the platform object of a descriptor is for, as "linux/arm64/v8"; "" when it does not say."""
    parts = [described.get(key) for key in ("os", "architecture", "variant")]
    return "/".join(str(part) for part in parts if part)


def is_attestation(platform: str) -> bool:
    """Whether a manifest is what BuildKit notes about a build, and no image."""
    return platform == "unknown/unknown"


def choose(where: str, images: Mapping[str, str], platform: str) -> str:
    """The one image there is, or of several the one for a platform.

    Args:
        images: manifest digest to platform.
        platform: "linux/arm64", which takes "linux/arm64/v8" too.

    Returns:
        Its digest.

    Raises:
        ImageError: there is none, or not exactly one fits; the message lists all.
    """
    if not images:
        raise ImageError(f"{where}: its index names no image; make it anew")
    if len(images) == 1:
        return next(iter(images))
    fitting = [digest for digest, found in images.items() if f"{found}/".startswith(f"{platform}/")]
    if len(fitting) != 1:
        listed = ", ".join(f"{found or 'of no platform'} ({digest})" for digest, found in images.items())
        remedy = "save just one of them" if fitting else "ask for one of these with --platform"
        raise ImageError(f"{where}: {len(fitting)} images are for {platform}, expected one; it has {listed}; {remedy}")
    return fitting[0]
