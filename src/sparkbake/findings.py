"""What a check of an image finds, and the waivers that set a finding aside for a while."""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from sparkbake.rules import Waiver
from sparkbake.versions import admits

Severity = Literal["error", "warning"]

# Of one kind; one more says how many others there are.
MOST_FINDINGS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something in an image that is not as it should be.

    Attributes:
        id: of the kind of finding, "file-changed"; a waiver names it.
        severity: an error keeps an image from being published, a warning does not.
        subject: what it is about: a path of the image, a package, a label.
        found, expected: the evidence, each in a few words.
        remedy: what to do about it.
    """

    id: str
    severity: Severity
    subject: str
    found: str
    expected: str
    remedy: str


def of_build(kind: str, subject: str, tag: str, *, found: str, expected: str) -> Finding:
    """An error that a new build of a row mends.

    Args:
        kind: the id.
    """
    return Finding(id=kind, severity="error", subject=subject, found=found, expected=expected, remedy=anew(tag))


def anew(tag: str) -> str:
    """The remedy of what a new build of a row mends."""
    return f"build the image anew from a clean checkout: `nox -s build -- {tag} --no-cache`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Waived:
    """A finding that a waiver sets aside."""

    finding: Finding
    reason: str
    expires: str


def needed(waivers: Sequence[Waiver], findings: Sequence[Finding]) -> tuple[Waiver, ...]:
    """The waivers that some finding needs: of images that not all waivers were written for, so that none is unused."""
    return tuple(one for one in waivers if any(_fits(one, finding) for finding in findings))


def _fits(waiver: Waiver, finding: Finding) -> bool:
    return waiver.finding == finding.id and fnmatchcase(finding.subject, waiver.subject)


def judge(
    findings: Sequence[Finding], waivers: Sequence[Waiver], *, release: str | None, base: str, today: str
) -> tuple[tuple[Finding, ...], tuple[Waived, ...]]:
    """Tell findings that stand from those that are waived; each once.

    Those that stand are sorted, errors first, and of a kind with very many there are the first, and how many more.

    A waiver that has expired, or that sets nothing aside in a release it is about, is a finding itself.

    Args:
        release: of vLLM; None of an image without it, which no waiver for some releases is about.
        base: name of the image's base.
        today: YYYY-MM-DD.
    """
    about = [
        one
        for one in waivers
        if (one.versions is None or (release is not None and admits(one.versions, release)))
        and (not one.bases or base in one.bases)
    ]
    standing: dict[Finding, None] = {}
    waived: dict[Finding, Waived] = {}
    used: set[Waiver] = set()
    for finding in findings:
        fitting = [one for one in about if _fits(one, finding)]
        used.update(fitting)
        valid = [one for one in fitting if today <= one.expires]
        if valid:
            waived[finding] = Waived(finding=finding, reason=valid[0].reason, expires=valid[0].expires)
        else:
            standing[finding] = None
    standing |= dict.fromkeys(_fault(one, today) for one in about if one not in used or today > one.expires)
    return tuple(_capped(tuple(standing))), tuple(sorted(waived.values(), key=lambda one: _order(one.finding)))


def _fault(waiver: Waiver, today: str) -> Finding:
    """What is wrong with a waiver that has expired, or that nothing in the image is about."""
    expired = today > waiver.expires
    return Finding(
        id="waiver-expired" if expired else "waiver-unused",
        severity="error",
        subject=f"{waiver.finding} of {waiver.subject}",
        found=f"it counted until {waiver.expires}" if expired else "nothing in the image that it is about",
        expected="a waiver that sets a finding aside",
        remedy="mend what it is about, or renew it under checks.waivers in matrix.yaml"
        if expired
        else "remove it from checks.waivers in matrix.yaml",
    )


def _order(finding: Finding) -> tuple[str, str, str]:
    return finding.severity, finding.id, finding.subject


def _capped(findings: Sequence[Finding]) -> Iterator[Finding]:
    """By kind and subject; of a kind with very many the first, and how many more below which folder."""
    kinds: dict[tuple[Severity, str], list[Finding]] = {}
    for one in sorted(findings, key=_order):
        kinds.setdefault((one.severity, one.id), []).append(one)
    for some in kinds.values():
        yield from some[:MOST_FINDINGS]
        if more := some[MOST_FINDINGS:]:
            folder = posixpath.commonprefix([f"{posixpath.dirname(one.subject)}/" for one in more]).rpartition("/")[0]
            where = f" below /{folder}" if folder else ""
            yield replace(more[0], subject=folder or "/", found=f"{len(more)} more{where}", expected="none")
