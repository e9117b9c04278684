"""What the source strategy compiles: repositories at commits, and the images made of them."""

from dataclasses import dataclass

from sparkbake.model import Base, Environment, Override, Pairs, Wheel
from sparkbake.patches import Effect
from sparkbake.sourcedata import Limit, Setting


@dataclass(frozen=True, kw_only=True, slots=True)
class GitSource:
    """A repository at one commit.

    Attributes:
        name: short, also the folder it is checked out to below /src: "vllm", "flash-attention".
        repository: URL, "https://github.com/vllm-project/vllm".
        tag: what was asked for; None when upstream names a commit only.
        commit: 40 hex digits; None while not known (an open pin, which no build accepts).
        submodules: whether they are checked out too, at the commits the repository names.
    """

    name: str
    repository: str
    tag: str | None
    commit: str | None
    submodules: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """A source that vLLM's CMake would fetch on its own, and is handed instead.

    Attributes:
        variable: environment variable with its folder, "VLLM_CUTLASS_SRC_DIR".
        folder: below the checkout, "python/triton_kernels"; empty for all of it.
    """

    source: GitSource
    variable: str
    folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CompiledPatch:
    """A patch in the build context, and what shows that it did something.

    Attributes:
        name: in the context below patches/, "0002-marlin-lists.patch".
        text: of the file.
        checks: what must be true of the tree afterwards.
    """

    name: str
    text: str
    checks: tuple[Effect, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTarget:
    """One BuildKit target of the source strategy.

    Attributes:
        name: of the bake target and its folder below build/: "pytorch-dev-2.10.0-cu131", "vllm-0.14.1-t4".
        recipe: "pytorch-dev", "pytorch" or "vllm-source": `recipes/<recipe>.Dockerfile.j2`.
        row: what commands know it by: the tag of its row, of a foundation its name.
        variant: how its vLLM is compiled otherwise than usual, "12.1"; None when it is not. Then `tag` is another than
            that of its row.
        parents: named contexts made by other targets: (("dev", "pytorch-dev-2.10.0-cu131"), ("runtime", ...)).
        cuda_devel, cuda_runtime: "docker.io/nvidia/cuda:13.1.0-devel-ubuntu24.04@sha256:...", both also named contexts
            "cuda-devel" and "cuda-runtime".
        sources: what is compiled, in order; by name "nccl", "nccl-tests", "torch", "torchvision", "torchaudio",
            "triton", "vllm", for a vllm target also transformers when it comes from git.
        fetches: for vLLM's CMake.
        patches: of vLLM, in order.
        build_requirements: hashed wheels that builds need, by component name: "tools" (cmake >= 3.30, ninja, wheel,
            setuptools, ...: stay in the dev image), "torch" (build of torch, torchvision, torchaudio), "triton" and
            "vllm"; and "runtime": what torch, torchvision and torchaudio need to run (typing-extensions, numpy,
            nvidia-cudnn-cu13, ...), which both bases have installed.
        environment: the hashed run-time environment without what is compiled; None for the bases.
        torch_arch_list: for torch, "12.1a"... see facts; vllm_arch_list: "12.0f".
        nccl_gencode: "-gencode=arch=compute_121,code=sm_121".
        existing_torch: path of use_existing_torch.py in vLLM's tree.
        rust: whether vLLM needs cargo.
        gib_per_job: memory that one compile job may take, by component.
        differing: names of packages of the environment that the sibling row has otherwise; they make a last layer.
        versions: component name to version; as everywhere else.
        limits: models that it cannot run, which its image is told; of a foundation none.
        settings: environment variables of its image that only some releases have; of a foundation none.
    """

    name: str
    recipe: str
    row: str
    variant: str | None
    tag: str
    reference: str
    platform: str
    base: Base
    cuda_devel: str
    cuda_runtime: str
    parents: Pairs
    apt_snapshot: str | None
    os_packages: tuple[str, ...]
    build_os_packages: tuple[str, ...]
    source_date_epoch: int
    sources: tuple[GitSource, ...]
    fetches: tuple[Fetch, ...]
    patches: tuple[CompiledPatch, ...]
    build_requirements: tuple[tuple[str, tuple[Wheel, ...]], ...]
    environment: Environment | None
    installer: tuple[Wheel, ...]
    torch_arch_list: str
    vllm_arch_list: str
    nccl_gencode: str
    jit_arch: str
    existing_torch: str
    rust: bool
    gib_per_job: Pairs
    differing: tuple[str, ...]
    versions: Pairs
    overrides: tuple[Override, ...]
    labels: Pairs
    limits: tuple[Limit, ...] = ()
    settings: tuple[Setting, ...] = ()

    @property
    def is_foundation(self) -> bool:
        """Whether it is without vLLM: what is installed for that makes the difference."""
        return self.environment is None

    @property
    def asked_as(self) -> str:
        """What `render` and `build` are given to get it: "0.14.1-t4 --variant 12.1"."""
        return f"{self.row} --variant {self.variant}" if self.variant else self.row

    def source(self, name: str) -> GitSource:
        return next(one for one in self.sources if one.name == name)
