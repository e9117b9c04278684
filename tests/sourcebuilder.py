"""Builders of targets of the source strategy; their repositories and images are those of the tests' stand-ins."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.builders import make_wheel

from sparkbake.model import Base, ContextFile, Environment, Wheel
from sparkbake.patches import Effect
from sparkbake.runtime import FOLDER, MOE_CONFIGS
from sparkbake.sourcemodel import CompiledPatch, Fetch, GitSource, SourceTarget

HOST = "https://git.example"
VERSIONS = {
    "cuda": "13.1.0",
    "nccl": "2.29.2-1",
    "torch": "2.10.0-rc6",
    "torchvision": "0.25.0",
    "torchaudio": "2.10.0",
    "triton": "3.5.1",
    "vllm": "0.14.1",
}
TAGS = {name: f"v{version}" for name, version in VERSIONS.items()} | {"nccl-tests": "v2.17", "llvm": None}
WITH_SUBMODULES = ("torch", "flash-attention")
PATCH = """\
--- a/CMakeLists.txt
+++ b/CMakeLists.txt
@@ -4,3 +4,3 @@
 # The lists that the stand-in has.
-set(MARLIN_ARCHS "8.0+PTX")
+set(MARLIN_ARCHS "8.0+PTX;12.0f")
 set(SCALED_MM_ARCHS "12.0f")
"""
# On top of PATCH: one of the two lists, so that the variant has one kernel where the usual build has two.
NATIVE = """\
--- a/CMakeLists.txt
+++ b/CMakeLists.txt
@@ -5,3 +5,3 @@
 set(MARLIN_ARCHS "8.0+PTX;12.0f")
-set(SCALED_MM_ARCHS "12.0f")
+set(SCALED_MM_ARCHS "12.0f;12.1a")
 if(DEFINED ENV{VLLM_CUTLASS_SRC_DIR})
"""
SETS = {
    "pytorch-dev": ("nccl", "nccl-tests", "torch", "torchvision", "torchaudio"),
    "pytorch": (),
    "vllm-source": ("llvm", "triton", "vllm"),
}
FETCHED = {
    "cutlass": ("VLLM_CUTLASS_SRC_DIR", ""),
    "flash-attention": ("VLLM_FLASH_ATTN_SRC_DIR", ""),
    "triton-kernels": ("TRITON_KERNELS_SRC_DIR", "python/triton_kernels/triton_kernels"),
}
TUNED = "E=2,N=4,device_name=NVIDIA_GB10,dtype=fp8_w8a8.json"
# A stand-in for what images have by themselves.
RUNTIME = (
    ContextFile(path=FOLDER / "usr/local/bin/spark", content='#!/bin/sh\nexec "$@"\n'),
    ContextFile(path=FOLDER / "usr/lib/sparkbake/needs.json", content="{}\n"),
    ContextFile(path=FOLDER / MOE_CONFIGS / TUNED, content="{}\n"),
)


def make_source(name: str, commit: str | None = "0" * 40) -> GitSource:
    return GitSource(
        name=name,
        repository=f"{HOST}/{name}.git",
        tag=TAGS.get(name),
        commit=commit,
        submodules=name in WITH_SUBMODULES,
    )


def make_patch(text: str = PATCH, added: str = 'set(MARLIN_ARCHS "8.0+PTX;12.0f")') -> CompiledPatch:
    effect = Effect(file="CMakeLists.txt", text=added, count=1)
    return CompiledPatch(name="0001-marlin-lists.patch", text=text, checks=(effect,))


def make_native_patch() -> CompiledPatch:
    """What the variant 12.1 needs beside `make_patch`."""
    effect = Effect(file="CMakeLists.txt", text='set(SCALED_MM_ARCHS "12.0f;12.1a")', count=1)
    return CompiledPatch(name="0002-native-lists.patch", text=NATIVE, checks=(effect,))


def make_source_target(
    recipe: str,
    commits: Mapping[str, str] | None = None,
    *,
    requirements: Mapping[str, tuple[Wheel, ...]] | None = None,
    environment: Sequence[Wheel] | None = None,
    **changes: Any,
) -> SourceTarget:
    """A target; for vLLM with one patch, three sources for CMake, and a package of its own."""
    commits, vllm = commits or {}, recipe == "vllm-source"
    if environment is None:
        environment = (make_wheel("ray"), make_wheel("transformers", "4.57.6"))
    target = SourceTarget(
        name=f"{recipe}-1",
        recipe=recipe,
        row="0.14.1-t4" if vllm else "2.10.0-cu131",
        variant=None,
        tag="0.14.1-t4" if vllm else "2.10.0-cu131",
        reference=f"docker.io/sparkbake-test/{recipe}:1",
        platform="linux/arm64",
        base=Base(name="cuda", python="3.12", manylinux="manylinux_2_39", image="registry.example/cuda:13", suites=()),
        cuda_devel="registry.example/cuda:13.1.0-devel@sha256:" + 64 * "1",
        cuda_runtime="registry.example/cuda:13.1.0-runtime@sha256:" + 64 * "2",
        parents={"pytorch": (("dev", "pytorch-dev-1"),)}.get(
            recipe, (("dev", "pytorch-dev-1"), ("runtime", "pytorch-1")) if vllm else ()
        ),
        apt_snapshot="20260101T000000Z",
        os_packages=("ca-certificates", "gcc", "python3", "python3-venv"),
        build_os_packages=("ccache", "git", "make") if recipe == "pytorch-dev" else (),
        source_date_epoch=1_700_000_000,
        sources=tuple(make_source(name, commits.get(name, "0" * 40)) for name in SETS[recipe]),
        fetches=tuple(
            Fetch(source=make_source(name, commits.get(name, "0" * 40)), variable=variable, folder=folder)
            for name, (variable, folder) in FETCHED.items()
            if vllm
        ),
        patches=(make_patch(),) if vllm else (),
        build_requirements=tuple((requirements or {"tools": (make_wheel("cmake"),)}).items()),
        environment=Environment(base="cuda", python="3.12", wheels=tuple(environment)) if vllm else None,
        installer=(make_wheel("uv", "0.13.8"),),
        torch_arch_list="12.1a",
        vllm_arch_list="12.0f",
        nccl_gencode="-gencode=arch=compute_121,code=sm_121",
        jit_arch="12.1a",
        existing_torch="use_existing_torch.py",
        rust=False,
        gib_per_job=(("llvm", "1"), ("nccl", "1"), ("torch", "2"), ("triton", "1"), ("vllm", "4")),
        differing=("transformers",) if vllm else (),
        versions=tuple(VERSIONS.items()),
        overrides=(),
        limits=(),
        settings=(),
        labels=tuple((f"dev.example.{name}_version", version) for name, version in VERSIONS.items()),
    )
    return replace(target, **changes)


def runtime_of(target: SourceTarget) -> tuple[ContextFile, ...]:
    """What the image of a target has by itself."""
    return RUNTIME if target.recipe == "vllm-source" else ()
