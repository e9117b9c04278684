"""Claims about what vLLM does for a model: which file it opens, and when it opens none."""

from collections.abc import Sequence

import pytest
from tests.moebuilder import BLOCKS, FOLDER, make_config
from tests.test_moerules import real_rules

from sparkbake.errors import UsageError
from sparkbake.modelconfig import Model, Scheme, described
from sparkbake.moeanswer import Answer, answer_for
from sparkbake.moeread import ConfigFile, Configs

FP8 = described(experts=256, intermediate=1024, dtype="fp8_w8a8", block_shape=(128, 128))


def answer(
    model: Model = FP8,
    *,
    tp: int = 2,
    version: str = "0.20.2",
    folder: str | None = None,
    environment: Sequence[tuple[str, str]] = (),
    files: Sequence[str] = (f"{FOLDER}/{BLOCKS}",),
) -> Answer:
    configs = Configs(
        image="x",
        digest="sha256:1",
        version=version,
        environment=tuple(environment),
        folder=folder,
        shipped=FOLDER,
        files=tuple(ConfigFile(path=one, layer_name="vllm", sha256="", text=make_config()) for one in files),
    )
    return answer_for(model, configs, real_rules(), tp=tp, expert_parallel=False)


def test_the_file_that_vllm_ships_is_found_for_the_split_it_is_for() -> None:
    found = answer()
    assert (found.state, found.name, found.looked_in, found.opens) == ("found", BLOCKS, (f"{FOLDER}/{BLOCKS}",), True)
    other = answer(tp=1)
    assert (other.state, other.found, other.opens) == ("defaults", None, False)
    assert other.looked_in == (f"{FOLDER}/{BLOCKS.replace('512', '1024')}",)


def test_the_folder_that_the_image_names_goes_first() -> None:
    both = answer(folder="etc/moe", files=[f"{FOLDER}/{BLOCKS}", f"etc/moe/{BLOCKS}"])
    assert both.found
    assert both.found.path == f"etc/moe/{BLOCKS}"
    one = answer(folder="etc/moe")
    assert one.looked_in == (f"etc/moe/{BLOCKS}", f"{FOLDER}/{BLOCKS}")
    assert one.found
    assert one.found.path == f"{FOLDER}/{BLOCKS}"


def test_a_file_that_is_there_is_not_opened_by_another_kernel() -> None:
    found = answer(version="0.32.0")
    assert (found.state, found.opens) == ("found", False)
    assert found.kernel
    assert (found.kernel.name, found.kernel.asked is not None) == ("DeepGEMM", True)
    assert answer(version="0.32.0", environment=[("VLLM_MOE_USE_DEEP_GEMM", "0")]).opens is True


def test_of_a_release_without_rules_it_is_not_known_whether_it_opens_the_file() -> None:
    found = answer(version="9.0")
    assert (found.state, found.kernel, found.opens) == ("found", None, None)


@pytest.mark.parametrize(("value", "state"), [("1", "unread"), ("0", "found"), ("", "found")])
def test_batches_that_must_not_matter_have_no_config(value: str, state: str) -> None:
    found = answer(environment=[("VLLM_BATCH_INVARIANT", value)])
    assert (found.state, found.opens) == (state, state == "found")


def test_a_kernel_that_never_opens_one_is_said() -> None:
    mxfp4 = Model(experts=8, intermediate=64, hidden=None, scheme=Scheme(name="mxfp4"))
    found = answer(mxfp4, tp=1)
    assert (found.state, found.looked_in) == ("unread", ())
    assert "no kernel for MXFP4 opens a config" in found.why


def test_a_split_that_the_release_refuses_is_refused() -> None:
    assert answer(tp=16, version="0.29.0").shape.block_shape == (64, 64)
    with pytest.raises(UsageError, match="has no whole blocks of 128x128, and this release refuses the model so"):
        answer(tp=16, version="0.28.0")
