"""Crates of a bundle: what vLLM's Cargo.lock names, as a sparse index and its files.

https://doc.rust-lang.org/cargo/reference/registry-index.html
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sparkbake.bundle import CRATES
from sparkbake.bundlefiles import Meter, hash_of
from sparkbake.errors import BundleError, LockError
from sparkbake.project import write_file
from sparkbake.remote import download, fetch_bytes
from sparkbake.sourcebundle import FILES, INDEX, Crate, index_path, prefix_of

_PARALLEL = 8
Say = Callable[[str], None]


def keep_crates(folder: Path, crates: Sequence[Crate], index: str, say: Say) -> list[Path]:
    """Have crates and their lines of the index; what is there with its hash is not fetched again.

    Args:
        folder: of the bundle.
        index: "sparse+https://index.example/".

    Returns:
        All files of it.

    Raises:
        BundleError: the index does not answer, or has not one of them with the hash of the lock.
    """
    place, address = folder / CRATES, index.removeprefix("sparse+")
    names = sorted({one.name for one in crates})
    say(f"crates: {len(crates)} of {len(names)} names")
    (place / FILES).mkdir(parents=True, exist_ok=True)
    try:
        source = str(json.loads(fetch_bytes(f"{address}config.json"))["dl"])
        with ThreadPoolExecutor(_PARALLEL) as pool:
            lists = list(pool.map(lambda name: _lines(address, name, crates), names))
            files = list(pool.map(lambda one: _keep(place / FILES / one.file, one, source), crates))
    except (LockError, ValueError, KeyError, TypeError) as err:
        remedy = "is it reachable? `crates` in mirrors.yaml names another"
        raise BundleError([f"crates: {address} does not give them: {err}; {remedy}"]) from err
    indexed = [place / INDEX / index_path(name) for name in names]
    for path, text in zip(indexed, lists, strict=True):
        write_file(path, text)
    return [*indexed, *files]


def _lines(address: str, name: str, crates: Sequence[Crate]) -> str:
    """What an index says of the wanted versions of a crate, a line for each."""
    wanted = {one.version: one.sha256 for one in crates if one.name == name}
    text = fetch_bytes(f"{address}{index_path(name)}").decode()
    found: dict[str, dict[str, Any]] = {one["vers"]: one for one in map(json.loads, text.splitlines())}
    for version, sha256 in wanted.items():
        if found.get(version, {}).get("cksum") != sha256:
            raise BundleError([f"crates: {name} {version}: the index has no such crate with the hash of Cargo.lock"])
    return "".join(json.dumps(found[version], sort_keys=True) + "\n" for version in sorted(wanted))


def _keep(path: Path, crate: Crate, source: str) -> Path:
    if path.is_file() and hash_of(path, Meter("", 0, lambda _text: None)) == crate.sha256:
        return path
    download(_address(source, crate), path, sha256=crate.sha256, count=lambda _size: None)
    return path


def _address(source: str, crate: Crate) -> str:
    """Where a crate lies; `source` is "dl" of the index's config.json."""
    marks = {
        "{crate}": crate.name,
        "{version}": crate.version,
        "{prefix}": prefix_of(crate.name),
        "{lowerprefix}": prefix_of(crate.name.lower()),
        "{sha256-checksum}": crate.sha256,
    }
    if not any(mark in source for mark in marks):
        return f"{source}/{crate.name}/{crate.version}/download"
    for mark, value in marks.items():
        source = source.replace(mark, value)
    return source
