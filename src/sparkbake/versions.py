"""Version arithmetic: tags derived from versions, short CUDA names, and what a specifier admits."""

import re

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

# A tag as "Pulling manifests" allows it: https://github.com/opencontainers/distribution-spec
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


def is_version(text: str) -> bool:
    """Whether it is a PEP 440 version, without white space around it."""
    try:
        Version(text)
    except ValueError:  # also of a number with more digits than Python reads
        return False
    return text == text.strip()


def is_specifier(text: str) -> bool:
    """Whether it is a PEP 440 specifier set with at least one clause."""
    try:
        return bool(str(SpecifierSet(text)))
    except InvalidSpecifier:
        return False


def is_requirement(text: str) -> bool:
    """Whether it is a PEP 508 requirement."""
    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True


def major(version: str) -> int:
    """The first number of a version.

    >>> major("5.0.0rc3")
    5
    """
    return Version(version).release[0]


def admits(specifier: str, version: str) -> bool:
    """Whether a specifier set admits a version; pre-releases are judged like the others.

    >>> admits(">=4.56.0,<5", "5.0.0")
    False
    """
    return SpecifierSet(specifier).contains(version, prereleases=True)


def same_version(left: str, right: str) -> bool:
    """Whether two spellings mean one version: 13.0.3 and 13.0.3.0, and a local part (+cu130) only one of them has.

    >>> same_version("2.13.0", "2.13.0+cu130")
    True
    """
    if not is_version(left) or not is_version(right):
        return left == right
    one, two = Version(left), Version(right)
    return one == two or (one.public == two.public and not (one.local and two.local))


def cuda_short(version: str) -> str:
    """Major and minor of a CUDA version without the dot, as tags carry it.

    >>> cuda_short("13.0.2")
    '130'
    """
    first, second = (*Version(version).release, 0)[:2]
    return f"{first}{second}"


def is_same_cuda(left: str, right: str) -> bool:
    """Whether two CUDA versions are of one release; no version is of none.

    >>> is_same_cuda("13.0", "13.0.3"), is_same_cuda("12.9", "13.0.3"), is_same_cuda("latest", "13.0.3")
    (True, False, False)
    """
    if not is_version(left) or not is_version(right):
        return False
    one, two = ((*Version(text).release, 0)[:2] for text in (left, right))
    return one == two


def is_tag(text: str) -> bool:
    """Whether an image tag may consist of it."""
    return bool(_TAG.fullmatch(text))


def row_tag(vllm: str, transformers_major: int, *, revision: int = 1) -> str:
    """The tag of a vLLM image; that of the first revision does not name it.

    Raises:
        ValueError: the version makes no valid tag (a local part such as +cu130 does not).

    >>> row_tag("0.32.0", 5), row_tag("0.32.0", 5, revision=2)
    ('0.32.0-t5', '0.32.0-t5-v2')
    """
    tag = f"{vllm}-t{transformers_major}" + (f"-v{revision}" if revision > 1 else "")
    if not is_tag(tag):
        raise ValueError(f"'{tag}' is no valid image tag")
    return tag


def variant_tag(tag: str, variant: str) -> str:
    """The tag of a row that is compiled for another compute capability; no row has such a tag, see `row_tag`.

    Raises:
        ValueError: it would be too long.

    >>> variant_tag("0.14.1-t4", "12.1"), variant_tag("0.14.1-t4-v2", "12.1")
    ('0.14.1-t4-sm121', '0.14.1-t4-v2-sm121')
    """
    found = f"{tag}-sm{variant.replace('.', '')}"
    if not is_tag(found):
        raise ValueError(f"'{found}' is no valid image tag")
    return found


def is_foundation_name(name: str, torch: str, cuda: str) -> bool:
    """Whether a foundation is named as its versions ask: `<torch>-cu<major><minor>`, with `-v<n>` where two share it.

    >>> is_foundation_name("2.10.0-v2-cu131", "2.10.0", "13.1.1")
    True
    """
    return bool(re.fullmatch(rf"{re.escape(torch)}(-v[1-9]\d*)?-cu{cuda_short(cuda)}", name))


def normalise(name: str) -> str:
    """The PEP 503 form of a distribution name."""
    return canonicalize_name(name)
