"""Tiny ELF files and fat binaries for tests, with the fields that matter, and the padding of the real ones."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from sparkbake.fatbin import Suffix

FLAGS = {"": 0x11, "a": 0x100011, "f": 0x200011}
KINDS = {"ptx": 1, "sass": 2}
PAYLOAD = b"code"


def make_elf(
    sections: Mapping[str, bytes] | Sequence[tuple[str, bytes]] = (),
    *,
    machine: int = 183,
    abi_version: int = 0,
    flags: int = 0,
    empty: Sequence[str] = (),
) -> bytes:
    """An ELF file: header, contents, names, section headers.

    Args:
        machine: 183 of AArch64, 190 of a cubin.
        empty: names of sections that take no bytes in the file, and say that they have many (SHT_NOBITS).
    """
    pairs = [("", b""), *(sections.items() if isinstance(sections, Mapping) else sections)]
    names = b"".join(name.encode() + b"\0" for name in [*(name for name, _ in pairs), *empty, ".shstrtab"])
    body, headers, at_name = b"", b"", 0
    for index, (name, content) in enumerate([*pairs, *((one, b"") for one in empty), (".shstrtab", names)]):
        kind = 0 if not index else 8 if name in empty else 3 if name == ".shstrtab" else 1
        size = 1 << 40 if name in empty else len(content)
        headers += struct.pack("<IIQQQQIIQQ", at_name, kind, 0, 0, 64 + len(body), size, 0, 0, 1, 0)
        body += content + bytes(-len(content) % 8)
        at_name += len(name) + 1
    count = len(pairs) + len(empty) + 1
    ident = b"\x7fELF\x02\x01\x01\0" + bytes([abi_version]) + bytes(7)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 3, machine, 1, 0, 0, 64 + len(body), flags, 64, 0, 0, 64, count, count - 1
    )
    return head + body + headers


def make_note(owner: bytes, kind: int, description: bytes) -> bytes:
    padded = owner + bytes(-len(owner) % 4) + description + bytes(-len(description) % 4)
    return struct.pack("<III", len(owner), len(description), kind) + padded


def make_cubin(architecture: int, suffix: Suffix = "", *, is_new: bool = True) -> bytes:
    """A cubin as ptxas of CUDA 13 writes it, or of 12 (which knows no "f" in notes here)."""
    if not is_new:
        return make_elf(
            machine=190, abi_version=7, flags=architecture << 16 | 0x500 | architecture | 0x800 * (suffix == "a")
        )
    compat = bytes([4, 11, 4, 0, 2, 9, 1, 0, 2, 9, suffix == "a", 0])
    note = make_note(b"NVIDIA Corp\0", 2000, b"\0ptxas\0-arch sm_%d%s \0" % (architecture, suffix.encode()))
    sections = {".nv.compat": compat, ".note.nv.tkinfo": note}
    return make_elf(sections, machine=190, abi_version=8, flags=0x06000002 | architecture << 8)


def make_entry(kind: int | str, architecture: int, suffix: Suffix = "", payload: bytes = PAYLOAD, **more: Any) -> bytes:
    """An entry of a fat binary: header and payload, which is padded.

    Args:
        more: see _header.
    """
    padded = payload + bytes(-len(payload) % 8)
    return _header(kind, architecture, suffix, stored_bytes=len(padded), **more) + padded


def make_packed(entries: Sequence[tuple[int, Suffix]], payload: bytes = PAYLOAD * 2) -> bytes:
    """Cubins packed as one, each with options of another length."""
    table = b"".join(
        _header("sass", number, suffix, stored_bytes=0, name="k", options=bytes(index * 5), is_own=False)
        for index, (number, suffix) in enumerate(entries)
    )
    table = struct.pack("<II", len(entries), 8 + len(table)) + table
    return (
        struct.pack("<HHIQIIHHIIIQQQ", 256, 0x101, 64 + len(table), len(payload), 0, 64, 0, 1, 0, 0, 0, 0x8011, 0, 0)
        + table
        + payload
    )


def _header(
    kind: int | str,
    architecture: int,
    suffix: Suffix,
    *,
    stored_bytes: int,
    name: str = "",
    options: bytes | None = None,
    is_own: bool = True,
) -> bytes:
    """64 bytes, the name, then place, size and text of the options; one of packed entries does not say its length."""
    tail = name.encode() + b"\0" if name else b""
    tail += bytes(-len(tail) % 8)
    at_options = 64 + len(tail) if options is not None else 0
    if options is not None:
        tail += struct.pack("<II", 64 + len(tail) + 8, len(options)) + options + b"\0"
        tail += bytes(-len(tail) % 8)
    number = KINDS[kind] if isinstance(kind, str) else kind
    return struct.pack(
        "<HHIQIIHHIIIQQQ",
        number, 0x101, (64 + len(tail)) * is_own, stored_bytes, 0, at_options, 8, 1, architecture,
        64 * bool(name), len(name), FLAGS[suffix], 0, 0,
    ) + tail  # fmt: skip


def make_container(*entries: bytes, **more: int) -> bytes:
    """A fat binary; `more` replaces what its header says: magic, version, header_bytes, entries_bytes."""
    body = b"".join(entries)
    facts = {"magic": 0xBA55ED50, "version": 1, "header_bytes": 16, "entries_bytes": len(body), **more}
    return struct.pack("<IHHQ", *facts.values()) + body


def make_program(*containers: bytes, build_id: bytes = b"\xab\xcd", section: str = ".nv_fatbin") -> bytes:
    """A shared object with device code."""
    return make_elf({".note.gnu.build-id": make_note(b"GNU\0", 3, build_id), section: b"".join(containers)})
