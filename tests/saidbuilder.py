"""What `verify` and `build` keep of an image for publishing, for tests: a report, a bill of materials, a provenance."""

import json
from typing import Any

from tests.builders import ROOT

from sparkbake.bake import target_body
from sparkbake.bill import Bill, Component, Distribution, image_purl, purl
from sparkbake.looks import Planned, plan_digest_of, target_in
from sparkbake.model import Target
from sparkbake.project import Project, write_file
from sparkbake.provenance import provenance_path
from sparkbake.slsa import Builder, inputs_of, provenance_of
from sparkbake.spdx import spdx_json
from sparkbake.verify import Report
from sparkbake.verifying import bill_path, checks_digest

METADATA: dict[str, Any] = json.loads((ROOT / "tests" / "data" / "buildkit-metadata.json").read_text(encoding="utf-8"))
# Of a real build: what BuildKit wrote into bake's metadata.
BUILT: dict[str, Any] = METADATA["spark-vllm-0_20_2-t4"]["buildx.build.provenance"]


def clean_report(project: Project, planned: Planned, digest: str) -> Report:
    """That of an image in which nothing was found, its programs run."""
    target = target_in(planned)
    return Report(
        tag=target.tag,
        name=target.name,
        reference=target.reference,
        digest=digest,
        plan_digest=plan_digest_of(project, planned),
        checks_digest=checks_digest(project, planned),
        programs="natively",
        facts=(),
        findings=(),
        waived=(),
    )


def make_bill(target: Target, digest: str, *, without: str = "") -> str:
    """The bill of an image of a target: its wheels, but for one.

    Args:
        without: name of the wheel that is left out.
    """
    components = [
        Component(
            purl=purl("pypi", one.name, one.version),
            name=one.name,
            version=one.version,
            wheel=one,
            licence=None,
            summary=None,
            maintainer=None,
            origin=None,
            patches=(),
            trimmed=None,
        )
        for one in target.environment.wheels
        if one.name != without
    ]
    return spdx_json(
        Bill(
            reference=target.reference,
            digest=digest,
            created="2026-10-25T12:34:56Z",
            address="https://example.com/project",
            purl=image_purl(target.reference, digest, "arm64"),
            labels=target.labels,
            licence=None,
            distribution=Distribution(id="debian", name="Debian GNU/Linux", version="13"),
            components=tuple(components),
        )
    )


def make_provenance(target: Target, digest: str, plan_digest: str, *, started: str | None = None) -> str:
    """What a build keeps.

    Args:
        started: when it was, where that is to be another time.
    """
    built = {**BUILT, "metadata": {**BUILT["metadata"], **({"buildStartedOn": started} if started else {})}}
    builder = Builder(id="https://example.com/project#built-by-hand")
    predicate = provenance_of(built, target_body(target), inputs_of(target, plan_digest), builder=builder)
    return json.dumps({"schema": 1, "digest": digest, "plan_digest": plan_digest, "predicate": predicate})


def keep(project: Project, target: Target, digest: str, *, started: str | None = None) -> None:
    """Leave both where `publish` looks for them."""
    write_file(bill_path(project, target), make_bill(target, digest))
    said = make_provenance(target, digest, project.plan_digest(target), started=started)
    write_file(provenance_path(project, target.name), said)
