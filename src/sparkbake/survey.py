"""Read an image whole, each layer once: what is in it, what its ELF files are, and what says whose files those are."""

import hashlib
import posixpath
import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import IO

from sparkbake.delta import layer_names
from sparkbake.devicecode import best_verdict, chip_number, tallies, verdict_of, verdicts_of
from sparkbake.dynamic import read_dynamic
from sparkbake.elf import MAGIC, build_id, read_elf
from sparkbake.errors import ImageError
from sparkbake.fatbin import SECTIONS, cubin_code, find_containers, read_containers
from sparkbake.fatbin import Code as Piece
from sparkbake.imageinfo import Entry, LayerInfo, layer_name
from sparkbake.images import OpenImage
from sparkbake.paths import below_site
from sparkbake.surveyed import Binary, Code, Seen, Survey, Unread

# A larger file is read through a temporary one.
_MOST_IN_MEMORY_BYTES = 64 << 20
_AT_ONCE = 2
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
# What says something of other files: Python's and dpkg's records, the image's own, tuning files, where libraries are.
_TEXT = re.compile(
    r".*\.dist-info/(?:RECORD|TRIMMED\.json|PRUNED\.json|METADATA)"
    r"|var/lib/dpkg/(?:status(?:\.d/[^/]+)?|diversions|alternatives/[^/]+|info/[^/]+\.(?:list|md5sums))"
    r"|usr/share/sparkbake/[^/]+"
    r"|(?:usr/lib|etc)/os-release"
    r"|etc/ld\.so\.conf(?:\.d/[^/]+\.conf)?"
    r"|.*/torch/version\.py"
    r"|.*device_name=NVIDIA_GB10[^/]*\.json"
)


@dataclass(slots=True)
class _Layer:
    """What one layer has, and what it hides of those below."""

    seen: dict[str, Seen] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    binaries: dict[str, Binary] = field(default_factory=dict)
    unread: dict[str, Unread] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)


def is_text(path: str) -> bool:
    """Whether a survey keeps the content of a file."""
    return _TEXT.fullmatch(path) is not None


def read_survey(
    image: OpenImage,
    name: str,
    say: Callable[[str], None],
    *,
    compute_capability: str,
    also: Collection[str] = (),
) -> Survey:
    """Read every file of every layer, lowest first.

    Args:
        name: of the image, for messages.
        say: told of each layer that is read: a gigabyte takes some seconds.
        compute_capability: of the chip, "12.1".
        also: paths below site-packages of files whose content is kept, too.

    Raises:
        ImageError: a layer is damaged.
    """
    names = layer_names(image.info)
    chip = chip_number(compute_capability)

    def read(at: int, info: LayerInfo) -> _Layer:
        say(f"reading layer {at} of {len(image.info.layers)} of {name} ({info.size_bytes / 1e6:.0f} MB)")
        return _read_layer(image, info, names[info.digest], chip, also)

    whole = _Layer()
    # Unpacking and hashing, which is most of the work, run beside each other.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for layer in pool.map(read, range(1, len(image.info.layers) + 1), image.info.layers):
            _put_on_top(whole, layer)
    return Survey(
        image=name,
        digest=image.info.digest,
        config=image.info.config,
        labels=image.info.labels,
        seen=dict(sorted(whole.seen.items())),
        texts=dict(sorted(whole.texts.items())),
        binaries=dict(sorted(whole.binaries.items())),
        unread=tuple(one for _path, one in sorted(whole.unread.items())),
    )


def _read_layer(image: OpenImage, info: LayerInfo, name: str, chip: int, also: Collection[str]) -> _Layer:
    layer = _Layer()
    copied = layer_name(info)
    for entry, chunks in image.contents(info):
        if _is_whiteout(layer, entry):
            continue
        # Of a path that stands twice in a layer, the last counts.
        for kept in (layer.texts, layer.binaries, layer.unread):
            kept.pop(entry.path, None)
        sha256 = md5 = ""
        if entry.kind == "file":
            with tempfile.SpooledTemporaryFile(max_size=_MOST_IN_MEMORY_BYTES) as file:
                is_kept = is_text(entry.path) or below_site(entry.path) in also
                sha256, md5 = _hashes(layer, entry, chunks, file, is_kept=is_kept, with_md5=copied is None)
                if file.tell():
                    _note_binary(layer, entry, file, info.digest, chip)
        layer.seen[entry.path] = Seen(entry=replace(entry, sha256=sha256), layer=info.digest, layer_name=name, md5=md5)
    return layer


def _hashes(
    layer: _Layer, entry: Entry, chunks: Iterator[bytes], file: IO[bytes], *, is_kept: bool, with_md5: bool
) -> tuple[str, str]:
    """SHA-256 and MD5 of a file's content; keeps it if it is to be, and writes it to `file` if it is an ELF file.

    Args:
        with_md5: dpkg alone notes it, and is not in layers that our recipes copy; else "".
    """
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    kept = bytearray() if is_kept else None
    first = next(chunks, b"")
    is_binary = first.startswith(MAGIC)
    for chunk in chain([first], chunks):
        sha256.update(chunk)
        if with_md5:
            md5.update(chunk)
        if kept is not None:
            kept += chunk
        if is_binary:
            file.write(chunk)
    if kept is not None:
        layer.texts[entry.path] = bytes(kept)
    return sha256.hexdigest(), md5.hexdigest() if with_md5 else ""


def _note_binary(layer: _Layer, entry: Entry, file: IO[bytes], digest: str, chip: int) -> None:
    try:
        layer.binaries[entry.path] = _binary(entry, file, chip)
    except ImageError as err:
        layer.unread[entry.path] = Unread(path=entry.path, layer=digest, why=str(err))


def _binary(entry: Entry, file: IO[bytes], chip: int) -> Binary:
    """What an ELF file is.

    Raises:
        ImageError: it is damaged.
    """
    elf = read_elf(entry.path, file)
    cubin = cubin_code(entry.path, file, elf, size_bytes=entry.size_bytes)
    listed: list[tuple[Piece, ...]] = [(cubin,)] if cubin else []
    for section in elf.named(*SECTIONS):
        where = f"{entry.path}: section '{section.name}'"
        listed += read_containers(where, file, offset=section.offset, size_bytes=section.size_bytes)
    unlisted = list(find_containers(entry.path, file, elf))
    return Binary(
        path=entry.path,
        machine=elf.machine,
        build_id=build_id(entry.path, file, elf),
        dynamic=None if cubin else read_dynamic(entry.path, file, elf),
        code=_code(listed, unlisted, chip, is_cubin=cubin is not None),
    )


def _code(
    listed: list[tuple[Piece, ...]], unlisted: list[tuple[Piece, ...]], chip: int, *, is_cubin: bool
) -> Code | None:
    """The code of a file, by its containers: in the sections where pruning looks, and in others."""
    pieces = [piece for one in (*listed, *unlisted) for piece in one]
    if not pieces:
        return None
    verdicts = verdicts_of([*listed, *unlisted], chip)
    could_prune = (piece for one in listed for piece in one if piece.kind == "sass" and not piece.is_emptied)
    left = [one for one in pieces if not one.is_emptied]
    gone = [one for one in pieces if one.is_emptied and one.kind != "other"]
    return Code(
        is_cubin=is_cubin,
        verdict=best_verdict(verdict for verdict, _count in verdicts),
        containers=verdicts,
        unlisted=len(unlisted),
        emptied=tallies(gone),
        lost=tallies(one for one in gone if _loads(one, chip)),
        foreign=tallies(one for one in could_prune if not _loads(one, chip)),
        sass=tallies(one for one in left if one.kind == "sass"),
        ptx=tallies(one for one in left if one.kind == "ptx"),
        other=tallies(one for one in pieces if one.kind == "other"),
    )


def _loads(piece: Piece, chip: int) -> bool:
    """Whether a chip could load what a piece was compiled to, were it there."""
    return verdict_of(replace(piece, is_emptied=False), chip) != "none"


# ---- layers on top of each other: https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts


def _is_whiteout(layer: _Layer, entry: Entry) -> bool:
    """Note what an entry takes from the layers below; whether it is there for nothing else."""
    folder, name = posixpath.split(entry.path)
    if name == _OPAQUE:
        layer.hidden.add(folder)
        return True
    if name.startswith(_WHITEOUT):
        layer.hidden.add(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
        return True
    (layer.replaced if entry.kind == "folder" else layer.hidden).add(entry.path)
    return False


def _put_on_top(whole: _Layer, layer: _Layer) -> None:
    """Take from what is there what a layer replaces or removes, and add what it has."""

    def stays(path: str) -> bool:
        return path not in layer.replaced and layer.hidden.isdisjoint(_upwards(path))

    whole.seen = {path: one for path, one in whole.seen.items() if stays(path)} | layer.seen
    whole.texts = {path: one for path, one in whole.texts.items() if stays(path)} | layer.texts
    whole.binaries = {path: one for path, one in whole.binaries.items() if stays(path)} | layer.binaries
    whole.unread = {path: one for path, one in whole.unread.items() if stays(path)} | layer.unread


def _upwards(path: str) -> Iterator[str]:
    """A path, and every folder it is in; the top is ""."""
    while path:
        yield path
        path = posixpath.dirname(path)
    yield ""
