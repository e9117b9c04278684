"""Look into the images of `imagebuilder` as `verify` does, and read what it reports, for tests."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from tests.builders import ROOT
from tests.imagebuilder import TAG, Layers, config_of, target_of, write_image

from sparkbake.project import Project
from sparkbake.verifying import verify_files

REPORT: dict[str, Any] = json.loads((ROOT / "report.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(REPORT)
NAME = "spark-vllm-0_20_2-t4"
PREFIX = "dev.example"
# A file of nobody.
BACKDOOR = "usr/bin/backdoor"
ANEW = f"build the image anew from a clean checkout: `nox -s build -- {TAG} --no-cache`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What verify makes of an image: its exit status, its report, and id and subject of each finding."""

    status: int
    report: Mapping[str, Any]

    @property
    def errors(self) -> list[tuple[str, str]]:
        return self._some("error")

    @property
    def warnings(self) -> list[tuple[str, str]]:
        return self._some("warning")

    def said(self, kind: str) -> tuple[str, str]:
        """What was found, and what is expected, in the one finding of a kind."""
        (one,) = [one for one in self.report["findings"] if one["id"] == kind]
        return one["found"], one["expected"]

    def _some(self, severity: str) -> list[tuple[str, str]]:
        return sorted((one["id"], one["subject"]) for one in self.report["findings"] if one["severity"] == severity)


# Look into an image of these layers; `conftest.verify`.
Verify = Callable[..., Result]


def report_path(project: Project, *, ran: bool) -> Path:
    return project.build / "reports" / (f"{NAME}.json" if ran else f"{NAME}.unrun.json")


def report_of(project: Project, *, ran: bool) -> dict[str, Any]:
    """The report on the one image of the project: that of a run of its programs, or that of none."""
    body: dict[str, Any] = json.loads(report_path(project, ran=ran).read_text(encoding="utf-8"))
    VALIDATOR.validate(body)
    return body


def findings_of(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one["id"], one["subject"]) for one in report["findings"]]


def look(
    project: Project, folder: Path, made: Layers, *, labels: Mapping[str, str | None] | None = None, **more: Any
) -> Result:
    """Write an image into a folder, and look into it.

    Args:
        labels: those that are others than planned; None of one that is left out.
        more: further keys of its config; of `config` those that are others than planned.
    """
    config = config_of(target_of(project), **labels or {})
    image = write_image(folder, made, {**config, **more.pop("config", {})}, **more)
    status = verify_files(project, {image: None}, as_json=False)
    return Result(status=status, report=report_of(project, ran=False))
