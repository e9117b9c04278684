"""Claims about the format of reports: report.schema.json, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.imagebuilder import Layers, with_member, without
from tests.ocibuilder import make_file
from tests.verified import REPORT, VALIDATOR, look

from sparkbake.project import Project
from sparkbake.verify import SCHEMA


@pytest.fixture(scope="module")
def report(project: Project, layers: Layers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """That of a clean image."""
    found = look(project, tmp_path_factory.mktemp("clean") / "image", layers)
    assert found.status == 0
    return dict(found.report)


def objects(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [schema, *(one for one in schema["$defs"].values() if one["type"] == "object")]


def test_the_schema_of_reports_is_one_and_of_this_version() -> None:
    Draft202012Validator.check_schema(REPORT)
    assert REPORT["properties"]["schema"]["const"] == SCHEMA


def test_the_schema_of_reports_describes_each_key_and_knows_no_other() -> None:
    for one in objects(REPORT):
        assert one["additionalProperties"] is False
        assert sorted(one["required"]) == sorted(one["properties"])
        for key in one["properties"].values():
            assert key["description"].endswith(".")


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"digest": "sha256:abc"},
        {"programs": "maybe"},
        {"clean": False},
        {"more": 1},
        {"facts": {"a": 1}},
        {"findings": [{"id": "a"}]},
        {"waived": [{}]},
    ],
)
def test_what_is_no_report_is_refused(report: dict[str, Any], changes: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**report, **changes})


def test_a_report_with_an_error_is_not_clean(project: Project, layers: Layers, tmp_path: Path) -> None:
    found = look(project, tmp_path / "image", with_member(layers, make_file("usr/bin/backdoor", b"#!/bin/sh\n")))
    assert (found.report["clean"], found.errors) == (False, [("file-unowned", "usr/bin/backdoor")])
    assert not VALIDATOR.is_valid({**found.report, "clean": True})


def test_a_report_with_warnings_alone_is_clean(project: Project, layers: Layers, tmp_path: Path) -> None:
    found = look(project, tmp_path / "image", without(layers, "etc/ssl/certs/ca-certificates.crt"))
    assert (found.status, found.report["clean"], found.errors) == (0, True, [])
    assert found.warnings == [("rule-unused", "generated: etc/ssl/certs/*")]
