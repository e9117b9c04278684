"""Tiny libraries and programs as the dynamic linker sees them, and images made of such, for tests."""

import hashlib
import io
import json
import posixpath
import struct
from collections.abc import Mapping, Sequence

from tests.cudabuilder import make_elf, make_note

from sparkbake.dynamic import read_dynamic
from sparkbake.elf import build_id, read_elf
from sparkbake.imageinfo import Entry, Kind
from sparkbake.surveyed import Binary, Seen, Survey

GLOBAL, WEAK, LOCAL, UNIQUE = 1, 2, 0, 10
DEFAULT, HIDDEN, PROTECTED = 0, 2, 3
LAYER = "sha256:" + 64 * "1"


def make_library(
    soname: str = "",
    *,
    needed: Sequence[str] = (),
    runpath: str = "",
    rpath: str = "",
    defined: Sequence[str] = (),
    undefined: Sequence[str] = (),
    symbols: Sequence[tuple[str, int, int, int]] = (),
    machine: int = 183,
    note: bytes = b"",
) -> bytes:
    """An ELF file with a dynamic section.

    Args:
        symbols: further ones: name, binding, visibility, section (0 of an undefined one).
        note: the Build-ID.
    """
    names = bytearray(b"\0")

    def at(name: str) -> int:
        names.extend(name.encode() + b"\0")
        return len(names) - len(name.encode()) - 1

    tags = [(1, at(one)) for one in needed]
    tags += [(tag, at(text)) for tag, text in ((14, soname), (15, rpath), (29, runpath)) if text]
    all_symbols = [
        *((name, GLOBAL, DEFAULT, 7) for name in defined),
        *((name, GLOBAL, DEFAULT, 0) for name in undefined),
        *symbols,
    ]
    table = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", at(name), binding << 4 | 2, visibility, section, 4096, 8)
        for name, binding, visibility, section in all_symbols
    )
    dynamic = b"".join(struct.pack("<qQ", *one) for one in [*tags, (0, 0)])
    sections = {".dynsym": table, ".dynstr": bytes(names), ".dynamic": dynamic}
    if note:
        sections[".note.gnu.build-id"] = make_note(b"GNU\0", 3, note)
    return make_elf(sections, machine=machine)


def make_survey(
    files: Mapping[str, bytes],
    *,
    links: Mapping[str, str] | None = None,
    hard_links: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    architecture: str = "arm64",
) -> Survey:
    """An image of one layer, with its folders; what begins as an ELF file is read as one, all else is a text.

    Args:
        links: path to target as written.
        hard_links: path to path.
    """
    seen = {path: _seen(path, "file", content=content) for path, content in files.items()}
    seen |= {path: _seen(path, "link", target=target) for path, target in (links or {}).items()}
    seen |= {path: _seen(path, "hardlink", target=target) for path, target in (hard_links or {}).items()}
    for path in list(seen):
        while path := posixpath.dirname(path):
            seen.setdefault(path, _seen(path, "folder"))
    config = {
        "architecture": architecture,
        "config": {"Env": [f"{name}={value}" for name, value in (env or {}).items()]},
    }
    return Survey(
        image="an image",
        digest="sha256:" + 64 * "0",
        config=json.dumps(config),
        labels=(),
        seen=dict(sorted(seen.items())),
        texts={path: content for path, content in files.items() if not content.startswith(b"\x7fELF")},
        binaries={path: _binary(path, content) for path, content in files.items() if content.startswith(b"\x7fELF")},
        unread=(),
    )


def _seen(path: str, kind: Kind, *, content: bytes = b"", target: str = "") -> Seen:
    entry = Entry(
        path=path,
        kind=kind,
        mode=0o755,
        uid=0,
        gid=0,
        mtime=0,
        size_bytes=len(content),
        target=target,
        sha256=hashlib.sha256(content).hexdigest() if kind == "file" else "",
        headers=(),
    )
    return Seen(entry=entry, layer=LAYER, layer_name="cuda.nvidia", md5="")


def _binary(path: str, content: bytes) -> Binary:
    file = io.BytesIO(content)
    elf = read_elf(path, file)
    return Binary(
        path=path,
        machine=elf.machine,
        build_id=build_id(path, file, elf),
        dynamic=read_dynamic(path, file, elf),
        code=None,
    )
