"""Tuned configs for tests; their values are our own."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.ocibuilder import SITE, Member, make_file, make_package

from sparkbake.moe import DEFAULT_LADDER

FOLDER = f"{SITE}/vllm/model_executor/layers/fused_moe/configs"
BLOCKS = "E=256,N=512,device_name=NVIDIA_GB10,dtype=fp8_w8a8,block_shape=[128,128].json"
PLAIN = "E=8,N=64,device_name=NVIDIA_GB10.json"


def make_entry(**changes: Any) -> dict[str, Any]:
    """One entry, as Triton takes it; a key whose value is None is left out."""
    tiles = {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 128}
    entry = {**tiles, "GROUP_SIZE_M": 1, "num_warps": 4, "num_stages": 2, **changes}
    return {key: value for key, value in entry.items() if value is not None}


def make_config(rungs: Sequence[object] = DEFAULT_LADDER, /, **changes: Any) -> bytes:
    """A config with the same entry on each rung."""
    return json.dumps({"triton_version": "3.6", **{str(one): make_entry(**changes) for one in rungs}}).encode()


def make_vllm(configs: Mapping[str, bytes], version: str = "0.32.0") -> list[Member]:
    """An installed vLLM with configs of these names."""
    files = {f"{FOLDER.removeprefix(SITE)[1:]}/{name}": text for name, text in configs.items()}
    members = make_package("vllm", version, {"vllm/__init__.py": b"", **files})
    return [*members, make_file(f"{SITE}/vllm-{version}.dist-info/METADATA", f"Version: {version}\n".encode())]
