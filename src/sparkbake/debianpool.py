"""Fetch what an archive's index has moved on from and its pool still has, and offer it to mmdebstrap as an archive.

A pool keeps a superseded package for as long as any suite names it, and caching mirrors for longer. That it is the
locked one, its hash says.
"""

import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from sparkbake import process
from sparkbake.baselock import DebianPackage
from sparkbake.debianmirror import Index
from sparkbake.errors import ProcessError

_FETCH_TIMEOUT_S = 600.0


def fetch_superseded(
    packages: Sequence[DebianPackage], index: Index, *, mirror: str, folder: Path
) -> dict[DebianPackage, str]:
    """Fetch packages from a pool into a folder, and make that an archive of them: files and their index, `Packages`.

    Args:
        packages: that the index does not have.
        index: says in which folder of the pool other versions of a package are; all versions of one are in the same.
        mirror: as debianmirror.mirror_address returns it.
        folder: must not exist; where nothing was fetched it has an empty index.

    Returns:
        Each package that could not be had, and why.
    """
    # Where mmdebstrap does not run as root, other users read it.
    folder.mkdir(mode=0o755)
    missing, stanzas = {}, []
    for package in packages:
        pool = index.folders.get(package.name)
        if pool is None:
            missing[package] = "the index no longer says where in the pool it would be"
            continue
        file = folder / f"{package.name}_{package.version.rpartition(':')[2]}_{package.architecture}.deb"
        address = f"{mirror}/{pool}/{urllib.parse.quote(file.name, safe='~+:')}"
        try:
            stanzas.append(_fetch(package, address, file, index))
        except ProcessError as err:
            missing[package] = f"fetching it from the pool failed: {_last_line(err.output) or err}"
    (folder / "Packages").write_text("\n".join(stanzas), encoding="utf-8")
    return missing


def source_line(folder: Path, architecture: str) -> str:
    """Return the line of a sources.list for what fetch_superseded made; what has its hash needs no signature."""
    return f"deb [arch={architecture} trusted=yes] copy:{folder} ./"


def _fetch(package: DebianPackage, address: str, file: Path, index: Index) -> str:
    """Fetch one file, held against its hash, and return its stanza of an index."""
    helper = ["/usr/lib/apt/apt-helper", "download-file", address, str(file), f"SHA256:{package.sha256}"]
    process.run(helper, timeout_s=_FETCH_TIMEOUT_S, env=index.environment)
    control = process.run(["dpkg-deb", "--field", str(file)], timeout_s=60)
    return f"{control.rstrip()}\nFilename: ./{file.name}\nSize: {package.size_bytes}\nSHA256: {package.sha256}\n"


def _last_line(output: str) -> str:
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
