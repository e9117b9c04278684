"""From a model's config.json to the experts as one GPU has them, which name the tuned config that vLLM looks for.

Keys as Hugging Face models have them: https://huggingface.co/docs/transformers, and what vLLM's models read of them
(vllm/model_executor/models, vllm/transformers_utils/model_arch_config_convertor.py, read in 0.32.0).
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sparkbake.errors import UsageError
from sparkbake.moe import DTYPES, Shape

# The first of them that a model has, as vLLM asks.
EXPERT_KEYS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
SIZE_KEYS = ("moe_intermediate_size", "ffn_hidden_size", "expert_ffn_hidden_size")
# That of the experts in models whose every layer has experts: Mixtral, gpt-oss, OLMoE, Granite, Llama 4, MiniMax.
_COMMON_SIZE_KEY = "intermediate_size"
# Where models of several kinds of input, and DBRX, have what is asked for here.
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config", "ffn_config")
_INSTEAD = "say it with --experts E --intermediate N --dtype D [--block-shape N,K]"
_FOUR_BITS, _EIGHT_BITS = 4, 8
_FP4_GROUPS = {16: "nvfp4", 32: "mxfp4"}
_LEAST_BLOCK = 32

BF16 = "bf16"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """How the weights of the experts are stored.

    Attributes:
        name: as moe_configs/rules.yaml has it: "bf16", "fp8-block", "fp8-static", "fp8-dynamic", "int8", "wna16",
            "moe-wna16", "mxfp4", "nvfp4".
        method: quant_method of the model; "" of one that is not quantized, or was described on the command line.
        dtype, block_shape: as in moe.Shape.
    """

    name: str
    method: str = ""
    dtype: str | None = None
    block_shape: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """The experts of a model before they are split.

    Attributes:
        experts: of one layer.
        intermediate: inner size of one expert.
        hidden: of the model; None when it is not known.
    """

    experts: int
    intermediate: int
    hidden: int | None
    scheme: Scheme


def parse_model(where: str, config: Mapping[str, Any]) -> Model:
    """The experts of a model.

    Args:
        where: the file, for messages.
        config: what config.json has.

    Raises:
        UsageError: the model has no experts, or their number, size or kind cannot be told; it names the keys seen.
    """
    parts = list(_parts(config))
    experts = _first(where, parts, EXPERT_KEYS)
    if experts is None or experts <= 1:
        raise UsageError(
            f"{where}: has no experts: none of {', '.join(EXPERT_KEYS)} is above 1; expected the config.json of a "
            f"mixture-of-experts model; or {_INSTEAD}"
        )
    intermediate = _first(where, parts, SIZE_KEYS) or _common_size(where, parts)
    quantization = next((one["quantization_config"] for one in parts if one.get("quantization_config")), None)
    return Model(
        experts=experts,
        intermediate=intermediate,
        hidden=_first(where, parts, ("hidden_size",)),
        scheme=_plain(parts) if quantization is None else _quantized(where, quantization),
    )


def described(
    *, experts: int, intermediate: int, dtype: str, block_shape: tuple[int, int] | None, hidden: int | None = None
) -> Model:
    """Experts as the command line describes them.

    Args:
        dtype: "bf16" or one of moe.DTYPES.
    """
    names = {"fp8_w8a8": "fp8-block" if block_shape else "fp8-dynamic"}
    names |= {"int8_w8a16": "moe-wna16", "int4_w4a16": "moe-wna16", BF16: BF16}
    scheme = Scheme(
        name=names.get(dtype, dtype), dtype=dtype if dtype in DTYPES else None, block_shape=block_shape, method="fp8"
    )
    return Model(experts=experts, intermediate=intermediate, hidden=hidden, scheme=scheme)


def split(model: Model, *, tp: int, expert_parallel: bool, refines: bool) -> Shape:
    """The experts as each of `tp` GPUs has them.

    Args:
        expert_parallel: whole experts are shared out (vLLM's --enable-expert-parallel), not a part of each.
        refines: whether the release cuts blocks finer that a split would leave no whole ones of.

    Raises:
        UsageError: they cannot be split so, or the release cannot load them so.
    """
    what, whole = ("experts", model.experts) if expert_parallel else ("inner size", model.intermediate)
    if tp < 1 or whole % tp:
        raise UsageError(
            f"got --tp {tp}, which does not divide the {what} of {whole}; expected one of {_divisors(whole)}"
            + ("; or say what one GPU has with --experts" if expert_parallel else "")
        )
    experts, intermediate = model.experts, model.intermediate
    if expert_parallel:
        experts //= tp
    else:
        intermediate //= tp
    blocks = model.scheme.block_shape
    if blocks and not _is_whole(intermediate, blocks, split_up=tp > 1 and not expert_parallel):
        blocks = _refined(model, intermediate, blocks, refines=refines)
    return Shape(experts=experts, intermediate=intermediate, dtype=model.scheme.dtype, block_shape=blocks)


def _is_whole(intermediate: int, blocks: tuple[int, int], *, split_up: bool) -> bool:
    return intermediate % blocks[0] == 0 and not (split_up and intermediate % blocks[1])


def _refined(model: Model, intermediate: int, blocks: tuple[int, int], *, refines: bool) -> tuple[int, int]:
    """Blocks that go into an inner size: `refine_fp8_moe_block_shape` of vllm/.../fused_moe/oracle/fp8.py.

    Raises:
        UsageError: the release does not make them, or they would be too small.
    """
    side = math.gcd(*blocks, intermediate, model.hidden or 0)
    if refines and model.scheme.method == "fp8" and side >= _LEAST_BLOCK:
        return side, side
    raise UsageError(
        f"an inner size of {intermediate} on each GPU has no whole blocks of {blocks[0]}x{blocks[1]}, and this release "
        "refuses the model so; expected a --tp that leaves whole blocks, or --ep"
    )


def _divisors(number: int) -> str:
    return ", ".join(str(one) for one in range(1, min(number, 64) + 1) if number % one == 0)


# ---- numbers


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What is nested goes first: of a model with several kinds of input it is the one that writes text."""
    for key in _NESTED:
        if isinstance(config.get(key), dict):
            yield from _parts(config[key])
    yield config


def _first(where: str, parts: list[Mapping[str, Any]], keys: tuple[str, ...]) -> int | None:
    """The first of the keys that is there; of a list all of whose numbers are equal, that number.

    Raises:
        UsageError: it is no number.
    """
    for part in parts:
        for key in keys:
            value = part.get(key)
            if isinstance(value, list) and value and all(one == value[0] for one in value):
                value = value[0]
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise UsageError(f"{where}: {key}: got {value!r}, expected one number for all layers; {_INSTEAD}")
            return value
    return None


def _common_size(where: str, parts: list[Mapping[str, Any]]) -> int:
    """The one inner size that a model names, unless another key looks as if it were that of the experts.

    Raises:
        UsageError: there is none, or there is such a key.
    """
    size = _first(where, parts, (_COMMON_SIZE_KEY,))
    rivals = sorted({key for one in parts for key in one if re.search(r"(expert|moe).*(size|dim)", key)})
    if size is None or rivals:
        seen = ", ".join(rivals) or "no size of experts"
        raise UsageError(
            f"{where}: the inner size of its experts cannot be told: it has {seen}, expected one of "
            f"{', '.join((*SIZE_KEYS, _COMMON_SIZE_KEY))}; {_INSTEAD}"
        )
    return size


# ---- how weights are stored


def _plain(parts: list[Mapping[str, Any]]) -> Scheme:
    kinds = {one.get("dtype") or one.get("torch_dtype") for one in parts}
    return Scheme(name="float32", dtype="float32") if "float32" in kinds else Scheme(name=BF16)


def _quantized(where: str, found: object) -> Scheme:
    """What a quantization_config says.

    Raises:
        UsageError: of a kind that is not known here.
    """
    if not isinstance(found, dict):
        raise UsageError(f"{where}: quantization_config: got {found!r}, expected an object; {_INSTEAD}")
    method = str(found.get("quant_method", "")).lower()
    bits = found.get("bits")
    if method == "fp8":
        return _fp8(where, method, found.get("weight_block_size"), static=found.get("activation_scheme") == "static")
    if method == "compressed-tensors":
        return _compressed(where, found)
    if method in ("mxfp4", "gpt_oss_mxfp4"):
        return Scheme(name="mxfp4", method=method)
    algorithm = str(found.get("quant_algo", "")).upper()
    if method.startswith("modelopt") and algorithm in ("FP8", "NVFP4"):
        static = Scheme(name="fp8-static", method=method, dtype="fp8_w8a8")
        return static if algorithm == "FP8" else Scheme(name="nvfp4", method=method)
    if method in ("awq", "gptq", "moe_wna16") and bits in (_FOUR_BITS, _EIGHT_BITS):
        dtype = "int4_w4a16" if bits == _FOUR_BITS else "int8_w8a16"
        return Scheme(name="moe-wna16" if method == "moe_wna16" else "wna16", method=method, dtype=dtype)
    raise _unknown(where, found)


def _fp8(where: str, method: str, blocks: object, *, static: bool) -> Scheme:
    if blocks is None:
        return Scheme(name="fp8-static" if static else "fp8-dynamic", method=method, dtype="fp8_w8a8")
    if not isinstance(blocks, list) or len(blocks) != len(("n", "k")) or not all(_is_size(one) for one in blocks):
        raise UsageError(f"{where}: got blocks of {blocks!r}, expected two numbers such as [128, 128]; {_INSTEAD}")
    return Scheme(name="fp8-block", method=method, dtype="fp8_w8a8", block_shape=(blocks[0], blocks[1]))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _compressed(where: str, found: Mapping[str, Any]) -> Scheme:
    """Format: QuantizationScheme of https://github.com/vllm-project/compressed-tensors; groups must not differ."""
    schemes = {_group(where, found, one) for one in _mapping(found.get("config_groups")).values()}
    if len(schemes) != 1:
        raise _unknown(where, found)
    return schemes.pop()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _group(where: str, found: Mapping[str, Any], group: object) -> Scheme:
    method = "compressed-tensors"
    weights, inputs = (_mapping(_mapping(group).get(key)) for key in ("weights", "input_activations"))
    kind, bits = weights.get("type"), weights.get("num_bits")
    if kind == "float" and bits == _EIGHT_BITS and inputs:
        if weights.get("strategy") == "block":
            return _fp8(where, method, weights.get("block_structure"), static=False)
        static = weights.get("strategy") == "tensor" and inputs.get("dynamic") is False
        return Scheme(name="fp8-static" if static else "fp8-dynamic", method=method, dtype="fp8_w8a8")
    if kind == "float" and bits == _FOUR_BITS and weights.get("group_size") in tuple(_FP4_GROUPS):
        return Scheme(name=_FP4_GROUPS[weights["group_size"]], method=method)
    if kind == "int" and bits == _EIGHT_BITS and inputs:
        return Scheme(name="int8", method=method)
    if kind == "int" and bits in (_FOUR_BITS, _EIGHT_BITS) and not inputs:
        return Scheme(name="wna16", method=method, dtype="int4_w4a16" if bits == _FOUR_BITS else "int8_w8a16")
    raise _unknown(where, found)


def _unknown(where: str, found: Mapping[str, Any]) -> UsageError:
    return UsageError(
        f"{where}: quantization_config has quant_method {found.get('quant_method')!r} and the keys "
        f"{', '.join(sorted(found))}, of which it cannot be told how the experts are stored; {_INSTEAD}"
    )
