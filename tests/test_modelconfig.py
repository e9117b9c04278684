"""Claims about models: how many experts of what size and kind they have, and what one GPU has of them."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkbake.errors import UsageError
from sparkbake.modelconfig import Model, Scheme, described, parse_model, split
from sparkbake.moe import Shape

FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
# The sizes of well-known models.
QWEN3 = {"num_experts": 128, "moe_intermediate_size": 768, "intermediate_size": 6144, "hidden_size": 2048}
DEEPSEEK = {"n_routed_experts": 256, "moe_intermediate_size": 2048, "intermediate_size": 18432, "hidden_size": 7168}
MIXTRAL = {"num_local_experts": 8, "intermediate_size": 14336, "hidden_size": 4096}
DBRX = {"d_model": 6144, "ffn_config": {"moe_num_experts": 16, "ffn_hidden_size": 10752}}
QWEN3_VL = {"text_config": QWEN3, "vision_config": {"intermediate_size": 4304, "hidden_size": 1152}}
OMNI = {"thinker_config": {"text_config": QWEN3}}


def parsed(*parts: Mapping[str, Any], **more: Any) -> Model:
    return parse_model("config.json", {key: value for one in (*parts, more) for key, value in one.items()})


def scheme_of(**quantization: Any) -> Scheme:
    return parsed(QWEN3, quantization_config=quantization).scheme


def compressed(weights: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> Scheme:
    group = {"weights": weights, "input_activations": inputs, "targets": ["Linear"]}
    return scheme_of(quant_method="compressed-tensors", config_groups={"group_0": group})


def sizes(model: Model, tp: int = 1, *, expert_parallel: bool = False, refines: bool = False) -> tuple[int, int]:
    shape = split(model, tp=tp, expert_parallel=expert_parallel, refines=refines)
    return shape.experts, shape.intermediate


# ---- numbers


@pytest.mark.parametrize(
    ("config", "experts", "intermediate", "hidden"),
    [
        (QWEN3, 128, 768, 2048),
        (DEEPSEEK, 256, 2048, 7168),
        (MIXTRAL, 8, 14336, 4096),
        (DBRX, 16, 10752, None),
        (QWEN3_VL, 128, 768, 2048),
        (OMNI, 128, 768, 2048),
        ({"moe_num_experts": [64, 64], "moe_intermediate_size": [1536, 1536]}, 64, 1536, None),
    ],
)
def test_experts_and_their_size_are_found(
    config: Mapping[str, Any], experts: int, intermediate: int, hidden: int | None
) -> None:
    model = parsed(config)
    assert (model.experts, model.intermediate, model.hidden) == (experts, intermediate, hidden)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"intermediate_size": 6144},
            r"config\.json: has no experts: none of num_experts, .* is above 1; .* --experts E",
        ),
        ({**QWEN3, "num_experts": 0}, "has no experts"),
        ({**QWEN3, "num_experts": "many"}, "num_experts: got 'many', expected one number for all layers"),
        ({**QWEN3, "num_experts": True}, "num_experts: got True, expected one number"),
        ({**QWEN3, "moe_intermediate_size": [64, 32]}, r"moe_intermediate_size: got \[64, 32\], expected one number"),
        ({"num_experts": 8}, "the inner size of its experts cannot be told: it has no size of experts"),
        (
            {**MIXTRAL, "shared_expert_intermediate_size": 9},
            "cannot be told: it has shared_expert_intermediate_size, expected one of moe_.*--experts E",
        ),
    ],
)
def test_what_cannot_be_told_names_what_is_there(config: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed(config)


# ---- how weights are stored


@pytest.mark.parametrize(
    ("more", "scheme"),
    [
        ({}, Scheme(name="bf16")),
        ({"torch_dtype": "bfloat16"}, Scheme(name="bf16")),
        ({"dtype": "float32"}, Scheme(name="float32", dtype="float32")),
    ],
)
def test_experts_that_are_not_quantized(more: Mapping[str, Any], scheme: Scheme) -> None:
    assert parsed(QWEN3, more).scheme == scheme


@pytest.mark.parametrize(
    ("quantization", "name", "dtype", "blocks"),
    [
        (FP8, "fp8-block", "fp8_w8a8", (128, 128)),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8-static", "fp8_w8a8", None),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8-dynamic", "fp8_w8a8", None),
        ({"quant_method": "mxfp4"}, "mxfp4", None, None),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8-static", "fp8_w8a8", None),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", None, None),
        ({"quant_method": "awq", "bits": 4}, "wna16", "int4_w4a16", None),
        ({"quant_method": "gptq", "bits": 8}, "wna16", "int8_w8a16", None),
        ({"quant_method": "moe_wna16", "bits": 4}, "moe-wna16", "int4_w4a16", None),
    ],
)
def test_how_the_weights_are_stored(
    quantization: Mapping[str, Any], name: str, dtype: str | None, blocks: tuple[int, int] | None
) -> None:
    scheme = scheme_of(**quantization)
    assert (scheme.name, scheme.dtype, scheme.block_shape) == (name, dtype, blocks)


def test_a_quantization_beside_the_text_model_is_found() -> None:
    assert parsed(QWEN3_VL, quantization_config=FP8).scheme.name == "fp8-block"


@pytest.mark.parametrize(
    ("weights", "inputs", "name", "dtype"),
    [
        ({"type": "float", "num_bits": 8, "strategy": "channel"}, {"dynamic": True}, "fp8-dynamic", "fp8_w8a8"),
        ({"type": "float", "num_bits": 8, "strategy": "tensor"}, {"dynamic": False}, "fp8-static", "fp8_w8a8"),
        ({"type": "float", "num_bits": 8, "strategy": "tensor"}, {"dynamic": True}, "fp8-dynamic", "fp8_w8a8"),
        ({"type": "float", "num_bits": 4, "group_size": 16}, {"dynamic": "local"}, "nvfp4", None),
        ({"type": "float", "num_bits": 4, "group_size": 32}, None, "mxfp4", None),
        ({"type": "int", "num_bits": 8, "strategy": "channel"}, {"dynamic": True}, "int8", None),
        ({"type": "int", "num_bits": 4, "group_size": 128}, None, "wna16", "int4_w4a16"),
        ({"type": "int", "num_bits": 8, "group_size": 128}, None, "wna16", "int8_w8a16"),
    ],
)
def test_how_compressed_tensors_stores_weights(
    weights: Mapping[str, Any], inputs: Mapping[str, Any] | None, name: str, dtype: str | None
) -> None:
    scheme = compressed(weights, inputs)
    assert (scheme.name, scheme.dtype, scheme.block_shape) == (name, dtype, None)


def test_blocks_of_compressed_tensors() -> None:
    weights = {"type": "float", "num_bits": 8, "strategy": "block", "block_structure": [128, 128]}
    assert compressed(weights, {"dynamic": True}).block_shape == (128, 128)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            "quant_method 'bitsandbytes' and the keys load_in_4bit",
        ),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": 5}}, "the keys config_groups, quant_method"),
        ({"quant_method": "awq", "bits": 3}, "quant_method 'awq' and the keys bits, quant_method, of which"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "cannot be told how the experts are stored"),
        ({"quant_method": "compressed-tensors"}, "say it with --experts E --intermediate N --dtype D"),
        ({**FP8, "weight_block_size": [128]}, r"got blocks of \[128\], expected two numbers such as \[128, 128\]"),
        ({**FP8, "weight_block_size": [128, 0]}, r"got blocks of \[128, 0\], expected two numbers"),
    ],
)
def test_a_kind_that_is_not_known_names_its_keys(quantization: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        scheme_of(**quantization)


@pytest.mark.parametrize(
    "weights",
    [
        {"type": "float", "num_bits": 8},
        {"type": "float", "num_bits": 4, "group_size": 64},
        {"type": "int", "num_bits": 2},
    ],
)
def test_a_kind_of_compressed_tensors_that_is_not_known_is_refused(weights: Mapping[str, Any]) -> None:
    with pytest.raises(UsageError, match="quant_method 'compressed-tensors'"):
        compressed(weights)


def test_groups_of_compressed_tensors_that_differ_are_refused() -> None:
    int4, int8 = ({"weights": {"type": "int", "num_bits": bits}} for bits in (4, 8))
    assert scheme_of(quant_method="compressed-tensors", config_groups={"a": int4, "b": int4}).dtype == "int4_w4a16"
    with pytest.raises(UsageError, match="cannot be told how the experts are stored"):
        scheme_of(quant_method="compressed-tensors", config_groups={"a": int4, "b": int8})


@pytest.mark.parametrize(
    ("dtype", "blocks", "name"),
    [
        ("bf16", None, "bf16"),
        ("fp8_w8a8", None, "fp8-dynamic"),
        ("fp8_w8a8", (128, 128), "fp8-block"),
        ("int4_w4a16", None, "moe-wna16"),
        ("int8_w8a16", None, "moe-wna16"),
        ("fp8_w8a16", None, "fp8_w8a16"),
    ],
)
def test_experts_as_they_are_described(dtype: str, blocks: tuple[int, int] | None, name: str) -> None:
    model = described(experts=8, intermediate=64, dtype=dtype, block_shape=blocks)
    assert (model.scheme.name, model.scheme.dtype) == (name, None if dtype == "bf16" else dtype)


def test_a_quantization_that_is_no_object_is_refused() -> None:
    with pytest.raises(UsageError, match=r"config\.json: quantization_config: got 'fp8', expected an object"):
        parsed(QWEN3, quantization_config="fp8")


KEYS = ["quant_method", "bits", "weight_block_size", "quant_algo", "config_groups", "weights", "type", "num_bits"]
KEYS += ["input_activations", "group_size", "strategy", "num_experts", "text_config", "intermediate_size"]
WORDS = ["fp8", "compressed-tensors", "modelopt", "awq", "float", "int", "block", "FP8", 4, 8, 16, 128, None, True]


@given(
    st.recursive(
        st.sampled_from(WORDS),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    )
)
def test_whatever_a_model_says_is_understood_or_refused(value: object) -> None:
    with suppress(UsageError):
        parsed(QWEN3, quantization_config=value)
    with suppress(UsageError):
        parsed(quantization_config=FP8, num_experts=value, text_config=value, intermediate_size=value)


# ---- on each GPU


def test_tensor_parallelism_splits_each_expert_and_expert_parallelism_the_experts() -> None:
    model = parsed(QWEN3)
    assert sizes(model) == (128, 768)
    assert sizes(model, 4) == (128, 192)
    assert sizes(model, 4, expert_parallel=True) == (32, 768)


@pytest.mark.parametrize(
    ("tp", "expert_parallel", "message"),
    [
        (5, False, "got --tp 5, which does not divide the inner size of 768; expected one of 1, 2, 3, 4, 6, 8, 12"),
        (0, False, "got --tp 0, which does not divide"),
        (3, True, "got --tp 3, which does not divide the experts of 128; .*; or say what one GPU has with --experts"),
    ],
)
def test_what_does_not_divide_is_refused(tp: int, expert_parallel: bool, message: str) -> None:  # noqa: FBT001
    with pytest.raises(UsageError, match=message):
        sizes(parsed(QWEN3), tp, expert_parallel=expert_parallel)


def test_blocks_that_a_split_cuts_are_made_finer_by_a_release_that_does_so() -> None:
    """768 over 4 GPUs is 192, which no block of 128 divides, and one of 64 does."""
    model = parsed(QWEN3, quantization_config=FP8)
    assert split(model, tp=2, expert_parallel=False, refines=True).block_shape == (128, 128)
    assert split(model, tp=4, expert_parallel=False, refines=True) == Shape(
        experts=128, intermediate=192, dtype="fp8_w8a8", block_shape=(64, 64)
    )
    assert split(model, tp=4, expert_parallel=True, refines=False).block_shape == (128, 128)
    odd = parsed({**QWEN3, "hidden_size": 2080}, quantization_config=FP8)
    assert split(odd, tp=4, expert_parallel=False, refines=True).block_shape == (32, 32)


@pytest.mark.parametrize(
    ("config", "refines", "tp"),
    [({}, False, 4), ({"hidden_size": 2064}, True, 4), ({}, True, 16)],
    ids=["older release", "hidden size without them", "too small"],
)
def test_blocks_that_a_split_cuts_are_refused_otherwise(config: Mapping[str, Any], refines: bool, tp: int) -> None:  # noqa: FBT001
    model = parsed(QWEN3, config, quantization_config=FP8)
    with pytest.raises(UsageError, match=r"inner size of \d+ on each GPU has no whole blocks of 128x128.* or --ep"):
        split(model, tp=tp, expert_parallel=False, refines=refines)


def test_blocks_of_compressed_tensors_are_not_made_finer() -> None:
    group = {
        "weights": {"type": "float", "num_bits": 8, "strategy": "block", "block_structure": [128, 128]},
        "input_activations": {"dynamic": True},
    }
    model = parsed(QWEN3, quantization_config={"quant_method": "compressed-tensors", "config_groups": {"a": group}})
    with pytest.raises(UsageError, match="has no whole blocks"):
        split(model, tp=4, expert_parallel=False, refines=True)
