"""Gather what there is of each image that is to be published: of compiled rows the foundations first."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sparkbake.engine import local_image
from sparkbake.expected import load_expected
from sparkbake.looks import Planned, compiled_images, plan_digest_of, row_of, target_in, target_of
from sparkbake.model import LocalImage, Pairs, Row, Strategy
from sparkbake.project import Project
from sparkbake.provenance import input_digest, provenance_path
from sparkbake.publishable import Candidate, is_provenance_of
from sparkbake.sourceimage import CompiledImage
from sparkbake.verify import is_clean_report
from sparkbake.verifying import bill_path, checks_digest, report_path, today


def candidates_of(project: Project, rows: Sequence[Row]) -> tuple[Candidate, ...]:
    """The images of some rows, after those of the foundations that they stand on.

    Raises:
        LockError: a lock is missing, stale or damaged.
        UsageError: the commit of a source is not known.
        VerifyError: the engine does not answer.
    """
    compiled = [row for row in rows if row.release.strategy is Strategy.SOURCE]
    images = compiled_images(project, compiled) if compiled else ()
    held = {one.target.name: local_image(one.target.reference) for one in images}
    parents = [(one.target.reference, name, digest) for one in images for name, digest in _parents(project, one, held)]
    found = {}
    for one in images:
        made_into = tuple((child, digest) for child, name, digest in parents if name == one.target.name)
        made = _candidate(project, one, held[one.target.name], trimmed=("", ""), made_into=made_into)
        found[one.target.name] = made
    own = {one.target.tag: one for one in found.values() if not one.is_foundation}
    return (
        *(one for one in found.values() if one.is_foundation),
        *(own.get(row.tag) or _from_wheels(project, row) for row in rows),
    )


def _parents(
    project: Project, image: CompiledImage, held: Mapping[str, LocalImage | None]
) -> Iterator[tuple[str, str]]:
    """Name and digest of what the engine's image was made from; nothing where the provenance is of another one."""
    known, text = held[image.target.name], _text(provenance_path(project, image.target.name)) or ""
    for _context, name in image.target.parents:
        digest = input_digest(text, name)
        if known is not None and digest is not None and is_provenance_of(text, known.digest):
            yield name, digest


def _from_wheels(project: Project, row: Row) -> Candidate:
    image = local_image(project.reference(row))
    target = target_of(project, row, image.labels if image else ())
    # As it is published, trimmed: what its label says of that is held against the plan.
    (target,) = project.plan([row], target.base).targets
    key = f"{project.matrix.project.label_prefix}.trimmed"
    trimmed = (dict(image.labels if image else ()).get(key, ""), dict(target.labels)[key])
    return _candidate(project, target, image, trimmed=trimmed, made_into=())


def _candidate(
    project: Project, planned: Planned, image: LocalImage | None, *, trimmed: tuple[str, str], made_into: Pairs
) -> Candidate:
    target = target_in(planned)
    report = _text(report_path(project, target))
    checks = checks_digest(project, planned)
    # Of no compiled image there is a record: nobody has measured how far compiling gives the same bytes.
    known = load_expected(project.locks, target.tag)
    return Candidate(
        target=target,
        row=row_of(planned),
        image=image,
        trimmed=trimmed,
        report=report,
        is_clean=bool(report and image)
        and is_clean_report(report or "", digest=image.digest if image else "", checks_digest=checks, today=today()),
        plan_digest=plan_digest_of(project, planned),
        checks_digest=checks,
        recorded=known.get(target.base.name),
        recorded_on=tuple(sorted(set(known) - {target.base.name})),
        bill=_text(bill_path(project, target)),
        provenance=_text(provenance_path(project, target.name)),
        made_into=made_into,
    )


def _text(path: Path) -> str | None:
    """What `verify` and `build` have left; "" of what is no text, which is then told as damaged."""
    try:
        return path.read_text(encoding="utf-8") if path.exists() else None
    except UnicodeDecodeError:
        return ""
