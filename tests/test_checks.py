"""Claims about the section `checks` of the matrix: what it says, and what of it is a fault."""

import pytest
from tests.builders import SMALL_MATRIX, edited, faults_of, make_matrix

from sparkbake.rules import CodeRule, FileRule, Rules, Waiver

WHOLE = SMALL_MATRIX[SMALL_MATRIX.index("checks:") : SMALL_MATRIX.index("foundations:")]
ALLOW = WHOLE[WHOLE.index("    allow:") : WHOLE.index("  generated:")]
REMOVED = '"usr/share/man/*"]\n      bases: '
VERDICTS = "one of native, family, same-major, ptx, none"


def test_all_of_it_is_read() -> None:
    assert make_matrix().rules == Rules(
        least="same-major",
        code=(
            CodeRule(
                paths=("torch/lib/libold.so",), verdict="ptx", versions=">=0.20", reason="upstream has PTX of it alone"
            ),
        ),
        generated=(
            FileRule(paths=("etc/passwd", "etc/ssl/certs/*"), bases=(), reason="made when packages are installed"),
        ),
        removed=(
            FileRule(paths=("usr/share/man/*",), bases=("ubuntu-24.04",), reason="nobody reads them in an image"),
        ),
        waivers=(
            Waiver(
                finding="missing-library",
                subject="*/libtorchcodec_core4.so",
                versions=">=0.20",
                bases=("ubuntu-24.04",),
                expires="2027-11-01",
                reason="for another FFmpeg",
            ),
        ),
    )


def test_the_least_is_enough() -> None:
    rules = make_matrix(WHOLE, "checks:\n  device_code: {least: none}\n").rules
    assert rules == Rules(least="none", code=(), generated=(), removed=(), waivers=())


@pytest.mark.parametrize("text", ["", "        versions: null\n"])
def test_what_is_about_no_version_is_about_all(text: str) -> None:
    rules = make_matrix('        verdict: ptx\n        versions: ">=0.20"\n', f"        verdict: ptx\n{text}").rules
    assert rules.code[0].versions is None


@pytest.mark.parametrize("verdict", ["native", "family", "same-major", "ptx", "none"])
def test_every_verdict_may_be_the_least(verdict: str) -> None:
    assert make_matrix("    least: same-major", f"    least: {verdict}").rules.least == verdict


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (WHOLE, "", "checks: missing, expected a mapping; add it"),
        (WHOLE, "checks: {}\n", "checks: got an empty mapping, expected one with keys; fill it"),
        (
            f"  device_code:\n    least: same-major\n{ALLOW}",
            "",
            "checks.device_code: missing, expected a mapping; add it",
        ),
        ("    least: same-major\n", "", f"checks.device_code.least: missing, expected {VERDICTS}; add it"),
        (
            "    least: same-major",
            "    least: same_major",
            f"checks.device_code.least: got 'same_major', expected {VERDICTS}; did you mean 'same-major'?",
        ),
        ("        verdict: ptx", "        verdict: sass", f"allow[0].verdict: got 'sass', expected {VERDICTS}"),
        (
            "[torch/lib/libold.so]",
            "[/opt/venv/libold.so]",
            "allow[0].paths[0]: got '/opt/venv/libold.so', expected a shell pattern of paths below site-packages",
        ),
        (
            "      - paths: [torch/lib/libold.so]\n        verdict",
            "      - verdict",
            "allow[0].paths: missing, expected a list of strings; add it",
        ),
        (ALLOW, "    allow: []\n", "checks.device_code.allow: got an empty list, expected a list of mappings"),
        (
            '        verdict: ptx\n        versions: ">=0.20"',
            '        verdict: ptx\n        versions: "0.20"',
            "allow[0].versions: got '0.20', expected a PEP 440 specifier of vLLM releases such as >=0.28",
        ),
        ("        reason: upstream has PTX of it alone\n", "", "allow[0].reason: missing, expected a string"),
        (
            "        verdict: ptx",
            "        verdikt: ptx",
            "allow[0].verdikt: unknown key, expected one of paths, reason, verdict",
        ),
        (
            "[etc/passwd, ",
            "[/etc/passwd, ",
            "generated[0].paths[0]: got '/etc/passwd', expected a shell pattern of paths of the image, without /",
        ),
        (
            f"{REMOVED}[ubuntu-24.04]",
            f"{REMOVED}[ubuntu]",
            "checks.removed[0].bases: got 'ubuntu', expected one of the bases: debian-13, ubuntu-24.04",
        ),
        (
            f"{REMOVED}[ubuntu-24.04]",
            f"{REMOVED}[]",
            "checks.removed[0].bases: got an empty list, expected a list of strings",
        ),
        (
            f"{REMOVED}[ubuntu-24.04]",
            f'{REMOVED}[""]',
            "checks.removed[0].bases[0]: got '', expected the name of a base",
        ),
        (
            "      bases: [ubuntu-24.04]\n      expires",
            "      bases: [fedora]\n      expires",
            "checks.waivers[0].bases: got 'fedora', expected one of the bases: debian-13, ubuntu-24.04",
        ),
        (
            "finding: missing-library",
            "finding: Missing library",
            "checks.waivers[0].finding: got 'Missing library', expected the id of a finding, such as file-unowned",
        ),
        ('      subject: "*/libtorchcodec_core4.so"\n', "", "checks.waivers[0].subject: missing, expected a string"),
        (
            '      expires: "2027-11-01"\n',
            "",
            "checks.waivers[0].expires: missing, expected a date, YYYY-MM-DD; add it",
        ),
        ('"2027-11-01"', '"2027-13-01"', "checks.waivers[0].expires: got '2027-13-01', expected a date, YYYY-MM-DD"),
        ('"2027-11-01"', '"1 November"', "checks.waivers[0].expires: got '1 November', expected a date, YYYY-MM-DD"),
        (
            '"2027-11-01"',
            "2027-11-01",
            'checks.waivers[0].expires: got 2027-11-01 unquoted, which YAML reads as a date; write "2027-11-01"',
        ),
        (
            'core4.so"\n      versions: ">=0.20"',
            'core4.so"\n      versions: later',
            "checks.waivers[0].versions: got 'later', expected a PEP 440 specifier of vLLM releases such as >=0.28",
        ),
        ("      reason: for another FFmpeg\n", "", "checks.waivers[0].reason: missing, expected a string"),
    ],
)
def test_each_fault_is_named(old: str, new: str, fault: str) -> None:
    told = faults_of(edited(old, new))
    assert any(fault in one for one in told), told
    assert len(told) <= 2, told
