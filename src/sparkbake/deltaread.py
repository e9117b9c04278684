"""Read of two images what `delta` needs: the entries of the layers they do not share, and what packages come to packed.

Two passes over the layers that only the new image has: whose a file is is known when all RECORDs were seen.
"""

import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import zstandard

from sparkbake.delta import (
    Delta,
    LockedLayers,
    distinct,
    group_of_layer,
    layer_changes,
    layer_names,
    locked_changes,
    package_changes,
    summed,
)
from sparkbake.imageinfo import Entry, ImageInfo, LayerInfo
from sparkbake.images import OpenImage, hashed
from sparkbake.ownership import LayerContents, attribution, is_record, record_text

_LEVEL = 3
_TAR_TYPES = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """An image under the name it was asked for by.

    Attributes:
        opened: None of an image in a registry, whose contents are not fetched, and of one that only a record knows.
        locked: how its packages lie in its layers; None when its lock is not here.
        disk_bytes: digest to the size of the files in a layer, of those of which it is recorded.
    """

    name: str
    info: ImageInfo
    opened: OpenImage | None
    locked: LockedLayers | None = None
    disk_bytes: Mapping[str, int] = field(default_factory=dict)


def read_delta(old: Named, new: Named, say: Callable[[str], None]) -> Delta:
    """What moving from one image to another costs.

    Where the contents of one cannot be read, by their layers, and by their locks if both are known.

    Args:
        say: told of each layer that is read: a gigabyte takes some seconds.

    Raises:
        ImageError: a layer is damaged.
    """
    if old.opened is None or new.opened is None:
        changes = layer_changes(old.info, new.info, new.disk_bytes)
        packages = locked_changes(old.locked, new.locked, changes) if old.locked and new.locked else None
        return summed(old.name, new.name, changes, packages, packages_by="locks")
    known = {one.digest for one in old.info.layers} & {one.digest for one in new.info.layers}
    after = read_layers(new.opened, new.name, say, known=known)
    ready = {one.digest: one for one in after if one.digest in known}
    before = read_layers(old.opened, old.name, say, known=known, ready=ready)
    packed = packed_bytes(new.opened, new.name, after, say)
    disk = {one.digest: one.disk_bytes for one in after}
    return summed(old.name, new.name, layer_changes(old.info, new.info, disk), package_changes(before, after, packed))


def read_layers(
    image: OpenImage,
    name: str,
    say: Callable[[str], None],
    *,
    known: Collection[str],
    ready: Mapping[str, LayerContents] | None = None,
) -> tuple[LayerContents, ...]:
    """Read the layers of an image, each once.

    Args:
        name: of the image, for messages.
        known: digests of layers of which sizes and RECORDs are enough.
        ready: digest to what was read of a layer already.

    Raises:
        ImageError: a layer is damaged.
    """
    groups = {digest: group_of_layer(one) for digest, one in layer_names(image.info).items()}
    done = ready or {}
    asked = [one for one in distinct(image.info.layers) if one.digest not in done]
    read = {
        one.digest: _contents(image, one, groups[one.digest], is_known=one.digest in known)
        for one in _announced(asked, image, f"of {name}", "reading", say)
    }
    return tuple(done.get(one.digest) or read[one.digest] for one in distinct(image.info.layers))


def _announced(
    layers: Sequence[LayerInfo], image: OpenImage, name: str, deed: str, say: Callable[[str], None]
) -> Iterator[LayerInfo]:
    count = len(image.info.layers)
    positions = {one.digest: at for at, one in reversed(list(enumerate(image.info.layers, start=1)))}
    for one in layers:
        say(f"{deed} layer {positions[one.digest]} of {count} {name} ({one.size_bytes / 1e6:.0f} MB)")
        yield one


def _contents(image: OpenImage, layer: LayerInfo, group: str, *, is_known: bool) -> LayerContents:
    entries: list[Entry] = []
    records: list[tuple[str, str]] = []
    disk_bytes = 0
    for entry, chunks in image.contents(layer):
        disk_bytes += entry.size_bytes
        kept = chunks
        if entry.kind == "file" and is_record(entry.path):
            text = b"".join(chunks)
            records.append((entry.path, record_text(text, f"{image.place}: {entry.path}")))
            kept = iter([text])
        if entry.kind != "folder" and not is_known:
            entries.append(hashed(entry, kept))
    return LayerContents(
        digest=layer.digest, group=group, disk_bytes=disk_bytes, entries=tuple(entries), records=tuple(records)
    )


# ---- what packages come to packed


def packed_bytes(
    image: OpenImage, name: str, layers: Sequence[LayerContents], say: Callable[[str], None]
) -> dict[str, int]:
    """Compressed size of each package's files, as `Delta.least_bytes` has it, of the layers whose entries were read.

    Args:
        name: of the image, for messages.
        layers: what read_layers gave of this image.

    Raises:
        ImageError: a layer is damaged.
    """
    owners = attribution(layers)
    sizes: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for read in layers:
        for entry in read.entries:
            package = owners[read.digest, entry.path]
            sizes[package] += len(_header(entry)) + entry.size_bytes
            left[package] += 1
    packers = {package: _Packer(size) for package, size in sizes.items()}
    asked = {one.digest for one in layers if one.entries}
    some = [one for one in distinct(image.info.layers) if one.digest in asked]
    for layer in _announced(some, image, f"of {name}", "packing", say):
        for entry, chunks in image.contents(layer):
            if entry.kind == "folder":
                continue
            package = owners[layer.digest, entry.path]
            packers[package].add(entry, chunks)
            left[package] -= 1
            if not left[package]:
                packers[package].end()
    return {package: one.packed_bytes for package, one in packers.items()}


class _Packer:
    """Compresses the files of one package as they come, and counts the bytes that come out.

    Args:
        size_bytes: of all of it; so that a small package takes little memory.
    """

    def __init__(self, size_bytes: int) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, source_size=size_bytes)
        self._stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        self.packed_bytes = 0

    def add(self, entry: Entry, chunks: Iterator[bytes]) -> None:
        self._feed(_header(entry))
        for chunk in chunks:
            self._feed(chunk)
        self._feed(bytes(-entry.size_bytes % tarfile.BLOCKSIZE))

    def end(self) -> None:
        self.packed_bytes += len(self._stream.flush())
        del self._stream

    def _feed(self, data: bytes) -> None:
        self.packed_bytes += len(self._stream.compress(data))


def _header(entry: Entry) -> bytes:
    """The header of an entry in a tar, at time 0."""
    info = tarfile.TarInfo(entry.path)
    info.type = _TAR_TYPES.get(entry.kind, tarfile.CHRTYPE)
    info.mode, info.uid, info.gid, info.size = entry.mode, entry.uid, entry.gid, entry.size_bytes
    info.linkname = entry.target if info.type != tarfile.CHRTYPE else ""
    return info.tobuf(tarfile.PAX_FORMAT)
