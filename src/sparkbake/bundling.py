"""The command `bundle`: put all that a row is built from into one folder, for machines without a network."""

import argparse
import json
import time
from pathlib import Path

from sparkbake.bundle import MIRRORS, WHEELS, Bundle, Pin, parse_pins, standing_faults, wheels_of
from sparkbake.bundlefiles import damage, read_bundle, strangers
from sparkbake.bundlemake import make
from sparkbake.errors import BundleError, LockError, UsageError
from sparkbake.frozen import AUTO, candidates
from sparkbake.mirrors import Mirrors
from sparkbake.model import Base, Matrix, Row, Strategy, Target
from sparkbake.project import Project, open_project
from sparkbake.sourcebuild import check_open_pins
from sparkbake.sourcebundle import (
    base_images,
    os_packages,
    row_of,
    source_standing_faults,
    sources_of_plan,
    wheels_of_plan,
)
from sparkbake.sourcebundling import make_compiled
from sparkbake.sourceresolve import SourcePlan
from sparkbake.tables import print_table, say

# What `quickstart` and the sessions that build, verify, publish and ship install.
_TOOLS = ("quickstart", "run")


def bundle(options: argparse.Namespace) -> int:
    """Make a bundle, or check one; 1 when it has faults."""
    if (options.tag is None) == (options.check is None):
        raise UsageError("bundle: expected either a TAG or --check DIR")
    project = open_project(options.root)
    if options.check is not None:
        return _check(project, options.check, as_json=options.json)
    mirrors = project.mirrors(options.mirrors)
    if mirrors.bundle:
        raise UsageError(
            "--mirrors: names a bundle, which is no index to make another from; leave its key `bundle` out"
        )
    rows = project.select([options.tag])
    if len(rows) != 1:
        raise UsageError(f"bundle: '{options.tag}' matches {len(rows)} tags, expected one; a bundle is of one row")
    if rows[0].release.strategy is Strategy.SOURCE:
        return _bundle_compiled(project, rows[0], options, mirrors)
    (target,) = project.plan(rows, _base(options.base, project.matrix)).targets
    folder = _folder(project, options, target.tag, target.base.name)
    pins = _tool_pins(project)
    if options.dry_run:
        return _dry_run(target, pins, folder, as_json=options.json)
    began = time.monotonic()
    made, fetched = make(project, target, pins, folder, mirrors)
    _tell(made, folder, fetched_bytes=fetched, seconds=time.monotonic() - began, as_json=options.json)
    return 0


def _bundle_compiled(project: Project, row: Row, options: argparse.Namespace, mirrors: Mirrors) -> int:
    plan = project.source_plan([row])
    base = row_of(plan).base.name
    if options.base not in (AUTO, base):
        raise UsageError(f"--base: got '{options.base}', but compiled rows are built on CUDA's images; leave it out")
    folder, pins = _folder(project, options, row.tag, base), _tool_pins(project)
    if options.dry_run:
        return _dry_run_compiled(plan, folder, tools=len(pins), as_json=options.json)
    check_open_pins(plan)
    began = time.monotonic()
    made, fetched = make_compiled(project, plan, pins, folder, mirrors)
    _tell(made, folder, fetched_bytes=fetched, seconds=time.monotonic() - began, as_json=options.json)
    return 0


def _folder(project: Project, options: argparse.Namespace, tag: str, base: str) -> Path:
    place: Path = options.output or project.build / "bundles" / f"{tag}-{base}"
    return place.resolve()


def _base(choice: str, matrix: Matrix) -> Base:
    """The base that is asked for; by itself the first that holds all its packages."""
    whole = [one for one in candidates(choice, matrix) if not one.image]
    if not whole:
        held = ", ".join(one.name for one in matrix.bases if not one.image)
        raise UsageError(
            f"--base: got '{choice}': builds on it fetch packages from an archive snapshot, which a bundle does not "
            f"hold; expected {AUTO} or one of {held or 'none, since the matrix has no other'}"
        )
    return whole[0]


def _tool_pins(project: Project) -> tuple[Pin, ...]:
    """The pins of this project's own commands; what stands in several files, once."""
    pins: dict[str, Pin] = {}
    for name in _TOOLS:
        path = project.root / "tools" / "requirements" / f"{name}.txt"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as err:
            raise BundleError([f"{path}: cannot be read: {err}; restore it with git"]) from err
        pins |= {one.requirement: one for one in parse_pins(text)}
    return tuple(pins.values())


def _dry_run(target: Target, pins: tuple[Pin, ...], folder: Path, *, as_json: bool) -> int:
    wheels = wheels_of(target)
    size = sum(one.size_bytes for one in wheels)
    if as_json:
        said = {"tag": target.tag, "base": target.base.name, "folder": str(folder)}
        print(json.dumps({**said, "wheels": len(wheels), "wheels_bytes": size, "tools": len(pins)}, indent=2))
        return 0
    print_table(
        ("", ""),
        [
            ("wheels", f"{len(wheels)}, {size / 1e9:.2f} GB"),
            ("base", f"{target.base.name}, about 0.5 GB for each architecture"),
            ("tools", f"{len(pins)} packages, about 0.1 GB"),
            ("folder", str(folder)),
        ],
        title=f"bundle of {target.tag} on {target.base.name}",
    )
    return 0


def _dry_run_compiled(plan: SourcePlan, folder: Path, *, tools: int, as_json: bool) -> int:
    """Print what a bundle would have, open pins too; the exit status."""
    row, wheels, packages = row_of(plan), wheels_of_plan(plan), os_packages(plan)
    size = sum(one.size_bytes for one in wheels)
    sources = {one.name: {"repository": one.repository, "commit": one.commit} for one in sources_of_plan(plan)}
    images = [f"{one.reference}@{one.manifest or 'open'}" for one in base_images(plan)]
    if as_json:
        said: dict[str, object] = {"tag": row.row, "base": row.base.name, "folder": str(folder)}
        said |= {"wheels": len(wheels), "wheels_bytes": size, "tools": tools, "sources": sources, "images": images}
        said |= {"os_packages": packages, "crates": row.rust, "open_pins": list(plan.open_pins)}
        print(json.dumps(said, indent=2))
        return 0
    named = sorted({one for some in packages.values() for one in some})
    print_table(
        ("", ""),
        [
            ("wheels", f"{len(wheels)}, {size / 1e9:.2f} GB"),
            ("sources", f"{len(sources)} repositories, and their submodules"),
            *(("image", one) for one in images),
            ("packages", f"{len(named)} asked for by name, and what they need and the images lack"),
            ("crates", "those of vLLM's Cargo.lock" if row.rust else "none"),
            ("tools", f"{tools} packages, about 0.2 GB"),
            ("folder", str(folder)),
        ],
        title=f"bundle of {row.row}",
    )
    if plan.open_pins:
        print_table(("open pin",), [(one,) for one in plan.open_pins], title="not known, so that no bundle is made")
    return 0


# ---- what was made


def _tell(made: Bundle, folder: Path, *, fetched_bytes: int, seconds: float, as_json: bool) -> None:
    size, fetched = made.size_bytes / 1e9, fetched_bytes / 1e9
    say(f"{folder}: {len(made.files)} files, {size:.2f} GB, of which {fetched:.2f} GB were fetched; {seconds:.0f} s")
    say(f"to build from it: nox -s build -- {made.tag} --mirrors {folder / MIRRORS}")
    if as_json:
        print(json.dumps({**_described(made, folder), "fetched_bytes": fetched_bytes}, indent=2))


def _described(made: Bundle, folder: Path) -> dict[str, object]:
    wheels = [one for one in made.files if one.path.startswith(f"{WHEELS}/")]
    return {
        "tag": made.tag,
        "base": made.base,
        "folder": str(folder),
        "lock_digest": made.lock_digest,
        "base_digest": made.base_digest,
        "architectures": made.architectures,
        "files": len(made.files),
        "wheels": len(wheels),
        "size_bytes": made.size_bytes,
    }


# ---- checking one


def _check(project: Project, folder: Path, *, as_json: bool) -> int:
    """Hold every file of a bundle against its manifest, and that against the locks of this checkout."""
    made = read_bundle(folder)
    say(f"{folder}: checking {len(made.files)} files, {made.size_bytes / 1e9:.2f} GB")
    faults = [*damage(folder, made.files, say), *strangers(folder, made)]
    faults += [f"{folder}: {fault}" for fault in _standing_faults(project, made)]
    if as_json:
        print(json.dumps({**_described(made, folder), "faults": faults}, indent=2))
    elif faults:
        print("\n".join(faults))
    else:
        print(f"{folder}: {made.tag} on {made.base}: whole, and of the locks of this checkout")
    return 1 if faults else 0


def _standing_faults(project: Project, made: Bundle) -> list[str]:
    row = next((one for one in project.rows if one.tag == made.tag), None)
    base = next((one for one in project.matrix.bases if one.name == made.base), None)
    if row is None or base is None:
        return [f"is of {made.tag} on {made.base}, which the matrix of this checkout does not have"]
    try:
        if row.release.strategy is Strategy.SOURCE:
            return source_standing_faults(made, project.source_plan([row]))
        (target,) = project.plan([row], base).targets
    except LockError as err:
        return [f"cannot be held against the lock of {made.tag}: {err}"]
    return standing_faults(made, target)
