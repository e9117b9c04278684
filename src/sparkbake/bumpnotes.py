"""Say what a new release ends or leaves behind: patches, trims, rules and waivers that are no longer about it."""

import re
from dataclasses import dataclass

from packaging.version import Version

from sparkbake.model import Environment, Matrix, Trim
from sparkbake.patches import Series
from sparkbake.resolve import trims_of
from sparkbake.versions import admits


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One thing to know of a new release.

    Attributes:
        kind: "patch", "trim", "device code", "waiver", "tools" or "matrix.yaml".
        subject: which of them.
    """

    kind: str
    subject: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Before:
    """The release that a new one follows, with the environment of its highest major."""

    version: str
    environment: Environment | None


def release_before(matrix: Matrix, version: str) -> str | None:
    """The highest release of a matrix below a version."""
    lower = [one.vllm for one in matrix.releases if Version(one.vllm) < Version(version)]
    return max(lower, key=Version, default=None)


def patch_notes(series: Series, version: str, before: str | None) -> list[Note]:
    """Patches that the release before would get as sources, and this one not; and those that it would still get."""
    found = []
    for one in series.patches:
        if admits(one.releases, version):
            text = f"its '{one.releases}' has {version}, too; needed where that is compiled, and not tried on it"
            found.append(Note(kind="patch", subject=one.name, text=text))
        elif before and admits(one.releases, before):
            text = f"ends: for '{one.releases}', to drop when {one.drop_when}"
            found.append(Note(kind="patch", subject=one.name, text=text))
    return found


def rule_notes(matrix: Matrix, version: str, before: str | None) -> list[Note]:
    """Rules of device code and waivers whose releases had the one before, and do not have this one."""
    rules = [("device code", ", ".join(one.paths), one.versions) for one in matrix.rules.code]
    rules += [("waiver", f"{one.finding}: {one.subject}", one.versions) for one in matrix.rules.waivers]
    return [
        Note(kind=kind, subject=subject, text=f"no longer applies: for vLLM '{versions}'")
        for kind, subject, versions in rules
        if versions and before and admits(versions, before) and not admits(versions, version)
    ]


def trim_notes(matrix: Matrix, environment: Environment, before: Before) -> list[Note]:
    """Trims that are about a package of the release before, and about none of this one."""
    packages = {one.name: one.version for one in environment.wheels}
    were = trims_of(before.environment, matrix.trims) if before.environment else ()
    are = trims_of(environment, matrix.trims)
    return [
        Note(kind="trim", subject=f"{one.package}: {', '.join(one.paths)}", text=_why_no_trim(one, packages))
        for one in were
        if one not in are
    ]


def _why_no_trim(trim: Trim, packages: dict[str, str]) -> str:
    if trim.package not in packages:
        return "no longer applies: the environment does not have the package"
    return f"no longer applies: for '{trim.versions}', the environment has {packages[trim.package]}"


def mentions(text: str, version: str) -> list[Note]:
    """Comments of matrix.yaml, as it was, that speak of the release; they may not be true any more."""
    pattern = re.compile(rf"#.*(?<![\d.]){re.escape(version)}(?!\.?\d)")
    return [
        Note(kind="matrix.yaml", subject=f"line {number}", text=f"speaks of {version}; is it still true?")
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
