"""Claims about what a new release ends."""

from dataclasses import replace

import pytest
from tests.builders import ROOT, make_matrix, make_wheel, real_matrix

from sparkbake.bumpnotes import (
    Before,
    Note,
    mentions,
    patch_notes,
    release_before,
    rule_notes,
    trim_notes,
)
from sparkbake.model import Environment
from sparkbake.series import load_series

SERIES = load_series(ROOT / "patches" / "vllm")


def environment(**versions: str) -> Environment:
    wheels = tuple(make_wheel(name, version) for name, version in sorted(versions.items()))
    return Environment(base="debian-13", python="3.13", wheels=wheels)


@pytest.mark.parametrize(
    ("version", "before"), [("0.33.0", "0.32.0"), ("0.32.0", "0.20.2"), ("0.25.0", "0.20.2"), ("0.20.1", None)]
)
def test_a_release_follows_the_highest_below_it(version: str, before: str | None) -> None:
    assert release_before(make_matrix(), version) == before


# ---- patches


def test_patches_that_end_are_told_with_when_they_go() -> None:
    (note,) = [one for one in patch_notes(SERIES, "0.23.0", "0.22.1") if one.subject == "0002-marlin-lists.patch"]
    assert note == Note(
        kind="patch",
        subject="0002-marlin-lists.patch",
        text="ends: for '>=0.14,<0.23', to drop when vLLM is 0.23.0 or later",
    )


def test_patches_that_would_still_be_needed_are_told() -> None:
    subjects = {one.subject: one.text for one in patch_notes(SERIES, "0.22.2", "0.22.1")}
    assert subjects["0002-marlin-lists.patch"] == (
        "its '>=0.14,<0.23' has 0.22.2, too; needed where that is compiled, and not tried on it"
    )


@pytest.mark.parametrize("before", ["0.32.0", None])
def test_what_ended_long_ago_is_not_told_again(before: str | None) -> None:
    assert [one for one in patch_notes(SERIES, "0.33.0", before) if one.text.startswith("ends")] == []


# ---- rules and trims


def test_rules_and_waivers_that_end_are_told() -> None:
    matrix = make_matrix('">=0.20"\n        reason: upstream', '"<0.33"\n        reason: upstream')
    waiver = replace(matrix.rules.waivers[0], versions="==0.32.*")
    matrix = replace(matrix, rules=replace(matrix.rules, waivers=(waiver,)))
    assert rule_notes(matrix, "0.33.0", "0.32.0") == [
        Note(kind="device code", subject="torch/lib/libold.so", text="no longer applies: for vLLM '<0.33'"),
        Note(
            kind="waiver",
            subject="missing-library: */libtorchcodec_core4.so",
            text="no longer applies: for vLLM '==0.32.*'",
        ),
    ]
    assert rule_notes(matrix, "0.32.1", "0.32.0") == []
    assert rule_notes(matrix, "0.33.0", None) == []


def test_the_waiver_of_the_real_matrix_that_ends_with_0_32_is_told() -> None:
    (note,) = [one for one in rule_notes(real_matrix(), "0.32.1", "0.31.0") if "deep_gemm" in one.subject]
    assert (note.kind, note.text) == ("waiver", "no longer applies: for vLLM '<0.32'")


def test_trims_that_end_are_told_with_the_reason() -> None:
    matrix = make_matrix()  # trims torch >=2.11
    before = Before(version="0.32.0", environment=environment(torch="2.11.0"))
    assert trim_notes(matrix, environment(torch="2.11.0"), before) == []
    assert trim_notes(matrix, environment(torch="2.10.0"), before) == [
        Note(
            kind="trim",
            subject="torch: torch/lib/*.a",
            text="no longer applies: for '>=2.11', the environment has 2.10.0",
        )
    ]
    assert [one.text for one in trim_notes(matrix, environment(numpy="1"), before)] == [
        "no longer applies: the environment does not have the package"
    ]
    assert trim_notes(matrix, environment(numpy="1"), Before(version="0.32.0", environment=None)) == []


# ---- packages


# ---- comments


def test_comments_that_speak_of_the_release_are_told() -> None:
    text = '# vLLM 0.33.0 is left out\nx: "0.33.0"\n# 10.33.0, 0.33.0.1, 0.33.01\ny: z  # until 0.33.0.\n'
    assert [one.subject for one in mentions(text, "0.33.0")] == ["line 1", "line 4"]
    assert mentions(text, "0.33.0")[0] == Note(
        kind="matrix.yaml", subject="line 1", text="speaks of 0.33.0; is it still true?"
    )
