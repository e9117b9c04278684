"""Claims about revisions: a published row is corrected under a tag of its own, and what becomes of the tag before."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.builders import (
    WHEELS,
    edited,
    faults_of,
    make_frozen,
    make_lock,
    make_matrix,
    make_plan,
    make_row,
    make_wheel,
)
from tests.compiledbuilder import FOUNDATION, T4, T5, make_compiled, make_foundation_lock, make_source_lock
from tests.imagebuilder import make_checkout
from tests.test_knownissues import ISSUES
from tests.test_patches import NAME as PATCH_NAME
from tests.test_patches import PATCH, SERIES
from tests.test_publish import candidate
from tests.test_schema import VALIDATOR
from tests.test_sourceresolve import NO_PATCHES

from sparkbake.attest import Named
from sparkbake.cli import main
from sparkbake.errors import LockError, UsageError
from sparkbake.layers import DIFFERENCE
from sparkbake.lockfile import entry_digest, load_lock, lock_path, lock_to_json
from sparkbake.matrix import rows
from sparkbake.model import Plan
from sparkbake.project import Project, open_project
from sparkbake.publish import Deed, Published, Step, moving_steps, ranked_tags, tags_to_read
from sparkbake.publishable import immutable
from sparkbake.releasepages import write_pages
from sparkbake.resolve import resolve, select, siblings_of
from sparkbake.sourceresolve import SourceLocks, resolve_source
from sparkbake.tagging import Moving, Tagging, Withdrawn

OLD, NEW, BEFORE = "0.32.0-t5", "0.32.0-t5-v2", "0.20.2-t5"
A, B = ("sha256:" + 64 * letter for letter in "ab")
_LATEST = 't5: {version: "5.19.0"}'
_REVISED = 't5: {version: "5.19.0", revision: "2"}'
_SIBLING = '        version: "5.8.0"\n'
_WITHDRAWN = "  withdrawn:\n    - tag: 0.32.0-t5\n      reason: it answers slowly\n"
_EXPECTED = "expected a number from 2 to 999, since what is published first has none"
MATRIX = make_matrix(_LATEST, _REVISED)
ROWS = rows(MATRIX)


# ---- the matrix


@pytest.mark.parametrize(
    ("revision", "tag", "replaces"),
    [
        ("2", NEW, (OLD,)),
        ("3", "0.32.0-t5-v3", (NEW, OLD)),
        ("10", "0.32.0-t5-v10", (*(f"0.32.0-t5-v{one}" for one in range(9, 1, -1)), OLD)),
    ],
)
def test_a_revision_is_the_end_of_the_tag(revision: str, tag: str, replaces: tuple[str, ...]) -> None:
    matrix = make_matrix(_LATEST, f't5: {{version: "5.19.0", revision: "{revision}"}}')
    assert [(one.tag, one.replaces) for one in rows(matrix)] == [
        ("0.20.2-t4", ()), (BEFORE, ()), (tag, replaces)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('"1"', f"got '1', {_EXPECTED}"),
        ('"0"', f"got '0', {_EXPECTED}"),
        ('"-2"', f"got '-2', {_EXPECTED}"),
        ('"02"', f"got '02', {_EXPECTED}"),
        ('"1000"', f"got '1000', {_EXPECTED}"),
        ('"x"', f"got 'x', {_EXPECTED}"),
        ('"v2"', f"got 'v2', {_EXPECTED}"),
        ('"²"', f"got '²', {_EXPECTED}"),
        ('""', f"got '', {_EXPECTED}"),
        ("2", 'got 2 unquoted, which YAML reads as an integer; write "2"'),
        ("2.0", 'got 2.0 unquoted, which YAML reads as a float; write "2.0"'),
        ("null", f"got null, {_EXPECTED}; write it"),
        ('["2"]', f"got a list, {_EXPECTED}"),
    ],
)
def test_no_other_revision_is_taken_by_the_parser_nor_by_the_schema(written: str, message: str) -> None:
    text = edited(_LATEST, f't5: {{version: "5.19.0", revision: {written}}}')
    (fault,) = faults_of(text)
    assert fault.endswith(f': releases."0.32.0".transformers.t5.revision: {message}')
    assert not VALIDATOR.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("revision", ["2", "9", "10", "999"])
def test_the_schema_takes_what_the_parser_takes(revision: str) -> None:
    text = edited(_LATEST, f't5: {{version: "5.19.0", revision: "{revision}"}}')
    assert faults_of(text) == ()
    assert VALIDATOR.is_valid(yaml.safe_load(text))


def test_a_moving_tag_may_not_be_that_of_an_earlier_revision() -> None:
    text = edited(_LATEST, _REVISED).replace(_WITHDRAWN, "")
    (fault,) = faults_of(text.replace("- tag: latest", '- tag: "{minor}.0-{variant}"'))
    assert "publish.moving: gives '0.32.0-t5', which is the tag of a row and never moves; choose another" in fault


def test_an_earlier_revision_may_stay_withdrawn() -> None:
    assert [one.tag for one in MATRIX.tagging.withdrawn] == [OLD]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [(NEW, [NEW]), ("0.32.*", [NEW]), ("*-t5*", [BEFORE, NEW]), ("*-t5", [BEFORE])],
)
def test_a_revision_is_chosen_by_its_own_tag(pattern: str, found: list[str]) -> None:
    assert [one.tag for one in select(ROWS, [pattern])] == found


def test_who_asks_for_the_tag_before_is_told_what_replaced_it() -> None:
    with pytest.raises(UsageError) as caught:
        select(ROWS, [OLD])
    assert str(caught.value) == (
        "'0.32.0-t5': 0.32.0-t5-v2 replaced it, and is what this checkout has; name that, or check out the commit "
        "that the old one was built from"
    )


# ---- lock, labels, layers


def test_the_lock_goes_by_the_tag_and_that_of_the_tag_before_is_not_taken(tmp_path: Path) -> None:
    old, new = make_row(OLD), make_row(NEW, MATRIX)
    assert entry_digest(MATRIX, new) == entry_digest(make_matrix(), old), "what it resolves to is the same"
    lock_path(tmp_path, OLD).write_text(lock_to_json(make_lock(old)), encoding="utf-8")
    with pytest.raises(LockError, match=r"there is no lock for 0\.32\.0-t5-v2; run `nox -s lock -- 0\.32\.0-t5-v2`"):
        load_lock(tmp_path, MATRIX, new)
    lock_path(tmp_path, OLD).rename(lock_path(tmp_path, NEW))
    with pytest.raises(LockError, match=r"is the lock of '0\.32\.0-t5', expected 0\.32\.0-t5-v2"):
        load_lock(tmp_path, MATRIX, new)
    lock = make_lock(new, MATRIX)
    (tmp_path / "0.32.0-t5-v2.json").write_text(lock_to_json(lock), encoding="utf-8")
    assert load_lock(tmp_path, MATRIX, new) == lock


def test_the_image_and_its_labels_have_the_tag() -> None:
    (target,) = make_plan(NEW, matrix=MATRIX).targets
    assert target.name == "spark-vllm-0_32_0-t5-v2"
    assert target.reference == "registry.example:5000/sparks/spark-vllm:0.32.0-t5-v2"
    labels, before = dict(target.labels), dict(make_plan(OLD).targets[0].labels)
    assert {name: labels[name] for name in labels if labels[name] != before[name]} == {
        "org.opencontainers.image.version": NEW,
        "org.opencontainers.image.ref.name": NEW,
        "dev.example.lock_digest": labels["dev.example.lock_digest"],
    }


def plan_of(tag: str, sibling: str, *, revision: str) -> Plan:
    """A row whose sibling has another version of ray; `revision` is a line of 0.20.2-t5."""
    matrix = make_matrix(_SIBLING, _SIBLING + revision)
    row, other = make_row(tag, matrix), make_row(sibling, matrix)
    assert siblings_of(row, rows(matrix)) == (other,)
    wheels = [make_wheel("ray", "2.0"), *(one for one in WHEELS if one.name != "ray")]
    siblings = {sibling: make_lock(other, matrix, wheels=wheels)}
    return resolve(matrix, [row], {tag: make_lock(row, matrix)}, make_frozen(matrix=matrix), siblings)


def test_what_differs_from_a_sibling_is_the_last_layer_of_both_whichever_has_a_revision() -> None:
    revised = '        revision: "2"\n'
    for tag, sibling, revision in (
        ("0.20.2-t4", "0.20.2-t5", ""),
        ("0.20.2-t4", "0.20.2-t5-v2", revised),
        ("0.20.2-t5-v2", "0.20.2-t4", revised),
    ):
        (target,) = plan_of(tag, sibling, revision=revision).targets
        assert (target.layers[-1].name, [one.name for one in target.layers[-1].wheels]) == (DIFFERENCE, ["ray"])


def test_a_revision_changes_nothing_of_its_sibling() -> None:
    before = plan_of("0.20.2-t4", "0.20.2-t5", revision="")
    assert plan_of("0.20.2-t4", "0.20.2-t5-v2", revision='        revision: "2"\n') == before


def test_a_compiled_row_may_have_a_revision_too() -> None:
    old = '        version: "5.0.0"\n'
    matrix = make_compiled(old, old + '        revision: "2"\n')
    t4, t5 = (one for one in rows(matrix) if one.release.vllm == "0.14.0")
    assert (t4.tag, t5.tag, t5.replaces) == (T4.tag, "0.14.0-t5-v2", (T5.tag,))
    four, five = make_source_lock(t4), make_source_lock(t5)
    wheels = (make_wheel("numpy"), make_wheel("ray", "2.0"))
    five = replace(five, environment=replace(five.environment, wheels=wheels))
    rows_ = {t4.tag: four, t5.tag: five}
    foundations = {FOUNDATION.name: make_foundation_lock()}
    locks = SourceLocks(foundations=foundations, rows=rows_, siblings=rows_, apt_snapshot="20260916T000000Z")
    plan = resolve_source(matrix, (t4, t5), locks, NO_PATCHES)
    found = {one.tag: one for one in plan.targets}
    assert found["0.14.0-t5-v2"].name == "spark-vllm-0_14_0-t5-v2"
    assert found[t4.tag].differing == found[t5.tag].differing == ("ray",)
    assert dict(found[t5.tag].labels)["org.opencontainers.image.version"] == "0.14.0-t5-v2"


# ---- the registry

TAGGING = Tagging(moving=(Moving(template="latest", reason="x"),), withdrawn=(), hosts=())


def latest(published: str, present: Mapping[str, str], tagging: Tagging = TAGGING) -> Step:
    """What becomes of the tag when a row is published."""
    (step,) = moving_steps({published: Published(image=A, names=A)}, ROWS, tagging, present)
    return step


def test_a_revision_takes_the_moving_tags_of_the_one_before() -> None:
    step = latest(NEW, {OLD: B, "latest": B})
    assert (step.deed, step.row, step.names, step.present) == (Deed.MOVE, NEW, A, B)


def test_until_a_revision_is_published_the_one_before_keeps_its_moving_tags() -> None:
    """Else a lower row that is published meanwhile would take them."""
    step = latest(BEFORE, {OLD: B, "latest": B})
    assert (step.deed, step.names, step.why) == (Deed.STAYS, B, f"it names {OLD}, which ranks above")
    assert latest(BEFORE, {"latest": B}).deed is Deed.MOVE


def test_a_withdrawn_revision_keeps_no_moving_tag() -> None:
    tagging = replace(TAGGING, withdrawn=(Withdrawn(tag=OLD, reason="slow"),))
    assert latest(BEFORE, {OLD: B, "latest": B}, tagging).deed is Deed.MOVE
    assert ranked_tags("latest", ROWS, tagging) == (NEW, BEFORE, "0.20.2-t4")


def test_earlier_revisions_rank_below_later_ones_and_are_read() -> None:
    assert ranked_tags("latest", ROWS, TAGGING) == (NEW, OLD, BEFORE, "0.20.2-t4")
    assert tags_to_read([BEFORE], ROWS, TAGGING) == (BEFORE, "latest", NEW, OLD)
    assert tags_to_read([NEW], ROWS, TAGGING) == (NEW, "latest")


def test_who_would_change_the_image_of_a_tag_is_told_of_revisions() -> None:
    present = Named(digest=B, images=((B, "linux/arm64"),), attestations=())
    (target,) = make_plan(OLD).targets
    assert immutable(candidate(target=target), present, A) == (
        f"the registry has {B} under {OLD}, this image is {A}: the tag of a row never changes; build what is "
        "published (check out the commit it was built from), or give the row a higher `revision` in matrix.yaml"
    )


# ---- what is told of it


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A small checkout without revisions."""
    made = make_checkout(tmp_path / "checkout", (_WITHDRAWN, ""))
    series = made.root / "patches" / "vllm"
    series.mkdir(parents=True)
    (series / "series.yaml").write_text(SERIES, encoding="utf-8")
    (series / PATCH_NAME).write_text(PATCH, encoding="utf-8")
    (made.root / "known-issues.yaml").write_text(ISSUES, encoding="utf-8")
    return made


def revised(project: Project, old: str = _LATEST, new: str = _REVISED) -> Project:
    """The checkout with another matrix; all rows are locked."""
    path = project.root / "matrix.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    found = open_project(project.root)
    for row in found.rows:
        lock_path(found.locks, row.tag).write_text(lock_to_json(make_lock(row, found.matrix)), encoding="utf-8")
    return found


def notes(project: Project, tag: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["--root", str(project.root), "notes", tag]) == 0
    return capsys.readouterr().out


def test_its_notes_name_what_it_replaces_and_compare_with_the_row_before(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = notes(project, OLD, capsys)
    assert "Replaces" not in before
    after = notes(revised(project), NEW, capsys)
    assert "Replaces `0.32.0-t5`, whose tag stays as it is and which is not built any more.\n" in after
    assert "## What an update from 0.20.2-t5 downloads" in after
    assert after.endswith(
        "## Going back\n\nThe tag of a row never changes: `0.32.0-t5` and `0.20.2-t5` are what they were.\n\n```sh\n"
        "docker pull registry.example:5000/sparks/spark-vllm:0.32.0-t5\n"
        "docker pull registry.example:5000/sparks/spark-vllm:0.20.2-t5\n```\n\n"
        "`0.20.2-t5` is not marked as published yet: `nox -s build -- 0.20.2-t5` makes it.\n"
    )


def test_nobody_is_sent_back_to_a_withdrawn_revision(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    revised(project, "  moving:\n", f"{_WITHDRAWN}  moving:\n")
    after = notes(revised(project), NEW, capsys)
    assert "Replaces `0.32.0-t5`" in after
    assert (
        "`0.20.2-t5` is what it was.\n\n```sh\ndocker pull registry.example:5000/sparks/spark-vllm:0.20.2-t5\n" in after
    )


def test_a_revision_of_the_first_row_of_its_major_has_something_to_go_back_to(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    after = notes(revised(project, _SIBLING, _SIBLING + '        revision: "2"\n'), "0.20.2-t5-v2", capsys)
    assert "The tag of a row never changes: `0.20.2-t5` is what it was." in after


def test_the_page_of_the_tag_before_goes(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_pages(project, is_check=False)
    write_pages(revised(project), is_check=False)
    pages = project.root / "docs" / "images"
    assert sorted(one.name for one in pages.iterdir()) == [
        "0.20.2-t4.md", "0.20.2-t5.md", "0.32.0-t5-v2.md", "README.md"
    ]  # fmt: skip
    assert f"{pages / '0.32.0-t5.md'}: removed, there is no such row" in capsys.readouterr().err


def test_machines_read_in_the_list_what_a_row_replaces(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    revised(project)
    assert main(["--root", str(project.root), "list", "--json"]) == 0
    found = {one["tag"]: one["replaces"] for one in json.loads(capsys.readouterr().out)}
    assert found == {"0.20.2-t4": [], BEFORE: [], NEW: [OLD]}
