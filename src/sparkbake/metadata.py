"""Read what a wheel says of itself: its requirements on a Spark, and the commit it was built from."""

import re
from email.parser import HeaderParser

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sparkbake.versions import normalise

# What markers are judged by; Python's version does not decide over any component.
_ON_A_SPARK = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64", "extra": ""}


def required(metadata: str) -> dict[str, SpecifierSet]:
    """What a distribution requires on a Spark, without its extras: normalised name to specifier.

    Args:
        metadata: a METADATA file; https://packaging.python.org/specifications/core-metadata "Requires-Dist".
    """
    found: dict[str, SpecifierSet] = {}
    for line in HeaderParser().parsestr(metadata).get_all("Requires-Dist", []):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(_ON_A_SPARK):
            name = normalise(requirement.name)
            found[name] = found.get(name, SpecifierSet()) & requirement.specifier
    return found


def commit_of(version_file: str) -> str | None:
    """The commit that vLLM's _version.py names, 7 to 40 hex digits; None when it names none."""
    found = re.search(r"commit_id\s*=\s*'g?([0-9a-f]{7,40})'", version_file)
    return found[1] if found else None
