"""The command that says whether images are what their plans say: `verify`; `build` ends with it, too."""

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from sparkbake.attest import digest_in_bill
from sparkbake.comparing import source_of
from sparkbake.engine import EngineState, engine_state, local_image, run_python
from sparkbake.errors import UsageError, VerifyError
from sparkbake.examine import Examined
from sparkbake.images import OpenImage, open_image
from sparkbake.lockfile import canonical, sha256_of
from sparkbake.looks import (
    Planned,
    compiled_images,
    examine_image,
    facts_in,
    judge_programs,
    modules_in,
    plan_digest_of,
    planned_of,
    row_of,
    settle,
    target_in,
    target_of,
    texts_of,
)
from sparkbake.materials import bill_of
from sparkbake.model import Row, Strategy, Target
from sparkbake.project import Project, open_project, write_file
from sparkbake.saving import save_image
from sparkbake.sourceimage import CompiledImage
from sparkbake.sourcemodel import SourceTarget
from sparkbake.spdx import spdx_json
from sparkbake.survey import read_survey
from sparkbake.surveyed import Survey
from sparkbake.tables import print_report, say
from sparkbake.variants import NOT_COMPILED
from sparkbake.verify import (
    Probe,
    Programs,
    Report,
    is_clean_report,
    judge_identity,
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
    planned = _in_engine(project, project.select(asked_tags) if asked_tags else (), options.variant)
    status = verify_files(project, {Path(one.place): None for one in sources}, as_json=options.json)
    if planned:
        state = engine_state()
        reports = (_verify(project, one, state, None, run=options.run) for one in planned)
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
    project: Project, images: Sequence[Planned], state: EngineState, digests: Mapping[str, str], *, as_json: bool
) -> int:
    """Look into images that were just built into the engine; 1 when an error is found, else 0.

    Args:
        digests: target name to the digest that the build gave.
    """
    named = [(one, target_in(one), digests[target_in(one).name]) for one in images]
    known = [target for one, target, digest in named if _is_known_clean(project, one, digest)]
    for target in known:
        say(f"verify {target.tag}: this very image was found clean before: {report_path(project, target)}")
    fresh = ((one, digest) for one, target, digest in named if target not in known)
    reports = (_verify(project, one, state, digest, run=True) for one, digest in fresh)
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


def _in_engine(project: Project, rows: Sequence[Row], variant: str | None) -> list[Planned]:
    """What images of the engine should be: those of rows, and of compiled rows the foundations, too, that are there."""
    compiled = [row for row in rows if row.release.strategy is Strategy.SOURCE]
    if variant is not None and (not rows or len(compiled) < len(rows)):
        raise UsageError(f"--variant: {NOT_COMPILED}")
    planned: list[Planned] = [_target_in_engine(project, row) for row in rows if row not in compiled]
    for one in compiled_images(project, compiled, variant) if compiled else ():
        if one.is_foundation and local_image(one.target.reference) is None:
            say(f"{one.target.reference}: not in the engine, so that it is not looked at")
            continue
        planned.append(one)
    return planned


def _target_in_engine(project: Project, row: Row) -> Target:
    reference = project.reference(row)
    image = local_image(reference)
    if image is None:
        raise VerifyError(f"{reference}: the engine has no such image; run `nox -s build -- {row.tag}`")
    return target_of(project, row, image.labels)


# ---- looking


def _verify_file(project: Project, path: Path, built_digest: str | None) -> Report:
    image = open_image(path, platform=project.matrix.chip.platform)
    planned = planned_of(project, image.info.labels, str(path))
    target = target_in(planned)
    say(f"verify {target.tag}: reading {path}; its programs are not run, since it is not in the engine")
    examined = examine_image(project, planned, _survey(project, planned, image, str(path)))
    findings = (*judge_identity(target, image.info.digest, built_digest), *examined.findings)
    return _report(
        project,
        planned,
        str(path),
        image.info.digest,
        programs="not run",
        examined=replace(examined, findings=findings),
    )


def _verify(project: Project, planned: Planned, state: EngineState, digest: str | None, *, run: bool) -> Report:
    target = target_in(planned)
    image = local_image(target.reference)
    if image is None:
        raise VerifyError(f"{target.reference}: the engine has no such image; run `nox -s build -- {row_of(planned)}`")
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
        survey = _survey(project, planned, opened, target.tag)
        examined = examine_image(project, planned, survey)
    findings = (*judge_identity(target, image.digest, digest), *examined.findings)
    facts = examined.facts
    programs: Programs = "not run"
    if run:
        programs = "under emulation" if target.platform.partition("/")[2] != state.architecture else "natively"
        slow = ", which takes some minutes" if programs == "under emulation" else ""
        say(f"verify {target.tag}: running its programs {programs}{slow}")
        said = _probe(project, planned)
        findings += judge_programs(project, planned, said)
        facts += probe_facts(said)
    report = _report(
        project,
        planned,
        target.reference,
        image.digest,
        programs=programs,
        examined=Examined(findings=findings, facts=(("size", f"{image.size_bytes / 1e9:.2f} GB"), *facts)),
    )
    if not report.errors:
        compiled = planned if isinstance(planned, CompiledImage) else None
        write_file(bill_path(project, target), spdx_json(bill_of(project, survey, compiled)))
    return report


def _survey(project: Project, planned: Planned, image: OpenImage, name: str) -> Survey:
    chip = project.matrix.chip
    return read_survey(image, name, say, compute_capability=chip.compute_capability, also=texts_of(planned))


def _probe(project: Project, planned: Planned) -> Probe:
    target = target_in(planned)
    try:
        output = run_python(
            target.reference,
            _script(project),
            modules_in(planned),
            platform=target.platform,
            timeout_s=_PROBE_TIMEOUT_S,
        )
        return parse_probe(output, target.reference)
    except VerifyError as err:
        # Then every check is a finding, one with the reason: the report is written, and the next image looked at.
        return {"machine": {"error": str(err)}}


def _report(
    project: Project, planned: Planned, reference: str, digest: str, *, programs: Programs, examined: Examined
) -> Report:
    target = target_in(planned)
    findings, waived = settle(project, planned, examined.findings, today=today())
    return Report(
        tag=target.tag,
        name=target.name,
        reference=reference,
        digest=digest,
        plan_digest=plan_digest_of(project, planned),
        checks_digest=checks_digest(project, planned),
        programs=programs,
        facts=(("digest", digest), *facts_in(planned), *examined.facts),
        findings=findings,
        waived=waived,
    )


# ---- what was found before


def _is_known_clean(project: Project, planned: Planned, digest: str) -> bool:
    """Whether just this image was verified before, and billed: then a build need not look again."""
    target = target_in(planned)
    path, bill = report_path(project, target), bill_path(project, target)
    if not (path.exists() and bill.exists() and digest_in_bill(bill.read_text(encoding="utf-8")) == digest):
        return False
    text = path.read_text(encoding="utf-8")
    return is_clean_report(text, digest=digest, checks_digest=checks_digest(project, planned), today=today())


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def checks_digest(project: Project, planned: Planned) -> str:
    """Of all that looks at an image and decides what is wrong with it: the probe, the rules, and this program."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    looked = [_script(project), *modules_in(planned), *(one.read_text(encoding="utf-8") for one in sources)]
    return sha256_of(canonical({"rules": asdict(project.matrix.rules), "texts": looked}))


def _script(project: Project) -> str:
    return (project.recipes / "scripts" / "probe.py").read_text(encoding="utf-8")


def report_path(project: Project, of: Target | SourceTarget | Report, *, ran: bool = True) -> Path:
    """Of one whose programs were not run elsewhere: it says less, and does not replace one that says more."""
    return project.build / "reports" / f"{of.name}{'' if ran else '.unrun'}.json"


def bill_path(project: Project, of: Target | SourceTarget) -> Path:
    """The bill of materials, as SPDX, of the image that was last found clean."""
    return project.build / "reports" / f"{of.name}.spdx.json"
