"""Hold a tuned config of vLLM's kernels for experts to what vLLM reads, what Triton takes and what a GB10 has.

What vLLM makes of an entry: `invoke_fused_moe_triton_kernel` in vllm/model_executor/layers/fused_moe/fused_moe.py.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparkbake.findings import Finding, Severity
from sparkbake.moe import DEFAULT_LADDER, DTYPES, GB10_DEVICE, NO_RUNG, Shape, parse_name, read_entries

# Shared memory that a block may have with compute capability 12.x, 99 KiB: CUDA C++ Programming Guide, table of
# technical specifications per compute capability.
GB10_SHARED_BYTES = 101_376

_TILES = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K")
_REQUIRED = (*_TILES, "GROUP_SIZE_M", "num_warps", "num_stages")
# SPLIT_K is overwritten with 1; num_ctas is Triton's. Anything else is an argument that the kernel does not have.
_KNOWN = (*_REQUIRED, "SPLIT_K", "num_ctas")
_POWERS_OF_TWO = (*_TILES, "num_warps")
_MOST_WARPS = 32  # 1024 threads, the most of a block
_RENAME = "rename it: no release looks for this name"
_RETUNE = "tune it anew with vLLM's benchmark_moe.py, or take the file out"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fault:
    """What is wrong with a config; the same fault of several entries becomes one finding."""

    id: str
    severity: Severity
    found: str
    expected: str
    remedy: str


def check_config(path: str, text: bytes) -> list[Finding]:
    """Everything that is wrong with a config.

    Args:
        path: of the file, in the image; its last part is the name that vLLM looks for.
        text: its content.

    Returns:
        Errors of what vLLM or Triton would stop at, compute wrongly, or not find; warnings of what only may be slower.
        Empty when there is nothing.
    """
    parsed = parse_name(posixpath.basename(path))
    if parsed is None:
        name = _Fault(
            id="moe-name",
            severity="error",
            found=f"the name {posixpath.basename(path)}",
            expected="E=<experts>,N=<size>,device_name=<device>[,dtype=<dtype>][,block_shape=[<n>,<k>]].json",
            remedy=_RENAME,
        )
        return [_finding(path, name)]
    try:
        entries, twice = read_entries(text)
    except (ValueError, TypeError) as err:
        no_object = _Fault(
            id="moe-json",
            severity="error",
            found=str(err),
            expected="a JSON object of numbers of tokens",
            remedy=_RETUNE,
        )
        return [_finding(path, no_object)]
    shape, device = parsed
    found = [_finding(path, one) for one in (*_name_faults(shape), *_ladder_faults(entries, twice))]
    faults: dict[_Fault, list[str]] = {}
    for key, entry in entries.items():
        if key != NO_RUNG:
            for fault in _entry_faults(entry, shape, device):
                faults.setdefault(fault, []).append(key)
    return found + [_finding(path, one, keys) for one, keys in faults.items()]


def _finding(path: str, fault: _Fault, keys: Sequence[str] = ()) -> Finding:
    where = f" for {'batch' if len(keys) == 1 else 'batches'} {', '.join(keys)}" if keys else ""
    return Finding(
        id=fault.id,
        severity=fault.severity,
        subject=path,
        found=fault.found + where,
        expected=fault.expected,
        remedy=fault.remedy,
    )


def _name_faults(shape: Shape) -> Iterator[_Fault]:
    if shape.dtype is not None and shape.dtype not in DTYPES:
        found, expected = f"dtype={shape.dtype}", f"one of {', '.join(DTYPES)}, or none"
        yield _Fault(id="moe-name", severity="error", found=found, expected=expected, remedy=_RENAME)
    if 0 in (shape.experts, shape.intermediate, *(shape.block_shape or ())):
        yield _Fault(id="moe-name", severity="error", found="a size of 0", expected="sizes from 1", remedy=_RENAME)


def _ladder_faults(entries: Mapping[str, Any], twice: Sequence[str]) -> Iterator[_Fault]:
    """What is wrong with the keys of a config: vLLM reads each as a number but the Triton version's."""
    keys = [key for key in entries if key != NO_RUNG]
    bad = [key for key in keys if not re.fullmatch(r"[1-9][0-9]*", key, re.ASCII)]
    rungs = [int(key) for key in keys if key not in bad]
    missing = [str(rung) for rung in DEFAULT_LADDER if rung not in rungs]
    if twice:
        yield _ladder(f"{', '.join(twice)} twice", "each key once")
    if bad:
        yield _ladder(f"the key {', '.join(map(repr, bad))}", "numbers of tokens, from 1")
    if missing:
        yield _ladder(f"no entry for {', '.join(missing)}", f"all of {', '.join(map(str, DEFAULT_LADDER))}")
    if rungs != sorted(rungs):
        yield replace(
            _ladder("keys out of order", "ascending keys: the first of two near ones is taken"), severity="warning"
        )


def _ladder(found: str, expected: str) -> _Fault:
    return _Fault(id="moe-ladder", severity="error", found=found, expected=expected, remedy=_RETUNE)


def _entry_faults(entry: object, shape: Shape, device: str) -> Iterator[_Fault]:
    if not isinstance(entry, dict):
        yield _schema(f"a JSON {type(entry).__name__}", "an object")
        return
    bad = [key for key in _REQUIRED if not _is_count(entry.get(key))]
    for key in bad:
        yield _schema(f"{key} {json.dumps(entry[key])}" if key in entry else f"no {key}", "a number from 1")
    for key in (one for one in _POWERS_OF_TWO if one not in bad):
        if entry[key] & (entry[key] - 1):
            yield _schema(f"{key} {entry[key]}", "a power of two")
    if "num_warps" not in bad and entry["num_warps"] > _MOST_WARPS:
        yield _schema(f"num_warps {entry['num_warps']}", f"at most {_MOST_WARPS}")
    unknown = [key for key in entry if key not in _KNOWN]
    # Keys for AMD and Intel are options of their Triton.
    if unknown and device.startswith("NVIDIA"):
        yield _schema(f"the key {', '.join(unknown)}", f"only {', '.join(_KNOWN)}")
    if not bad:
        yield from _block_faults(entry, shape)
        if device == GB10_DEVICE:
            yield from _memory_faults(entry, shape)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _schema(found: str, expected: str) -> _Fault:
    return _Fault(id="moe-schema", severity="error", found=found, expected=expected, remedy=_RETUNE)


def _block_faults(entry: Mapping[str, int], shape: Shape) -> Iterator[_Fault]:
    """How the K tile goes with blocks that have one scale: the kernel takes one scale for each tile along K."""
    if not shape.block_shape:
        return
    wanted, used = entry["BLOCK_SIZE_K"], _k_tile(entry, shape)
    if used < wanted:
        expected = f"at most {used}, which vLLM makes of it"
        yield _Fault(
            id="moe-block", severity="warning", found=f"BLOCK_SIZE_K {wanted}", expected=expected, remedy=_RETUNE
        )
    if used & (used - 1) or shape.block_shape[1] % used:
        expected = f"a power of two that divides the {shape.block_shape[1]} of block_shape"
        yield _Fault(id="moe-block", severity="error", found=f"a K tile of {used}", expected=expected, remedy=_RETUNE)


def _k_tile(entry: Mapping[str, int], shape: Shape) -> int:
    """What vLLM makes of BLOCK_SIZE_K: `invoke_fused_moe_triton_kernel` cuts it to the smaller side of a block."""
    return min(entry["BLOCK_SIZE_K"], *shape.block_shape) if shape.block_shape else entry["BLOCK_SIZE_K"]


def _memory_faults(entry: Mapping[str, int], shape: Shape) -> Iterator[_Fault]:
    size = shared_bytes(entry, shape)
    if size > GB10_SHARED_BYTES:
        yield _Fault(
            id="moe-shared-memory",
            severity="warning",
            found=f"{size} bytes of shared memory",
            expected=f"at most {GB10_SHARED_BYTES}",
            remedy="only compiling it says how much it takes: run it, or tune anew with fewer num_stages",
        )


def shared_bytes(entry: Mapping[str, int], shape: Shape) -> int:
    """The shared memory of a block but for some hundred bytes: both tiles, for each stage but one.

    So it came out wherever entries were compiled (docs/moe.md).
    Weights of 8 and 4 bits are loaded by the byte; activations of w8a16 and w4a16 have two.
    """
    activation = 1 if shape.dtype == "fp8_w8a8" else 4 if shape.dtype == "float32" else 2
    weight = activation if shape.dtype in (None, "float32") else 1
    k = _k_tile(entry, shape)
    return (entry["BLOCK_SIZE_M"] * k * activation + k * entry["BLOCK_SIZE_N"] * weight) * max(
        1, entry["num_stages"] - 1
    )
