"""Claims about benchmarks/real_sources.py that need no engine: what it changes in rendered files is there to change."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.builders import ROOT

from sparkbake.project import open_project
from sparkbake.sourcemodel import SourceTarget

ROWS = ("0.14.1-t4", "0.22.1-t5")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_sources", ROOT / "benchmarks/real_sources.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rendered(row: str, recipe: str) -> tuple[SourceTarget, str]:
    project = open_project(ROOT)
    plan = project.source_plan(project.select([row]))
    target = next(one for one in plan.targets if one.recipe == recipe)
    files = project.source_contexts(plan)[target.name]
    return target, next(one.content for one in files if str(one.path) == "Dockerfile")


@pytest.mark.parametrize("row", ROWS)
def test_the_stages_behind_a_foundation_find_what_they_take(script: ModuleType, row: str, tmp_path: Path) -> None:
    _target, dockerfile = rendered(row, "pytorch-dev")
    named = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile + script.BEHIND, re.MULTILINE))
    asked = set(re.findall(r"(?:--from=|^FROM )([a-z-]+)", script.BEHIND, re.MULTILINE)) - {"scratch"}
    assert asked == {"nccl", "nccl-tests", "nccl-version", "tools"}
    assert asked <= named
    (tmp_path / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    assert {"ccache", "libjpeg-turbo8-dev"} <= set(script.installed_by(tmp_path))


@pytest.mark.parametrize("row", ROWS)
def test_there_is_one_stage_that_compiles_vllm_and_every_source_is_checked_out_as_expected(
    script: ModuleType, row: str
) -> None:
    target, dockerfile = rendered(row, "vllm-source")
    assert dockerfile.count(script.MARKER) == 1
    for one in script.checkouts(target):
        assert dockerfile.count(script.checkout_words(one.repository, one.commit)) == 1, one.name


def test_the_row_of_the_documentation_has_a_toolkit_of_its_own_version(script: ModuleType) -> None:
    target, _dockerfile = rendered("0.14.1-t4", "pytorch-dev")
    text = script.toolkit_requirements(target).read_text(encoding="utf-8")
    assert re.search(r"^nvidia-cuda-nvcc==13\.1\.", text, re.MULTILINE)
    assert dict(target.versions)["cuda"].startswith("13.1.")


def test_of_a_log_the_recipes_own_words_are_shown(script: ModuleType) -> None:
    shown = ("#11 0.3 jobs: 2 (as asked for)", "#30 9.1 -- CUDA target architectures: 12.0f", "#9 1.2 checkout: /src/x")
    hidden = (
        "#11 61.0 Compiling  debug.cc > /tmp/nccl/obj/debug.o",
        "#5 DONE 0.1s",
        "#30 9.1 -- Detecting CXX features",
    )
    assert all(script.STEPS.search(one) for one in shown)
    assert not any(script.STEPS.search(one) for one in hidden)
