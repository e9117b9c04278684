"""A small whole image as values, in which every file has an owner, for tests of accounting."""

import base64
import hashlib
import json
from collections.abc import Mapping

from sparkbake.imageinfo import Entry, Kind
from sparkbake.surveyed import Seen, Survey

# Bytes are a file; None is a folder; text is "link:TARGET" or "hardlink:PATH".
Files = dict[str, bytes | str | None]

SITE = "opt/venv/lib/python3.13/site-packages"
DPKG = "var/lib/dpkg"
TORCH_INFO = f"{SITE}/torch-2.0.dist-info"
OTHER_INFO = f"{SITE}/the_other-1.0.dist-info"
FILES = "usr/share/sparkbake/files.json"
MANIFEST = "usr/share/sparkbake/manifest.json"

LIBC = b"\x7fELF libc"


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def entry(path: str, content: bytes | str | None) -> Seen:
    kind: Kind = "file" if isinstance(content, bytes) else "folder"
    target = ""
    if isinstance(content, str):
        name, _colon, target = content.partition(":")
        kind = "hardlink" if name == "hardlink" else "link"
    data = content if isinstance(content, bytes) else b""
    return Seen(
        entry=Entry(
            path=path,
            kind=kind,
            mode=0o644,
            uid=0,
            gid=0,
            mtime=0,
            size_bytes=len(data),
            target=target,
            sha256=hashlib.sha256(data).hexdigest() if kind == "file" else "",
            headers=(),
        ),
        layer="sha256:" + 64 * "1",
        layer_name="rest",
        md5=md5(data) if kind == "file" else "",
    )


def make_survey(files: Files) -> Survey:
    return Survey(
        image="image",
        digest="sha256:" + 64 * "d",
        config="{}",
        labels=(),
        seen={path: entry(path, content) for path, content in sorted(files.items())},
        texts={path: content for path, content in files.items() if isinstance(content, bytes)},
        binaries={},
        unread=(),
    )


def make_record(rows: Mapping[str, bytes | None]) -> bytes:
    """A RECORD; without a digest of what is None."""
    lines = []
    for path, content in rows.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content or b"").digest()).decode().rstrip("=")
        lines.append(f"{path},," if content is None else f"{path},sha256={digest},{len(content)}")
    return ("\n".join(lines) + "\n").encode()


def os_files() -> Files:
    """Of three packages, with merged /usr, a configuration file, a diversion, a manual left out, and alternatives."""
    bash, conf = b"\x7fELF bash", b"PS1=$\n"
    installed = "Status: install ok installed\nVersion: 1\nArchitecture: arm64\n"
    status = f"Package: bash\n{installed}Conffiles:\n /etc/bash.bashrc {md5(conf)}\n\n"
    status += f"Package: libc6\n{installed}\nPackage: mawk\n{installed}"
    return {
        "lib": "link:usr/lib",
        "usr": None,
        "usr/bin": None,
        "usr/bin/bash": bash,
        "usr/bin/sh": "link:bash",
        "usr/bin/mawk.real": b"mawk",
        "usr/bin/awk": "link:/etc/alternatives/awk",
        "usr/lib/libc.so.6": LIBC,
        "usr/lib/perl": b"perl",
        "usr/lib/perl5": "hardlink:usr/lib/perl",
        "etc/alternatives/awk": "link:/usr/bin/mawk.real",
        "etc/bash.bashrc": conf,
        "etc/passwd": b"root:x:0:0\n",
        "etc/mtab": "link:../proc/self/mounts",
        f"{DPKG}/status": status.encode(),
        f"{DPKG}/diversions": b"/usr/bin/mawk\n/usr/bin/mawk.real\nbash\n",
        f"{DPKG}/alternatives/awk": b"auto\n/usr/bin/awk\nawk.1\n/usr/share/man/man1/awk.1\n\n/usr/bin/mawk.real\n5\n"
        b"/usr/share/man/man1/mawk.1\n\n",
        f"{DPKG}/info/bash.list": b"/.\n/lib\n/usr\n/usr/bin\n/usr/bin/bash\n/usr/bin/sh\n/etc/bash.bashrc\n/etc/mtab\n"
        b"/usr/share/man\n/usr/share/man/bash.1\n",
        f"{DPKG}/info/bash.md5sums": f"{md5(bash)}  usr/bin/bash\n{md5(bash)}  usr/share/man/bash.1\n".encode(),
        f"{DPKG}/info/bash.postinst": b"#!/bin/sh\n",
        f"{DPKG}/info/libc6:arm64.list": b"/lib/libc.so.6\n/lib/perl\n/usr/lib/perl5\n",
        f"{DPKG}/info/libc6:arm64.md5sums": f"{md5(LIBC)}  lib/libc.so.6\n".encode(),
        f"{DPKG}/info/mawk.list": b"/usr/bin/mawk\n",
    }


def python_files() -> Files:
    """Of two packages: a file both carry, a program, a copy that is a hard link, one trimmed file, one left out."""
    init, lib, tool, shared = b"import os\n", b"\x7fELF torch", b"#!/opt/venv/bin/python\n", b"torch's"
    record = {
        "torch/__init__.py": init,
        "torch/__init__.pyc": None,
        "torch/lib/libtorch.so": lib,
        "torch/lib/libtorch.so.1": lib,
        "torch/lib/big.a": b"static",
        "../../../bin/tool": tool,
        "shared/x.py": shared,
        "build_backend.py": b"torch's own",
        "torch-2.0.dist-info/RECORD": None,
    }
    other = {"shared/x.py": b"other's", "build_backend.py": b"its own", "the_other-1.0.dist-info/RECORD": None}
    return {
        f"{SITE}/torch/__init__.py": init,
        f"{SITE}/torch/__init__.pyc": b"compiled",
        f"{SITE}/torch/lib/libtorch.so": lib,
        f"{SITE}/torch/lib/libtorch.so.1": f"hardlink:{SITE}/torch/lib/libtorch.so",
        "opt/venv/bin/tool": tool,
        f"{SITE}/shared/x.py": shared,
        f"{TORCH_INFO}/RECORD": make_record(record),
        f"{TORCH_INFO}/TRIMMED.json": b'{"torch/lib/big.a": 6}\n',
        f"{OTHER_INFO}/RECORD": make_record(other),
    }


def our_files() -> Files:
    trimmed = hashlib.sha256(b'{"torch/lib/big.a": 6}\n').hexdigest()
    listed = {
        "opt/venv/pyvenv.cfg": "sha256:" + hashlib.sha256(b"home = /usr/bin\n").hexdigest(),
        "opt/venv/bin/python": "link:/usr/bin/bash",
        f"{TORCH_INFO}/TRIMMED.json": f"sha256:{trimmed}",
    }
    return {
        "opt/venv/pyvenv.cfg": b"home = /usr/bin\n",
        "opt/venv/bin/python": "link:/usr/bin/bash",
        FILES: json.dumps(listed).encode(),
        MANIFEST: b"{}\n",
    }


def image() -> Files:
    return {**os_files(), **python_files(), **our_files()}
