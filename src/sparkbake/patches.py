"""Say which patches a release of an upstream project needs, which it does not, and why.

`series` reads the data behind it, `patching` applies what is selected here.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

from sparkbake.errors import UsageError
from sparkbake.model import Pairs
from sparkbake.versions import admits

Waived = Literal["not-needed", "not-possible"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """One subject that every release has exactly one outcome for: a patch, or why there is none.

    Attributes:
        variant: the kind of build that it is about alone, "12.1"; None when it is about all.
    """

    name: str
    title: str
    variant: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A release whose sources the patches were tried on.

    Attributes:
        source: what the package index has of it: "sdist", or only a "wheel", which has its Python files alone.
        note: what follows from that; None when nothing does.
    """

    version: str
    source: Literal["sdist", "wheel"]
    note: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What must be true of a file once a patch is applied, and is not before.

    Attributes:
        file: path in the source tree.
        text: a piece of its text.
        count: how often it has that, exactly; 0 when it may not.
    """

    file: str
    text: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """A patch file with what the series says of it.

    Attributes:
        name: "0002-marlin-lists.patch"; patches apply in the order of their numbers.
        releases: PEP 440 specifier; of the releases of the series alone, whatever else it admits.
        upstream: an address, or "none: " and why there is none.
        drop_when: the condition under which it goes.
        text: of the file, headers and all.
        touches: paths in the source tree, in the order of the file.
    """

    name: str
    topic: str
    releases: str
    upstream: str
    drop_when: str
    reason: str
    effects: tuple[Effect, ...]
    text: str
    touches: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """64 hex digits of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiver:
    """Why some releases have no patch on a topic.

    Attributes:
        kind: "not-needed", or "not-possible": something that no patch can give them, or none that could be proved.
        evidence: how that is known.
    """

    topic: str
    kind: Waived
    releases: str
    because: str
    evidence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Spared:
    """A family of kernels that a variant is without on purpose.

    Attributes:
        family: as `kernels` names it, "MLA".
        because: why nothing misses it.
        evidence: how that is known.
    """

    variant: str
    family: str
    releases: str
    because: str
    evidence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """All patches of one upstream project.

    Attributes:
        component: "vllm".
        pending: releases that nothing is claimed of yet, with the reason.
    """

    component: str
    topics: tuple[Topic, ...]
    releases: tuple[Release, ...]
    pending: Pairs
    patches: tuple[Patch, ...]
    waivers: tuple[Waiver, ...]
    spared: tuple[Spared, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What applies to one release, and what does not.

    Attributes:
        patches: in the order in which they apply.
        waivers: in the order of the topics.
    """

    component: str
    release: Release
    variant: str | None
    patches: tuple[Patch, ...]
    waivers: tuple[Waiver, ...]
    spared: tuple[Spared, ...]

    @property
    def digest(self) -> str:
        """'sha256:' + 64 hex digits: changes with any byte of any patch, their names and their order."""
        lines = "".join(f"{one.sha256}  {one.name}\n" for one in self.patches)
        return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def select(series: Series, version: str, variant: str | None = None) -> Selection:
    """What applies to a release.

    Args:
        variant: a kind of build other than the default, which needs the patches of its topics, too.

    Raises:
        UsageError: nothing is claimed of the release, or there is no such variant, or not of this release.
    """
    release = _release(series, version)
    variants = sorted({one.variant for one in series.topics if one.variant})
    if variant is not None and variant not in variants:
        raise UsageError(f"{series.component}: no variant '{variant}'; expected one of {', '.join(variants) or 'none'}")
    found = outcomes(series, version)
    own = [one.name for one in series.topics if one.variant == variant and variant]
    for one in found:
        if isinstance(one, Waiver) and one.kind == "not-possible" and one.topic in own:
            raise UsageError(f"{series.component} {version}: no variant '{variant}' of it: {one.topic}: {one.because}")
    topics = {one.name for one in series.topics if one.variant in (None, variant)}
    return Selection(
        component=series.component,
        release=release,
        variant=variant,
        patches=tuple(one for one in series.patches if one in found and one.topic in topics),
        waivers=tuple(one for one in found if isinstance(one, Waiver) and one.topic in topics),
        spared=tuple(one for one in series.spared if one.variant == variant and admits(one.releases, version)),
    )


def outcomes(series: Series, version: str) -> tuple[Patch | Waiver, ...]:
    """What is said of a release on every topic, in the order of the topics.

    Raises:
        UsageError: nothing is claimed of it.
    """
    _release(series, version)
    entries: tuple[Patch | Waiver, ...] = (*series.patches, *series.waivers)
    return tuple(
        one for topic in series.topics for one in entries if one.topic == topic.name and admits(one.releases, version)
    )


def _release(series: Series, version: str) -> Release:
    for release in series.releases:
        if release.version == version:
            return release
    why = dict(series.pending).get(version)
    if why:
        raise UsageError(f"{series.component} {version}: nothing is claimed of it yet: {why}")
    known = ", ".join(one.version for one in series.releases)
    raise UsageError(
        f"{series.component} {version}: no patch was tried on it; expected one of {known}, "
        "or add it to `releases` of the series"
    )


def coverage_faults(series: Series) -> list[str]:
    """Where a release has no outcome on a topic, or several; and what is for no release at all."""
    faults = []
    entries: list[tuple[str, str, str]] = [(one.name, one.topic, one.releases) for one in series.patches]
    entries += [(f"{one.kind} '{one.releases}'", one.topic, one.releases) for one in series.waivers]
    entries += [(f"spared '{one.releases}'", one.family, one.releases) for one in series.spared]
    for topic in series.topics:
        for release in series.releases:
            found = [name for name, about, some in entries if about == topic.name and admits(some, release.version)]
            if not found:
                faults.append(
                    f"{release.version}: nothing says what of {topic.name}; add a patch, or why there is none"
                )
            elif len(found) > 1:
                faults.append(f"{release.version}: {' and '.join(found)} are both for {topic.name}; expected one")
    for name, about, some in entries:
        if not any(admits(some, one.version) for one in series.releases):
            faults.append(f"{name} of {about}: '{some}' admits no release of this series; correct or remove it")
    return faults
