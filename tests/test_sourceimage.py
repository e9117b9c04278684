"""Claims about what is to be in the compiled images of the real matrix."""

import pytest
from tests.builders import ROOT

from sparkbake.looks import compiled_images
from sparkbake.model import Strategy
from sparkbake.project import open_project
from sparkbake.sourceimage import CompiledImage

PROJECT = open_project(ROOT)
# With all commits known.
COMPILED = [
    row
    for row in PROJECT.rows
    if row.release.strategy is Strategy.SOURCE and not any("commit of" in one for one in PROJECT.open_pins(row))
]


def images(tag: str) -> tuple[CompiledImage, ...]:
    return compiled_images(PROJECT, PROJECT.select([tag]))


def test_most_rows_are_looked_at_here() -> None:
    assert {"0.14.1-t4", "0.14.1-t5"} <= {row.tag for row in COMPILED}


@pytest.mark.parametrize("tag", [row.tag for row in COMPILED])
def test_what_is_compiled_is_installed_from_nowhere_else(tag: str) -> None:
    for image in images(tag):
        assert not {one.name for one in image.wheels} & {*image.compiled, "nvidia-nccl-cu13"}
        assert {"torch", "torchvision", "torchaudio"} <= set(image.compiled) <= image.packages.keys()
        assert len({one.name for one in image.sources}) == len(image.sources), "each repository once"


def test_an_image_has_what_its_foundation_has_and_its_own() -> None:
    _dev, runtime, vllm = images("0.14.1-t4")
    assert runtime.packages.keys() <= vllm.packages.keys()
    assert {"ray", "transformers", "vllm", "triton"} <= vllm.packages.keys() - runtime.packages.keys()
    (vllm_source,) = (one for one in vllm.sources if one.name == "vllm")
    assert vllm_source.commit


def test_transformers_from_git_is_compiled() -> None:
    vllm = images("0.14.0-t5")[-1]
    assert "transformers" in vllm.compiled
    assert vllm.packages["transformers"] == vllm.versions["transformers"]


def test_settings_are_those_of_the_foundation_and_the_image_s_own() -> None:
    _dev, runtime, vllm = images("0.14.1-t4")
    env = vllm.settings["Env"]
    assert isinstance(env, list)
    assert {"NCCL_ROOT=/opt/nccl", "XDG_CACHE_HOME=/cache"} <= set(env)
    assert vllm.settings["Entrypoint"] == ["/usr/local/bin/spark"]
    assert (runtime.settings["Entrypoint"], runtime.settings["Cmd"]) == ([], ["/bin/bash"])


def test_effects_on_what_is_compiled_are_not_looked_for() -> None:
    """Neither those on CMake files nor those on scripts that generate kernels; an image has none of them."""
    vllm = images("0.14.1-t4")[-1]
    assert {name for name, _check in vllm.effects} == {"0003-fp8-linear-torch.patch", "0004-fp8-moe-triton.patch"}
    assert "0002-marlin-lists.patch" in {one.name for one in vllm.target.patches}


def test_a_foundation_is_made_anew_by_a_row_that_stands_on_it() -> None:
    dev, runtime, vllm = images("0.14.1-t4")
    assert (dev.row, runtime.row, vllm.row) == ("0.14.1-t4", "0.14.1-t4", "0.14.1-t4")
    assert (dev.release, vllm.release) == (None, "0.14.1")
    assert set(runtime.os_packages) < set(dev.os_packages)
