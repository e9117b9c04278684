"""What is left of a wheel's requirements when a part of them is compiled, and what torch's says of Triton."""

from collections.abc import Collection
from email.parser import HeaderParser
from fnmatch import fnmatchcase

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from sparkbake.model import Release
from sparkbake.versions import normalise

TRITON = "triton"
# torch asks for Triton by this marker alone, up to the release that has CUDA for aarch64 on the package index.
_ON_X86 = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "extra": ""}


def requirements_of(metadata: str, without: Collection[str]) -> tuple[str, ...]:
    """The requirements of a METADATA file but for its extras, sorted; with their markers, which the resolver judges.

    Args:
        without: names or shell patterns of normalised distribution names that are left out.
    """
    found = []
    for line in HeaderParser().parsestr(metadata).get_all("Requires-Dist", []):
        requirement = Requirement(line)
        if "extra ==" in str(requirement.marker):
            continue
        if not any(fnmatchcase(normalise(requirement.name), pattern) for pattern in without):
            found.append(str(requirement))
    return tuple(sorted(found))


def triton_faults(release: Release, metadata: str) -> list[str]:
    """Where the matrix says of the Triton that torch asks for something else than torch's METADATA does."""
    said = dict(release.declares).get(TRITON)
    if said is None:
        return []
    found = None
    for line in HeaderParser().parsestr(metadata).get_all("Requires-Dist", []):
        requirement = Requirement(line)
        if normalise(requirement.name) == TRITON and (not requirement.marker or requirement.marker.evaluate(_ON_X86)):
            found = requirement.specifier
    where = f"matrix.yaml: releases.{release.vllm}.declares.{TRITON}: got '{said}', but the wheel of torch"
    if found is None:
        return [f"{where} requires no {TRITON}; remove it"]
    return [] if found == SpecifierSet(said) else [f"{where} says '{found}'; correct it"]


def on_the_index(version: str) -> str:
    """The version whose metadata the package index has: a candidate of a compiled project is not published there.

    >>> on_the_index("2.10.0-rc6"), on_the_index("2.10.0")
    ('2.10.0', '2.10.0')
    """
    return Version(version).base_version if Version(version).is_prerelease else version
