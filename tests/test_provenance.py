"""Claims about what a build keeps of how its images came to be."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.imagebuilder import make_checkout, target_of
from tests.saidbuilder import BUILT
from tests.test_slsa import NAME, SLSA

from sparkbake.buildx import BakeResult
from sparkbake.project import Project
from sparkbake.provenance import builder_of, input_digest, keep_provenance, provenance_path

DIGEST = "sha256:" + 64 * "9"
URL = "https://example.com/project"
RUNNER = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://git.example",
    "GITHUB_REPOSITORY": "o/r",
    "GITHUB_WORKFLOW_REF": "o/r/.w/publish.yml@refs/heads/main",
    "GITHUB_RUN_ID": "7",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_SHA": 40 * "c",
}


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where these tests run in a workflow."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_checkout(tmp_path / "checkout")


def keep(project: Project, **provenance: Any) -> Path:
    result = BakeResult(digests={NAME: DIGEST}, executed=(), provenance=provenance)
    keep_provenance(project, [target_of(project)], result)
    return provenance_path(project, NAME)


def test_a_build_leaves_its_provenance_beside_the_report(project: Project) -> None:
    path = keep(project, **{NAME: BUILT})
    assert path == project.build / "reports" / f"{NAME}.provenance.json"
    body = json.loads(path.read_text(encoding="utf-8"))
    assert (body["schema"], body["digest"]) == (1, DIGEST)
    assert body["plan_digest"] == project.plan_digest(target_of(project))
    SLSA.validate(body["predicate"])
    assert body["predicate"]["runDetails"]["builder"]["id"] == f"{project.matrix.project.url}#built-by-hand"


def test_without_any_that_of_a_former_build_goes(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    keep(project, **{NAME: BUILT})
    assert not keep(project).exists()
    assert (
        "0.20.2-t4: BuildKit gave no provenance, so that it cannot be published; update docker buildx"
        in capsys.readouterr().err
    )


def test_a_workflow_is_the_builder_where_one_runs() -> None:
    found = builder_of(RUNNER, URL)
    assert found.id == "https://git.example/o/r/.w/publish.yml@refs/heads/main"
    assert found.invocation == "https://git.example/o/r/actions/runs/7/attempts/2"
    assert (found.repository, found.commit) == ("https://git.example/o/r@refs/heads/main", 40 * "c")


@pytest.mark.parametrize("missing", ["GITHUB_ACTIONS", "GITHUB_WORKFLOW_REF", "GITHUB_SHA"])
def test_elsewhere_it_is_a_maintainer(missing: str) -> None:
    found = builder_of({key: value for key, value in RUNNER.items() if key != missing}, URL)
    assert found.id == f"{URL}#built-by-hand"
    assert (found.invocation, found.repository, found.commit) == (None, None, None)


def test_what_a_build_has_kept_says_the_digest_of_an_input(project: Project) -> None:
    text = keep(project, **{NAME: BUILT}).read_text(encoding="utf-8")
    assert input_digest(text, "base") == target_of(project).base_digest
    assert input_digest(text, "another") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"predicate": {"buildDefinition": {"resolvedDependencies": 1}}}']
)
def test_what_is_damaged_says_nothing_of_any_input(text: str) -> None:
    assert input_digest(text, "base") is None
