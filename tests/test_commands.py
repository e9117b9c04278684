"""Claims about what a build asks of the disk, by what was begun before, and about the files that it leaves."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.imagebuilder import config_of, make_checkout, make_layers, target_of, write_image

from sparkbake import commands
from sparkbake.build import Output
from sparkbake.buildx import BakeResult
from sparkbake.engine import EngineState
from sparkbake.images import open_image
from sparkbake.model import Plan
from sparkbake.project import Project, open_project

ROOT = Path(__file__).parents[1]
STATE = EngineState(
    version="28.5.2", architecture="arm64", has_containerd_store=True, data_folder="/x", cached_bytes=10**11
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The real matrix and locks, with a build folder of its own."""
    (tmp_path / "locks").symlink_to(ROOT / "locks")
    return replace(open_project(ROOT), root=tmp_path)


def cached_bytes(project: Project, monkeypatch: pytest.MonkeyPatch, *, no_cache: bool = False) -> int:
    """What preflight is told that the build cache spares this build."""
    told: list[Any] = []
    monkeypatch.setattr(commands, "engine_state", lambda: STATE)
    monkeypatch.setattr("sparkbake.ready.buildx_version", lambda: "v0.29.1")
    monkeypatch.setattr(commands, "local_image", lambda _reference: None)
    monkeypatch.setattr("sparkbake.preflight.check", lambda _needs, state, **_rest: told.append(state.cached_bytes))
    commands._preflight(
        project, plan_of(project), argparse.Namespace(no_cache=no_cache, builder=None, compression="zstd")
    )
    (found,) = told
    return int(found)


def plan_of(project: Project) -> Plan:
    return project.plan(project.select(["0.20.2-*"]), project.matrix.bases[1])


def test_a_cache_of_other_builds_spares_no_disk(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached_bytes(project, monkeypatch) == 0


def test_a_build_that_was_begun_needs_less(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for target in plan_of(project).targets:
        commands._mark_begun(project, target)
    assert cached_bytes(project, monkeypatch) == 10**11
    assert cached_bytes(project, monkeypatch, no_cache=True) == 0


def test_a_build_that_was_begun_for_one_of_two_rows_spares_none(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands._mark_begun(project, plan_of(project).targets[0])
    assert cached_bytes(project, monkeypatch) == 0


@pytest.mark.parametrize("is_it", [True, False])
def test_a_built_file_is_held_against_what_the_build_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_it: bool
) -> None:
    project = make_checkout(tmp_path / "checkout")
    target = target_of(project)
    image = write_image(tmp_path / "image", make_layers(project), config_of(target))
    digest = open_image(image, platform="linux/arm64").info.digest if is_it else "sha256:" + 64 * "0"
    status = commands._verify_built(
        project,
        Plan(targets=(target,)),
        STATE,
        result=BakeResult(digests={target.name: digest}, executed=()),
        output=Output(oci=image),
        options=argparse.Namespace(no_verify=False, json=False),
    )
    assert status == (0 if is_it else 1)
    assert ("error: digest" in capsys.readouterr().out) is not is_it
