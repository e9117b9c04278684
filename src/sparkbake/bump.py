"""Propose the row of a vLLM release from what its wheel and torch's declare; `bumpask` has asked for that."""

from dataclasses import dataclass
from datetime import date, timedelta

from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import Version

from sparkbake.consistency import RELEASE_COMPONENTS
from sparkbake.errors import LockError, UsageError
from sparkbake.model import Foundation, Matrix, Pairs
from sparkbake.versions import admits, cuda_short, is_version, major, normalise, same_version

# What upstream could have tested, and time for a release to be withdrawn.
AS_OF_DAYS = 7
# Of a specifier, as people write one: from where, without what, up to where.
_ORDER = ("===", "==", "~=", ">=", ">", "!=", "<=", "<")
_FROM = ("===", "==", "~=", ">=", ">")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A release on the package index.

    Attributes:
        published: UTC day of its first wheel for the platform.
    """

    version: str
    published: date


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """What is known of a release, as of a day.

    Attributes:
        as_of: ISO date.
        commit: that its wheel was built from, 7 to 40 hex digits.
        requires: of vLLM's wheel on a Spark: normalised name to specifier, "" when it takes any version.
        torch_requires: likewise, of torch's wheel.
        resolved: the newest of all its packages together: normalised name to version.
        transformers: the newest version of each major, ascending.
    """

    version: str
    as_of: str
    commit: str
    requires: Pairs
    torch_requires: Pairs
    resolved: Pairs
    transformers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A release for the matrix.

    Attributes:
        is_new: whether the matrix has no such foundation yet.
        commit: 40 hex digits, or None when the wheel names a short one alone.
        declares: of the matrix's components, in their order: distribution to specifier.
    """

    version: str
    as_of: str
    foundation: Foundation
    is_new: bool
    flashinfer: str
    declares: Pairs
    commit: str | None
    transformers: tuple[str, ...]


# ---- whether it may be taken, and as of when


def check_version(matrix: Matrix, version: str) -> None:
    """Refuse what can be no new row, before anything is asked.

    Raises:
        UsageError: it is no version of a release, or in the matrix.
    """
    if not is_version(version):
        raise UsageError(f"'{version}': expected a version of vLLM, as the package index has it: a PEP 440 version")
    parsed = Version(version)
    if str(parsed) != version:
        raise UsageError(f"'{version}': expected a version as the package index has it; write {parsed}")
    if parsed.is_prerelease or parsed.local:
        raise UsageError(f"vLLM {version}: is a pre-release or a local build, expected a release")
    if any(Version(one.vllm) == parsed for one in matrix.releases):
        raise UsageError(
            f"vLLM {version}: is in matrix.yaml already; `nox -s lock -- '{version}-*'` resolves its rows anew"
        )


def as_of(candidate: Candidate, *, today: date, older_than_days: int) -> str:
    """The day up to which packages enter the environment: a week after the release, or as near to that as age allows.

    What was published on that day is left out; so all that enters is as old as the release has to be.

    Args:
        today: in UTC.
        older_than_days: how many whole days ago the release, and each of its packages, must have been published.

    Raises:
        UsageError: it is too young; the message says when it may be taken.
    """
    # The release itself enters as of the day after it.
    taken = candidate.published + timedelta(days=older_than_days + 1)
    if today < taken:
        remedy = "" if older_than_days == 0 else "; --older-than-days 0 takes it sooner"
        raise UsageError(
            f"vLLM {candidate.version}: was published on {candidate.published}, and may be taken from {taken} on, "
            f"expected {older_than_days} or more whole days of age{remedy}"
        )
    return min(_week_after(candidate), today - timedelta(days=older_than_days)).isoformat()


def newest_published(*, today: date, older_than_days: int) -> date:
    """The last day on which a release can have been published that may be taken today; see `as_of`."""
    return today - timedelta(days=older_than_days + 1)


def waiting(candidate: Candidate, day: str, *, older_than_days: int) -> str | None:
    """What to do when a package is missing as of a day because it is younger; None when waiting brings none.

    Args:
        day: what `as_of` gave.
    """
    last = _week_after(candidate)
    if day >= last.isoformat():
        return None
    return (
        f"nothing is taken that is younger than {older_than_days} days: run it again later, at the latest from "
        f"{last + timedelta(days=older_than_days)} on, when packages are as of {last}"
    )


def _week_after(candidate: Candidate) -> date:
    return candidate.published + timedelta(days=AS_OF_DAYS)


def highest(matrix: Matrix) -> str:
    """The highest release of a matrix."""
    return max((one.vllm for one in matrix.releases), key=Version)


# ---- the proposal


def propose(matrix: Matrix, upstream: Upstream) -> Proposal:
    """The release with what it declares, on a foundation that it admits.

    Raises:
        LockError: the torch that it needs has no CUDA here.
    """
    distributions = [one.distribution for one in matrix.components]
    requires, resolved = dict(upstream.requires), dict(upstream.resolved)
    _check_cuda(matrix, upstream)
    foundation = _known_foundation(matrix, upstream)
    return Proposal(
        version=upstream.version,
        as_of=upstream.as_of,
        foundation=foundation or _new_foundation(matrix, upstream),
        is_new=foundation is None,
        flashinfer=_version_of(matrix, upstream, "flashinfer"),
        declares=tuple((name, requires[name]) for name in distributions if requires.get(name) and name in resolved),
        commit=upstream.commit if len(upstream.commit) == 40 else None,  # noqa: PLR2004  (hex digits of SHA-1)
        transformers=upstream.transformers,
    )


def lower_majors(matrix: Matrix, specifier: str, newest: str) -> tuple[int, ...]:
    """Majors of transformers below the newest that a specifier may admit, descending; not below those of the matrix."""
    least = min(variant.major for release in matrix.releases for variant in release.variants)
    floors = [major(one.version.removesuffix(".*")) for one in SpecifierSet(specifier) if one.operator in _FROM]
    return tuple(range(major(newest) - 1, max([least, *floors]) - 1, -1))


def would_override(matrix: Matrix, upstream: Upstream, proposal: Proposal) -> Pairs:
    """Foundations and majors of the matrix that the proposal does not take, and what each would override."""
    found = []
    for one in matrix.foundations:
        refused = _refused(matrix, upstream, one)
        if one.name != proposal.foundation.name and refused:
            found.append((one.name, ", ".join(refused)))
    majors = {variant.major for release in matrix.releases for variant in release.variants}
    for number in sorted(majors - {major(one) for one in proposal.transformers}):
        specifier = dict(upstream.requires).get(_distribution(matrix, "transformers"), "")
        found.append((f"t{number}", f"transformers ({specifier or 'any'})"))
    return tuple(found)


def specifier_text(specifier: SpecifierSet) -> str:
    """A specifier in the order in which people read it.

    >>> specifier_text(SpecifierSet("!=5.10.*,<6,!=5.2.*,>=4.56"))
    '>=4.56,!=5.2.*,!=5.10.*,<6'
    """

    def key(one: Specifier) -> tuple[int, Version | None, str]:
        text = one.version.removesuffix(".*")
        return (_ORDER.index(one.operator), Version(text) if is_version(text) else None, one.version)

    return ",".join(str(one) for one in sorted(specifier, key=key))


# ---- foundations


def _check_cuda(matrix: Matrix, upstream: Upstream) -> None:
    wanted = _distribution(matrix, "cuda")
    if wanted not in dict(upstream.torch_requires):
        torch = dict(upstream.resolved)[_distribution(matrix, "torch")]
        raise LockError(
            f"vLLM {upstream.version}: torch {torch} of the package index requires no {wanted} on this platform, so it "
            "has no CUDA; expected one that does; this release needs a row that compiles"
        )


def _known_foundation(matrix: Matrix, upstream: Upstream) -> Foundation | None:
    """The foundation of the matrix that overrides nothing, the last of several."""
    fitting = [one for one in matrix.foundations if not _refused(matrix, upstream, one)]
    torch = _version_of(matrix, upstream, "torch")
    return next((one for one in reversed(fitting) if same_version(dict(one.versions)["torch"], torch)), None)


def _new_foundation(matrix: Matrix, upstream: Upstream) -> Foundation:
    names = [one.name for one in matrix.components if one.name not in RELEASE_COMPONENTS]
    versions = {name: _version_of(matrix, upstream, name) for name in names}
    taken = {one.name for one in matrix.foundations}
    cuda = f"cu{cuda_short(versions['cuda'])}"
    name, count = f"{versions['torch']}-{cuda}", 2
    while name in taken:
        name, count = f"{versions['torch']}-v{count}-{cuda}", count + 1
    return Foundation(name=name, versions=tuple(versions.items()), as_of=None)


def _refused(matrix: Matrix, upstream: Upstream, foundation: Foundation) -> list[str]:
    """What of a foundation upstream does not admit: "torch (==2.14.0)"."""
    found = []
    for name, version in foundation.versions:
        specifier = _specifier(matrix, upstream, name)
        if not admits(specifier, version):
            found.append(f"{_distribution(matrix, name)} ({specifier})")
    return found


def _version_of(matrix: Matrix, upstream: Upstream, component: str) -> str:
    """The version that upstream pins, as it writes it; without a pin the newest that resolves."""
    resolved = dict(upstream.resolved)[_distribution(matrix, component)]
    pins = [one for one in SpecifierSet(_specifier(matrix, upstream, component)) if one.operator == "=="]
    exact = [one.version for one in pins if not one.version.endswith(".*") and same_version(one.version, resolved)]
    return exact[0] if exact else resolved


def _specifier(matrix: Matrix, upstream: Upstream, component: str) -> str:
    """What vLLM and torch ask of a component, together; "" when neither asks for it."""
    name = _distribution(matrix, component)
    said = [dict(one).get(name, "") for one in (upstream.requires, upstream.torch_requires)]
    return ",".join(dict.fromkeys(one for one in said if one))


def _distribution(matrix: Matrix, component: str) -> str:
    return normalise(next(one.distribution for one in matrix.components if one.name == component))
