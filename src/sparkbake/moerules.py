"""Read moe_configs/rules.yaml: which kernel a release of vLLM runs experts with, and if it opens a tuned config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from sparkbake.errors import UsageError
from sparkbake.fields import Fields, read_fields

_RANGE = "releases such as '>=0.24,<0.33'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """What runs the experts of some models if nothing is said of it.

    Attributes:
        scheme: how the weights are stored: modelconfig.Scheme.name.
        releases: PEP 440 specifiers of vLLM.
        block_shape: "128,128" when it is only for such blocks.
        unless: settings that switch it off, "VLLM_USE_DEEP_GEMM=0".
        reads: whether it opens a tuned config.
        asked: what a user has to say for a kernel that opens one; None when it does, or when none would.
        reason: why it is this one.
    """

    scheme: str
    releases: str
    block_shape: str | None
    name: str
    unless: tuple[str, ...]
    reads: bool
    asked: str | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """The rules of all releases.

    Attributes:
        refined_blocks: PEP 440 specifiers of releases that cut blocks finer.
        kernels: the first one that fits applies.
    """

    refined_blocks: str
    kernels: tuple[Kernel, ...]


def parse_rules(text: str, name: str) -> Rules:
    """Read the rules.

    Args:
        name: how messages call the file.

    Raises:
        MatrixError: with every fault of it.
    """
    root = read_fields(text, name)
    root.text("schema", pattern="1", expected="'1', the version of this format")
    rules = Rules(
        refined_blocks=_releases(root, "refined_blocks"),
        kernels=tuple(_kernel(one) for one in root.items("kernels")),
    )
    root.done()
    root.raise_faults()
    return rules


def _kernel(fields: Fields) -> Kernel:
    kernel = Kernel(
        scheme=fields.text("scheme"),
        releases=_releases(fields, "releases"),
        block_shape=fields.text_or_none("block_shape", pattern=r"\d+,\d+", expected="two sizes such as '128,128'"),
        name=fields.text("kernel"),
        unless=fields.texts_or_empty("unless", pattern=r"[A-Z0-9_]+=.*", expected="settings such as A=0"),
        reads=fields.flag("reads"),
        asked=fields.text_or_none("asked"),
        reason=fields.text("reason"),
    )
    if kernel.reads and kernel.asked:
        fields.fault("asked", "is of no use to a kernel that opens a config; remove it")
    fields.done()
    return kernel


def _releases(fields: Fields, key: str) -> str:
    text = fields.text(key, expected=_RANGE)
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        fields.fault(key, f"got '{text}', expected {_RANGE}")
    return text


def parse_version(where: str, version: str) -> Version:
    """A release of vLLM.

    Raises:
        UsageError: it is no version.
    """
    try:
        return Version(version)
    except InvalidVersion as err:
        raise UsageError(f"{where}: has vLLM '{version}', expected a version") from err


def fits(releases: str, version: Version) -> bool:
    """Whether a release is meant; one that is built of sources ("+cu130") or before it is out counts as it."""
    return SpecifierSet(releases).contains(version.base_version, prereleases=True)


def kernel_for(
    kernels: Sequence[Kernel],
    *,
    scheme: str,
    block_shape: tuple[int, int] | None,
    version: Version,
    environment: Mapping[str, str],
) -> Kernel | None:
    """The first kernel that fits; None when none is known for the release.

    Args:
        environment: of the image.
    """
    shown = "{},{}".format(*block_shape) if block_shape else None
    for one in kernels:
        off = any(f"{name}={value}" in one.unless for name, value in environment.items())
        here = one.scheme == scheme and one.block_shape in (None, shown) and not off
        if here and fits(one.releases, version):
            return one
    return None
