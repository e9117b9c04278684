"""What matrix.yaml says of compiling: its section `source`, and what single rows have otherwise than their release."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Git:
    """A commit by the tag that was asked for.

    Attributes:
        commit: 40 hex digits; None while not known.
    """

    tag: str
    commit: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Exceptions:
    """What a row has otherwise than its release.

    Attributes:
        flashinfer: its version of FlashInfer.
        git: the sources of vLLM.
        transformers: those of transformers, which is then installed from git.
        note: what a user of the row should know.
    """

    flashinfer: str | None = None
    git: Git | None = None
    transformers: Git | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A model that a release cannot run, and how it is known from its config.json.

    Attributes:
        model: as people call it, "GLM-4.7-Flash".
        architectures, model_types: what stands there under `architectures` and `model_type`.
        reason: follows "cannot run, since ".
    """

    model: str
    architectures: tuple[str, ...]
    model_types: tuple[str, ...]
    reason: str

    @property
    def sentence(self) -> str:
        return f"{self.model} cannot run, since {self.reason}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """A git repository that something is compiled from.

    Attributes:
        tag: its tags, with "{version}" for the version of the component of the same name; None where `at` says it.
        of: the component whose version decides over `at`.
        at: specifier of that version to a tag, or to 40 hex digits where upstream names a commit; in order, the first
            that admits it counts. The commit "unknown" is an open pin.
        commits: tag to commit, None while not known.
        built_from: tag to the commit that the package index's wheel was built from, where that is another one.
        variable: environment variable with its folder, of what vLLM's CMake would fetch on its own; None of the others.
        folder: below the checkout, what the variable names; empty for all of it.
    """

    name: str
    url: str
    submodules: bool
    tag: str | None
    of: str | None
    at: tuple[tuple[str, str], ...]
    commits: tuple[tuple[str, str | None], ...]
    built_from: tuple[tuple[str, str], ...]
    variable: str | None
    folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Requires:
    """What a component needs from the package index to be built, or, of "runtime", torch to run.

    Attributes:
        of: the component whose version decides; None when it is always so.
        versions: PEP 440 specifier of that version.
        requires: PEP 508 requirements.
    """

    component: str
    of: str | None
    versions: str | None
    requires: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Digests:
    """An image tag frozen to its digests, None while not known.

    Attributes:
        reference: "docker.io/nvidia/cuda:13.1.0-devel-ubuntu24.04".
        index: of the multi-platform index.
        manifest: of the manifest for the chip's platform.
    """

    reference: str
    index: str | None
    manifest: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """An environment variable of the images of vLLM.

    Attributes:
        versions: PEP 440 specifier of the versions of vLLM that have it.
        reason: why it is set.
    """

    name: str
    value: str
    versions: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """The section `source` of a matrix.

    Attributes:
        base: name of the base whose Python, C library and archive snapshot the CUDA images have.
        devel, runtime: CUDA images, with "{cuda}" for the version.
        torch_arch: TORCH_CUDA_ARCH_LIST of torch, torchvision and torchaudio; vllm_arch: of vLLM.
        variants: name of another way to compile vLLM, the compute capability that it is for alone ("12.1"), to its
            TORCH_CUDA_ARCH_LIST.
        nccl_gencode: what nvcc gets for NCCL.
        existing_torch: specifier of vLLM's version to the path of its use_existing_torch.py.
        rust: specifier of the versions of vLLM that need cargo; rust_os_packages: what brings it.
        rust_index: sparse index that crates come from when nobody names another, for bundles; cargo knows its own.
        build_os_packages: what everything is compiled with; runtime_os_packages: libraries of them that torch and
            torchvision are linked to, so that every image has them.
        replaced: distributions that no environment has, since they are compiled, or come with the CUDA images.
        torch_without: shell patterns of distributions that torch's wheel asks for and a compiled torch does not.
        gib_per_job: memory that one compile job may take, by component.
        disk_gb: what a build takes of the disk, of a source that is compiled ("compiled"), and of one that vLLM's CMake
            is handed ("fetched"); whole GB, 0 for less than one.
        settings: environment variables of images of vLLM.
    """

    base: str
    devel: str
    runtime: str
    digests: tuple[Digests, ...]
    torch_arch: str
    vllm_arch: str
    variants: tuple[tuple[str, str], ...]
    nccl_gencode: str
    existing_torch: tuple[tuple[str, str], ...]
    rust: str
    rust_os_packages: tuple[str, ...]
    rust_index: str | None
    build_os_packages: tuple[str, ...]
    runtime_os_packages: tuple[str, ...]
    replaced: tuple[str, ...]
    torch_without: tuple[str, ...]
    gib_per_job: tuple[tuple[str, str], ...]
    disk_gb: tuple[tuple[str, str], ...]
    repositories: tuple[Repository, ...]
    requires: tuple[Requires, ...]
    settings: tuple[Setting, ...]

    def repository(self, name: str) -> Repository:
        return next(one for one in self.repositories if one.name == name)
