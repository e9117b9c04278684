"""Small images for tests: members to layers, layers to an OCI layout, a layout to an archive."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

EPOCH = 1_700_000_000
SITE = "opt/venv/lib/python3.12/site-packages"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA = {
    "tar": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}

Member = tuple[tarfile.TarInfo, bytes]


def make_file(path: str, content: bytes = b"", *, headers: Mapping[str, str] | None = None, **facts: Any) -> Member:
    """A file; `facts` are attributes of TarInfo: mode, mtime, uid, gid."""
    return _member(path, tarfile.REGTYPE, content, headers or {}, {"mode": 0o644, **facts})


def make_folder(path: str, **facts: Any) -> Member:
    return _member(path, tarfile.DIRTYPE, b"", {}, {"mode": 0o755, **facts})


def make_link(path: str, target: str) -> Member:
    return _member(path, tarfile.SYMTYPE, b"", {}, {"mode": 0o777, "linkname": target})


def make_hardlink(path: str, target: str) -> Member:
    return _member(path, tarfile.LNKTYPE, b"", {}, {"mode": 0o644, "linkname": target})


def make_device(path: str) -> Member:
    return _member(path, tarfile.CHRTYPE, b"", {}, {"mode": 0o666, "devmajor": 1, "devminor": 3})


def _member(path: str, kind: bytes, content: bytes, headers: Mapping[str, str], facts: Mapping[str, Any]) -> Member:
    info = tarfile.TarInfo(path)
    info.type, info.size, info.mtime, info.pax_headers = kind, len(content), EPOCH, dict(headers)
    for name, value in facts.items():
        setattr(info, name, value)
    return info, content


def make_package(name: str, version: str, files: Mapping[str, bytes], *, claims: Sequence[str] = ()) -> list[Member]:
    """An installed distribution: its files (path below site-packages to content) and its RECORD.

    Args:
        claims: further paths for RECORD, of files that are not written here.
    """
    record = f"{name}-{version}.dist-info/RECORD"
    rows = [f"{path},sha256=x,{len(content)}" for path, content in files.items()]
    rows += [f"{path},," for path in (*claims, record)]
    members = [make_file(_below_site(path), content) for path, content in files.items()]
    return [*members, make_file(f"{SITE}/{record}", ("\n".join(rows) + "\n").encode())]


def _below_site(path: str) -> str:
    return path.replace("../../..", "opt/venv") if path.startswith("../../..") else f"{SITE}/{path}"


@dataclass(frozen=True, kw_only=True)
class MadeLayer:
    """A layer to be: `tar`, when given, is taken instead of the members."""

    members: Sequence[Member] = ()
    step: str = ""
    compression: str = "zstd"
    tar: bytes | None = None
    media_type: str | None = None
    level: int = 3
    format: int = tarfile.PAX_FORMAT

    def packed(self) -> tuple[bytes, bytes]:
        """Its tar, and its blob."""
        tar = make_tar(self.members, self.format) if self.tar is None else self.tar
        if self.compression == "gzip":
            return tar, gzip.compress(tar, mtime=0)
        return tar, zstandard.compress(tar, self.level) if self.compression == "zstd" else tar


def copied(name: str, members: Sequence[Member], **more: Any) -> MadeLayer:
    """A layer as a recipe copies it."""
    return MadeLayer(members=members, step=f"COPY /layers/{name}/ / # buildkit", **more)


def make_tar(members: Sequence[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def write_layout(folder: Path, layers: Sequence[MadeLayer], **config: Any) -> Path:
    """A layout whose index names one manifest."""
    write_index(folder, [add_image(folder, layers, **config)])
    return folder


def write_index(folder: Path, descriptors: Sequence[Mapping[str, Any]]) -> None:
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    text = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(descriptors)})
    (folder / "index.json").write_text(text)


def add_image(folder: Path, layers: Sequence[MadeLayer], **config: Any) -> dict[str, Any]:
    """Write the blobs of an image, and return the descriptor of its manifest.

    Args:
        config: keys that replace those of the config.
    """
    blobs = []
    diff_ids = []
    for layer in layers:
        tar, blob = layer.packed()
        diff_ids.append(digest_of(tar))
        blobs.append(add_blob(folder, blob, layer.media_type or MEDIA[layer.compression]))
    history = [{"created_by": "ENV A=b", "empty_layer": True}, *({"created_by": one.step} for one in layers)]
    made = {
        "os": "linux",
        "architecture": "arm64",
        "config": {"Env": ["A=b"], "Labels": {"one": "1"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
        **config,
    }
    described = add_blob(folder, json.dumps(made).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": blobs}
    return add_blob(folder, json.dumps(manifest).encode(), MANIFEST)


def add_blob(folder: Path, content: bytes, media_type: str) -> dict[str, Any]:
    digest = digest_of(content)
    blob_path(folder, digest).parent.mkdir(parents=True, exist_ok=True)
    blob_path(folder, digest).write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def blob_path(folder: Path, digest: str) -> Path:
    return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def pack(folder: Path, archive: Path) -> Path:
    """A layout as an archive."""
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, arcname=str(path.relative_to(folder)), recursive=False)
    return archive
