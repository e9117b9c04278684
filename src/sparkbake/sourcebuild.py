"""Render, build and verify compiled rows: foundations first, or those that are there already, then vLLM."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sparkbake.build import exclusive, write_folders
from sparkbake.buildcache import TargetCache, cache_bodies
from sparkbake.buildx import BakeOptions, BakeResult, bake
from sparkbake.cacheasking import ask_caches, check_written, named_caches
from sparkbake.engine import EngineState, default_builder, engine_state
from sparkbake.errors import LockError, UsageError
from sparkbake.estimate import estimate_compiled
from sparkbake.mirrors import Mirrors
from sparkbake.model import Row, Strategy
from sparkbake.openpins import refusal
from sparkbake.project import Project, write_file
from sparkbake.provenance import keep_provenance
from sparkbake.ready import check_machine
from sparkbake.sourcebake import source_bake_file
from sparkbake.sourceimage import CompiledImage, images_of
from sparkbake.sourcelabels import CONTEXT_DIGEST
from sparkbake.sourcepins import sources_of
from sparkbake.sourceplan import dry_run
from sparkbake.sourceresolve import SourcePlan
from sparkbake.sourcereuse import present as reusable
from sparkbake.sourcereuse import sealed
from sparkbake.sourcesecrets import compile_secrets
from sparkbake.sourceserver import reachable, require_sources
from sparkbake.tables import say
from sparkbake.verifying import verify_built

_AUTO = "auto"


def render_compiled(project: Project, rows: Sequence[Row], variant: str | None) -> int:
    """Write the build contexts and the bake file of compiled rows and of their foundations.

    Args:
        variant: see `resolve_source`.
    """
    plan = _plan(project, rows, variant)
    for one in plan.open_pins:
        say(f"open: {one}")
    plan = _sealed(project, plan)
    _write(project, plan, {}, images={}, output="type=image", compression="zstd")
    for target in plan.targets:
        print(project.build / target.name / "Dockerfile")
    print(project.build / "docker-bake.json")
    return 0


def build_compiled(project: Project, rows: Sequence[Row], options: argparse.Namespace) -> int:
    """Build compiled rows, with foundations that are not in the engine or the registry, then verify what was built.

    Raises:
        LockError: something of them is not known; all of it is named.
        PreflightError: this machine cannot build them.
    """
    plan = _plan(project, rows, options.variant)
    _check_options(project, plan, options)
    caches = named_caches(project, plan.targets, options)
    for row in rows:
        for one in (*(limit.sentence for limit in row.release.limits), *filter(None, [row.variant.exceptions.note])):
            say(f"{row.tag}: note: {one}")
    if options.dry_run:
        return dry_run(plan, caches, as_json=options.json)
    check_open_pins(plan)
    mirrors = project.mirrors(options.mirrors)
    mirrors.check_for_builds()
    if mirrors.bundle:
        require_sources(mirrors.bundle, plan, say)
    state = engine_state()
    plan = _sealed(project, plan)
    present = reusable(plan, project.matrix.project.label_prefix, in_engine=options.builder is None)
    if options.no_cache or not _was_begun(project, plan):
        # What the cache holds is of other builds then, and spares this one nothing.
        state = replace(state, cached_bytes=0)
    disk_bytes = estimate_compiled(plan, present, dict(sources_of(project.matrix).disk_gb))
    check_machine(plan, state, disk_bytes=disk_bytes, remote_builder=options.builder is not None)
    caches = ask_caches(project, caches, present)
    with exclusive(project.build), reachable(mirrors, plan) as mirrors:
        write_file(_begun_path(project, plan), _built_from(project, plan))
        result = _bake_in_turn(project, plan, present, mirrors, options, caches=caches)
    for target in plan.targets:
        if target.name not in present:
            say(f"{target.reference}: {result.digests[target.name]}")
    for place in _wheels(plan, options.wheels).values():
        say(f"{place}: {len(list(place.glob('*.whl')))} wheels")
    status = _verify_built(project, plan, state, result=result, options=options)
    check_written(result.unwritten, options.cache_to)
    return status


def _built(project: Project, plan: SourcePlan, result: BakeResult) -> list[CompiledImage]:
    """What was built: a foundation that was there already has its provenance and its report from when it was."""
    images = images_of(plan, project.source_contexts(plan))
    return [one for one in images if one.target.name in result.digests]


def _verify_built(
    project: Project, plan: SourcePlan, state: EngineState, *, result: BakeResult, options: argparse.Namespace
) -> int:
    if options.no_verify:
        say("not verified, as --no-verify asks")
        return 0
    return verify_built(project, _built(project, plan, result), state, result.digests, as_json=options.json)


def _was_begun(project: Project, plan: SourcePlan) -> bool:
    """Whether a build of just this was begun from this checkout, so that the cache holds some of it."""
    mark = _begun_path(project, plan)
    return mark.is_file() and mark.read_text(encoding="utf-8") == _built_from(project, plan)


def _begun_path(project: Project, plan: SourcePlan) -> Path:
    return project.build / "begun" / plan.targets[-1].name


def _built_from(project: Project, plan: SourcePlan) -> str:
    return dict(plan.targets[-1].labels)[f"{project.matrix.project.label_prefix}.{CONTEXT_DIGEST}"]


def check_open_pins(plan: SourcePlan) -> None:
    """See that all of a plan is known.

    Raises:
        LockError: it is not; the message names each pin, and what to do.
    """
    if plan.open_pins:
        tags = " ".join(one.row for one in plan.targets if one.name not in plan.reusable)
        raise LockError(refusal(tags, plan.open_pins, dict(plan.by_hand)), state="open")


def _plan(project: Project, rows: Sequence[Row], variant: str | None) -> SourcePlan:
    others = [row.tag for row in rows if row.release.strategy is not Strategy.SOURCE]
    if others:
        raise UsageError(
            f"{', '.join(others)}: installed from wheels, the other rows are compiled; name rows of one strategy"
        )
    return project.source_plan(rows, variant)


def _check_options(project: Project, plan: SourcePlan, options: argparse.Namespace) -> None:
    base = project.matrix.sources.base if project.matrix.sources else ""
    if options.base not in (_AUTO, base):
        raise UsageError(f"--base: got '{options.base}', but compiled rows are built on CUDA's images; leave it out")
    for name, given in (
        ("--no-trim", not options.trim),
        ("--record", options.record),
        ("--recorded", options.recorded),
    ):
        if given:
            raise UsageError(f"{name}: is for rows that are installed from wheels; leave it out")
    if options.output:
        raise UsageError("--output: compiled images go into the engine; leave it out")
    for place in _wheels(plan, options.wheels).values():
        if place.is_dir() and any(place.iterdir()):
            raise UsageError(f"--wheels: {place} is not empty, expected a folder for these alone; remove what is in it")
    if options.no_cache and options.cache_from:
        raise UsageError("--cache-from: with --no-cache no step may come from a cache; leave one of them out")


def _sealed(project: Project, plan: SourcePlan) -> SourcePlan:
    return sealed(plan, project.source_contexts(plan), project.matrix.project.label_prefix)


def _write(
    project: Project,
    plan: SourcePlan,
    present: Mapping[str, str],
    *,
    images: Mapping[str, str],
    output: str,
    compression: str,
    network: str | None = None,
    caches: Mapping[str, Mapping[str, list[str]]] | None = None,
    wheels: Mapping[str, Path] | None = None,
) -> Path:
    """Write the build contexts of what is not there yet, and the bake file; its path."""
    files = project.source_contexts(plan)
    write_folders({name: some for name, some in files.items() if name not in present}, project.build)
    path = project.build / "docker-bake.json"
    outputs = {one.name: output for one in plan.targets}
    text = source_bake_file(
        plan,
        outputs,
        present,
        images=images,
        compression=compression,
        network=network,
        caches=caches,
        wheels=wheels,
    )
    write_file(path, text)
    return path


def _wheels(plan: SourcePlan, folder: Path | None) -> dict[str, Path]:
    """Name of each row's target to the folder that gets its wheels, of which each begins empty; none without one."""
    if folder is None:
        return {}
    return {one.name: folder.resolve() / one.tag for one in plan.targets if one.name not in plan.reusable}


def as_context(reference: str) -> str:
    """A reference of mirrors.yaml as bake takes it."""
    kind, colon, place = reference.partition("oci-layout:")
    return f"oci-layout://{place}" if colon and not kind else f"docker-image://{reference}"


def _bake_in_turn(
    project: Project,
    plan: SourcePlan,
    present: Mapping[str, str],
    mirrors: Mirrors,
    options: argparse.Namespace,
    *,
    caches: Mapping[str, TargetCache],
) -> BakeResult:
    """Build foundations first, and then rows on what came of them.

    The cache knows a step by what it begins with, and an image and the target that made it are two things for it: a row
    that was built on targets would be compiled anew on the images that the next build finds. So rows are built on
    images alone. Another builder than the engine's own has no such images, unless a registry does.
    """
    missing = [one for one in plan.targets if one.name in plan.reusable and one.name not in present]
    if not missing or options.builder:
        return _keep(project, plan, _bake(project, plan, present, mirrors, options, caches=caches), present)
    first = _bake(project, replace(plan, targets=tuple(missing)), present, mirrors, options, caches=caches)
    # Now, since a row that fails leaves foundations that later builds find and do not build again.
    _keep(project, plan, first, present)
    made = {one.name: f"docker-image://{one.reference}@{first.digests[one.name]}" for one in missing}
    present = {**present, **made}
    then = _keep(project, plan, _bake(project, plan, present, mirrors, options, caches=caches), present)
    both = None if first.executed is None or then.executed is None else (*first.executed, *then.executed)
    return BakeResult(
        digests={**first.digests, **then.digests},
        executed=both,
        configs={**first.configs, **then.configs},
        provenance={**first.provenance, **then.provenance},
        unwritten=(*first.unwritten, *then.unwritten),
    )


def _bake(
    project: Project,
    plan: SourcePlan,
    present: Mapping[str, str],
    mirrors: Mirrors,
    options: argparse.Namespace,
    *,
    caches: Mapping[str, TargetCache],
) -> BakeResult:
    targets = [one.name for one in plan.targets if one.name not in present]
    wheels = _wheels(plan, options.wheels)
    if wheels:
        options.wheels.mkdir(parents=True, exist_ok=True)
    file = _write(
        project,
        plan,
        present,
        images={name: as_context(place) for name, place in mirrors.images},
        # Another builder than the engine's own must bring what it built there.
        output="type=docker" if options.builder else "type=image",
        compression=options.compression,
        network="host" if mirrors.on_loopback else None,
        # BuildKit's own display tells nobody but the user what was not written, so that it has to end the build.
        caches=cache_bodies(caches, compression=options.compression, is_borne=options.progress != "tty"),
        wheels=wheels,
    )
    with compile_secrets(mirrors, options.jobs) as secrets:
        return bake(
            file,
            project.build / "metadata.json",
            BakeOptions(
                builder=options.builder or default_builder(),
                no_cache=options.no_cache,
                progress=options.progress,
                secrets=secrets,
                on_host=mirrors.on_loopback,
                writable=(options.wheels.resolve(),) if wheels else (),
            ),
            targets=targets,
            root=project.root,
            log=project.build / "logs" / f"{targets[-1]}.log",
            show=say,
        )


def _keep(project: Project, plan: SourcePlan, result: BakeResult, present: Mapping[str, str]) -> BakeResult:
    """Write down how what was built came to be, and return that."""
    digests = {name: place.rpartition("@")[2] for name, place in present.items()}
    keep_provenance(project, _built(project, plan, result), result, digests)
    return result
