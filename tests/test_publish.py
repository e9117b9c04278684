"""Claims about what may be published, which tags name it, and what is refused and why."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.builders import make_matrix, make_plan, make_row

from sparkbake.expected import Expected
from sparkbake.matrix import rows
from sparkbake.model import LocalImage, Row
from sparkbake.publish import (
    Candidate,
    Deed,
    Step,
    contenders,
    moving_steps,
    objections,
    own_step,
    packing_faults,
    rank,
    tags_to_read,
)
from sparkbake.tagging import Moving, Tagging, Withdrawn

T4, T5, NEWER = "0.20.2-t4", "0.20.2-t5", "0.32.0-t5"
A, B, C = ("sha256:" + 64 * letter for letter in "abc")
PLAN, CHECKS = "sha256:" + 64 * "1", "sha256:" + 64 * "2"
ROWS = rows(make_matrix())
TAGGING = Tagging(
    moving=tuple(Moving(template=one, reason="x") for one in ("{minor}-{variant}", "{variant}", "latest")),
    withdrawn=(),
    hosts=(),
)
IMAGE = LocalImage(digest=A, labels=(), architecture="arm64", size_bytes=1000)
REPORT = {
    "schema": 1, "digest": A, "plan_digest": PLAN, "checks_digest": CHECKS, "clean": True, "programs": "natively",
    "findings": [], "waived": [],
}  # fmt: skip


def candidate(report: Mapping[str, Any] | str | None = REPORT, **changed: Any) -> Candidate:
    """A row with all that it needs to be published."""
    good: dict[str, Any] = {
        "target": make_plan(T4).targets[0],
        "image": IMAGE,
        "trimmed": ("torch", "torch"),
        "report": json.dumps(report) if isinstance(report, Mapping) else report,
        "is_clean": True,
        "plan_digest": PLAN,
        "checks_digest": CHECKS,
        "recorded": None,
    }
    return Candidate(**{**good, **changed})


def expected(digest: str) -> Expected:
    return Expected(digest=digest, config=C, plan_digest=PLAN, engine="1", layers=())


# ---- what may be published


def test_what_was_found_clean_may_be_published() -> None:
    assert list(objections(candidate())) == []
    assert list(objections(candidate({**REPORT, "programs": "under emulation"}, recorded=expected(A)))) == []


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (None, f"not verified; run `nox -s verify -- {T4}`"),
        ({"digest": B}, f"verified was {B}, the engine has {A}; run `nox -s verify"),
        ({"plan_digest": C}, f"changed): plan {C}, now {PLAN}; run `nox -s build -- {T4} --base debian-13`"),
        ({"checks_digest": C}, "by other checks than those of this checkout; run `nox -s verify"),
        (
            {"clean": False, "findings": [{"severity": "error"}, {"severity": "warning"}]},
            f"verify found 1 errors in it; `nox -s verify -- {T4}` lists them",
        ),
        ({"programs": "not run"}, f"run `nox -s verify -- {T4}` without --no-run"),
        ({"programs": None}, "its programs were not run"),
    ],
)
def test_a_report_that_says_less_is_not_enough(report: dict[str, Any] | None, message: str) -> None:
    (told,) = objections(candidate(None if report is None else {**REPORT, **report}))
    assert message in told


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_report_is_none(text: str) -> None:
    assert list(objections(candidate(text))) == [f"its verify report is damaged; run `nox -s verify -- {T4}`"]


def candidate_errors(**changed: Any) -> str:
    (told,) = objections(candidate(**changed))
    return told


def test_what_else_keeps_an_image_from_being_published() -> None:
    assert candidate_errors(image=None) == (
        f"the engine has no such image; run `nox -s build -- {T4} --base debian-13`"
    )
    assert "lacks files of 'none', expected 'torch'; run `nox -s build" in candidate_errors(trimmed=("none", "torch"))
    told = candidate_errors(recorded=expected(B))
    assert told.startswith(f"the engine has {A}, locks/digests has {B}; build what is recorded, or record")
    assert told.endswith(f"`nox -s build -- {T4} --base debian-13 --record`")
    assert candidate_errors(is_clean=False).startswith("it no longer counts as clean: a waiver has expired; run")


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["a.tar+zstd", "b.tar+zstd"], None),
        (["a.tar+gzip", "b.tar+zstd", "a.tar+gzip"], "2 of its 3 layers are 'a.tar+gzip', expected all to be zstd; "),
    ],
)
def test_published_layers_are_zstd(kinds: list[str], message: str | None) -> None:
    manifest = json.dumps({"layers": [{"mediaType": one} for one in kinds]}).encode()
    told = "; ".join(packing_faults(manifest))
    assert (message or "") in told
    assert bool(told) is bool(message)


@pytest.mark.parametrize("manifest", [b"", b"[]", b'{"manifests": []}', b'{"layers": null}'])
def test_what_is_no_image_is_not_packed_well(manifest: bytes) -> None:
    (told,) = packing_faults(manifest)
    assert told.startswith("its manifest is that of no image")


# ---- the tag of a row


@pytest.mark.parametrize(
    ("present", "deed", "why"),
    [
        (None, Deed.PUSH, "its digest is not recorded"),
        (A, Deed.DONE, ""),
        (B, Deed.REFUSED, f"the registry has {B} under {T4}, this image is {A}: the tag of a row never changes"),
    ],
)
def test_the_tag_of_a_row_names_one_image_for_ever(present: str | None, deed: Deed, why: str) -> None:
    step = own_step(candidate(), present)
    assert (step.tag, step.row, step.is_moving, step.deed, step.digest, step.present) == (
        T4,
        T4,
        False,
        deed,
        A,
        present,
    )
    assert step.why.startswith(why)


def test_what_may_not_be_published_is_refused_wherever_its_tag_points() -> None:
    for present in (None, A, B):
        step = own_step(candidate(None), present)
        assert (step.deed, step.why) == (Deed.REFUSED, f"not verified; run `nox -s verify -- {T4}`")
    assert own_step(candidate(image=None), None).digest is None
    assert own_step(candidate(recorded=expected(A)), None).why == ""


# ---- moving tags


def moved(
    published: dict[str, str], present: Mapping[str, str] | None = None, tagging: Tagging = TAGGING
) -> dict[str, Step]:
    """What becomes of each moving tag."""
    return {one.tag: one for one in moving_steps(published, ROWS, tagging, present or {})}


def deeds(
    published: dict[str, str], present: Mapping[str, str] | None = None, tagging: Tagging = TAGGING
) -> dict[str, tuple[str, str]]:
    return {name: (one.deed.value, one.row) for name, one in moved(published, present, tagging).items()}


def test_moving_tags_go_to_the_highest_row_that_is_published() -> None:
    assert deeds({T4: A, T5: B}) == {
        "0.20-t4": ("move", T4),
        "t4": ("move", T4),
        "latest": ("move", T5),
        "0.20-t5": ("move", T5),
        "t5": ("move", T5),
    }
    assert deeds({T4: A})["latest"] == ("move", T4)
    assert deeds({T4: A, NEWER: C})["latest"] == ("move", NEWER)


def test_a_tag_that_is_where_it_belongs_is_left_alone() -> None:
    assert deeds({T4: A}, {"0.20-t4": A, "t4": B}) == {
        "0.20-t4": ("nothing to do", T4), "t4": ("move", T4), "latest": ("move", T4)
    }  # fmt: skip
    assert moved({T4: A}, {"t4": B})["t4"].present == B


def test_a_higher_row_of_the_registry_keeps_its_tags() -> None:
    """Only what is published now is given a tag: of the other, nobody looked at a report."""
    steps = moved({T5: A}, {NEWER: C, "latest": C, "t5": B})
    assert steps["latest"].deed is steps["t5"].deed is Deed.STAYS
    assert (steps["latest"].digest, steps["latest"].why) == (C, f"it names {NEWER}, which ranks above")
    assert steps["t5"].why == f"{NEWER} is in the registry and ranks above; it moves when that row is published"
    assert steps["0.20-t5"].deed is Deed.MOVE


def test_a_withdrawn_row_gives_its_tags_back() -> None:
    tagging = replace(TAGGING, withdrawn=(Withdrawn(tag=NEWER, reason="slow"),))
    assert deeds({T5: A}, {NEWER: C, "latest": C}, tagging)["latest"] == ("move", T5)
    assert deeds({NEWER: C}, tagging=tagging) == {}


def row(tag: str, release: str, major: int = 5) -> Row:
    one = make_row(T5)
    return replace(one, tag=tag, release=replace(one.release, vllm=release), variant=replace(one.variant, major=major))


def test_rows_rank_by_release_then_transformers_then_suffix() -> None:
    ordered = [
        row("0.9.0-t5", "0.9.0"),
        row("0.32.0-t4", "0.32.0", 4),
        row("0.32.0-t5", "0.32.0"),
        row("0.32.0-t5-v2", "0.32.0"),
        row("0.32.0-t5-v10", "0.32.0"),
        row("0.32.0.post1-t4", "0.32.0.post1", 4),
    ]
    assert sorted(random.Random(0).sample(ordered, len(ordered)), key=rank) == ordered  # noqa: S311  (no secret)
    assert contenders("latest", ordered, TAGGING) == tuple(reversed(ordered))
    assert [one.tag for one in contenders("0.32-t4", ordered, TAGGING)] == ["0.32.0.post1-t4", "0.32.0-t4"]


def test_a_pre_release_has_no_moving_tag() -> None:
    assert contenders("latest", [row("0.33.0rc1-t5", "0.33.0rc1"), make_row(T4)], TAGGING) == (make_row(T4),)


def test_the_tags_that_decide_are_read_and_no_others() -> None:
    assert tags_to_read([NEWER], ROWS, TAGGING) == (NEWER, "0.32-t5", "t5", "latest")
    assert tags_to_read([T4], ROWS, TAGGING) == (T4, "0.20-t4", "t4", "latest", NEWER, T5)
    assert tags_to_read([T5, NEWER], ROWS, TAGGING) == (T5, NEWER, "0.20-t5", "t5", "latest", "0.32-t5")
