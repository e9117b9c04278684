"""Build a base from Debian's own packages, for machines where no registry answers, and lock it.

lock_base looks what the mirror has and writes it down; bootstrap makes exactly that again, the same bytes, anywhere.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sparkbake import oci, process
from sparkbake.baselock import BaseLock, content_hash
from sparkbake.debianmirror import (
    KEYRING,
    describe_drift,
    fetch_index,
    list_drifted,
    mirror_address,
    resolve_packages,
)
from sparkbake.debianpool import fetch_superseded
from sparkbake.errors import BaseError, ProcessError
from sparkbake.rootfs import make_layer, remove_folder, work_folder

Say = Callable[[str], None]


def lock_base(
    *,
    name: str,
    suites: Sequence[str],
    include: Sequence[str],
    architectures: Sequence[oci.Architecture],
    mirror: str | None,
    work_dir: Path,
    say: Say,
) -> tuple[BaseLock, Path]:
    """Lock what the mirror has now, build it, and return the lock with its digests and the OCI layout.

    Args:
        name: the base's name, such as "debian-13".
        suites: all of one archive, such as ("trixie",).
        include: packages asked for; what they depend on follows, what they recommend does not.
        architectures: those the base is made for.
        mirror: address of the archive, as find_mirror returns it.
        work_dir: the layout is put below it, as bootstrap does with its cache_dir.
        say: gets one line per phase.

    Raises:
        BaseError: a tool, the mirror or a package is missing, or the build failed.
    """
    tell = _timed(say, name)
    generator = _require_tools(architectures)
    address = mirror_address(mirror)
    packages, epochs = [], []
    with work_folder(work_dir / "bases", tell) as part:
        for architecture in sorted(architectures):
            tell(f"{architecture}: reading the mirror's package index")
            index = fetch_index(part / f"apt-{architecture}", architecture, suites, mirror=address)
            packages.append((architecture, resolve_packages(index, include)))
            epochs.append(index.release_epoch)
        lock = BaseLock(
            name=name,
            suites=tuple(suites),
            include=tuple(sorted(include)),
            source_date_epoch=max(epochs),
            packages=tuple(packages),
            index_digest=None,
            manifests=(),
            generator=generator,
        )
        layout = _layout_folder(lock, architectures, work_dir)
        if not _is_finished(lock, layout):
            _build(lock, architectures, mirror=address, part=part, layout=layout, tell=tell, pools={})
    tell(f"locked: {layout}")
    digest, manifests = oci.read_index_digest(layout), oci.read_manifest_digests(layout)
    return dataclasses.replace(lock, index_digest=digest, manifests=manifests), layout


def bootstrap(
    lock: BaseLock,
    *,
    architectures: Sequence[oci.Architecture],
    mirror: str | None,
    cache_dir: Path,
    say: Say,
) -> Path:
    """Return the OCI layout of a locked base; build it unless it is there already.

    Args:
        lock: what to build.
        architectures: those wanted, all in the lock.
        mirror: address of the archive, as find_mirror returns it.
        cache_dir: the layout is `bases/NAME-HASH-ARCHITECTURES` below it.
        say: gets one line per phase.

    Raises:
        BaseError: a tool is missing, the mirror has not what is locked (lists every package), the build failed, or gave
            another digest than the lock says.
    """
    missing = sorted(set(architectures) - {architecture for architecture, _ in lock.packages})
    if missing:
        raise BaseError(f"base {lock.name}: its lock has no {', '.join(missing)}; {lock.remedy}")
    layout = _layout_folder(lock, architectures, cache_dir)
    if _is_finished(lock, layout):
        return layout
    _require_tools(architectures)
    address = mirror_address(mirror)
    tell = _timed(say, lock.name)
    with work_folder(layout.parent, tell) as part:
        if _is_finished(lock, layout):  # Another run made it while this one waited.
            return layout
        pools = _superseded(lock, architectures, mirror=address, part=part, tell=tell)
        _build(lock, architectures, mirror=address, part=part, layout=layout, tell=tell, pools=pools)
    tell(f"done: {layout}")
    return layout


def _timed(say: Say, name: str) -> Say:
    start = time.monotonic()
    return lambda text: say(f"base {name}: {time.monotonic() - start:4.0f} s: {text}")


def _require_tools(architectures: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the versions of the tools that matter, sorted; raise a BaseError with all that is missing."""
    faults = []
    versions = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for program in ("mmdebstrap", "apt-get"):
        try:
            versions[program.removesuffix("-get")] = process.run([program, "--version"], timeout_s=60).split()[1]
        except ProcessError:
            faults.append(f"{program} is missing; run `apt-get install mmdebstrap`")
    if not KEYRING.is_file():
        faults.append(f"{KEYRING} is missing; run `apt-get install debian-archive-keyring`")
    for architecture in sorted(architectures):
        try:
            process.run(["arch-test", architecture], timeout_s=60)
        except ProcessError as err:
            if err.returncode is None:
                faults.append("arch-test is missing; run `apt-get install arch-test`")
                break
            faults.append(
                f"{architecture} programs do not run here; run `apt-get install qemu-user-static` (QEMU 10 or newer, "
                "as Debian 13 has) and mount binfmt_misc"
            )
    if faults:
        raise BaseError("\n".join(f"bootstrapping a base: {fault}" for fault in faults))
    return tuple(sorted(versions.items()))


def _superseded(lock: BaseLock, architectures: Sequence[str], *, mirror: str, part: Path, tell: Say) -> dict[str, Path]:
    """Fetch what the mirror's index has no longer; return the folder of each architecture where that is any."""
    pools: dict[str, Path] = {}
    lines: set[str] = set()
    for architecture in sorted(architectures):
        tell(f"{architecture}: comparing the lock with the mirror")
        index = fetch_index(part / f"apt-{architecture}", architecture, lock.suites, mirror=mirror)
        drifted = list_drifted(lock, architecture, index.packages)
        if drifted:
            tell(f"{architecture}: the mirror has moved on from {len(drifted)} packages; fetching these from its pool")
            folder = part / f"pool-{architecture}"
            missing = fetch_superseded(drifted, index, mirror=mirror, folder=folder)
            lines.update(f"{describe_drift(each, index.packages)}; {why}" for each, why in missing.items())
            pools[architecture] = folder
    if lines:
        told = [f"base {lock.name}: the mirror {mirror} has moved on from the lock:", *sorted(lines)]
        raise BaseError("\n".join([*told, f"{lock.remedy}, or name a snapshot archive as `debian:` in mirrors.yaml"]))
    return pools


def _build(
    lock: BaseLock,
    architectures: Sequence[oci.Architecture],
    *,
    mirror: str,
    part: Path,
    layout: Path,
    tell: Say,
    pools: Mapping[str, Path],
) -> None:
    layers = {}
    for architecture in sorted(architectures):
        tell(f"{architecture}: mmdebstrap with {len(lock.packages_of(architecture))} packages")
        layers[architecture] = make_layer(lock, architecture, mirror=mirror, part=part, pool=pools.get(architecture))
    tell("writing the image")
    made = part / "layout"
    oci.write_layout(made, layers, created_epoch=lock.source_date_epoch)
    wrong = _differences(lock, made)
    if wrong:
        tools = ", ".join(" ".join(pair) for pair in lock.generator)
        lines = [f"base {lock.name}: the same packages gave another image than the lock says:", *wrong]
        raise BaseError(
            "\n".join([*lines, f"The lock was made with {tools}; with those versions build again, or {lock.remedy}."])
        )
    if layout.exists():
        tell(f"replacing {layout}, which is not complete or another than the locked one")
        remove_folder(layout)
    made.rename(layout)


def _layout_folder(lock: BaseLock, architectures: Sequence[str], cache_dir: Path) -> Path:
    return cache_dir / "bases" / "-".join([lock.name, content_hash(lock), *sorted(architectures)])


def _is_finished(lock: BaseLock, layout: Path) -> bool:
    """Say whether a layout is complete and the locked one."""
    try:
        return not _differences(lock, layout)
    except BaseError:
        return False


def _differences(lock: BaseLock, layout: Path) -> list[str]:
    """Compare a layout with the digests of the lock: per architecture, and the index when it has all of them."""
    made = oci.read_manifest_digests(layout)
    locked = dict(lock.manifests)
    pairs = [(architecture, locked[architecture], digest) for architecture, digest in made if architecture in locked]
    if lock.index_digest is not None and len(made) == len(lock.packages):
        pairs.append(("index", lock.index_digest, oci.read_index_digest(layout)))
    return [f"{what}: locked {expected}, built {found}" for what, expected, found in pairs if expected != found]
