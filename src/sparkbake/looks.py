"""What an image is held against, whichever way it is made, and by which checks; `verifying` goes image by image.

An image of the wheels strategy is held against its target, a compiled one against what `sourceimage` makes of its own.
"""

import json
from collections.abc import Mapping, Sequence

from sparkbake.errors import VerifyError
from sparkbake.examine import Examined, examine
from sparkbake.findings import Finding, Waived, judge, needed
from sparkbake.labels import NONE, OCI
from sparkbake.model import Pairs, Plan, Row, Strategy, Target
from sparkbake.project import Project
from sparkbake.resolve import trims_of
from sparkbake.sourceexamine import examine_compiled
from sparkbake.sourceimage import CompiledImage, images_of
from sparkbake.sourcemodel import SourceTarget
from sparkbake.sourcereuse import sealed
from sparkbake.surveyed import Survey
from sparkbake.variants import known_variants
from sparkbake.verify import MACHINES, MUST_RUN, Probe, Promise, judge_probe, judge_promise, modules_of
from sparkbake.versions import variant_tag

Planned = Target | CompiledImage


def compiled_images(project: Project, rows: Sequence[Row], variant: str | None = None) -> tuple[CompiledImage, ...]:
    """What is to be in the images of compiled rows and of their foundations, parents first.

    Args:
        variant: see `resolve_source`.

    Raises:
        LockError: a lock is missing, stale or damaged.
        UsageError: the commit of a source is not known, or there is no such variant of a row.
    """
    plan = project.source_plan(rows, variant)
    plan = sealed(plan, project.source_contexts(plan), project.matrix.project.label_prefix)
    return images_of(plan, project.source_contexts(plan))


def target_of(project: Project, row: Row, labels: Pairs) -> Target:
    """What an image of a row should be: its base and whether it is trimmed are as its labels say."""
    said = dict(labels)
    named = said.get(OCI + "base.name")
    bases = (one for one in project.matrix.bases if named is not None and named in (one.name, one.image))
    base = next(bases, project.matrix.bases[0])
    trimmed = said.get(f"{project.matrix.project.label_prefix}.trimmed") != NONE
    return project.plan([row], base, trim=trimmed).targets[0]


def planned_of(project: Project, labels: Pairs, where: str) -> Planned:
    """What an image should be that is found somewhere, of which its labels say what it is.

    Args:
        where: for the message.

    Raises:
        VerifyError: it is no image of this project.
    """
    tag = dict(labels).get(OCI + "version", "")
    compiled = compiled_of(project, labels)
    if compiled is not None:
        return compiled
    for row in project.rows:
        if row.tag == tag and row.release.strategy is Strategy.WHEELS:
            return target_of(project, row, labels)
    raise VerifyError(
        f"{where}: its label {OCI}version is '{tag}', expected a tag of the matrix; it is no image of this project"
    )


def compiled_of(project: Project, labels: Pairs) -> CompiledImage | None:
    """What a compiled image should be, of which its labels say what it is; None of any other image."""
    said = dict(labels)
    tag, title = (said.get(OCI + key) for key in ("version", "title"))
    variant = said.get(f"{project.matrix.project.label_prefix}.variant")
    if variant is not None and variant not in known_variants(project.matrix):
        return None
    for row in project.rows:
        tags = (row.tag, row.foundation.name) if variant is None else (variant_tag(row.tag, variant),)
        if row.release.strategy is Strategy.SOURCE and tag in tags:
            for image in compiled_images(project, [row], variant):
                # Both images of a foundation have its tag.
                if image.target.tag == tag and dict(image.target.labels)[OCI + "title"] == title:
                    return image
    return None


def target_in(planned: Planned) -> Target | SourceTarget:
    return planned.target if isinstance(planned, CompiledImage) else planned


def row_of(planned: Planned) -> str:
    """What `build` is given to get an image."""
    return planned.row if isinstance(planned, CompiledImage) else planned.tag


def plan_digest_of(project: Project, planned: Planned) -> str:
    """Digest of what this checkout would build an image from, 'sha256:' + 64 hex."""
    if isinstance(planned, CompiledImage):
        return str(json.loads(planned.context["manifest.json"])["plan_digest"])
    return project.plan_digest(planned)


def texts_of(planned: Planned) -> frozenset[str]:
    """Paths below site-packages of files whose content a survey is to keep."""
    return (
        frozenset(check.file for _name, check in planned.effects) if isinstance(planned, CompiledImage) else frozenset()
    )


def examine_image(project: Project, planned: Planned, survey: Survey) -> Examined:
    """Hold all that was read of an image against its plan.

    Raises:
        ImageError: what the image says of its own files is damaged.
    """
    matrix = project.matrix
    prefix = matrix.project.label_prefix
    if isinstance(planned, CompiledImage):
        capability = matrix.chip.compute_capability
        return examine_compiled(survey, planned, rules=matrix.rules, label_prefix=prefix, compute_capability=capability)
    context = project.contexts(Plan(targets=(planned,)))[planned.name]
    return examine(
        survey,
        planned,
        context={str(one.path): one.content for one in context},
        os_packages=project.os_packages(planned),
        rules=matrix.rules,
        trims=trims_of(planned.environment, matrix.trims),
        components=matrix.components,
        label_prefix=prefix,
    )


def modules_in(planned: Planned) -> tuple[str, ...]:
    """What must import in an image: of a compiled one, all that is compiled; sorted, each once."""
    return tuple(sorted(planned.compiled)) if isinstance(planned, CompiledImage) else modules_of(planned)


def judge_programs(project: Project, planned: Planned, probe: Probe) -> tuple[Finding, ...]:
    """Hold what recipes/scripts/probe.py printed inside an image against its plan."""
    if isinstance(planned, CompiledImage):
        return judge_promise(_promise(planned), probe)
    return judge_probe(planned, probe, project.matrix.components)


def _promise(image: CompiledImage) -> Promise:
    """What needs a package is tried where that is."""
    versions = image.versions
    says: Mapping[str, str] = {
        "machine": MACHINES[image.target.platform],
        "python": image.target.base.python,
        "ptxas": versions["cuda"],
        **({} if image.is_foundation else dict.fromkeys(("import_vllm", "vllm_command"), versions["vllm"])),
    }
    return Promise(
        tag=image.target.tag,
        runs=tuple(one for one in MUST_RUN if one != "ray_command" or "ray" in image.packages),
        says=tuple(says.items()),
        packages=image.packages,
        versions=versions,
        modules=modules_in(image),
    )


def settle(
    project: Project, planned: Planned, findings: Sequence[Finding], *, today: str
) -> tuple[tuple[Finding, ...], tuple[Waived, ...]]:
    """Tell findings that stand from those that are waived; see `findings.judge`.

    Not all waivers are about compiled images, so that none has to be needed there.

    Args:
        today: YYYY-MM-DD.
    """
    waivers, base = project.matrix.rules.waivers, target_in(planned).base.name
    if isinstance(planned, CompiledImage):
        findings = [planned.remedied(one) for one in findings]
        return judge(findings, needed(waivers, findings), release=planned.release, base=base, today=today)
    return judge(findings, waivers, release=dict(planned.versions)["vllm"], base=base, today=today)


def facts_in(planned: Planned) -> Pairs:
    """What a plan adds to what was seen of an image, for people."""
    if not isinstance(planned, CompiledImage) or not planned.effects:
        return ()
    names = dict.fromkeys(name for name, _check in planned.effects)
    return (("patches looked for", f"{', '.join(names)}: {len(planned.effects)} places in Python files"),)
