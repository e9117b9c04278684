"""Say what device code stands in fat binaries, the containers that CUDA's compiler puts into host programs.

NVIDIA does not document the format. Facts here are of three kinds, none is copied code:
(1) public descriptions: FORMAT_SPECIFICATION.md of github.com/GrigoryEvko/nvopen-tools (entry sizes, kinds 2 and 16),
    fatbin-decompress.c of github.com/RWTH-ACS/cricket (fields and flags up to 0x2000);
(2) measured with ptxas, nvcc and fatbinary of CUDA 13.5, one field changed at a time: flags 0x100000 and 0x200000,
    kinds 8 and 256, the place of options;
(3) held against NVIDIA's cuobjdump on real libraries: tests/engine/test_fatbin_against_cuobjdump.py.
No payload is unpacked: all that is asked stands in the entries' headers, but whether anything is left of it: what
`pruning` overwrote begins with zeros, as neither a cubin does nor what LZ4 or zstd pack.

A section has containers, each at a multiple of 8 bytes with zeros in between:

    container: u32 magic, u16 version, u16 header size, u64 size of the entries; then the entries, one after another
    entry:      0 u16 kind          2 u16 version       4 u32 header size      8 u64 size of what follows the header
               16 u32 packed size  20 u32 offset of (u32 offset, u32 size) of the options, or 0
               24 u16 minor, u16 major of the PTX or cubin version              28 u32 architecture
               32 u32 offset, u32 size of a name            40 u64 flags       56 u64 unpacked size

Flags: 0x2 with debug information, 0x2000 packed with LZ4, 0x8000 with zstd, 0x100000 for just this architecture ("a"),
0x200000 for its family ("f").
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Literal

from sparkbake.elf import CUDA_MACHINE, Elf, notes, read_at
from sparkbake.errors import ImageError

# Of what is linked to run, and of what was compiled to be linked (nvcc -rdc=true).
SECTIONS = (".nv_fatbin", "__nv_relfatbin")

Kind = Literal["sass", "ptx", "other"]
Suffix = Literal["", "a", "f"]

_MAGIC = 0xBA55ED50
_VERSION = 1
_CONTAINER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<H2xIQI I HHI II Q8xQ")
_PAIR = struct.Struct("<II")
_SIGNATURE = struct.pack("<IHH", _MAGIC, _VERSION, _CONTAINER.size)
_SCANNED_BYTES = 1 << 17
_ALIGNMENT = 8
# cuobjdump --list-elf lists 16 with 2.
_KINDS: dict[int, Kind] = {1: "ptx", 2: "sass", 16: "sass"}
# Several cubins packed as one (fatbinary --concat): a table of their headers follows the entry's own.
_CONCATENATED = 256
_OF_ARCHITECTURE = 0x100000
_OF_FAMILY = 0x200000
_MOST_TABLE_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """One piece of device code.

    Attributes:
        kind: "other" of what is neither: 8 is NVVM IR for link-time optimisation; others are not known here.
        number: of the kind, as the container has it.
        architecture: 121 of sm_121 and compute_121.
        suffix: "a" of code for just this architecture, "f" of code for its family, "" of any other.
        stored_bytes: what it takes in the file, packed or not; 0 of the second and later of several packed as one.
        is_emptied: whether zeros stand in its place.
    """

    kind: Kind
    number: int
    architecture: int
    suffix: Suffix
    stored_bytes: int
    is_emptied: bool = False

    @property
    def name(self) -> str:
        """What nvcc calls it: "sm_121a", "compute_80"; "kind 8 of 121" of other code."""
        if self.kind == "other":
            return f"kind {self.number} of {self.architecture}{self.suffix}"
        return f"{'sm' if self.kind == 'sass' else 'compute'}_{self.architecture}{self.suffix}"


def read_containers(where: str, file: IO[bytes], *, offset: int, size_bytes: int) -> Iterator[tuple[Code, ...]]:
    """The code in each container that a section has, in its order.

    Args:
        where: file and section, for messages.
        file: seekable.
        offset, size_bytes: of the section.

    Raises:
        ImageError: there is something else than containers and zeros, or one is damaged; the message says at which byte
            of the file.
    """
    for begin, end in _containers(where, file, offset, size_bytes):
        yield tuple(code for code, _at in _entries(where, file, begin, end))


def read_payloads(where: str, file: IO[bytes], elf: Elf) -> Iterator[tuple[Code, int | None]]:
    """Each piece of code in SECTIONS, and at which byte of the file it begins; None of one that is packed with others.

    Raises:
        ImageError: as `read_containers`.
    """
    for section in elf.named(*SECTIONS):
        name = f"{where}: section '{section.name}'"
        for begin, end in _containers(name, file, section.offset, section.size_bytes):
            yield from _entries(name, file, begin, end)


def _containers(where: str, file: IO[bytes], offset: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """Where the entries of each container begin and end."""
    at, end = offset, offset + size_bytes
    while at < end:
        room = min(_CONTAINER.size, end - at)
        head = read_at(where, file, at, room, "a fat binary's header")
        if not any(head[:_ALIGNMENT]):
            at += _ALIGNMENT
            continue
        if room < _CONTAINER.size:
            raise ImageError(
                f"{where}: byte {at}: {room} bytes are left, expected a fat binary's header of 16; damaged"
            )
        magic, version, header_bytes, entries_bytes = _CONTAINER.unpack(head)
        if (magic, version) != (_MAGIC, _VERSION) or header_bytes < _CONTAINER.size:
            raise ImageError(
                f"{where}: byte {at}: got magic {magic:#x}, version {version}, header size {header_bytes}, expected "
                f"{_MAGIC:#x}, {_VERSION} and at least {_CONTAINER.size}: no fat binary, damaged, or of a newer CUDA"
            )
        begin, at = at + header_bytes, at + header_bytes + entries_bytes
        if at > end:
            raise ImageError(f"{where}: a fat binary up to byte {at} goes beyond its section, which ends at {end}")
        yield begin, at
        at = offset + _aligned(at - offset)


def find_containers(where: str, file: IO[bytes], elf: Elf) -> Iterator[tuple[Code, ...]]:
    """The code in each container that stands in another section than SECTIONS.

    libcufft has 18,000 of them in .data and libcurand 1,700, which they hand to the driver themselves; cuobjdump does
    not look there. What begins like a container and does not read as one is taken for chance: a program that handles
    them has the magic number in its instructions.

    Args:
        where: the file, for messages.
    """
    for section in elf.sections:
        if section.name in SECTIONS:
            continue
        end = section.offset + section.size_bytes
        at = section.offset
        while (found := _find_signature(where, file, at, end)) is not None:
            codes = _container_at(where, file, found, end) if (found - section.offset) % _ALIGNMENT == 0 else None
            if codes:
                yield codes[1]
            at = codes[0] if codes else found + 1


def _find_signature(where: str, file: IO[bytes], at: int, end: int) -> int | None:
    while at + _CONTAINER.size <= end:
        size = min(_SCANNED_BYTES, end - at)
        found = read_at(where, file, at, size, "a section").find(_SIGNATURE)
        if found >= 0:
            return at + found
        at += max(size - len(_SIGNATURE) + 1, 1)
    return None


def _container_at(where: str, file: IO[bytes], at: int, end: int) -> tuple[int, tuple[Code, ...]] | None:
    """Where a container ends and what it has; None if it is none."""
    begin = at + _CONTAINER.size
    if begin > end:
        return None
    entries_bytes = _CONTAINER.unpack(read_at(where, file, at, _CONTAINER.size, "a fat binary's header"))[3]
    if not 0 < entries_bytes <= end - begin:
        return None
    try:
        end = begin + entries_bytes
        return end, tuple(code for code, _at in _entries(where, file, begin, end))
    except ImageError:
        return None


def _entries(where: str, file: IO[bytes], at: int, end: int) -> Iterator[tuple[Code, int | None]]:
    while at < end:
        if at + _ENTRY.size > end:
            raise ImageError(f"{where}: byte {at}: {end - at} bytes are left for an entry of at least {_ENTRY.size}")
        head = read_at(where, file, at, _ENTRY.size, "an entry of a fat binary")
        number, header_bytes, stored_bytes = _ENTRY.unpack(head)[:3]
        if header_bytes < _ENTRY.size or at + header_bytes + stored_bytes > end:
            raise ImageError(
                f"{where}: byte {at}: an entry of {header_bytes} + {stored_bytes} bytes, expected at least "
                f"{_ENTRY.size} and at most {end - at}; damaged"
            )
        if number == _CONCATENATED:
            if not _ENTRY.size + _PAIR.size <= header_bytes <= _MOST_TABLE_BYTES:
                raise ImageError(f"{where}: byte {at}: a table of {header_bytes} bytes of packed entries; damaged")
            table = read_at(where, file, at, header_bytes, "a table of entries")
            yield from ((code, None) for code in _concatenated(where, at, table, stored_bytes))
        else:
            payload = at + header_bytes
            begin = read_at(where, file, payload, min(_ALIGNMENT, stored_bytes), "device code")
            yield _code(head, stored_bytes, is_emptied=bool(begin) and not any(begin)), payload
        at += header_bytes + stored_bytes


def _concatenated(where: str, at: int, header: bytes, stored_bytes: int) -> Iterator[Code]:
    """The pieces that one entry of kind 256 packs: u32 count, u32 size from here on, then their headers."""
    count, table_bytes = _PAIR.unpack_from(header, _ENTRY.size)
    table = header[_ENTRY.size : _ENTRY.size + table_bytes]
    place = _PAIR.size
    for index in range(count):
        if place + _ENTRY.size > len(table):
            raise ImageError(f"{where}: byte {at}: a table of {len(table)} bytes for {count} packed entries; damaged")
        yield _code(table[place : place + _ENTRY.size], 0 if index else stored_bytes)
        place += _header_bytes(table, place)
    if place != table_bytes:
        raise ImageError(f"{where}: byte {at}: {count} packed entries take {place} of {table_bytes} bytes; damaged")


def _header_bytes(table: bytes, at: int) -> int:
    """The length of a header that does not say it itself: name and options stand in it, each with a final zero."""
    fields = _ENTRY.unpack_from(table, at)
    pairs, end = fields[4], _ENTRY.size
    if fields[9]:
        end = fields[8] + fields[9] + 1
    if pairs and at + pairs + _PAIR.size <= len(table):
        end = max(end, sum(_PAIR.unpack_from(table, at + pairs)) + 1)
    return _aligned(end)


def _code(head: bytes, stored_bytes: int, *, is_emptied: bool = False) -> Code:
    fields = _ENTRY.unpack(head)
    flags = fields[10]
    return Code(
        kind=_KINDS.get(fields[0], "other"),
        number=fields[0],
        architecture=fields[7],
        suffix="a" if flags & _OF_ARCHITECTURE else "f" if flags & _OF_FAMILY else "",
        stored_bytes=stored_bytes,
        is_emptied=is_emptied,
    )


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


# ---- cubins that are files of their own

_ABI_SINCE_13 = 8
# .nv.compat is a list of u8 form, u8 attribute and u16, which is the value, or of form 4 how many bytes of it follow;
# attribute 9 is 1 of code for just one architecture. Measured with ptxas of CUDA 13.5, and cuobjdump goes by it.
_COMPAT = struct.Struct("<BBH")
_COMPAT_EXACT = (2, 9, 1)
_COMPAT_SIZED_FORM = 4
_TOOL_NOTE = 2000


def cubin_code(where: str, file: IO[bytes], elf: Elf, *, size_bytes: int) -> Code | None:
    """The code that a cubin is; None of an ELF file for a CPU.

    The architecture stands in e_flags, in two ways: EF_CUDA_SM, EF_CUDA_SM_MASK and EF_CUDA_ACCELERATORS_V1 of LLVM's
    BinaryFormat/ELF.h. That the code is for a family stands only in the options of ptxas, which it notes.

    Raises:
        ImageError: a section that is asked is damaged.
    """
    if elf.machine != CUDA_MACHINE:
        return None
    if elf.abi_version < _ABI_SINCE_13:
        architecture, is_exact = elf.flags & 0xFF, bool(elf.flags & 0x800)
    else:
        architecture, is_exact = elf.flags >> 8 & 0xFF, _says_exact(where, file, elf)
    options = f"-arch sm_{architecture}f ".encode()
    is_family = any(
        kind == _TOOL_NOTE and options in description + b" "
        for section in elf.named(".note.nv.tkinfo")
        for _owner, kind, description in notes(where, file, section)
    )
    return Code(
        kind="sass",
        number=2,
        architecture=architecture,
        suffix="a" if is_exact else "f" if is_family else "",
        stored_bytes=size_bytes,
    )


def _says_exact(where: str, file: IO[bytes], elf: Elf) -> bool:
    for section in elf.named(".nv.compat"):
        data = read_at(where, file, section.offset, section.size_bytes, "section '.nv.compat'")
        at = 0
        while at + _COMPAT.size <= len(data):
            found = _COMPAT.unpack_from(data, at)
            if found == _COMPAT_EXACT:
                return True
            at += _COMPAT.size + (found[2] if found[0] == _COMPAT_SIZED_FORM else 0)
    return False
