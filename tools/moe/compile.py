"""Compile vLLM's own Triton kernel for experts as a release launches it, for a chip that need not be there.

Runs in an environment of its own, which has Triton and CUDA's ptxas: `sparkbake.moecompile` makes it and calls this.
The release's own launcher is run, with tensors that have a shape and no content; what it hands to Triton is compiled
and not launched. So no list of the kernel's arguments, which differ between releases, stands here.

Standard input is a JSON object:
    sources: folder with some of the release's files, "vllm/model_executor/layers/fused_moe/fused_moe.py" among them;
        the other modules of vLLM, and torch, are replaced by names without content, which nothing may be decided by.
    capability: 121 for compute capability 12.1.
    entry: of the tuned config.
    experts, intermediate, hidden, top_k, tokens: sizes of the model and of the batch.
    dtype: "fp8_w8a8", "bf16" or "float32".
    block_shape: [128, 128] or null.
Standard output ends with a line that is a JSON object: triton, ptxas (versions), launches (a list).
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import io
import json
import logging
import os
import re
import sys
import sysconfig
import tempfile
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Of 0.13 it is the second: there the launcher also calls a CUDA kernel, for weights of 4 bits.
_LAUNCHERS = ("invoke_fused_moe_triton_kernel", "invoke_fused_moe_kernel")
_MODULE = "vllm.model_executor.layers.fused_moe.fused_moe"
# What would change what is compiled: the chip's own defaults are wanted.
_SETTINGS = ("TRITON_", "VLLM_", "MLIR_", "LLVM_", "PTXAS", "DISABLE_PTXAS_OPT", "CUDA_", "NVPTX_")
_MOST_ERROR_CHARS = 2000


# ---- what stands for torch and for the rest of vLLM


class Name:
    """A name of a module that is not there: it can be imported, called and used in annotations, but says nothing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "Name":
        if name.startswith("__"):
            raise AttributeError(name)
        return Name(f"{self._name}.{name}")

    def __call__(self, *_arguments: object, **_named: object) -> "Name":
        return Name(f"{self._name}()")

    def __getitem__(self, _key: object) -> "Name":
        return self

    def __or__(self, _other: object) -> "Name":
        return self

    __ror__ = __or__

    def __mro_entries__(self, _bases: tuple[object, ...]) -> tuple[type, ...]:
        return ()

    def __bool__(self) -> bool:
        raise TypeError(f"the launcher asks {self._name}, which is not there: the files of the release do not suffice")

    def __eq__(self, _other: object) -> bool:
        return bool(self)

    __hash__ = object.__hash__
    # Without this, it could be gone through without end, as it has items.
    __iter__ = None
    __contains__ = None

    def __repr__(self) -> str:
        return self._name


class Platform(Name):
    """vLLM's current_platform on the chip."""

    def __init__(self, capability: int) -> None:
        super().__init__("current_platform")
        self._capability = capability

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 a name or a method
        if name.startswith("is_") and "capability" not in name:
            return lambda: name in ("is_cuda", "is_cuda_alike")
        return super().__getattr__(name)

    def is_device_capability(self, wanted: int | tuple[int, int], _device: int = 0) -> bool:
        return self._capability == _number(wanted)

    def has_device_capability(self, wanted: int | tuple[int, int], _device: int = 0) -> bool:
        return self._capability >= _number(wanted)

    def is_device_capability_family(self, wanted: int, _device: int = 0) -> bool:
        return self._capability // 10 == wanted // 10


def _number(capability: int | tuple[int, int]) -> int:
    return capability if isinstance(capability, int) else capability[0] * 10 + capability[1]


class Stand(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds vLLM's and torch's modules: those that are in the folder as they are, others as names."""

    def __init__(self, sources: Path, known: dict[str, dict[str, Any]]) -> None:
        self._sources = sources
        self._known = known

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in ("torch", "vllm"):
            return None
        file = self._sources / f"{name.replace('.', '/')}.py"
        if file.is_file():
            return importlib.util.spec_from_file_location(name, file)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        vars(module).update(self._known.get(name, {}))
        module.__getattr__ = lambda attribute: _member(name, attribute)  # type: ignore[method-assign]


def _member(module: str, attribute: str) -> Name:
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    return Name(f"{module}.{attribute}")


class Dtype:
    """Stands for a torch.dtype, of which Triton reads how it is written."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return f"torch.{self._name}"


class Tensor:
    """Stands for a torch.Tensor: contiguous, at an address that is a multiple of 16, and without content."""

    def __init__(self, dtype: str, *shape: int) -> None:
        self.dtype = _DTYPES.setdefault(dtype, Dtype(dtype))
        self.shape = shape
        self.ndim = len(shape)

    def size(self, axis: int | None = None) -> int | tuple[int, ...]:
        return self.shape if axis is None else self.shape[axis]

    def stride(self, axis: int) -> int:
        product = 1
        for one in self.shape[axis % self.ndim + 1 :]:
            product *= one
        return product

    def data_ptr(self) -> int:
        return 0

    def ptr_range(self) -> int:
        return 0


_DTYPES: dict[str, Dtype] = {}


# ---- how a model launches it


def variants(job: dict[str, Any], *, is_always_sorted: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of every launch that an entry is for, and what `arguments_of` makes its arguments of.

    Both matrices of an expert, with tokens sorted by expert and, as for few tokens, not; FP8 without blocks in both its
    forms: one scale for each tensor, and one for each token and channel.
    """
    fp8 = job["dtype"] == "fp8_w8a8"
    scales = ["blocks"] if job["block_shape"] else ["tensor", "channel"] if fp8 else ["none"]
    for scale in scales:
        for matrix in ("w13", "w2"):
            for tokens in ("sorted",) if is_always_sorted else ("sorted", "unsorted"):
                name = " ".join(word for word in (matrix, tokens, f"scale/{scale}" if fp8 else "") if word)
                yield name, {"first": matrix == "w13", "scale": scale, "is_sorted": tokens == "sorted"}


def arguments_of(job: dict[str, Any], *, first: bool, scale: str, is_sorted: bool) -> dict[str, Any]:
    """What vLLM's TritonExperts passes (vllm/model_executor/layers/fused_moe/experts/triton_moe.py)."""
    experts, tokens, top_k, tile = job["experts"], job["tokens"], job["top_k"], job["entry"]["BLOCK_SIZE_M"]
    pairs = tokens * top_k
    n, k = (2 * job["intermediate"], job["hidden"]) if first else (job["hidden"], job["intermediate"])
    rows = tokens if first else pairs
    fp8 = job["dtype"] == "fp8_w8a8"
    stored = {"fp8_w8a8": "float8_e4m3fn", "bf16": "bfloat16", "float32": "float32"}[job["dtype"]]
    result = "float32" if job["dtype"] == "float32" else "bfloat16"
    padded = pairs + experts * (tile - 1)
    blocks = -(-padded // tile)
    return {
        "A": Tensor(stored, rows, k),
        "B": Tensor(stored, experts, n, k),
        "C": Tensor(result, tokens, top_k, n),
        "A_scale": _activation_scale(scale, rows, k, job["block_shape"]),
        "B_scale": _weight_scale(scale, experts, n, k, job["block_shape"]),
        "topk_weights": None if first else Tensor("float32", tokens, top_k),
        "sorted_token_ids": Tensor("int32", padded) if is_sorted else None,
        "expert_ids": Tensor("int32", blocks if is_sorted else pairs),
        "num_tokens_post_padded": Tensor("int32", 1),
        "mul_routed_weight": not first,
        "top_k": top_k if first else 1,
        "config": dict(job["entry"]),
        "use_fp8_w8a8": fp8,
        "use_int8_w8a8": False,
        "use_int8_w8a16": False,
        "use_int4_w4a16": False,
        "per_channel_quant": scale == "channel",
        "block_shape": job["block_shape"],
        "B_bias": None,
    }


def _activation_scale(scale: str, rows: int, k: int, block_shape: list[int] | None) -> Tensor | None:
    if scale == "none":
        return None
    if block_shape:
        return Tensor("float32", rows, -(-k // block_shape[1]))
    return Tensor("float32", rows, 1) if scale == "channel" else Tensor("float32", 1)


def _weight_scale(scale: str, experts: int, n: int, k: int, block_shape: list[int] | None) -> Tensor | None:
    if scale == "none":
        return None
    if block_shape:
        return Tensor("float32", experts, -(-n // block_shape[0]), -(-k // block_shape[1]))
    return Tensor("float32", experts, n, 1) if scale == "channel" else Tensor("float32", experts)


# ---- compiling


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Compile every launch of a job."""
    import triton  # noqa: PLC0415 after the settings are gone
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.backends.nvidia.compiler import get_ptxas  # noqa: PLC0415
    from triton.runtime.jit import JITFunction  # noqa: PLC0415

    target = GPUTarget("cuda", job["capability"], 32)
    triton.runtime.driver.set_active(
        types.SimpleNamespace(
            get_current_target=lambda: target, get_current_device=lambda: 0, get_current_stream=lambda _device: 0
        )
    )
    triton.knobs.nvidia.dump_ptxas_log = True
    compiled: list[Any] = []
    original = JITFunction.run

    def compile_only(self: Any, *arguments: object, warmup: bool, **named: object) -> None:  # noqa: ANN401, ARG001
        compiled.append(original(self, *arguments, warmup=True, **named))

    JITFunction.run = compile_only
    launcher = load_launcher(Path(job["sources"]), job["capability"])
    compute_type = triton.language.float32 if job["dtype"] == "float32" else triton.language.bfloat16
    # The launcher of 0.13 is for weights of 4 bits, too, and always sorts tokens.
    is_old = "B_zp" in inspect.signature(launcher).parameters
    zero_points = {"B_zp": None} if is_old else {}
    found = []
    for name, variant in variants(job, is_always_sorted=is_old):
        compiled.clear()
        begun = time.monotonic()
        log = io.StringIO()
        try:
            with contextlib.redirect_stdout(log):
                launcher(compute_type=compute_type, **zero_points, **arguments_of(job, **variant))
            said = _described(compiled, log.getvalue())
        except Exception as err:  # noqa: BLE001 whatever Triton ends with is the answer
            said = {"error": f"{type(err).__name__}: {err}"[:_MOST_ERROR_CHARS]}
        found.append({"name": name, "seconds": round(time.monotonic() - begun, 2), **said})
    # Up to 3.5 there is one for all chips.
    asked = [job["capability"]] if inspect.signature(get_ptxas).parameters else []
    return {"triton": triton.__version__, "ptxas": get_ptxas(*asked).version, "launches": found}


def load_launcher(sources: Path, capability: int) -> Any:  # noqa: ANN401
    """The function of the release that launches the kernel."""
    import triton  # noqa: PLC0415

    known = {
        "vllm.platforms": {"current_platform": Platform(capability)},
        "vllm.triton_utils": {"triton": triton, "tl": triton.language},
        "vllm.logger": {"init_logger": lambda _name: Name("logger")},
        # Up to 0.19 it decides how operators are registered, and of no torch that a row has the answer is another.
        "vllm.utils.torch_utils": {"is_torch_equal_or_newer": lambda _version: True},
        "torch": {"__version__": "0"},
    }
    sys.meta_path.insert(0, Stand(sources, known))
    module = importlib.import_module(_MODULE)
    found = next((vars(module)[name] for name in _LAUNCHERS if name in vars(module)), None)
    if found is None:
        raise ValueError(f"{_MODULE} has none of {', '.join(_LAUNCHERS)}: this release calls its launcher otherwise")
    return found


def _described(compiled: Sequence[Any], log: str) -> dict[str, Any]:
    """What Triton and ptxas say of the one kernel that was compiled.

    Raises:
        ValueError: it was not one, or ptxas has not said it.
    """
    if len(compiled) != 1:
        raise ValueError(f"the launcher launched {len(compiled)} kernels, expected 1")
    metadata = compiled[0].metadata
    registers = re.search(r"Used (\d+) registers", log)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    if not registers or not spills:
        raise ValueError(f"ptxas does not say how many registers it used: {log!r}")
    return {
        "kernel": metadata.name,
        "shared_bytes": metadata.shared,
        "registers": int(registers[1]),
        "spill_store_bytes": int(spills[1]),
        "spill_load_bytes": int(spills[2]),
        "threads": metadata.num_warps * 32,
    }


def main() -> None:
    job = json.load(sys.stdin)
    for name in [one for one in os.environ if one.startswith(_SETTINGS)]:
        del os.environ[name]
    logging.disable()
    for ptxas in Path(sysconfig.get_path("platlib"), "nvidia").glob("*/bin/ptxas"):
        # Triton has one for chips of each kind; our images set both names to that of CUDA.
        os.environ["TRITON_PTXAS_PATH"] = os.environ["TRITON_PTXAS_BLACKWELL_PATH"] = str(ptxas)
    with tempfile.TemporaryDirectory(prefix="sparkbake-triton-") as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        answer = run(job)
    print(json.dumps(answer, sort_keys=True))


if __name__ == "__main__":
    main()
