"""Find the sections of an ELF file without reading it whole; the first step of looking for device code in it.

Format: System V ABI, chapter 4 (https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html): only 64-bit and
little-endian files, which is all that an image for linux/arm64 or a GPU has. Cubins are such files, too.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_END
from typing import IO

from sparkbake.errors import ImageError

MAGIC = b"\x7fELF"
# EM_CUDA: https://github.com/llvm/llvm-project/blob/main/llvm/include/llvm/BinaryFormat/ELF.h.
CUDA_MACHINE = 190

_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
# e_ident; e_machine, e_shoff, e_flags, e_shentsize, e_shnum, e_shstrndx.
_HEADER = struct.Struct("<16s2xH4x8x8xQI2x2x2xHHH")
# sh_name, sh_type, sh_offset, sh_size, sh_link.
_SECTION = struct.Struct("<II8x8xQQI4x8x8x")
_NOTE = struct.Struct("<III")
_NO_BYTES = (0, 8)  # SHT_NULL, SHT_NOBITS
_EXTENDED_INDEX = 0xFFFF  # SHN_XINDEX: the number stands in section 0
_GNU_BUILD_ID = (b"GNU\0", 3)
_MOST_NAMES_BYTES = 1 << 26


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A section that has bytes in the file.

    Attributes:
        offset: from the start of the file.
    """

    name: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Elf:
    """What the header of an ELF file says.

    Attributes:
        machine: e_machine; 190 of a cubin.
        abi_version: e_ident[EI_ABIVERSION]; says how `flags` of a cubin are to be read.
        flags: e_flags.
        sections: in the order of the file; names need not be unique.
    """

    machine: int
    abi_version: int
    flags: int
    sections: tuple[Section, ...]

    def named(self, *names: str) -> tuple[Section, ...]:
        """The sections of these names, in the order of the file."""
        return tuple(one for one in self.sections if one.name in names)


def is_elf(head: bytes) -> bool:
    """Whether a file that begins so is an ELF file that can be read here; a 32-bit or big-endian one is not."""
    return head.startswith(_IDENT)


def read_elf(where: str, file: IO[bytes]) -> Elf:
    """Read header and section headers; a file without section headers has no sections.

    Args:
        where: the file, for messages.
        file: seekable.

    Raises:
        ImageError: it is no 64-bit little-endian ELF file, or a header points beyond the file's end.
    """
    size = file.seek(0, SEEK_END)
    ident, machine, at, flags, entry_bytes, count, names_index = _HEADER.unpack(
        read_at(where, file, 0, _HEADER.size, "the ELF header")
    )
    if not is_elf(ident):
        raise ImageError(f"{where}: begins with {ident[:7]!r}, expected a 64-bit little-endian ELF file")
    if not at:
        return Elf(machine=machine, abi_version=ident[8], flags=flags, sections=())
    if entry_bytes != _SECTION.size:
        raise ImageError(f"{where}: its section headers have {entry_bytes} bytes each, expected {_SECTION.size}")
    if not count or names_index == _EXTENDED_INDEX:
        first = _SECTION.unpack(read_at(where, file, at, _SECTION.size, "section header 0"))
        count, names_index = count or first[3], first[4] if names_index == _EXTENDED_INDEX else names_index
    if at + count * _SECTION.size > size:
        raise ImageError(
            f"{where}: {count} section headers at byte {at} go beyond its end at {size}; cut off or damaged"
        )
    table = read_at(where, file, at, count * _SECTION.size, "the section headers")
    headers = list(_SECTION.iter_unpack(table))
    names = _names(where, file, headers, names_index)
    return Elf(
        machine=machine,
        abi_version=ident[8],
        flags=flags,
        sections=tuple(
            _section(where, _name(where, names, name), offset=offset, size_bytes=length, file_bytes=size)
            for name, kind, offset, length, _link in headers
            if kind not in _NO_BYTES
        ),
    )


def _names(where: str, file: IO[bytes], headers: list[tuple[int, ...]], index: int) -> bytes:
    if not headers:
        return b""
    if index >= len(headers):
        raise ImageError(f"{where}: names section {index} as that of the names, and has {len(headers)}; damaged")
    _name, _kind, offset, length, _link = headers[index]
    if length > _MOST_NAMES_BYTES:
        raise ImageError(
            f"{where}: its section names take {length} bytes, expected at most {_MOST_NAMES_BYTES}; damaged"
        )
    return read_at(where, file, offset, length, "the section names")


def _name(where: str, names: bytes, at: int) -> str:
    end = names.find(b"\0", at)
    if end < 0:
        raise ImageError(f"{where}: a section name at byte {at} of {len(names)} bytes of names has no end; damaged")
    return names[at:end].decode(errors="backslashreplace")


def _section(where: str, name: str, *, offset: int, size_bytes: int, file_bytes: int) -> Section:
    if offset + size_bytes > file_bytes:
        raise ImageError(
            f"{where}: section '{name}' has {size_bytes} bytes at {offset}, beyond its end at {file_bytes}; damaged"
        )
    return Section(name=name, offset=offset, size_bytes=size_bytes)


def read_at(where: str, file: IO[bytes], offset: int, size_bytes: int, what: str) -> bytes:
    """Read so many bytes.

    Args:
        what: stands there, for the message.

    Raises:
        ImageError: the file ends before.
    """
    file.seek(offset)
    data = file.read(size_bytes)
    if len(data) != size_bytes:
        raise ImageError(f"{where}: ends within {what}: {len(data)} of {size_bytes} bytes at {offset}; damaged")
    return data


def notes(where: str, file: IO[bytes], section: Section) -> Iterator[tuple[bytes, int, bytes]]:
    """Owner with its final zero, type and description of each note of a section, which is of a few kilobytes.

    Raises:
        ImageError: a note goes beyond the section.
    """
    data = read_at(where, file, section.offset, section.size_bytes, f"section '{section.name}'")
    at = 0
    while at + _NOTE.size <= len(data):
        owner_bytes, bytes_, kind = _NOTE.unpack_from(data, at)
        begin = at + _NOTE.size + _aligned(owner_bytes)
        if begin + bytes_ > len(data):
            raise ImageError(f"{where}: a note at byte {at} of '{section.name}' goes beyond it; damaged")
        yield data[at + _NOTE.size : at + _NOTE.size + owner_bytes], kind, data[begin : begin + bytes_]
        at = begin + _aligned(bytes_)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // 4) * 4


def build_id(where: str, file: IO[bytes], elf: Elf) -> str | None:
    """The linker's Build-ID in hex digits; None of a file without one.

    Source: https://sourceware.org/binutils/docs/ld/Options.html (--build-id): note type 3 of the owner "GNU".

    Raises:
        ImageError: the note is damaged.
    """
    for section in elf.named(".note.gnu.build-id"):
        for owner, kind, description in notes(where, file, section):
            if (owner, kind) == _GNU_BUILD_ID:
                return description.hex()
    return None
