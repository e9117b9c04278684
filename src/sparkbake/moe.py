"""The tuned configs of vLLM's Triton kernels for experts: their names, and which of its entries a batch gets.

A config is a JSON object: number of tokens (a rung of the ladder) to the tiles of the kernel. The rules are those of
`get_config_file_name`, `get_moe_configs` and `try_get_optimal_moe_config` in vllm/model_executor/layers/fused_moe/
fused_moe.py; they are the same in effect in all releases from 0.20.2 to 0.32.0, whose code was read for this.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# The key of a config that is no number of tokens.
NO_RUNG = "triton_version"
# What the driver calls the chip, "NVIDIA GB10", as vLLM writes it in file names.
GB10_DEVICE = "NVIDIA_GB10"
# The rungs of 288 of the 337 configs that vLLM 0.32.0 ships, and of both for GB10: what its benchmark_moe.py tunes for.
DEFAULT_LADDER = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 1536, 2048, 3072, 4096)
# All that a release asks for; experts in bfloat16, float16 or 8-bit integers (w8a8) have none.
DTYPES = ("fp8_w8a8", "fp8_w8a16", "int8_w8a16", "int4_w4a16", "float32")

_NAME = re.compile(
    r"E=(?P<experts>\d+),N=(?P<intermediate>\d+),device_name=(?P<device>[^,/\s]+?)"
    r"(?:,dtype=(?P<dtype>[^,]+?))?(?:,block_shape=\[(?P<n>\d+),(?P<k>\d+)\])?\.json"
)
_SHIPPED = re.compile(r"(?:.*/)?vllm/model_executor/layers/fused_moe/configs/[^/]+\.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a config is for: the experts of one layer as one GPU has them.

    Attributes:
        experts: E, on this GPU.
        intermediate: N, the inner size of one expert on this GPU: the last dimension of the second weight.
        dtype: one of DTYPES; None of experts that have none in the name.
        block_shape: N and K of a block with one scale; None without such blocks.
    """

    experts: int
    intermediate: int
    dtype: str | None
    block_shape: tuple[int, int] | None


def file_name(shape: Shape, device: str = GB10_DEVICE) -> str:
    """The name that vLLM looks for.

    >>> file_name(Shape(experts=256, intermediate=512, dtype="fp8_w8a8", block_shape=(128, 128)))
    'E=256,N=512,device_name=NVIDIA_GB10,dtype=fp8_w8a8,block_shape=[128,128].json'
    """
    dtype = f",dtype={shape.dtype}" if shape.dtype else ""
    blocks = ",block_shape=[{},{}]".format(*shape.block_shape) if shape.block_shape else ""
    return f"E={shape.experts},N={shape.intermediate},device_name={device}{dtype}{blocks}.json"


def parse_name(name: str) -> tuple[Shape, str] | None:
    """Shape and device of a config's name; None of one that vLLM never looks for."""
    found = _NAME.fullmatch(name)
    if not found:
        return None
    shape = Shape(
        experts=int(found["experts"]),
        intermediate=int(found["intermediate"]),
        dtype=found["dtype"],
        block_shape=(int(found["n"]), int(found["k"])) if found["n"] else None,
    )
    return (shape, found["device"]) if file_name(shape, found["device"]) == name else None


def is_shipped(path: str) -> bool:
    """Whether a path of an image is that of a config which vLLM brings; other kernels have such names, too."""
    return _SHIPPED.fullmatch(path) is not None


def is_for_gb10(name: str) -> bool:
    """Whether a file's name is of the chip, however the rest of it is spelt."""
    return re.search(rf"device_name={GB10_DEVICE}(?=[,.])", name) is not None


# ---- the ladder


def ladder(text: bytes) -> tuple[int, ...]:
    """The rungs of a config in the order of the file; none of a file that vLLM could not read, either."""
    try:
        entries, _twice = read_entries(text)
        return tuple(int(key) for key in entries if key != NO_RUNG)
    except (ValueError, TypeError):
        return ()


def triton_version(text: bytes) -> str | None:
    """The Triton that a config says it was tuned with; vLLM does not look at it."""
    try:
        found = read_entries(text)[0].get(NO_RUNG)
    except (ValueError, TypeError):
        return None
    return None if found is None else str(found)


def chosen_rung(rungs: Sequence[int], tokens: int) -> int:
    """The rung that a batch gets: the nearest one, of two equally near ones that which stands first in the file."""
    return min(rungs, key=lambda rung: abs(rung - tokens))


def read_entries(text: bytes) -> tuple[dict[str, Any], list[str]]:
    """A JSON object, and the keys that stand in its objects twice.

    Raises:
        ValueError: it is no JSON in UTF-8.
        TypeError: it is no object.
    """
    twice: list[str] = []

    def pairs(some: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _value in some]
        twice.extend(sorted({key for key in keys if keys.count(key) > 1}))
        return dict(some)

    try:
        value = json.loads(text.decode(), object_pairs_hook=pairs)
    except RecursionError as err:
        raise ValueError("nested too deep") from err
    if not isinstance(value, dict):
        raise TypeError(f"a JSON {type(value).__name__}")
    return value, twice
