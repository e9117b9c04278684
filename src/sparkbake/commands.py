"""The commands that work on the engine: `build` and `verify`."""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sparkbake import preflight
from sparkbake.bases import Chosen
from sparkbake.build import Output, build, exclusive, plan_json, write_contexts
from sparkbake.buildx import BakeOptions, BakeResult
from sparkbake.engine import EngineState, default_builder, engine_state, local_image, push, run_python
from sparkbake.errors import UsageError, VerifyError
from sparkbake.estimate import estimate
from sparkbake.frozen import AUTO, candidates
from sparkbake.labels import NONE, OCI
from sparkbake.lockfile import sha256_of
from sparkbake.mirrors import Mirrors
from sparkbake.model import LocalImage, Plan, Row, Target
from sparkbake.project import Project, open_project
from sparkbake.ready import check_machine, ready_base
from sparkbake.recording import check_options, check_records, hold_against_records
from sparkbake.tables import print_plan, print_report, say
from sparkbake.verify import Report, compare, is_clean_report, modules_of, parse_probe, report_json

_PROBE_TIMEOUT_S = 3600

# ---- build


def build_rows(options: argparse.Namespace) -> int:
    """Build some rows, then verify them, then push what was found clean."""
    project = open_project(options.root)
    rows = project.select(options.tags)
    bases = candidates(options.base, project.matrix)
    plan = project.plan(rows, bases[0], trim=options.trim)
    mirrors = project.mirrors(options.mirrors)
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
    if options.push and status == 0:
        for target in plan.targets:
            push(target.reference, say)
        clock.lap("push")
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
    if result.executed is not None:
        say(f"{len(result.executed)} steps executed")
    for target in plan.targets:
        say(f"{output.oci or target.reference}: {result.digests[target.name]}")
    return result


def _verify_built(
    project: Project, plan: Plan, state: EngineState, *, result: BakeResult, output: Output, options: argparse.Namespace
) -> int:
    if output.oci:
        say("not verified: an OCI file is not in the engine; load it and run `nox -s verify`")
        return 0
    if options.no_verify:
        say("not verified, as --no-verify asks")
        return 0
    known = [one for one in plan.targets if _is_known_clean(project, one, result.digests[one.name])]
    for target in known:
        say(f"verify {target.tag}: this very image was found clean before: {_report_path(project, target)}")
    fresh = [one for one in plan.targets if one not in known]
    return _verify_all(project, fresh, state, result.digests, as_json=options.json)


def _dry_run(plan: Plan, options: argparse.Namespace, base: str) -> int:
    cost = estimate(plan)
    if options.json:
        print(plan_json(plan), end="")
    else:
        print_plan(plan, cost, base)
    return 0


def _output(options: argparse.Namespace) -> Output:
    if options.push and options.base == AUTO:
        raise UsageError(
            "--push needs --base NAME: what a tag means in a registry must not depend on who answers today"
        )
    if options.push and not (options.trim and options.compression == "zstd"):
        raise UsageError("--push excludes --no-trim and --compression: in a registry one tag means one image")
    if options.push and options.no_verify:
        raise UsageError("--push and --no-verify exclude each other: nothing is pushed that was not verified")
    if options.output is None:
        return Output(load=options.builder is not None)
    kind, _colon, place = options.output.partition(":")
    if kind != "oci" or not place:
        raise UsageError(f"--output: got '{options.output}', expected oci:FILE (with several tags, oci:FOLDER)")
    if options.push:
        raise UsageError("--output and --push exclude each other: an OCI file is not pushed")
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


# ---- verify


def verify_rows(options: argparse.Namespace) -> int:
    """Look inside the images of some rows that the engine has."""
    project = open_project(options.root)
    state = engine_state()
    chosen = project.select(options.tags)
    plans = [_plan_of_image(project, row) for row in chosen]
    targets = [target for one in plans for target in one.targets]
    return _verify_all(project, targets, state, {}, as_json=options.json)


def _plan_of_image(project: Project, row: Row) -> Plan:
    """The plan of an image that is there: its base is the one its label names."""
    plan = project.plan([row], project.matrix.bases[0])
    image = local_image(plan.targets[0].reference)
    if image is None:
        raise VerifyError(f"{plan.targets[0].reference}: the engine has no such image; run `nox -s build -- {row.tag}`")
    named = dict(image.labels).get(OCI + "base.name")
    base = next((one for one in project.matrix.bases if named in (one.name, one.image)), project.matrix.bases[0])
    trimmed = dict(image.labels).get(f"{project.matrix.project.label_prefix}.trimmed") != NONE
    return project.plan([row], base, trim=trimmed)


def _verify_all(
    project: Project, targets: Sequence[Target], state: EngineState, digests: Mapping[str, str], *, as_json: bool
) -> int:
    """Verify images one after the other; 1 when there is any finding, else 0."""
    findings = 0
    for target in targets:
        report = _verify(project, target, state, digests.get(target.name))
        path = _report_path(project, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report_json(report), encoding="utf-8")
        if as_json:
            print(report_json(report), end="")
        else:
            print_report(report)
        findings += len(report.findings)
        verdict = f"{len(report.findings)} findings" if report.findings else "clean"
        say(f"verify {report.tag}: {verdict}; report: {path}")
    return 1 if findings else 0


def _verify(project: Project, target: Target, state: EngineState, digest: str | None) -> Report:
    image = local_image(target.reference)
    if image is None:
        raise VerifyError(f"{target.reference}: the engine has no such image; run `nox -s build -- {target.tag}`")
    emulated = target.platform.partition("/")[2] != state.architecture
    how = "under emulation, which takes some minutes" if emulated else "natively"
    say(f"verify {target.tag}: looking inside the image, {how}")
    probe = _probe(project)
    try:
        output = run_python(
            target.reference, probe, modules_of(target), platform=target.platform, timeout_s=_PROBE_TIMEOUT_S
        )
        said = parse_probe(output, target.reference)
    except VerifyError as err:
        # Then every check is a finding, one with the reason: the report is written, and the next image looked at.
        said = {"machine": {"error": str(err)}}
    return compare(
        target,
        image,
        said,
        components=project.matrix.components,
        built_digest=digest,
        probe_digest=_probe_digest(project, target),
        emulated=emulated,
    )


def _is_known_clean(project: Project, target: Target, digest: str) -> bool:
    """Whether just this image was verified before: then a build need not look again."""
    path = _report_path(project, target)
    if not path.exists():
        return False
    text = path.read_text(encoding="utf-8")
    return is_clean_report(text, digest=digest, probe_digest=_probe_digest(project, target))


def _probe_digest(project: Project, target: Target) -> str:
    """Of the probe and of what it is to try, which no digest of an image tells."""
    return sha256_of("\0".join([_probe(project), *modules_of(target)]).encode())


def _probe(project: Project) -> str:
    return (project.recipes / "scripts" / "probe.py").read_text(encoding="utf-8")


def _report_path(project: Project, target: Target) -> Path:
    return project.build / "reports" / f"{target.name}.json"


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
