"""A small valid matrix with a compiled release, for tests: the small matrix with a section `source`."""

from functools import cache

from tests.builders import edited, make_wheel

from sparkbake.matrix import parse_matrix, rows
from sparkbake.model import Environment, Matrix, Row
from sparkbake.sourcelock import FoundationLock, SourceLock, foundation_digest, row_digest
from sparkbake.sourcepins import cuda_images, foundation_pins, row_pins

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "76543210fedcba9876543210fedcba9876543210"
INDEX = "sha256:" + 64 * "1"
MANIFEST = "sha256:" + 64 * "2"

_SOURCE = f"""\
source:
  base: ubuntu-24.04
  devel: registry.example/cuda:{{cuda}}-devel
  runtime: registry.example/cuda:{{cuda}}-runtime
  digests:
    registry.example/cuda:13.1.0-devel: {{index: "{INDEX}", manifest: "{MANIFEST}"}}
    registry.example/cuda:13.1.0-runtime: {{index: "{INDEX}", manifest: null}}
  arch:
    torch: "12.1a"
    vllm: "12.0f"
    nccl_gencode: -gencode=arch=compute_121,code=sm_121
  variants: {{"12.1": "12.1a"}}
  existing_torch: {{"<0.31": use_existing_torch.py}}
  rust: {{versions: ">=0.22", os_packages: [cargo], index: sparse+https://crates.example/}}
  build_os_packages: [git, make]
  runtime_os_packages: [libblas3]
  replaced: [nvidia-nccl-cu13, torch, vllm]
  torch_without: ["nvidia-*"]
  gib_per_job: {{torch: "4", vllm: "8"}}
  disk_gb: {{compiled: "5", fetched: "1"}}
  repositories:
    nccl: {{url: https://example.com/nccl, tag: "v{{version}}", commits: {{v2.29.2-1: {COMMIT}}}}}
    nccl-tests: {{url: https://example.com/nccl-tests, of: nccl, at: {{">=2": v2.19.6}}, commits: {{v2.19.6: null}}}}
    torch:
      url: https://example.com/torch
      submodules: true
      tag: "v{{version}}"
      commits: {{v2.10.0: {COMMIT}}}
      built_from: {{v2.10.0: {OTHER}}}
    torchvision: {{url: https://example.com/vision, tag: "v{{version}}", commits: {{v0.25.0: {COMMIT}}}}}
    torchaudio: {{url: https://example.com/audio, tag: "v{{version}}", commits: {{v2.10.0: {COMMIT}}}}}
    llvm: {{url: https://example.com/llvm, of: triton, at: {{"==3.5.*": {OTHER}}}}}
    triton: {{url: https://example.com/triton, tag: "v{{version}}", commits: {{v3.5.1: {COMMIT}}}}}
    vllm: {{url: https://example.com/vllm}}
    transformers: {{url: https://example.com/transformers}}
    cutlass:
      url: https://example.com/cutlass
      variable: VLLM_CUTLASS_SRC_DIR
      folder: include
      of: vllm
      at: {{"<0.20": v4.2.1}}
      commits: {{v4.2.1: {COMMIT}}}
    flashmla:
      url: https://example.com/flashmla
      variable: FLASH_MLA_SRC_DIR
      of: vllm
      at: {{"==0.15.*": unknown}}
  requires:
    - {{component: tools, requires: [ninja]}}
    - {{component: vllm, of: vllm, versions: "<0.20", requires: [cmake, ninja]}}
    - {{component: runtime, of: torch, versions: "<2.12", requires: [nvidia-cudnn-cu13]}}
  settings:
    - {{name: VLLM_OLD, value: "1", versions: "<0.20", reason: old ones need it}}
    - {{name: VLLM_NEW, value: "1", versions: ">=0.20", reason: new ones need it}}
"""
_FOUNDATION = """\
  2.10.0-cu131:
    cuda: "13.1.0"
    nccl: "2.29.2-1"
    torch: "2.10.0"
    torchvision: "0.25.0"
    torchaudio: "2.10.0"
    triton: "3.5.1"
    as_of: "2026-02-02"
"""
_RELEASE = f"""\
  "0.14.0":
    strategy: source
    foundation: 2.10.0-cu131
    flashinfer: "0.6.1"
    as_of: "2026-02-02"
    git: {{tag: v0.14.0, commit: {COMMIT}}}
    declares:
      torch: "==2.9.1"
      flashinfer-python: "==0.6.1"
      transformers: ">=4.56.0,<5"
    overrides:
      torch: an older one has a bug
    limits:
      - {{model: Tiny, architectures: [TinyForCausalLM], model_types: [tiny], reason: this release has no such model}}
    transformers:
      t4:
        version: "4.57.6"
        git: {{tag: v0.14.0, commit: {OTHER}}}
        note: from another commit than the tag's
      t5:
        version: "5.0.0"
        source: {{tag: v5.0.0, commit: {COMMIT}}}
        flashinfer: "0.6.2"
        overrides:
          transformers: models need it
          flashinfer-python: a fix
"""
_IMAGES = """\
  pytorch-dev:
    name: spark-pytorch-dev
    title: PyTorch, for development
    description: PyTorch for one chip, with compilers
    source: https://example.com/pytorch
    licenses: BSD-3-Clause
  pytorch:
    name: spark-pytorch
    title: PyTorch
    description: PyTorch for one chip
    source: https://example.com/pytorch
    licenses: BSD-3-Clause
bases:
"""
_COMPONENTS = """\
components:
  nccl: {distribution: nvidia-nccl-cu13}
  torchvision: {distribution: torchvision}
  torchaudio: {distribution: torchaudio}
  triton: {distribution: triton}
"""
_MORE = '    nccl: "2.28.9"\n    torchvision: "0.26.0"\n    torchaudio: "2.11.0"\n    triton: "3.6.0"\n'


def _compiled() -> str:
    text = edited("foundations:\n", _SOURCE + "foundations:\n" + _FOUNDATION)
    text = text.replace('    torch: "2.11.0"\n', '    torch: "2.11.0"\n' + _MORE)
    text = text.replace("releases:\n", "releases:\n" + _RELEASE).replace("bases:\n  ubuntu", _IMAGES + "  ubuntu")
    return text.replace("components:\n", _COMPONENTS)


COMPILED_MATRIX = _compiled()


def compiled(old: str, new: str) -> str:
    """The small compiled matrix with one place changed; `old` must stand there exactly once."""
    found = COMPILED_MATRIX.count(old)
    if found != 1:
        raise ValueError(f"{old!r} stands {found} times in the matrix, expected once")
    return COMPILED_MATRIX.replace(old, new)


@cache
def make_compiled(old: str = "", new: str = "") -> Matrix:
    """The small compiled matrix, with `old` replaced by `new`."""
    return parse_matrix(compiled(old, new) if old else COMPILED_MATRIX, "matrix.yaml")


# ---- its locks

FOUNDATION = make_compiled().foundations[0]
T4, T5 = (one for one in rows(make_compiled()) if one.release.vllm == "0.14.0")


def make_foundation_lock() -> FoundationLock:
    matrix = make_compiled()
    return FoundationLock(
        name=FOUNDATION.name,
        entry_digest=foundation_digest(matrix, FOUNDATION),
        source_date_epoch=1_700_000_000,
        metadata_of="2.10.0",
        images=cuda_images(matrix, FOUNDATION),
        pins=foundation_pins(matrix, FOUNDATION),
        requires=(("tools", (make_wheel("ninja"),)), ("torch", ()), ("runtime", (make_wheel("numpy"),))),
        installer=(make_wheel("uv", "0.13.8"),),
    )


def make_source_lock(row: Row = T4) -> SourceLock:
    matrix = make_compiled()
    return SourceLock(
        tag=row.tag,
        entry_digest=row_digest(matrix, row),
        source_date_epoch=1_700_000_001,
        metadata_of="0.14.0",
        pins=row_pins(matrix, row),
        requires=(("triton", ()), ("vllm", (make_wheel("cmake"),))),
        environment=Environment(base="ubuntu-24.04", python="3.12", wheels=(make_wheel("numpy"), make_wheel("ray"))),
    )
