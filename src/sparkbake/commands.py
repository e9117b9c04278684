"""The command that builds images and verifies them."""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sparkbake import preflight
from sparkbake.bases import Chosen
from sparkbake.build import Output, build, exclusive, plan_json, write_contexts
from sparkbake.buildx import BakeOptions, BakeResult
from sparkbake.engine import EngineState, default_builder, engine_state, local_image
from sparkbake.errors import UsageError
from sparkbake.estimate import estimate
from sparkbake.frozen import candidates
from sparkbake.labels import OCI
from sparkbake.mirrors import Mirrors
from sparkbake.model import LocalImage, Plan, Strategy, Target
from sparkbake.project import Project, open_project
from sparkbake.provenance import keep_provenance
from sparkbake.ready import check_machine, ready_base
from sparkbake.recording import check_options, check_records, hold_against_records
from sparkbake.sourcebuild import build_compiled
from sparkbake.tables import print_plan, say
from sparkbake.variants import NOT_COMPILED
from sparkbake.verifying import verify_built, verify_files


def build_rows(options: argparse.Namespace) -> int:
    """Build some rows, then verify them, then hold them against their records."""
    project = open_project(options.root)
    rows = project.select(options.tags)
    if any(row.release.strategy is Strategy.SOURCE for row in rows):
        return build_compiled(project, rows, options)
    for name in ("--jobs", "--variant", "--cache-from", "--cache-to", "--wheels"):
        if getattr(options, name[2:].replace("-", "_")) is not None:
            raise UsageError(f"{name}: {NOT_COMPILED}")
    bases = candidates(options.base, project.matrix)
    plan = project.plan(rows, bases[0], trim=options.trim)
    mirrors = project.mirrors(options.mirrors)
    mirrors.check_for_builds()
    output = _output(options)
    check_options(options)
    if options.dry_run:
        return _dry_run(plan, options, " else ".join(one.name for one in bases))
    state = _preflight(project, plan, options)
    clock = _Clock()
    chosen = ready_base(project, options, mirrors, [state.architecture])
    clock.lap("base")
    plan = project.plan(rows, chosen.base, trim=options.trim)
    check_records(project, plan, options)
    result = _bake(project, plan, chosen, mirrors=mirrors, output=output, options=options)
    clock.lap("build")
    status = _verify_built(project, plan, state, result=result, output=output, options=options)
    clock.lap("verify")
    if not hold_against_records(project, plan, result, engine=state.version, options=options, clean=status == 0):
        status = 1
    say("seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in clock.laps))
    return status


def _bake(
    project: Project, plan: Plan, chosen: Chosen, *, mirrors: Mirrors, output: Output, options: argparse.Namespace
) -> BakeResult:
    with exclusive(project.build):
        write_contexts(plan, project.contexts(plan), project.build)
        for target in plan.targets:
            _mark_begun(project, target)
        result = build(
            plan,
            chosen,
            mirrors,
            BakeOptions(
                builder=options.builder or default_builder(),
                no_cache=options.no_cache,
                progress=options.progress,
                secrets={},
            ),
            output,
            root=project.root,
            ca=preflight.ca_bundle(os.environ),
            say=say,
            compression=options.compression,
        )
    if output.oci is None:
        keep_provenance(project, plan.targets, result)
    if result.executed is not None:
        say(f"{len(result.executed)} steps executed")
    for target in plan.targets:
        say(f"{output.oci or target.reference}: {result.digests[target.name]}")
    return result


def _verify_built(
    project: Project, plan: Plan, state: EngineState, *, result: BakeResult, output: Output, options: argparse.Namespace
) -> int:
    if options.no_verify:
        say("not verified, as --no-verify asks")
        return 0
    places = {output.file_of(one, plan): result.digests[one.name] for one in plan.targets}
    if output.oci:
        return verify_files(project, {path: digest for path, digest in places.items() if path}, as_json=options.json)
    return verify_built(project, plan.targets, state, result.digests, as_json=options.json)


def _dry_run(plan: Plan, options: argparse.Namespace, base: str) -> int:
    cost = estimate(plan)
    if options.json:
        print(plan_json(plan), end="")
    else:
        print_plan(plan, cost, base)
    return 0


def _output(options: argparse.Namespace) -> Output:
    if options.output is None:
        return Output(load=options.builder is not None)
    kind, _colon, place = options.output.partition(":")
    if kind != "oci" or not place:
        raise UsageError(f"--output: got '{options.output}', expected oci:FILE (with several tags, oci:FOLDER)")
    path = Path(place).resolve()
    if not path.parent.is_dir():
        raise UsageError(f"--output: the folder {path.parent} does not exist; make it")
    return Output(oci=path)


def _preflight(project: Project, plan: Plan, options: argparse.Namespace) -> EngineState:
    state = engine_state()
    if options.no_cache or not all(_was_begun(project, one) for one in plan.targets):
        # What the cache holds is of other builds then, and spares this one nothing.
        state = replace(state, cached_bytes=0)
    is_there = state.cached_bytes and options.compression == "zstd" and _is_built(plan)
    disk_bytes = 0 if is_there else estimate(plan).disk_bytes
    check_machine(plan, state, disk_bytes=disk_bytes, remote_builder=options.builder is not None)
    return state


def _was_begun(project: Project, target: Target) -> bool:
    """Whether a build of just this lock was begun from this checkout, so that the cache holds some of it."""
    mark = _begun_path(project, target)
    return mark.is_file() and mark.read_text(encoding="utf-8") == _lock_label(target)


def _mark_begun(project: Project, target: Target) -> None:
    mark = _begun_path(project, target)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(_lock_label(target) or "", encoding="utf-8")


def _begun_path(project: Project, target: Target) -> Path:
    return project.build / "begun" / target.name


def _is_built(plan: Plan) -> bool:
    """Whether the engine has every image of a plan, by its labels; the base may still be another."""
    images = [(one, local_image(one.reference)) for one in plan.targets]
    return all(image is not None and _labels(image) == _labels(one) for one, image in images)


def _labels(labelled: Target | LocalImage) -> dict[str, str]:
    return {key: value for key, value in labelled.labels if not key.startswith(f"{OCI}base.")}


def _lock_label(labelled: Target | LocalImage | None) -> str | None:
    pairs = labelled.labels if labelled else ()
    return next((value for key, value in pairs if key.endswith(".lock_digest")), "none" if labelled else None)


class _Clock:
    """Seconds that each part of a command took."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last = now()
        self.laps: list[tuple[str, float]] = []

    def lap(self, name: str) -> None:
        now = self._now()
        self.laps.append((name, now - self._last))
        self._last = now
