"""Claims about findings: which stand, and which a waiver sets aside, for a while."""

from dataclasses import replace

import pytest

from sparkbake.findings import MOST_FINDINGS, Finding, Severity, Waived, judge, of_build
from sparkbake.rules import Waiver

TODAY = "2026-11-21"
WAIVER = Waiver(
    finding="missing-library", subject="*/lib*.so", versions=None, bases=(), expires=TODAY, reason="for another FFmpeg"
)


def make_finding(kind: str = "missing-library", subject: str = "opt/liba.so", severity: Severity = "error") -> Finding:
    return Finding(id=kind, severity=severity, subject=subject, found="libx.so", expected="it", remedy="bring it")


def judged(
    findings: list[Finding], *waivers: Waiver, release: str = "0.32.0", base: str = "debian-13"
) -> tuple[tuple[Finding, ...], tuple[Waived, ...]]:
    return judge(findings, waivers, release=release, base=base, today=TODAY)


def test_without_waivers_all_stand() -> None:
    some = [make_finding(subject="a"), make_finding(subject="b")]
    assert judged(some) == (tuple(some), ())


def test_errors_come_first_then_by_kind_and_subject_each_once() -> None:
    warning, last = make_finding("a", severity="warning"), make_finding("b", "a")
    first, second = make_finding("a", "x"), make_finding("a", "y")
    assert judged([warning, last, second, first, last])[0] == (first, second, last, warning)


def test_a_waiver_sets_aside_what_it_is_about() -> None:
    aside, other, elsewhere = make_finding(), make_finding("undefined-symbol"), make_finding(subject="opt/a.py")
    standing, waived = judged([aside, other, elsewhere], WAIVER)
    assert standing == (elsewhere, other)
    assert waived == (Waived(finding=aside, reason="for another FFmpeg", expires=TODAY),)


def test_a_waiver_may_set_aside_several_and_warnings_too() -> None:
    some = [make_finding(), make_finding(subject="opt/libb.so", severity="warning")]
    standing, waived = judged(some, WAIVER)
    assert (standing, [one.finding for one in waived]) == ((), some)


def test_what_is_waived_is_in_the_order_of_kind_and_subject() -> None:
    """Whatever the order of the findings, so that a report has the same bytes each time."""
    one, two, warning = (make_finding(subject=f"opt/lib{at}.so") for at in "abc")
    found = [replace(warning, severity="warning"), two, one]
    assert [each.finding.subject for each in judged(found, WAIVER)[1]] == ["opt/liba.so", "opt/libb.so", "opt/libc.so"]


def test_a_waiver_counts_on_its_last_day_and_not_after() -> None:
    assert judged([make_finding()], WAIVER)[0] == ()
    standing, waived = judged([make_finding()], replace(WAIVER, expires="2026-11-20"))
    assert [one.id for one in standing] == ["missing-library", "waiver-expired"]
    assert waived == ()


def test_a_waiver_that_has_expired_is_a_finding_itself() -> None:
    standing, _waived = judged([make_finding()], replace(WAIVER, expires="2026-11-20"))
    assert standing[1] == Finding(
        id="waiver-expired",
        severity="error",
        subject="missing-library of */lib*.so",
        found="it counted until 2026-11-20",
        expected="a waiver that sets a finding aside",
        remedy="mend what it is about, or renew it under checks.waivers in matrix.yaml",
    )


def test_an_expired_waiver_beside_a_valid_one_is_told_of_and_the_other_counts() -> None:
    standing, waived = judged([make_finding()], replace(WAIVER, expires="2026-11-20"), WAIVER)
    assert [one.id for one in standing] == ["waiver-expired"]
    assert [one.expires for one in waived] == [TODAY]


def test_a_waiver_that_sets_nothing_aside_is_a_finding_itself() -> None:
    ((fault,), waived) = judged([], WAIVER)
    assert (fault.id, fault.severity, fault.subject) == ("waiver-unused", "error", "missing-library of */lib*.so")
    assert fault.found == "nothing in the image that it is about"
    assert fault.remedy == "remove it from checks.waivers in matrix.yaml"
    assert waived == ()


def test_of_two_waivers_of_one_finding_both_are_used() -> None:
    standing, waived = judged([make_finding()], WAIVER, replace(WAIVER, subject="opt/*", reason="again"))
    assert standing == ()
    assert [one.reason for one in waived] == ["for another FFmpeg"]


@pytest.mark.parametrize(
    ("versions", "release", "ids"),
    [
        (">=0.25", "0.32.0", []),
        (">=0.25", "0.20.2", ["missing-library"]),
        ("<0.25", "0.32.0", ["missing-library"]),
        (">=0.25", "0.25.0rc1", ["missing-library"]),
        (">=0.25", "0.26.0rc1", []),
    ],
)
def test_a_waiver_is_about_some_releases(versions: str, release: str, ids: list[str]) -> None:
    """In others it neither counts, nor is it unused."""
    standing, _waived = judged([make_finding()], replace(WAIVER, versions=versions), release=release)
    assert [one.id for one in standing] == ids


@pytest.mark.parametrize(
    ("bases", "ids"),
    [((), []), (("debian-13",), []), (("ubuntu-24.04", "debian-13"), []), (("ubuntu-24.04",), ["missing-library"])],
)
def test_a_waiver_is_about_some_bases(bases: tuple[str, ...], ids: list[str]) -> None:
    standing, _waived = judged([make_finding()], replace(WAIVER, bases=bases))
    assert [one.id for one in standing] == ids


# ---- very many


def test_of_very_many_findings_of_a_kind_the_first_are_told_and_the_rest_counted() -> None:
    many = [make_finding(subject=f"opt/extra/{number:03}") for number in range(100)]
    other = make_finding("undefined-symbol")
    standing, _waived = judged([*reversed(many), other])
    assert standing[:MOST_FINDINGS] == tuple(many[:MOST_FINDINGS])
    rest = replace(many[0], subject="opt/extra", found="80 more below /opt/extra", expected="none")
    assert standing[MOST_FINDINGS:] == (rest, other)


def test_as_many_as_are_told_are_not_summed_up() -> None:
    many = [make_finding(subject=f"opt/{number:03}") for number in range(MOST_FINDINGS)]
    assert judged(many)[0] == tuple(many)


def test_errors_and_warnings_of_a_kind_are_counted_apart() -> None:
    some = [make_finding(subject=f"opt/{number:03}") for number in range(MOST_FINDINGS)]
    warnings = [replace(one, severity="warning") for one in some]
    assert judged([*some, *warnings])[0] == (*some, *warnings)


def test_those_that_have_no_folder_in_common_are_counted_too() -> None:
    many = [make_finding(subject=f"{number:03}/a") for number in range(MOST_FINDINGS + 2)]
    rest = judged(many)[0][-1]
    assert (rest.subject, rest.found) == ("/", "2 more")


def test_what_is_waived_of_very_many_is_not_counted() -> None:
    """Also of those that would have been summed up."""
    many = [make_finding(subject=f"opt/{number:03}.so") for number in range(100)]
    waiver = replace(WAIVER, subject="opt/0[1-9]*")
    standing, waived = judged(many, waiver)
    assert standing == tuple(many[:10])
    assert len(waived) == 90


# ---- remedies


def test_a_new_build_mends_what_is_not_as_planned() -> None:
    assert of_build("label", "a.b", tag="0.20.2-t4", found="1", expected="2") == Finding(
        id="label",
        severity="error",
        subject="a.b",
        found="1",
        expected="2",
        remedy="build the image anew from a clean checkout: `nox -s build -- 0.20.2-t4 --no-cache`",
    )
