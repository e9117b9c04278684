"""Ask real vLLM modules which FP8 backend they choose: run as `python vllmprobe.py TREE CAPABILITY QUESTION`.

Real are all modules that REAL names, executed from the tree, whole. Every other module is a stand-in whose attributes
are empty classes. Made up are: the chip (a subclass of vLLM's own Platform that says CUDA and the capability), that
FlashInfer is installed and DeepGEMM is not, and the answers of the compiled questions in torch.ops._C, as
csrc/quantization/w8a8/cutlass/scaled_mm_entry.cu gives them with CUDA 13.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

FUSED = "vllm.model_executor.layers.fused_moe"
LINEAR = "vllm.model_executor.kernels.linear"
QUANTIZATION = "vllm.model_executor.layers.quantization"
REAL = {
    "vllm._custom_ops",
    "vllm.envs",
    "vllm.platforms.interface",
    "vllm.transformers_utils.model_arch_config_convertor",
    LINEAR,
    f"{LINEAR}.base",
    f"{LINEAR}.scaled_mm",
    f"{LINEAR}.scaled_mm.BlockScaledMMLinearKernel",
    f"{LINEAR}.scaled_mm.ScaledMMLinearKernel",
    f"{LINEAR}.scaled_mm.cutlass",
    f"{LINEAR}.scaled_mm.deep_gemm",
    f"{LINEAR}.scaled_mm.flashinfer",
    f"{LINEAR}.scaled_mm.marlin",
    f"{LINEAR}.scaled_mm.pytorch",
    f"{FUSED}.activation",
    f"{FUSED}.batched_deep_gemm_moe",
    f"{FUSED}.config",
    f"{FUSED}.cutlass_moe",
    f"{FUSED}.deep_gemm_moe",
    f"{FUSED}.fallback",
    f"{FUSED}.flashinfer_cutlass_moe",
    f"{FUSED}.flashinfer_trtllm_moe",
    f"{FUSED}.fused_batched_moe",
    f"{FUSED}.fused_marlin_moe",
    f"{FUSED}.fused_moe",
    f"{FUSED}.modular_kernel",
    f"{FUSED}.oracle.fp8",
    f"{FUSED}.rocm_aiter_fused_moe",
    f"{FUSED}.triton_cutlass_moe",
    f"{FUSED}.triton_deep_gemm_moe",
    f"{QUANTIZATION}.compressed_tensors.compressed_tensors",
    f"{QUANTIZATION}.fp8",
    f"{QUANTIZATION}.kernels.scaled_mm",
    f"{QUANTIZATION}.kernels.scaled_mm.ScaledMMLinearKernel",
    f"{QUANTIZATION}.kernels.scaled_mm.cutlass",
    f"{QUANTIZATION}.kernels.scaled_mm.flashinfer",
    f"{QUANTIZATION}.kernels.scaled_mm.pytorch",
    f"{QUANTIZATION}.utils.quant_utils",
    f"{QUANTIZATION}.utils.w8a8_utils",
}
# Experts have a folder of their own since 0.17, into which all have moved by 0.22.
EXPERTS = (
    "batched_deep_gemm_moe",
    "cutlass_moe",
    "deep_gemm_moe",
    "fallback",
    "flashinfer_cutlass_moe",
    "fused_batched_moe",
    "lora_experts_mixin",
    "marlin_moe",
    "rocm_aiter_moe",
    "triton_cutlass_moe",
    "triton_deep_gemm_moe",
    "triton_moe",
    "trtllm_fp8_moe",
)
REAL |= {f"{FUSED}.experts.{name}" for name in EXPERTS}


# ---- stand-ins


class Empty(type):
    """Of classes with any attribute: each is such a class again, is truthy, and stands for anything in a type hint."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = empty(name)
        setattr(cls, name, found)
        return found

    def __or__(cls, other: object) -> Any:
        return cls

    __ror__ = __and__ = __getitem__ = __or__

    def __iter__(cls) -> Any:
        return iter(())


class Anything(metaclass=Empty):
    """What an empty class makes; called with a function, as a decorator is, it gives that back."""

    def __init__(self, *_arguments: object, **_named: object) -> None:
        pass

    def __new__(cls, *arguments: object, **_named: object) -> Any:
        if cls.__module__ == "stand-in" and len(arguments) == 1 and isinstance(arguments[0], types.FunctionType):
            return arguments[0]
        return super().__new__(cls)

    def __call__(self, *arguments: object, **_named: object) -> Any:
        return arguments[0] if arguments and callable(arguments[0]) else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return empty(name)

    def __class_getitem__(cls, _item: object) -> Any:
        return cls


def empty(name: str) -> Any:
    return Empty(name, (Anything,), {"__module__": "stand-in"})


class StandIn(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012  (a package: it may have modules in it)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        whole = f"{self.__name__}.{name}"
        found = importlib.import_module(whole) if whole in REAL or whole in PREPARED else empty(name)
        setattr(self, name, found)
        return found


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Real modules from the tree, what Python has, and a stand-in for everything else."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name.partition(".")[0] in sys.stdlib_module_names | {"packaging"}:
            return None
        place = self.tree / name.replace(".", "/")
        for file, folders in ((place / "__init__.py", []), (place.with_suffix(".py"), None)):
            if name in REAL and file.is_file():
                return importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        PREPARED.get(module.__name__, lambda _module: None)(module)


# ---- what is made up


class Operators:
    """torch.ops: https://github.com/vllm-project/vllm, scaled_mm_entry.cu, for a CUDA_VERSION of 13; else nothing."""

    _C = types.SimpleNamespace(
        cutlass_scaled_mm_supports_fp8=lambda capability: capability >= 89,
        cutlass_scaled_mm_supports_block_fp8=lambda capability: capability >= 90,
        cutlass_group_gemm_supported=lambda capability: capability >= 90,
    )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return types.SimpleNamespace()


class Off:
    """Settings and features of which every one is off."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return (lambda: False) if name.startswith("is_") else False


class Alone(Off):
    """How experts are spread over one chip: not at all."""

    dp_size = ep_size = pcp_size = tp_size = 1
    is_sequence_parallel = False


def prepare_platforms(module: Any) -> None:
    from vllm.platforms.interface import DeviceCapability, Platform, PlatformEnum  # noqa: PLC0415

    class Chip(Platform):  # type: ignore[misc]
        _enum = PlatformEnum.CUDA
        device_name = device_type = "cuda"

        @classmethod
        def get_device_capability(cls, device_id: int = 0) -> Any:
            return DeviceCapability(major=CAPABILITY // 10, minor=CAPABILITY % 10)

        @classmethod
        def import_kernels(cls) -> None:
            """They are compiled; `Operators` answers for them."""

        @classmethod
        def supports_fp8(cls) -> bool:
            return CAPABILITY >= 89

    module.current_platform = Chip()
    module.PlatformEnum = PlatformEnum
    module.Platform = Platform
    module.DeviceCapability = DeviceCapability


def prepare_logger(module: Any) -> None:
    def keep(message: str, *arguments: object, **_named: object) -> None:
        LOG.append(message % arguments if arguments else message)

    def ignore(*_arguments: object, **_named: object) -> None:
        pass

    logger = types.SimpleNamespace(info_once=keep, info=keep, warning_once=keep, warning=keep)
    logger.debug = logger.debug_once = logger.error = ignore
    module.init_logger = lambda _name: logger


def says(**answers: object) -> Callable[[Any], None]:
    """A stand-in whose functions give the answers named."""

    def prepare(module: Any) -> None:
        for name, answer in answers.items():
            setattr(module, name, lambda *_a, _answer=answer, **_n: _answer)

    return prepare


LOG: list[str] = []
CAPABILITY = 0
TREE = Path()
PREPARED: dict[str, Callable[[Any], None]] = {
    "torch": lambda module: module.__dict__.update(ops=Operators(), __version__="2.10.0"),
    "vllm._aiter_ops": lambda module: module.__dict__.update(rocm_aiter_ops=Off()),
    # Outside of an engine there is no configuration, and so no `--linear-backend`.
    "vllm.config": says(get_current_vllm_config_or_none=None),
    "vllm.platforms": prepare_platforms,
    "vllm.logger": prepare_logger,
    "vllm.utils.flashinfer": says(
        has_flashinfer=True,
        has_flashinfer_moe=True,
        has_flashinfer_cutlass_fused_moe=True,
        has_flashinfer_trtllm_fused_moe=True,
    ),
    "vllm.utils.deep_gemm": says(is_deep_gemm_supported=False),
    "vllm.utils.import_utils": says(has_deep_gemm=False),
}


# ---- questions


def fp8_linear() -> Any:
    """Fp8LinearOp of 0.13 and 0.14 as vLLM makes it for a layer, and what it says of CUTLASS."""
    from vllm.model_executor.layers.quantization.utils import w8a8_utils as module  # noqa: PLC0415

    return {
        "backend": module.Fp8LinearOp(act_quant_static=False, pad_output=False).preferred_backend,
        "block_cutlass": module.cutlass_block_fp8_supported(),
    }


def fp8_moe() -> Any:
    """0.14: the FP8 MoE backend of a checkpoint of compressed-tensors with per-token activations, on one chip."""
    from vllm.model_executor.layers.fused_moe.oracle import fp8 as module  # noqa: PLC0415

    return module.select_fp8_moe_backend(
        block_quant=False, tp_size=1, with_lora_support=False, allow_vllm_cutlass=True
    ).name


def fp8_moe_kinds() -> Any:
    """0.14: the backends of checkpoints of each kind; those of quant_method fp8 do not let CUTLASS have them."""
    from vllm.model_executor.layers.fused_moe.oracle import fp8 as module  # noqa: PLC0415

    kinds = {"fp8-block": (True, False), "fp8-static": (False, False), "fp8-dynamic": (False, True)}
    return {
        kind: module.select_fp8_moe_backend(
            block_quant=is_block, tp_size=1, with_lora_support=False, allow_vllm_cutlass=cutlass
        ).name
        for kind, (is_block, cutlass) in kinds.items()
    }


def fp8_moe_of_experts() -> Any:
    """From 0.15: the same as `fp8_moe`; there the classes of experts are asked one by one what they support."""
    return _of_experts("kFp8StaticChannelSym", "kFp8DynamicTokenSym", allow_vllm_cutlass=True)


def fp8_moe_kinds_of_experts() -> Any:
    """From 0.15: the same as `fp8_moe_kinds`, by the scales of weights and activations."""
    return {
        "fp8-block": _of_experts("kFp8Static128BlockSym", "kFp8Dynamic128Sym", allow_vllm_cutlass=False),
        "fp8-static": _of_experts("kFp8StaticTensorSym", "kFp8StaticTensorSym", allow_vllm_cutlass=False),
        "fp8-dynamic": fp8_moe_of_experts(),
    }


def _of_experts(weight: str, activation: str, *, allow_vllm_cutlass: bool) -> str:
    from vllm.model_executor.layers.fused_moe import config  # noqa: PLC0415
    from vllm.model_executor.layers.fused_moe.oracle import fp8 as module  # noqa: PLC0415
    from vllm.model_executor.layers.quantization.utils import quant_utils  # noqa: PLC0415

    # A word up to 0.16.
    function = "silu"
    if (TREE / f"{FUSED}.activation".replace(".", "/")).with_suffix(".py").is_file():
        function = importlib.import_module(f"{FUSED}.activation").MoEActivation.SILU
    asked = types.SimpleNamespace(
        is_lora_enabled=False,
        is_act_and_mul=True,
        activation=function,
        routing_method=config.RoutingMethodType.Renormalize,
        router_logits_dtype=None,
        moe_backend="auto",
        hidden_dim=4096,
        moe_parallel_config=Alone(),
    )
    keys = (getattr(quant_utils, weight), getattr(quant_utils, activation))
    chosen: str = module.select_fp8_moe_backend(asked, *keys, allow_vllm_cutlass=allow_vllm_cutlass)[0].name
    return chosen


def group_gemm() -> Any:
    from vllm import _custom_ops as module  # noqa: PLC0415

    return module.cutlass_group_gemm_supported(CAPABILITY)


def fp8_moe_of_0_13() -> Any:
    """0.13: the backends of FP8 checkpoints without and with blocks, and whether compressed-tensors takes CUTLASS."""
    from vllm.model_executor.layers.quantization import fp8  # noqa: PLC0415
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import (  # noqa: PLC0415
        CompressedTensorsConfig,
    )

    check = CompressedTensorsConfig._check_scheme_supported
    return {
        "backends": [
            fp8.get_fp8_moe_backend(is_block, types.SimpleNamespace(tp_size=1), False).name  # noqa: FBT003
            for is_block in (False, True)
        ],
        "cutlass": any(check(one, error=False, match_exact=True) for one in (90, 100)),
    }


def disabled_kernels() -> Any:
    """From 0.15: the kernel of a per-tensor FP8 layer, by VLLM_DISABLED_KERNELS of this process."""
    from vllm.model_executor.layers.quantization.utils import quant_utils  # noqa: PLC0415

    # Up to 0.16 the kernels lie with quantization.
    place = LINEAR if (TREE / LINEAR.replace(".", "/")).is_dir() else f"{QUANTIZATION}.kernels.scaled_mm"
    module = importlib.import_module(place)
    values = {"weight_quant_key": quant_utils.kFp8StaticTensorSym, "out_dtype": None}
    values |= {"activation_quant_key": quant_utils.kFp8StaticTensorSym}
    # Since 0.20; a per-tensor kernel does not ask for it.
    values |= {"input_dtype": None, "weight_shape": (4096, 4096)}
    known = inspect.signature(module.FP8ScaledMMLinearLayerConfig).parameters
    config = module.FP8ScaledMMLinearLayerConfig(**{name: one for name, one in values.items() if name in known})
    return module.choose_scaled_mm_linear_kernel(config, module._POSSIBLE_FP8_KERNELS).__name__


def glm_mla() -> Any:
    from vllm.transformers_utils import model_arch_config_convertor as module  # noqa: PLC0415

    found = module.ModelArchConfigConvertorBase.__new__(module.ModelArchConfigConvertorBase)
    found.hf_text_config = types.SimpleNamespace(model_type="glm4_moe_lite", kv_lora_rank=512)
    return found.is_deepseek_mla()


if __name__ == "__main__":
    CAPABILITY = int(sys.argv[2])
    TREE = Path(sys.argv[1])
    sys.meta_path.insert(0, Finder(TREE))
    answer = globals()[sys.argv[3]]()
    sys.stdout.write(json.dumps({"answer": answer, "log": LOG}))
