"""Read of an image which files carry device code, for what chips, and whose they are; each layer is read once."""

import posixpath
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import IO

from sparkbake.delta import group_of_layer, layer_names
from sparkbake.devicecode import (
    VERDICTS,
    Tally,
    Verdict,
    best_verdict,
    chip_number,
    tallies,
    verdicts_of,
)
from sparkbake.elf import MAGIC, build_id, read_elf
from sparkbake.errors import ImageError
from sparkbake.fatbin import SECTIONS, Code, cubin_code, find_containers, read_containers
from sparkbake.imageinfo import Entry, LayerInfo
from sparkbake.images import OpenImage
from sparkbake.ownership import LayerContents, attribution, is_record, record_text

# A larger file is read through a temporary one.
_MOST_IN_MEMORY_BYTES = 64 << 20
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceFile:
    """A file of an image that carries device code.

    Attributes:
        package: as ownership.attribution has it: a distribution's name, or "(<group>)".
        layer: digest of the layer it is in.
        layer_name: "cuda.nvidia-cublas", "base", "system".
        build_id: hex digits; None of a file without one.
        is_cubin: whether it is a cubin itself, and no program with device code in it.
        verdict: the best of its containers; that is how far it can run at all.
        containers: verdict and how many containers have it, best first, without those that have neither SASS nor PTX; a
            cubin counts as one.
        unlisted: how many of all its containers stand where cuobjdump does not look: fatbin.find_containers.
        sass, ptx, other: by architecture, the lowest first.
    """

    path: str
    package: str
    layer: str
    layer_name: str
    build_id: str | None
    is_cubin: bool
    verdict: Verdict
    containers: tuple[tuple[Verdict, int], ...]
    unlisted: int
    sass: tuple[Tally, ...]
    ptx: tuple[Tally, ...]
    other: tuple[Tally, ...]

    @property
    def size_bytes(self) -> int:
        """Of the device code in it, as it is stored."""
        return sum(one.size_bytes for one in (*self.sass, *self.ptx, *self.other))


@dataclass(frozen=True, kw_only=True, slots=True)
class Unread:
    """A file that begins as an ELF file does and cannot be read: damaged, or for another kind of machine."""

    path: str
    layer: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """All device code of an image, as it is with its layers on top of each other.

    Attributes:
        image: as it was asked for.
        digest: of the manifest.
        elf_files: how many ELF files were looked at, in all layers.
        files: worst verdict first, then the largest, then by path.
    """

    image: str
    digest: str
    compute_capability: str
    elf_files: int
    files: tuple[DeviceFile, ...]
    unread: tuple[Unread, ...]


@dataclass(slots=True)
class _Layer:
    """What one layer has, and what it hides of those below."""

    info: LayerInfo
    files: dict[str, tuple[Entry, DeviceFile]]
    unread: list[Unread]
    records: list[tuple[str, str]]
    replaced: set[str]
    hidden: set[str]
    elf_files: int = 0


def read_inventory(image: OpenImage, name: str, say: Callable[[str], None], *, compute_capability: str) -> Inventory:
    """Look at every file of every layer, lowest first.

    Args:
        name: of the image, for messages.
        say: told of each layer that is read: a gigabyte takes some seconds.
        compute_capability: of the chip, "12.1".

    Raises:
        ImageError: a layer is damaged, or a RECORD is no CSV in UTF-8.
    """
    names = layer_names(image.info)
    chip = chip_number(compute_capability)
    layers: list[_Layer] = []
    for at, info in enumerate(image.info.layers, start=1):
        say(f"reading layer {at} of {len(image.info.layers)} of {name} ({info.size_bytes / 1e6:.0f} MB)")
        layer = _read_layer(image, info, names[info.digest], chip)
        for below in layers:
            _hide(below, layer)
        layers.append(layer)
    files = _owned(layers, names)
    return Inventory(
        image=name,
        digest=image.info.digest,
        compute_capability=compute_capability,
        elf_files=sum(one.elf_files for one in layers),
        files=tuple(sorted(files, key=lambda one: (-VERDICTS.index(one.verdict), -one.size_bytes, one.path))),
        unread=tuple(one for layer in layers for one in layer.unread),
    )


def _read_layer(image: OpenImage, info: LayerInfo, name: str, chip: int) -> _Layer:
    layer = _Layer(info=info, files={}, unread=[], records=[], replaced=set(), hidden=set())
    for entry, chunks in image.contents(info):
        _note_hidden(layer, entry)
        if entry.kind != "file":
            continue
        where = f"{image.place}: {entry.path}"
        if is_record(entry.path):
            layer.records.append((entry.path, record_text(b"".join(chunks), where)))
            continue
        first = next(chunks, b"")
        if not first.startswith(MAGIC):
            continue
        layer.elf_files += 1
        with tempfile.SpooledTemporaryFile(max_size=_MOST_IN_MEMORY_BYTES) as file:
            # Not writelines(), which has it all in memory first.
            for chunk in chain([first], chunks):
                file.write(chunk)
            try:
                found = _device_file(entry, file, info.digest, name, chip)
            except ImageError as err:
                layer.unread.append(Unread(path=entry.path, layer=info.digest, why=str(err)))
                continue
        if found:
            layer.files[entry.path] = (entry, found)
    return layer


def _device_file(entry: Entry, file: IO[bytes], layer: str, layer_name: str, chip: int) -> DeviceFile | None:
    """What device code a file has; None of one without. Its package is not known yet.

    Raises:
        ImageError: it is damaged.
    """
    elf = read_elf(entry.path, file)
    cubin = cubin_code(entry.path, file, elf, size_bytes=entry.size_bytes)
    containers: list[tuple[Code, ...]] = [(cubin,)] if cubin else []
    for section in elf.named(*SECTIONS):
        where = f"{entry.path}: section '{section.name}'"
        containers += read_containers(where, file, offset=section.offset, size_bytes=section.size_bytes)
    unlisted = tuple(find_containers(entry.path, file, elf))
    containers += unlisted
    codes = [code for one in containers for code in one]
    if not codes:
        return None
    verdicts = verdicts_of(containers, chip)
    return DeviceFile(
        path=entry.path,
        package="",
        layer=layer,
        layer_name=layer_name,
        build_id=build_id(entry.path, file, elf),
        is_cubin=cubin is not None,
        verdict=best_verdict(verdict for verdict, _count in verdicts),
        containers=verdicts,
        unlisted=len(unlisted),
        sass=tallies(one for one in codes if one.kind == "sass"),
        ptx=tallies(one for one in codes if one.kind == "ptx"),
        other=tallies(one for one in codes if one.kind == "other"),
    )


# ---- layers on top of each other: https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts


def _note_hidden(layer: _Layer, entry: Entry) -> None:
    folder, name = posixpath.split(entry.path)
    if name == _OPAQUE:
        layer.hidden.add(folder)
    elif name.startswith(_WHITEOUT):
        layer.hidden.add(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
    elif entry.kind == "folder":
        layer.replaced.add(entry.path)
    else:
        layer.hidden.add(entry.path)


def _hide(below: _Layer, layer: _Layer) -> None:
    """Take from a layer what a later one replaces or removes."""

    def stays(path: str) -> bool:
        return path not in layer.replaced and layer.hidden.isdisjoint(_upwards(path))

    below.files = {path: one for path, one in below.files.items() if stays(path)}
    below.unread = [one for one in below.unread if stays(one.path)]


def _upwards(path: str) -> Iterator[str]:
    """A path, and every folder it is in; the top is ""."""
    while path:
        yield path
        path = posixpath.dirname(path)
    yield ""


def _owned(layers: Sequence[_Layer], names: dict[str, str]) -> Iterator[DeviceFile]:
    """The files that are left, each with its package."""
    contents = [
        LayerContents(
            digest=layer.info.digest,
            group=group_of_layer(names[layer.info.digest]),
            disk_bytes=0,
            entries=tuple(entry for entry, _file in layer.files.values()),
            records=tuple(layer.records),
        )
        for layer in layers
    ]
    owners = attribution(contents)
    for layer in layers:
        for path, (_entry, file) in layer.files.items():
            yield replace(file, package=owners[layer.info.digest, path])
