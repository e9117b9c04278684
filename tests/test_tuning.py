"""Claims about the command `moe`: what it may be asked, what it says, and how it ends."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT
from tests.moebuilder import BLOCKS, FOLDER, PLAIN, make_config, make_vllm
from tests.ocibuilder import MadeLayer, copied, write_layout

from sparkbake.errors import UsageError
from sparkbake.moe import DEFAULT_LADDER
from sparkbake.tuning import BATCHES, asked_model, moe

QWEN3_NEXT = {
    "num_experts": 512,
    "moe_intermediate_size": 512,
    "hidden_size": 2048,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
WORDS = {"experts": 256, "intermediate": 512, "dtype": "fp8_w8a8", "block_shape": "128,128"}
SHOWN = f"vllm/model_executor/layers/fused_moe/configs/{BLOCKS}"
OTHER = "E=2,N=2,device_name=AMD_Instinct_MI300X.json"


def options(image: Path | str = "x", /, **changes: Any) -> argparse.Namespace:
    given: dict[str, Any] = {
        "root": ROOT,
        "image": str(image),
        "platform": None,
        "model": None,
        "tp": 1,
        "ep": False,
        "experts": None,
        "intermediate": None,
        "dtype": None,
        "block_shape": None,
        "all": False,
        "compile": False,
        "triton": None,
        "json": False,
    }
    return argparse.Namespace(**{**given, **changes})


@pytest.fixture
def image(tmp_path: Path) -> Path:
    configs = {BLOCKS: make_config(), OTHER: make_config([1])}
    return write_layout(tmp_path / "image", [copied("vllm", make_vllm(configs, "0.20.2"))])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_NEXT))
    return tmp_path


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


# ---- what may be asked


def test_a_model_is_a_folder_or_a_file(model: Path) -> None:
    found = asked_model(options(model=model))
    assert found
    assert (found.experts, found.intermediate, found.scheme.block_shape) == (512, 512, (128, 128))
    assert asked_model(options(model=model / "config.json")) == found


def test_experts_can_be_described_instead() -> None:
    found = asked_model(options(**WORDS))
    assert found
    assert (found.experts, found.intermediate, found.scheme.name) == (256, 512, "fp8-block")
    assert asked_model(options()) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tp": 2}, "got --tp or --ep without a model; expected --model, or --experts with --intermediate"),
        ({"ep": True}, "got --tp or --ep without a model"),
        ({"experts": 8}, "expected --experts, --intermediate, both from 1, and --dtype: they go together"),
        ({"block_shape": "128,128"}, "they go together"),
        ({**WORDS, "experts": -8}, "both from 1"),
        ({**WORDS, "dtype": "fp8"}, "--dtype: got 'fp8', expected one of bf16, fp8_w8a8, "),
        ({**WORDS, "dtype": "bf16"}, "--block-shape goes with --dtype fp8_w8a8"),
        ({**WORDS, "block_shape": "128x128"}, "--block-shape: got '128x128', expected two sizes such as 128,128"),
        ({**WORDS, "model": Path("x")}, "got --model and a description of its experts; expected one of both"),
        ({"model": Path("none.json")}, r"--model: none\.json: cannot be read: .*; expected a model's config\.json"),
    ],
)
def test_a_wrong_question_says_what_is_expected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked_model(options(**changes))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "cannot be read: Expecting"), ("[]", "got a JSON list, expected an object")]
)
def test_a_config_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        asked_model(options(model=tmp_path))


def test_an_image_in_a_registry_is_refused() -> None:
    with pytest.raises(UsageError, match="expected an image that is here: pull it"):
        moe(options("docker://registry.example/x:1"))


def test_a_release_of_no_row_needs_its_triton_named(tmp_path: Path) -> None:
    image = write_layout(tmp_path / "image", [copied("vllm", make_vllm({BLOCKS: make_config()}, "0.19.0"))])
    with pytest.raises(UsageError, match=r"no row has vLLM .*: --triton VERSION"):
        moe(options(image, compile=True))


def test_a_triton_that_is_not_pinned_is_refused(image: Path) -> None:
    with pytest.raises(UsageError, match=r"Triton 1\.0: has no moe-1\.0\.txt"):
        moe(options(image, compile=True, triton="1.0"))


# ---- what is said


def test_the_file_that_is_opened_is_told_with_the_entry_of_each_batch(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert moe(options(image, **WORDS)) == 0
    said = lines(capsys)
    assert f"name {BLOCKS}" in said
    assert f"looks for {SHOWN}" in said
    assert "512 512" in said
    assert any(line.startswith(f"{SHOWN} ") and line.endswith(" 18 good") for line in said)
    assert said[-1] == f"vLLM 0.20.2 opens {SHOWN}"


def test_falling_to_the_defaults_is_an_answer_and_no_fault(
    image: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert moe(options(image, model=model, tp=2)) == 0
    said = lines(capsys)
    assert "experts on each GPU 512 with an inner size of 256" in said
    assert said[-1] == "vLLM 0.20.2 falls to its defaults and warns: 'Using default MoE config'"


def test_expert_parallelism_asks_for_another_file(image: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert moe(options(image, model=model, tp=2, ep=True)) == 0
    assert lines(capsys)[-1] == f"vLLM 0.20.2 opens {SHOWN}"


def test_another_kernel_is_told_with_what_to_say_against_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_layout(tmp_path, [copied("vllm", make_vllm({BLOCKS: make_config()}, "0.32.0"))])
    assert moe(options(image, **WORDS)) == 0
    assert lines(capsys)[-1] == (
        "vLLM 0.32.0 runs DeepGEMM and opens no config; with --moe-backend triton, or VLLM_MOE_USE_DEEP_GEMM=0 in the "
        f"environment it opens {SHOWN}"
    )


def test_kernels_that_never_open_one_are_told(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mxfp4 = {"num_local_experts": 32, "intermediate_size": 2880, "quantization_config": {"quant_method": "mxfp4"}}
    (tmp_path / "config.json").write_text(json.dumps(mxfp4))
    assert moe(options(image, model=tmp_path)) == 0
    assert lines(capsys)[-1].startswith("vLLM 0.20.2 looks for no config: vLLM runs none of vLLM's Triton kernels")


def test_a_release_without_rules_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_layout(tmp_path, [copied("vllm", make_vllm({BLOCKS: make_config()}, "9.0"))])
    assert moe(options(image, **WORDS)) == 0
    assert "kernel not known for this release: what is said here holds for Triton" in lines(capsys)


def test_an_answer_for_machines_is_json(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert moe(options(image, **WORDS, json=True)) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["vllm"], said["device"]) == (1, "0.20.2", "NVIDIA_GB10")
    answer = said["answer"]
    assert (answer["state"], answer["opens"], answer["name"]) == ("found", True, BLOCKS)
    assert answer["shape"] == {"experts": 256, "intermediate": 512, "dtype": "fp8_w8a8", "block_shape": [128, 128]}
    assert answer["chosen"] == {str(one): one for one in BATCHES}
    assert answer["kernel"]["name"] == "Triton"
    assert answer["found"]["ladder"] == list(DEFAULT_LADDER)
    assert answer["found"]["triton_version"] == "3.6"
    assert [(one["path"], one["findings"]) for one in said["files"]] == [(f"{FOLDER}/{BLOCKS}", [])]
    assert len(said["files"][0]["sha256"]) == 64


def test_an_answer_without_a_file_for_machines(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert moe(options(image, **{**WORDS, "experts": 7}, json=True)) == 0
    answer = json.loads(capsys.readouterr().out)["answer"]
    assert (answer["state"], answer["opens"], answer["found"], answer["chosen"]) == ("defaults", False, None, None)


# ---- the check


def test_a_faulty_file_that_would_be_opened_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_layout(tmp_path, [copied("vllm", make_vllm({BLOCKS: make_config([1, 2])}, "0.20.2"))])
    assert moe(options(image, **WORDS)) == 1
    assert any(line.startswith(f"moe-ladder error {BLOCKS} no entry for 4, 8, ") for line in lines(capsys))
    assert moe(options(image, **{**WORDS, "experts": 7})) == 0


def test_a_warning_does_not_count(tmp_path: Path) -> None:
    image = write_layout(tmp_path, [copied("vllm", make_vllm({BLOCKS: make_config(BLOCK_SIZE_K=256)}, "0.20.2"))])
    assert moe(options(image, **WORDS)) == 0


def test_without_a_model_all_files_for_the_chip_are_checked(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert moe(options(image)) == 0
    said = lines(capsys)
    assert not any(OTHER in line for line in said)
    assert said[-1] == "vLLM 0.20.2: 1 of its 2 configs are for a GB10"
    bad = write_layout(tmp_path / "bad", [copied("vllm", make_vllm({PLAIN: b"{"}))])
    assert moe(options(bad)) == 1
    assert any(line.endswith(" errors: 1, warnings: 0") for line in lines(capsys))


def test_other_files_are_checked_when_asked_for_and_do_not_count(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert moe(options(image, all=True)) == 0
    assert any(line.startswith(f"moe-ladder error {OTHER} no entry for 2, ") for line in lines(capsys))


def test_an_image_without_configs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_layout(tmp_path, [MadeLayer(members=make_vllm({}))])
    assert moe(options(image)) == 0
    assert lines(capsys)[-1] == "vLLM 0.32.0: 0 of its 0 configs are for a GB10"
