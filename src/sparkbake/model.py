"""The values everything else passes around: what the matrix says, and what it resolves to."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from sparkbake.rules import Rules
from sparkbake.sourcedata import Exceptions, Limit, Sources
from sparkbake.tagging import Tagging

Pairs = tuple[tuple[str, str], ...]


class Strategy(StrEnum):
    """How an image comes about: `wheels` installs a hash-locked environment, `source` compiles."""

    WHEELS = "wheels"
    SOURCE = "source"


# ---- what matrix.yaml says


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """Names shared by all images: `<registry>/<namespace>/<image name>:<tag>`, labels `<label_prefix>.<key>`."""

    registry: str
    namespace: str
    label_prefix: str
    vendor: str
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageKind:
    """One image name with the texts of its OCI annotations."""

    key: str
    name: str
    title: str
    description: str
    source: str
    licenses: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """The hardware the images are for.

    Attributes:
        platform: OCI platform, "linux/arm64".
        compute_capability: "12.1".
        jit_arch: what compilers inside the image build for at run time, "12.1a".
    """

    platform: str
    compute_capability: str
    jit_arch: str

    @property
    def architecture(self) -> str:
        return self.platform.partition("/")[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A base image: from a registry by `image`, or bootstrapped from the Debian `suites`; never both.

    Attributes:
        python: minor version of its python3, "3.12".
        manylinux: newest manylinux tag its C library satisfies, "manylinux_2_39".
    """

    name: str
    python: str
    manylinux: str
    image: str | None
    suites: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A component whose version stands in a label, and the PyPI distribution that carries it.

    Attributes:
        extras: extras of that distribution to install, e.g. ("nvcc", "cccl") of cuda-toolkit.
        library: a file of its wheel whose Build-ID stands in a label, too: "nvidia/nccl/lib/libnccl.so.2".
    """

    name: str
    distribution: str
    extras: tuple[str, ...]
    library: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """A PEP 508 requirement added to every wheels environment, and why."""

    requirement: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A layer of Python packages: names or shell patterns of normalised distribution names."""

    name: str
    packages: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Collision:
    """A path below site-packages that several packages carry with different content, and what becomes of it.

    Attributes:
        path: of a file, or a shell pattern of several.
        keep: the distribution whose content the image has; None when it does without the file.
    """

    path: str
    keep: str | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trim:
    """What of a package the chip can never run or use, which images do without: files, or cubins in them.

    Attributes:
        versions: PEP 440 specifier of the package's versions it is about; None for all.
        paths: below site-packages, shell patterns whose `*` crosses folders; each must match in every image.
        cubins: whether the files stay, but for cubins that the chip cannot load; see pruning.
        saves_bytes: at least, in every image it is about; the build measures it. Cubins spare nothing on disk.
        imports: modules that must still import, since they use what is left.
    """

    package: str
    versions: str | None
    paths: tuple[str, ...]
    cubins: bool
    saves_bytes: int
    imports: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Foundation:
    """CUDA, NCCL, torch and what is pinned with them; `name` is `<torch>[-v<n>]-cu<major><minor>`.

    Attributes:
        as_of: ISO date of the packages that a compiled foundation is built and run with; None of the others.
    """

    name: str
    versions: Pairs
    as_of: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """A requirement of upstream that a row sets aside, and why."""

    package: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Newer:
    """A package that may be newer than its release's `as_of`, up to an ISO date of its own."""

    package: str
    as_of: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One transformers major of a release.

    Attributes:
        revision: 1 of what was published first; a higher one stands at the end of the tag.
    """

    major: int
    transformers: str
    revision: int
    overrides: tuple[Override, ...]
    exceptions: Exceptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A vLLM version on a foundation.

    Attributes:
        as_of: ISO date; no package published later enters the environment, so that it is what upstream could test.
        declares: what upstream's own metadata asks for, distribution name to PEP 440 specifier.
        newer: packages that are exempt from `as_of`, each with its own date and the reason.
        tag, commit: the git tag asked for, and the commit it points to (40 hex digits), None while not known.
        published: its images exist in a registry; their locks may not change any more.
        limits: models that are known not to run in it.
    """

    vllm: str
    strategy: Strategy
    foundation: str
    flashinfer: str
    as_of: str
    declares: Pairs
    newer: tuple[Newer, ...]
    overrides: tuple[Override, ...]
    variants: tuple[Variant, ...]
    tag: str
    commit: str | None
    published: bool
    limits: tuple[Limit, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """All of matrix.yaml.

    Attributes:
        uv: version of uv that lays environments out inside builds.
        own_layer_bytes: a package whose wheel has this size or more has a layer of its own.
        sources: what is compiled, and from what; None when nothing is.
    """

    project: Project
    chip: Chip
    images: tuple[ImageKind, ...]
    bases: tuple[Base, ...]
    os_packages: tuple[str, ...]
    uv: str
    components: tuple[Component, ...]
    extras: tuple[Extra, ...]
    groups: tuple[Group, ...]
    own_layer_bytes: int
    collisions: tuple[Collision, ...]
    trims: tuple[Trim, ...]
    rules: Rules
    tagging: Tagging
    sources: Sources | None
    foundations: tuple[Foundation, ...]
    releases: tuple[Release, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One image tag with all that the matrix says about it.

    Attributes:
        replaces: tags of its earlier revisions, the newest first; a registry may have them, and no row has.
        versions: component name to version, in the order of the matrix's components.
    """

    tag: str
    replaces: tuple[str, ...]
    release: Release
    variant: Variant
    foundation: Foundation
    versions: Pairs

    @property
    def overrides(self) -> tuple[Override, ...]:
        return tuple(sorted(self.release.overrides + self.variant.overrides, key=lambda one: one.package))


# ---- what a lock says


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """One locked file of a Python environment.

    Attributes:
        name: normalised distribution name (PEP 503).
        sha256: 64 hex digits.
        size_bytes: of the file as downloaded.
    """

    name: str
    version: str
    file: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """The complete Python environment of a row on one base, sorted by name."""

    base: str
    python: str
    wheels: tuple[Wheel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """What a row of the matrix resolved to.

    Attributes:
        entry_digest: of the matrix entry it was made from, 'sha256:' + 64 hex.
        source_date_epoch: seconds; when the newest of its packages was published.
        wheel_commit: the commit vLLM's wheel says it was built from, 7 to 40 hex digits.
        build_ids: component to the Build-ID of its library, hex digits; of the components that have one.
        installer: the uv wheels (one per build architecture) that lay the environment out.
    """

    tag: str
    entry_digest: str
    source_date_epoch: int
    wheel_commit: str
    build_ids: Pairs
    installer: tuple[Wheel, ...]
    environments: tuple[Environment, ...]

    def environment(self, base: str) -> Environment | None:
        return next((one for one in self.environments if one.base == base), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLock:
    """A registry base frozen to its digests.

    Attributes:
        reference: the tag asked for, "docker.io/library/ubuntu:24.04".
        index: digest of the multi-platform index.
        manifests: architecture to manifest digest.
        apt_snapshot: archive snapshot for its OS packages, "20260916T000000Z".
    """

    name: str
    reference: str
    index: str
    manifests: Pairs
    apt_snapshot: str


# ---- what a plan says


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """Packages that are copied into the image together, in the order of the plan."""

    name: str
    wheels: tuple[Wheel, ...]

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes for one in self.wheels)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextFile:
    """A text file of a build context, with Unix line ends."""

    path: PurePosixPath
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One BuildKit target.

    Attributes:
        name: of the bake target and of its folder under build/.
        reference: `<registry>/<namespace>/<image>:<tag>`.
        base_digest: of the base's manifest for the platform.
        trims: those that are about this environment; none when everything is kept.
    """

    name: str
    tag: str
    reference: str
    platform: str
    base: Base
    base_reference: str
    base_digest: str
    apt_snapshot: str | None
    os_packages: tuple[str, ...]
    compute_capability: str
    jit_arch: str
    source_date_epoch: int
    environment: Environment
    installer: tuple[Wheel, ...]
    layers: tuple[Layer, ...]
    collisions: tuple[Collision, ...]
    trims: tuple[Trim, ...]
    versions: Pairs
    overrides: tuple[Override, ...]
    labels: Pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a build will do: targets in build order, parents first."""

    targets: tuple[Target, ...]


# ---- what the engine has


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalImage:
    """An image in the engine's store.

    Attributes:
        digest: of its manifest or index, 'sha256:' + 64 hex; with the containerd image store that is its ID.
        size_bytes: compressed layers, and their unpacked files where there are any.
    """

    digest: str
    labels: Pairs
    architecture: str
    size_bytes: int
