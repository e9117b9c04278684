"""Make the bundle of a compiled row: what has a known hash is fetched first, then what git, cargo and apt give."""

import os
from collections.abc import Sequence
from pathlib import Path

from sparkbake import preflight
from sparkbake.bundle import APT, CRATES, GIT, Bundle, BundledFile, Pin, locked_digest
from sparkbake.bundlecrates import keep_crates
from sparkbake.bundlefetch import Wanted, fetch, missing_of, wanted_tools, wanted_wheels
from sparkbake.bundlefiles import Meter, claimed, hash_of, strangers
from sparkbake.bundlegit import Kept, git_files, keep_crate_sources, keep_sources, read_kept, tidy
from sparkbake.bundleimages import wanted_images
from sparkbake.bundlemake import OLDEST_PYTHON, claim, finish, parts_of, paths_of, refuse_strangers, require_disk
from sparkbake.bundlepackages import keep_packages
from sparkbake.errors import BundleError
from sparkbake.mirrors import MANIFEST, Mirrors
from sparkbake.model import Wheel
from sparkbake.oci import Architecture
from sparkbake.project import Project, write_file
from sparkbake.sourcebundle import (
    CARGO_LOCK,
    REPOSITORIES,
    base_images,
    inputs_digest,
    parse_cargo_lock,
    repositories_json,
    row_of,
    source_mirrors_yaml,
    sources_of_plan,
    wheels_of_plan,
)
from sparkbake.sourcepins import VLLM, sources_of
from sparkbake.sourceresolve import SourcePlan
from sparkbake.sourcesecrets import git_config
from sparkbake.sourceserver import packages_served
from sparkbake.tables import say

_GB = 10**9
_ARCHITECTURES: tuple[Architecture, ...] = ("amd64", "arm64")


def make_compiled(
    project: Project, plan: SourcePlan, pins: tuple[Pin, ...], folder: Path, mirrors: Mirrors
) -> tuple[Bundle, int]:
    """Make the bundle of a compiled row, or finish or renew the one that is there; see `bundlemake.make`.

    Args:
        plan: of the row and its foundation, without open pins.
    """
    row = row_of(plan)
    before = claim(folder, row.row, row.base.name)
    wanted = _wanted(project, plan, pins, mirrors)
    refuse_strangers(folder, {one.file.path for one in wanted}, before, but_in=(GIT, CRATES, APT))
    missing = missing_of(folder, wanted, say)
    fetched = sum(one.file.size_bytes for one in missing)
    require_disk(folder, fetched + guess_bytes(project, plan, folder))
    say(f"{folder}: {len(missing)} of {len(wanted)} files to fetch, {fetched / 1e9:.2f} GB; then git, cargo and apt")
    folder.mkdir(parents=True, exist_ok=True)
    there = {path for path in folder.rglob("*") if path.is_file()}
    with claimed(folder):
        for part in parts_of(folder):
            part.unlink()
        fetch(folder, missing, say)
        files = _gathered(project, plan, folder, mirrors)
        made = _finish(folder, plan, wanted, files)
        for path in paths_of(before) - paths_of(made):
            (folder / path).unlink(missing_ok=True)
        if others := strangers(folder, made):
            (folder / MANIFEST).unlink()
            raise BundleError([f"{one}; remove it, or name another folder" for one in others])
    return made, fetched + sum(path.stat().st_size for path in files if path not in there)


def guess_bytes(project: Project, plan: SourcePlan, folder: Path) -> int:
    """Bytes that sources will take, at most; a guess, as that of builds is."""
    each = int(dict(sources_of(project.matrix).disk_gb)["fetched"]) * _GB
    there = len(list((folder / GIT).glob("*.git"))) if (folder / GIT).is_dir() else 0
    return max(len(sources_of_plan(plan)) - there, 0) * each


def _wanted(project: Project, plan: SourcePlan, pins: tuple[Pin, ...], mirrors: Mirrors) -> tuple[Wanted, ...]:
    """All whose hash is known beforehand."""
    row, index = row_of(plan), mirrors.package_index
    say(f"{row.row}: asking the package index where the files lie")
    return (
        *(
            one
            for some in rounds(wheels_of_plan(plan))
            for one in wanted_wheels(some, python=row.base.python, index=index)
        ),
        *wanted_tools(pins, architectures=_ARCHITECTURES, python=OLDEST_PYTHON, index=index),
        *wanted_images(project, base_images(plan), mirrors, say),
    )


def rounds(wheels: Sequence[Wheel]) -> list[list[Wheel]]:
    """Wheels in groups that have one version of each package: the index is asked for such a group at once."""
    rounds: list[dict[str, list[Wheel]]] = []
    for one in wheels:
        fitting = (some for some in rounds if one.name not in some or some[one.name][0].version == one.version)
        place = next(fitting, None)
        if place is None:
            place = {}
            rounds.append(place)
        place.setdefault(one.name, []).append(one)
    return [[wheel for some in one.values() for wheel in some] for one in rounds]


# ---- what git, cargo and apt give


def _gathered(project: Project, plan: SourcePlan, folder: Path, mirrors: Mirrors) -> list[Path]:
    """Fetch all whose hash is not known beforehand; the files, all of a bundle's folders for them."""
    config = git_config(mirrors)
    script = project.recipes / "scripts" / "checkout.py"
    sources = sources_of_plan(plan)
    ca = mirrors.ca_bundle or preflight.ca_bundle(os.environ)
    kept = keep_sources(folder / GIT, sources, script=script, gitconfig=config, ca=ca, say=say)
    crates = _crates(project, plan, folder, mirrors, kept)
    for one in kept.values():
        tidy(folder / GIT, one)
    path = folder / GIT / REPOSITORIES
    write_file(path, repositories_json({address: one.folder for address, one in kept.items()}))
    for lock in (folder / GIT).glob("*.lock"):
        lock.unlink()
    with packages_served(mirrors) as reached:
        packages = keep_packages(project, plan, folder, reached, say)
    return [path, *git_files(folder, kept), *crates, *packages]


def _crates(project: Project, plan: SourcePlan, folder: Path, mirrors: Mirrors, kept: dict[str, Kept]) -> list[Path]:
    row = row_of(plan)
    if not row.rust:
        return []
    vllm = row.source(VLLM)
    text = read_kept(folder / GIT, kept[vllm.repository], vllm.commit or "", CARGO_LOCK)
    crates, repositories = parse_cargo_lock(text, f"{vllm.name}: {CARGO_LOCK}")
    keep_crate_sources(folder / GIT, repositories, kept, git_config(mirrors))
    index = mirrors.crates or sources_of(project.matrix).rust_index
    if index is None:
        told = "matrix.yaml: source.rust.index: missing, so that no crate can be had"
        raise BundleError([f"{told}; add it, or `crates` to mirrors.yaml"])
    return keep_crates(folder, crates, index, say)


def _finish(folder: Path, plan: SourcePlan, wanted: Sequence[Wanted], files: Sequence[Path]) -> Bundle:
    row, images = row_of(plan), base_images(plan)
    meter = Meter(f"{folder}: hashing", sum(one.stat().st_size for one in files), say)
    hashed = tuple(
        BundledFile(path=one.relative_to(folder).as_posix(), sha256=hash_of(one, meter), size_bytes=one.stat().st_size)
        for one in files
    )
    made = Bundle(
        tag=row.row,
        base=row.base.name,
        lock_digest=locked_digest(row),
        base_digest=images[0].manifest,
        architectures=_ARCHITECTURES,
        files=(*hashed, *(one.file for one in wanted)),
        inputs_digest=inputs_digest(plan),
    )
    return finish(folder, made, source_mirrors_yaml(row.row, images))
