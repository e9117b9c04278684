"""Write OCI image layouts without an engine: the layer's tar made deterministic, and the layout around it.

Spec: https://github.com/opencontainers/image-spec v1.1: image-layout.md, image-index.md, manifest.md, config.md.
"""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sparkbake.errors import BaseError

Architecture = Literal["amd64", "arm64"]

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
# Not compressed: the digest must not depend on which version of which compressor happens to be installed.
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_VARIANTS: Mapping[str, str] = {"arm64": "v8"}
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The one extended attribute that matters in an image. ACLs and security labels come from the machine's file system.
_CAPABILITY = "SCHILY.xattr.security.capability"


# The layer


def write_layer_tar(
    source: Path,
    target: Path,
    *,
    epoch: int,
    is_dropped: Callable[[str, tarfile.TarInfo], bool],
    replaced: Mapping[str, bytes],
) -> None:
    """Copy a tar so that its bytes depend on nothing but names, modes, owners and contents.

    Entries come sorted by name without "./", modification times are whole seconds and at most `epoch`, owner names are
    left out, of the extended attributes only file capabilities stay. The first name of a hard-linked file carries it.

    Args:
        source: an uncompressed tar of a root file system.
        target: the file to write.
        epoch: seconds since 1970; no later modification time is written.
        is_dropped: says of a path ("usr/share/man") and its entry in `source` if it stays out.
        replaced: path to the content of files that are written in any case (mode 0644, root, time `epoch`).

    Raises:
        BaseError: a device or other special file would be in the layer.
    """
    with tarfile.open(source, "r:") as old, tarfile.open(target, "w:", format=tarfile.PAX_FORMAT) as new:
        members = {_plain_name(member.name): member for member in old}
        members.pop("", None)
        kept = sorted(name for name, each in members.items() if name not in replaced and not is_dropped(name, each))
        # Of the names of a hard-linked file the first that stays gets it, whichever had it before.
        owners = {name: _plain_name(members[name].linkname) if members[name].islnk() else name for name in kept}
        firsts = {owner: name for name, owner in reversed(owners.items())}
        for name in sorted({*kept, *replaced}):
            if name in replaced:
                new.addfile(*_replaced_member(name, replaced[name], epoch))
                continue
            member, first = members[owners[name]], firsts[owners[name]]
            info = _member(name, member, epoch, link_to=None if first == name else first)
            new.addfile(info, old.extractfile(member) if info.isreg() else None)


def _plain_name(name: str) -> str:
    return "" if name in (".", "./", "/") else name.removeprefix("./").strip("/")


def _member(name: str, old: tarfile.TarInfo, epoch: int, *, link_to: str | None) -> tarfile.TarInfo:
    if not (old.isreg() or old.isdir() or old.issym()):
        raise BaseError(f"{name} is a special file (tar type {old.type!r}); expected none outside dev/")
    new = tarfile.TarInfo(name)
    new.mode, new.uid, new.gid, new.mtime = old.mode, old.uid, old.gid, min(int(old.mtime), epoch)
    if link_to is not None:
        new.type, new.linkname = tarfile.LNKTYPE, link_to
        return new
    new.type = tarfile.REGTYPE if old.isreg() else old.type
    new.size = old.size if old.isreg() else 0
    new.linkname = old.linkname if old.issym() else ""
    new.pax_headers = {key: value for key, value in old.pax_headers.items() if key == _CAPABILITY}
    return new


def _replaced_member(name: str, content: bytes, epoch: int) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o644, epoch
    return info, io.BytesIO(content)


# Writing a layout


def write_layout(directory: Path, layers: Mapping[Architecture, Path], *, created_epoch: int) -> str:
    """Write an OCI image layout with one image of one layer per architecture, and return its digest.

    index.json carries the one image index under the reference name "latest", which is what BuildKit takes when a
    layout is named without a digest.

    Args:
        directory: the layout's folder; must not exist.
        layers: architecture to a tar that write_layer_tar made; it is moved into the layout.
        created_epoch: seconds since 1970; becomes "created".

    Returns:
        The digest of the image index: "sha256:" and 64 hex digits.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    created = datetime.fromtimestamp(created_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    manifests = [_add_image(blobs, architecture, layers[architecture], created) for architecture in sorted(layers)]
    index = _add_json(blobs, _INDEX_TYPE, {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": manifests})
    entry = {**index, "annotations": {"org.opencontainers.image.ref.name": "latest"}}
    top = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [entry]}
    (directory / "index.json").write_bytes(_canonical_json(top))
    (directory / "oci-layout").write_bytes(_canonical_json({"imageLayoutVersion": "1.0.0"}))
    return str(index["digest"])


def _add_image(blobs: Path, architecture: Architecture, tar: Path, created: str) -> dict[str, Any]:
    digest = _file_digest(tar)
    layer = {"mediaType": _LAYER_TYPE, "digest": digest, "size": tar.stat().st_size}
    shutil.move(tar, blobs / digest.removeprefix("sha256:"))
    variant = {"variant": _VARIANTS[architecture]} if architecture in _VARIANTS else {}
    platform = {"os": "linux", "architecture": architecture, **variant}
    config = {
        **platform,
        "created": created,
        "config": {"Cmd": ["/bin/bash"], "Env": [_PATH]},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
        "history": [{"created": created, "created_by": "sparkbake: mmdebstrap from the lock of the base"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": _add_json(blobs, _CONFIG_TYPE, config),
        "layers": [layer],
    }
    return {**_add_json(blobs, _MANIFEST_TYPE, manifest), "platform": platform}


def _add_json(blobs: Path, media_type: str, value: Mapping[str, Any]) -> dict[str, Any]:
    content = _canonical_json(value)
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _canonical_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


# Reading a layout


def read_index_digest(directory: Path) -> str:
    """Return the digest of a layout's image index, having seen that every blob is there with its full size.

    The small blobs are hashed, layers are not.

    Raises:
        BaseError: the folder is no complete layout of one image index; names what is missing.
    """
    top = _read_json(directory / "index.json")["manifests"]
    if [entry["mediaType"] for entry in top] != [_INDEX_TYPE]:
        raise BaseError(f"{directory / 'index.json'}: expected exactly one entry, of media type {_INDEX_TYPE}")
    waiting = list(top)
    while waiting:
        descriptor = waiting.pop()
        blob = _blob(directory, descriptor["digest"])
        size = blob.stat().st_size if blob.is_file() else None
        if size != descriptor["size"]:
            found = "no such file" if size is None else f"{size} bytes"
            raise BaseError(f"{blob}: {found}, expected {descriptor['size']} bytes; the layout is not complete")
        if descriptor["mediaType"] == _LAYER_TYPE:
            continue
        if _file_digest(blob) != descriptor["digest"]:
            raise BaseError(f"{blob}: damaged; remove {directory}, it is then made anew")
        content = _read_json(blob)
        waiting += content.get("manifests", []) + content.get("layers", [])
        waiting += [content["config"]] if descriptor["mediaType"] == _MANIFEST_TYPE else []
    return str(top[0]["digest"])


def read_manifest_digests(directory: Path) -> tuple[tuple[str, str], ...]:
    """Return (architecture, manifest digest) of a layout that write_layout made, sorted.

    Raises:
        BaseError: the folder is no complete layout of one image index.
    """
    index = _read_json(_blob(directory, read_index_digest(directory)))
    return tuple(sorted((entry["platform"]["architecture"], entry["digest"]) for entry in index["manifests"]))


def _blob(directory: Path, digest: str) -> Path:
    return directory / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as err:
        raise BaseError(f"{path}: cannot be read: {err}; expected a complete OCI layout") from err
    return value
