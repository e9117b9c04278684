"""Claims about what may be published, which tags name it, and what is refused and why."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.builders import make_matrix, make_plan, make_row
from tests.saidbuilder import make_bill
from tests.sourcebuilder import make_source_target

from sparkbake.attest import Named
from sparkbake.expected import Expected
from sparkbake.matrix import rows
from sparkbake.model import LocalImage, Row
from sparkbake.publish import (
    Deed,
    Published,
    Step,
    contenders,
    moving_steps,
    own_step,
    rank,
    tags_to_read,
)
from sparkbake.publishable import Candidate, Present, objections, packing_faults
from sparkbake.tagging import Moving, Tagging, Withdrawn

T4, T5, NEWER = "0.20.2-t4", "0.20.2-t5", "0.32.0-t5"
A, B, C = ("sha256:" + 64 * letter for letter in "abc")
INDEX, ATTESTATION = ("sha256:" + 64 * letter for letter in "de")
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
        "row": T4,
        "image": IMAGE,
        "trimmed": ("torch", "torch"),
        "report": json.dumps(report) if isinstance(report, Mapping) else report,
        "is_clean": True,
        "plan_digest": PLAN,
        "checks_digest": CHECKS,
        "recorded": None,
        "recorded_on": (),
        "bill": make_bill(make_plan(T4).targets[0], A),
        "provenance": json.dumps({"digest": A}),
        "made_into": (),
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
    assert "says that 'none' is trimmed, expected 'torch'; run `nox -s build" in candidate_errors(
        trimmed=("none", "torch")
    )
    told = candidate_errors(recorded=expected(B))
    assert told.startswith(f"the engine has {A}, locks/digests has {B}; build what is recorded, or record")
    assert told.endswith(f"`nox -s build -- {T4} --base debian-13 --record`")
    assert candidate_errors(is_clean=False).startswith("it no longer counts as clean: a waiver has expired; run")


BILLS = [None, "", "[]", "{}", make_bill(make_plan(T4).targets[0], B)]


@pytest.mark.parametrize("bill", BILLS, ids=["none", "empty", "list", "of nothing", "of another image"])
def test_what_has_no_bill_of_materials_is_not_published(bill: str | None) -> None:
    assert candidate_errors(bill=bill) == f"there is no bill of materials of it; run `nox -s verify -- {T4}`"


@pytest.mark.parametrize("provenance", [None, "{", json.dumps({"digest": B})])
def test_what_has_no_provenance_is_not_published(provenance: str | None) -> None:
    assert candidate_errors(provenance=provenance) == (
        f"it is not known how it was built; run `nox -s build -- {T4} --base debian-13`, which takes from its cache "
        "what it has"
    )


def test_what_is_not_verified_needs_verify_and_no_further_words() -> None:
    assert candidate_errors(report=None, bill=None, provenance=None) == f"not verified; run `nox -s verify -- {T4}`"


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


def plain(digest: str) -> Named:
    return Named(digest=digest, images=((digest, ""),), attestations=())


def index(*digests: str, attested: bool = True) -> Named:
    said = ((ATTESTATION, digests[0]),) if attested else ()
    return Named(digest=INDEX, images=tuple((one, "linux/arm64") for one in digests), attestations=said)


def test_an_image_on_another_base_than_the_recorded_one_is_refused() -> None:
    """The pages name what is recorded, so that nobody could tell what was published."""
    assert list(objections(candidate(recorded=expected(A), recorded_on=("ubuntu-24.04",)))) == []
    (told,) = objections(candidate(recorded_on=("ubuntu-24.04",)))
    assert told == (
        "locks/digests has the row on ubuntu-24.04 and not on debian-13, so that no page would name this image; build "
        f"on what is recorded: `nox -s build -- {T4} --base ubuntu-24.04`, or record this: `nox -s build -- {T4} "
        "--base debian-13 --record`"
    )


def held(named: Named | None, **changed: Any) -> Present | None:
    """What a registry has, with nothing against it."""
    good: dict[str, Any] = {"is_vouched_for": True, "is_signed": True}
    return Present(named=named, **{**good, **changed}) if named else None


@pytest.mark.parametrize(
    ("present", "is_signed", "deed", "why"),
    [
        (None, False, Deed.PUSH, "its digest is not recorded"),
        (index(A), True, Deed.DONE, ""),
        (index(A), False, Deed.SIGN, "the registry has it without this signature"),
        (plain(A), True, Deed.ATTEST, "the registry has this image without a bill of materials and provenance"),
        (index(A, attested=False), True, Deed.ATTEST, "the registry has this image without a bill"),
        (plain(B), True, Deed.REFUSED, f"the registry has {B} under {T4}, this image is {A}: the tag of a row never"),
        (index(B), True, Deed.REFUSED, f"the registry has {B} under {T4}, this image is {A}: the tag of a row never"),
        (index(A, B), True, Deed.REFUSED, f"the registry has {A} and {B} under {T4}, this image is {A}: the tag"),
    ],
)
def test_the_tag_of_a_row_names_one_image_for_ever(
    present: Named | None, deed: Deed, why: str, *, is_signed: bool
) -> None:
    step = own_step(candidate(), held(present, is_signed=is_signed))
    now = present.digest if present else None
    assert (step.tag, step.row, step.is_moving, step.deed, step.digest) == (T4, T4, False, deed, A)
    assert (step.present, step.names) == (now, INDEX if deed in (Deed.DONE, Deed.SIGN) else None)
    assert step.why.startswith(why)
    assert bool(step.why) is bool(why)


FAULT = "provenance: it is about another image"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"faults": (FAULT,)}, f"what the registry says of it does not hold: {FAULT}; "),
        ({"is_vouched_for": False, "is_signed": False}, "what the registry says of it was signed by nobody, or by "),
    ],
)
def test_what_others_say_of_an_image_is_replaced_and_never_signed(changed: dict[str, Any], why: str) -> None:
    """Of a foundation that is not here there is nothing to say in its place."""
    step = own_step(candidate(), held(index(A), **changed))
    assert (step.deed, step.names) == (Deed.ATTEST, None)
    assert step.why.startswith(why)
    assert step.why.endswith("; it is replaced")
    step = own_step(foundation(INDEX, image=None), held(index(A), **changed))
    assert (step.deed, step.names) == (Deed.REFUSED, None)
    assert step.why.startswith(why)
    assert step.why.endswith("; publish it from where it was built, as the same signer, then this again")


def test_an_index_of_no_image_is_another_image() -> None:
    step = own_step(candidate(), held(Named(digest=INDEX, images=(), attestations=())))
    assert step.deed is Deed.REFUSED
    assert f"the registry has no image under {T4}" in step.why


def test_what_may_not_be_published_is_refused_wherever_its_tag_points() -> None:
    for present in (None, plain(A), index(B)):
        step = own_step(candidate(None), held(present))
        assert (step.deed, step.why) == (Deed.REFUSED, f"not verified; run `nox -s verify -- {T4}`")
    assert own_step(candidate(image=None), None).digest is None
    assert own_step(candidate(recorded=expected(A)), None).why == ""


# ---- the tag of a foundation

ROW = "docker.io/sparkbake-test/vllm-source:1"


def foundation(known_as: str = A, **changed: Any) -> Candidate:
    """One that a row is made from, which is published with it.

    Args:
        known_as: the digest that the provenance of the row has for it.
    """
    target = make_source_target("pytorch")
    good = {"target": target, "row": "0.14.1-t4", "trimmed": ("", ""), "made_into": ((ROW, known_as),)}
    return candidate(**{**good, **changed})


OTHER_INDEX = Named(digest=C, images=((B, "linux/arm64"),), attestations=((ATTESTATION, B),))


@pytest.mark.parametrize(
    ("one", "present", "deed", "why"),
    [
        (foundation(), None, Deed.PUSH, "compiled images have no recorded digest"),
        (foundation(), index(A), Deed.DONE, ""),
        (foundation(INDEX), index(A), Deed.DONE, ""),
        (foundation(INDEX), None, Deed.REFUSED, f"{ROW} was made from {INDEX}, the engine has {A}; run `nox -s build"),
        (foundation(), OTHER_INDEX, Deed.REFUSED, f"the registry has {B} under 2.10.0-cu131, this image is {A}: the "),
        (foundation(B), OTHER_INDEX, Deed.REFUSED, f"{ROW} was made from {B}, the engine has {A}; run `nox -s build -"),
        (foundation(report=None), None, Deed.REFUSED, "not verified; run `nox -s verify -- 0.14.1-t4`"),
        # Of these the engine has none.
        (foundation(INDEX, image=None), index(A), Deed.DONE, ""),
        (foundation(A, image=None), index(A), Deed.DONE, ""),
        (foundation(A, image=None), index(A, attested=False), Deed.REFUSED, "the engine has no such image, and this"),
        (foundation(B, image=None), index(A), Deed.REFUSED, "the engine has no such image, and this registry not the"),
        (foundation(A, image=None), index(A, B), Deed.REFUSED, "the engine has no such image, and this registry not"),
        (foundation(image=None, made_into=()), index(A), Deed.REFUSED, "the engine has no such image; run `nox -s bui"),
        # This one was pulled.
        (foundation(INDEX, image=replace(IMAGE, digest=INDEX)), index(A), Deed.DONE, ""),
    ],
)
def test_a_foundation_is_what_the_row_was_made_from(
    one: Candidate, present: Named | None, deed: Deed, why: str
) -> None:
    step = own_step(one, held(present))
    assert step.deed is deed
    assert step.why.startswith(why)
    assert bool(step.why) is bool(why)
    if deed is Deed.DONE:
        assert (step.digest, step.names) == (A, INDEX)


def test_a_foundation_of_the_registry_gets_a_signature_that_it_lacks() -> None:
    assert own_step(foundation(INDEX, image=None), held(index(A), is_signed=False)).deed is Deed.SIGN


def test_what_a_foundation_needs_is_told_with_what_keeps_a_build_from_making_it() -> None:
    (told,) = objections(foundation(provenance=None))
    again = "`docker image rm docker.io/sparkbake-test/pytorch:1`, then `nox -s build -- 0.14.1-t4`"
    assert told == f"it is not known how it was built; run {again}, which takes from its cache what it has"


# ---- moving tags


def moved(
    published: dict[str, str], present: Mapping[str, str] | None = None, tagging: Tagging = TAGGING
) -> dict[str, Step]:
    """What becomes of each moving tag.

    Args:
        published: tag to digest of the index that it names.
    """
    rows = {tag: Published(image=IMAGE.digest, names=names) for tag, names in published.items()}
    return {one.tag: one for one in moving_steps(rows, ROWS, tagging, present or {})}


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


def test_a_tag_moves_to_an_index_that_is_not_made_yet_and_from_an_image_to_its_index() -> None:
    rows = {T4: Published(image=A, names=None)}
    steps = {one.tag: one for one in moving_steps(rows, ROWS, TAGGING, {"t4": A})}
    assert {(one.deed, one.digest, one.names) for one in steps.values()} == {(Deed.MOVE, A, None)}
    assert moved({T4: INDEX}, {"t4": A})["t4"].deed is Deed.MOVE
    assert moved({T4: INDEX}, {"t4": INDEX})["t4"].deed is Deed.DONE


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
