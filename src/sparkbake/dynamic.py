"""Read of an ELF file what the dynamic linker reads: the libraries it needs, and the symbols it has and wants.

Format: System V ABI, chapter 5, "Dynamic Section" (https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.dynamic.html),
and chapter 4, "Symbol Table".
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from sparkbake.elf import Elf, read_at
from sparkbake.errors import ImageError

_TAG = struct.Struct("<qQ")
_SYMBOL = struct.Struct("<IBBH16x")  # st_name, st_info, st_other, st_shndx
_END, _NEEDED, _SONAME, _RPATH, _RUNPATH = 0, 1, 14, 15, 29
_GLOBAL = 1
_OFFERED_BINDINGS = (_GLOBAL, 2, 10)  # STB_WEAK, STB_GNU_UNIQUE
_OFFERED_VISIBILITIES = (0, 3)  # STV_DEFAULT, STV_PROTECTED
# libtorch_cpu.so, the largest known, takes a tenth of it.
_MOST_TABLE_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True, slots=True)
class Dynamic:
    """What an ELF file asks of the dynamic linker and offers to others.

    Attributes:
        soname: "libnccl.so.2"; None of a program or a module without one.
        needed: names of the libraries it is linked to, in order.
        search: folders of its RUNPATH (else RPATH), in order, as written: "$ORIGIN/../lib".
        defined: hash(name) of each symbol it offers, name as bytes without a version; a set of numbers, for an image
            has some millions of them. They are those of this process alone: Python salts hashes.
        undefined: names of the symbols that it wants from others, sorted, without the weak ones.
    """

    soname: str | None
    needed: tuple[str, ...]
    search: tuple[str, ...]
    defined: frozenset[int]
    undefined: tuple[str, ...]


def read_dynamic(where: str, file: IO[bytes], elf: Elf) -> Dynamic | None:
    """Read the dynamic section, its names and its symbols.

    Args:
        where: the file, for messages.
        file: seekable.
        elf: of that file.

    Returns:
        None of a file without dynamic section: a static program, an object file, a cubin, split-off debug information.

    Raises:
        ImageError: a table is damaged, or names what is beyond its names.
    """
    if not elf.named(".dynamic"):
        return None
    names = _table(where, file, elf, ".dynstr")
    tags = list(_tags(where, _table(where, file, elf, ".dynamic")))
    symbols = _rows(where, _SYMBOL, _table(where, file, elf, ".dynsym"), ".dynsym")
    defined, undefined = _symbols(where, symbols, names)

    def texts(asked: int) -> tuple[str, ...]:
        return tuple(_text(_name(where, names, value)) for tag, value in tags if tag == asked)

    return Dynamic(
        soname=next(iter(texts(_SONAME)), None),
        needed=texts(_NEEDED),
        search=tuple(one for path in texts(_RUNPATH) or texts(_RPATH) for one in path.split(":") if one),
        defined=defined,
        undefined=undefined,
    )


def _table(where: str, file: IO[bytes], elf: Elf, name: str) -> bytes:
    """The first section of a name; no bytes of one that is not there."""
    found = elf.named(name)
    if not found:
        return b""
    if found[0].size_bytes > _MOST_TABLE_BYTES:
        raise ImageError(
            f"{where}: section '{name}' has {found[0].size_bytes} bytes, expected at most {_MOST_TABLE_BYTES}; damaged"
        )
    return read_at(where, file, found[0].offset, found[0].size_bytes, f"section '{name}'")


def _rows(where: str, row: struct.Struct, table: bytes, name: str) -> Iterator[tuple[int, ...]]:
    if len(table) % row.size:
        raise ImageError(
            f"{where}: section '{name}' has {len(table)} bytes, expected a multiple of {row.size}; damaged"
        )
    return row.iter_unpack(table)


def _tags(where: str, table: bytes) -> Iterator[tuple[int, int]]:
    """Tag and value up to the end mark: linkers leave room behind it."""
    for tag, value in _rows(where, _TAG, table, ".dynamic"):
        if tag == _END:
            return
        yield tag, value


def _symbols(where: str, symbols: Iterator[tuple[int, ...]], names: bytes) -> tuple[frozenset[int], tuple[str, ...]]:
    defined: set[int] = set()
    undefined: set[bytes] = set()
    for at, info, other, section in symbols:
        if section:
            if info >> 4 in _OFFERED_BINDINGS and other & 3 in _OFFERED_VISIBILITIES:
                defined.add(hash(_name(where, names, at)))
        elif info >> 4 == _GLOBAL and at:
            undefined.add(_name(where, names, at))
    return frozenset(defined), tuple(sorted(_text(one) for one in undefined if one))


def _name(where: str, names: bytes, at: int) -> bytes:
    end = names.find(b"\0", at)
    if end < 0:
        raise ImageError(f"{where}: a name at byte {at} of {len(names)} bytes of '.dynstr' has no end; damaged")
    return names[at:end]


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
