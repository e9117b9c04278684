"""The command that says whether images are what their plans say: `verify`; `build` ends with it, too."""

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from sparkbake.comparing import source_of
from sparkbake.engine import EngineState, engine_state, local_image, run_python
from sparkbake.errors import UsageError, VerifyError
from sparkbake.examine import Examined, examine
from sparkbake.findings import judge
from sparkbake.images import OpenImage, open_image
from sparkbake.labels import NONE, OCI
from sparkbake.lockfile import canonical, sha256_of
from sparkbake.model import Pairs, Plan, Row, Target
from sparkbake.project import Project, open_project, write_file
from sparkbake.resolve import trims_of
from sparkbake.saving import save_image
from sparkbake.survey import read_survey
from sparkbake.tables import print_report, say
from sparkbake.verify import (
    Probe,
    Programs,
    Report,
    is_clean_report,
    judge_identity,
    judge_probe,
    modules_of,
    parse_probe,
    probe_facts,
    report_json,
)

_PROBE_TIMEOUT_S = 3600


def verify_images(options: argparse.Namespace) -> int:
    """Look into images that the engine has, and into those in OCI files; 1 when an error is found, else 0."""
    project = open_project(options.root)
    tags = [row.tag for row in project.rows]
    named = [one for one in options.images if ":" in one or (one not in tags and Path(one).exists())]
    sources = [source_of(one, tags) for one in named]
    for asked, source in zip(named, sources, strict=True):
        if source.kind != "file":
            raise UsageError(f"got '{asked}', expected a TAG of the engine, a pattern of tags, or oci:FILE")
    asked_tags = [one for one in options.images if one not in named]
    rows = project.select(asked_tags) if asked_tags else ()
    targets = [_target_in_engine(project, row) for row in rows]
    status = verify_files(project, {Path(one.place): None for one in sources}, as_json=options.json)
    if targets:
        state = engine_state()
        reports = (_verify(project, one, state, None, run=options.run) for one in targets)
        status |= _status(project, reports, as_json=options.json)
    return status


def verify_files(project: Project, files: Mapping[Path, str | None], *, as_json: bool) -> int:
    """Look into OCI files, without running programs; 1 when an error is found, else 0.

    Args:
        files: path to the digest that a build gave, None of a file that was found.
    """
    reports = (_verify_file(project, path, digest) for path, digest in files.items())
    return _status(project, reports, as_json=as_json)


def verify_built(
    project: Project, targets: Sequence[Target], state: EngineState, digests: Mapping[str, str], *, as_json: bool
) -> int:
    """Look into images that were just built into the engine; 1 when an error is found, else 0.

    Args:
        digests: target name to the digest that the build gave.
    """
    known = [one for one in targets if _is_known_clean(project, one, digests[one.name])]
    for target in known:
        say(f"verify {target.tag}: this very image was found clean before: {report_path(project, target)}")
    fresh = [one for one in targets if one not in known]
    reports = (_verify(project, one, state, digests[one.name], run=True) for one in fresh)
    return _status(project, reports, as_json=as_json)


def _status(project: Project, reports: Iterable[Report], *, as_json: bool) -> int:
    """Write each report as soon as it is there; 1 when any has an error, else 0."""
    return 1 if sum(_written(project, one, as_json=as_json) for one in reports) else 0


def _written(project: Project, report: Report, *, as_json: bool) -> int:
    """Write and print a report; how many errors it has."""
    path = report_path(project, report, ran=report.programs != "not run")
    write_file(path, report_json(report))
    if as_json:
        print(json.dumps(json.loads(report_json(report))))
    else:
        print_report(report)
    verdict = f"{report.errors} errors" if report.errors else "clean"
    counted = {"warnings": len(report.findings) - report.errors, "waived": len(report.waived)}
    more = "".join(f", {count} {what}" for what, count in counted.items() if count)
    say(f"verify {report.tag}: {verdict}{more}; report: {path}")
    return report.errors


# ---- which plan an image is of


def _target_in_engine(project: Project, row: Row) -> Target:
    reference = project.plan([row], project.matrix.bases[0]).targets[0].reference
    image = local_image(reference)
    if image is None:
        raise VerifyError(f"{reference}: the engine has no such image; run `nox -s build -- {row.tag}`")
    return target_of(project, row, image.labels)


def target_of(project: Project, row: Row, labels: Pairs) -> Target:
    """What an image of a row should be: its base and whether it is trimmed are as its labels say."""
    said = dict(labels)
    named = said.get(OCI + "base.name")
    bases = (one for one in project.matrix.bases if named is not None and named in (one.name, one.image))
    base = next(bases, project.matrix.bases[0])
    trimmed = said.get(f"{project.matrix.project.label_prefix}.trimmed") != NONE
    return project.plan([row], base, trim=trimmed).targets[0]


# ---- looking


def _verify_file(project: Project, path: Path, built_digest: str | None) -> Report:
    image = open_image(path, platform=project.matrix.chip.platform)
    tag = dict(image.info.labels).get(OCI + "version", "")
    row = next((one for one in project.rows if one.tag == tag), None)
    if row is None:
        raise VerifyError(
            f"{path}: its label {OCI}version is '{tag}', expected a tag of the matrix; it is no image of this project"
        )
    target = target_of(project, row, image.info.labels)
    say(f"verify {target.tag}: reading {path}; its programs are not run, since it is not in the engine")
    examined = _examine(project, target, image, str(path))
    findings = (*judge_identity(target, image.info.digest, built_digest), *examined.findings)
    return _report(
        project,
        target,
        str(path),
        image.info.digest,
        programs="not run",
        examined=replace(examined, findings=findings),
    )


def _verify(project: Project, target: Target, state: EngineState, digest: str | None, *, run: bool) -> Report:
    image = local_image(target.reference)
    if image is None:
        raise VerifyError(f"{target.reference}: the engine has no such image; run `nox -s build -- {target.tag}`")
    project.build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="verify-", dir=project.build) as folder:
        archive = Path(folder, "image.tar")
        save_image(target.reference, target.tag, archive)
        opened = open_image(archive, platform=target.platform)
        if opened.info.digest != image.digest:
            raise VerifyError(
                f"{target.reference}: the engine has {image.digest} under this tag and saved {opened.info.digest}; "
                "verify it again while nothing else builds"
            )
        examined = _examine(project, target, opened, target.tag)
    findings = (*judge_identity(target, image.digest, digest), *examined.findings)
    facts = examined.facts
    programs: Programs = "not run"
    if run:
        programs = "under emulation" if target.platform.partition("/")[2] != state.architecture else "natively"
        slow = ", which takes some minutes" if programs == "under emulation" else ""
        say(f"verify {target.tag}: running its programs {programs}{slow}")
        said = _probe(project, target)
        findings += judge_probe(target, said, project.matrix.components)
        facts += probe_facts(said)
    return _report(
        project,
        target,
        target.reference,
        image.digest,
        programs=programs,
        examined=Examined(findings=findings, facts=(("size", f"{image.size_bytes / 1e9:.2f} GB"), *facts)),
    )


def _examine(project: Project, target: Target, image: OpenImage, name: str) -> Examined:
    chip = project.matrix.chip
    survey = read_survey(image, name, say, compute_capability=chip.compute_capability)
    context = project.contexts(Plan(targets=(target,)))[target.name]
    return examine(
        survey,
        target,
        context={str(one.path): one.content for one in context},
        os_packages=project.os_packages(target),
        rules=project.matrix.rules,
        trims=trims_of(target.environment, project.matrix.trims),
        components=project.matrix.components,
        label_prefix=project.matrix.project.label_prefix,
        compute_capability=chip.compute_capability,
    )


def _probe(project: Project, target: Target) -> Probe:
    try:
        output = run_python(
            target.reference,
            _script(project),
            modules_of(target),
            platform=target.platform,
            timeout_s=_PROBE_TIMEOUT_S,
        )
        return parse_probe(output, target.reference)
    except VerifyError as err:
        # Then every check is a finding, one with the reason: the report is written, and the next image looked at.
        return {"machine": {"error": str(err)}}


def _report(
    project: Project, target: Target, reference: str, digest: str, *, programs: Programs, examined: Examined
) -> Report:
    findings, waived = judge(
        examined.findings,
        project.matrix.rules.waivers,
        release=dict(target.versions)["vllm"],
        base=target.base.name,
        today=today(),
    )
    return Report(
        tag=target.tag,
        name=target.name,
        reference=reference,
        digest=digest,
        plan_digest=project.plan_digest(target),
        checks_digest=checks_digest(project, target),
        programs=programs,
        facts=(("digest", digest), *examined.facts),
        findings=findings,
        waived=waived,
    )


# ---- what was found before


def _is_known_clean(project: Project, target: Target, digest: str) -> bool:
    """Whether just this image was verified before: then a build need not look again."""
    path = report_path(project, target)
    if not path.exists():
        return False
    text = path.read_text(encoding="utf-8")
    return is_clean_report(text, digest=digest, checks_digest=checks_digest(project, target), today=today())


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def checks_digest(project: Project, target: Target) -> str:
    """Of all that looks at an image and decides what is wrong with it: the probe, the rules, and this program."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    looked = [_script(project), *modules_of(target), *(one.read_text(encoding="utf-8") for one in sources)]
    return sha256_of(canonical({"rules": asdict(project.matrix.rules), "texts": looked}))


def _script(project: Project) -> str:
    return (project.recipes / "scripts" / "probe.py").read_text(encoding="utf-8")


def report_path(project: Project, of: Target | Report, *, ran: bool = True) -> Path:
    """Of one whose programs were not run elsewhere: it says less, and does not replace one that says more."""
    return project.build / "reports" / f"{of.name}{'' if ran else '.unrun'}.json"
