"""Claims about patches as data: which apply to a release, and every fault of a series and of a patch file."""

import re
from dataclasses import replace

import pytest
from tests.builders import ROOT

from sparkbake.errors import MatrixError, UsageError
from sparkbake.patches import Series, Waiver, outcomes, select
from sparkbake.patchfiles import headers_of, text_faults, touched_by
from sparkbake.series import load_series, parse_series

NAME = "0001-greet.patch"
PATCH = """\
Subject: Greet the world

Upstream: https://example.com/pull/1
Drop-When: 3.0 is out

--- a/src/hello.py
+++ b/src/hello.py
@@ -1,3 +1,3 @@
 def greet():
-    return "hello"
+    return "hello, world"
 # end
"""
SERIES = """\
schema: "1"
topics:
  greeting: {title: how it greets}
  native: {title: only here, variant: "12.1"}
releases:
  "1.0": {source: sdist}
  "2.0": {source: wheel, note: without sources}
pending:
  "0.9": its commit is not known
patches:
  - file: 0001-greet.patch
    topic: greeting
    releases: "<2"
    upstream: https://example.com/pull/1
    drop_when: 3.0 is out
    reason: it was too short
    asserts:
      - {file: src/hello.py, text: "hello, world", count: "1"}
not_needed:
  - {topic: greeting, releases: ">=2", because: it greets so already, evidence: read}
  - {topic: native, releases: "<2", because: it is so already, evidence: run}
not_possible:
  - {topic: native, releases: ">=2", because: there are no sources, evidence: looked}
"""


def parse(text: str = SERIES, patch: str = PATCH) -> Series:
    return parse_series(text, "tool/series.yaml", {NAME: patch}, component="tool")


def faults_of(text: str = SERIES, patch: str = PATCH, more: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(MatrixError) as caught:
        parse_series(text, "tool/series.yaml", {NAME: patch} | (more or {}), component="tool")
    return [re.sub(r"^tool/series\.yaml:\d+:\d+: ", "", one) for one in caught.value.faults]


# ---- the real series


def test_the_real_series_has_no_fault() -> None:
    series = load_series(ROOT / "patches" / "vllm")
    assert [one.name[:4] for one in series.patches] == [f"{i:04}" for i in range(1, len(series.patches) + 1)]


def test_every_release_has_one_outcome_on_every_topic() -> None:
    series = load_series(ROOT / "patches" / "vllm")
    for release in series.releases:
        assert [one.topic for one in outcomes(series, release.version)] == [one.name for one in series.topics]


@pytest.mark.parametrize(
    ("version", "variant", "numbers"),
    [
        ("0.13.0", None, "0001 0003"),
        ("0.14.1", None, "0002 0003 0004"),
        ("0.15.0", None, "0002 0004"),
        ("0.15.1", None, "0002"),
        ("0.22.1", None, "0002"),
        ("0.14.1", "12.1", "0002 0003 0004 0006 0008 0011"),
        ("0.19.1", "12.1", "0002 0010 0012"),
    ],
)
def test_the_real_series_selects_what_a_release_needs(version: str, variant: str | None, numbers: str) -> None:
    selection = select(load_series(ROOT / "patches" / "vllm"), version, variant)
    assert " ".join(one.name[:4] for one in selection.patches) == numbers


# ---- selecting


def test_a_release_gets_its_patches_and_the_reasons_for_those_it_does_not_get() -> None:
    first, second = select(parse(), "1.0"), select(parse(), "2.0")
    assert ([one.name for one in first.patches], first.waivers) == ([NAME], ())
    assert (second.patches, [one.because for one in second.waivers]) == ((), ["it greets so already"])


def test_a_variant_adds_its_topics_to_the_others() -> None:
    selection = select(parse(), "1.0", "12.1")
    assert [one.name for one in selection.patches] == [NAME]
    assert [one.topic for one in selection.waivers] == ["native"]


SPARED = """\
spared:
  - {variant: "12.1", family: MLA, releases: "<2", because: nothing calls it, evidence: read}
"""


def test_what_a_variant_is_without_is_of_that_and_of_its_releases_alone() -> None:
    series = parse(SERIES + SPARED)
    assert [one.family for one in select(series, "1.0", "12.1").spared] == ["MLA"]
    assert select(series, "1.0").spared == ()
    none = [one for one in outcomes(series, "2.0") if isinstance(one, Waiver) and one.kind == "not-possible"]
    possible = replace(series, waivers=tuple(one for one in series.waivers if one not in none))
    assert select(possible, "2.0", "12.1").spared == ()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('variant: "12.1", family', 'variant: "12.2", family', "spared[0].variant: got '12.2', expected one of 12.1"),
        ("family: MLA", "family: mla", "spared[0].family: got 'mla', expected a family as `nox -s kernels` names it"),
        ("evidence: read", "proof: read", "spared[0].evidence: missing"),
        ('releases: "<2", because: nothing', 'releases: "<1", because: nothing', "spared '<1' of MLA: '<1' admits no"),
    ],
)
def test_a_fault_of_what_is_spared_is_told(old: str, new: str, fault: str) -> None:
    assert SPARED.count(old) == 1
    faults = faults_of(SERIES + SPARED.replace(old, new))
    assert any(fault in one for one in faults), faults


def test_outcomes_are_those_of_all_variants_in_the_order_of_the_topics() -> None:
    kinds = [one.kind if isinstance(one, Waiver) else one.name for one in outcomes(parse(), "2.0")]
    assert kinds == ["not-needed", "not-possible"]


@pytest.mark.parametrize(
    ("version", "variant", "message"),
    [
        ("1.5", None, "tool 1.5: no patch was tried on it; expected one of 1.0, 2.0, or add it to `releases`"),
        ("0.9", None, "tool 0.9: nothing is claimed of it yet: its commit is not known"),
        ("1.0", "12.9", "tool: no variant '12.9'; expected one of 12.1"),
        ("2.0", "12.1", "tool 2.0: no variant '12.1' of it: native: there are no sources"),
    ],
)
def test_what_cannot_be_selected_is_said_with_its_reason(version: str, variant: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        select(parse(), version, variant)


def test_the_digest_changes_with_any_byte_name_or_order_of_the_patches() -> None:
    selection = select(parse(), "1.0")
    (patch,) = selection.patches
    renamed = replace(patch, name="0002-greet.patch")
    orders = [(patch,), (renamed,), (replace(patch, text=PATCH + "\n"),), (patch, renamed), (renamed, patch)]
    assert len({replace(selection, patches=some).digest for some in orders}) == 5


# ---- patch files


def test_headers_and_files_of_a_patch_are_read() -> None:
    assert headers_of(PATCH)["Drop-When"] == "3.0 is out"
    assert touched_by(PATCH) == ("src/hello.py",)
    assert text_faults(PATCH) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Subject: ", "Title: ", "has no header 'Subject: ...', or several; give it one"),
        ("Upstream: ", "Upstream: a\nUpstream: ", "has no header 'Upstream: ...', or several; give it one"),
        ("# end", "# \u00e9nd", "is not plain ASCII; leave such lines out of its context"),
        ("+++ b/src/hello.py", "+++ b/src/other.py", "changes nothing; expected '--- a/FILE' and '+++ b/FILE'"),
        ("+++ b/src/hello.py", "+++ /dev/null", "adds, removes or renames a file; expected changes of files alone"),
        ("@@ -1,3 +1,3 @@", "@@ -1,4 +1,4 @@", "line 8: its hunk does not have the 4 and 4 lines it says"),
        ("@@ -1,3 +1,3 @@", "@@ here @@", "line 8: got '@@ here @@', expected the head of a hunk"),
        (
            "-1,3 +1,3 @@\n",
            "-1,6 +1,6 @@\n 1\n 2\n 3\n",
            "line 8: its hunk has more than 3 lines of context; make it with -U3",
        ),
        ('-    return "hello"\n+', " ", "line 8: its hunk changes nothing; remove it"),
        ("# end\n", f"# end\n{PATCH[PATCH.index('---') :]}", "changes src/hello.py in two places; put them together"),
    ],
)
def test_a_bad_patch_file_is_told_with_what_is_wrong(old: str, new: str, fault: str) -> None:
    found = text_faults(PATCH.replace(old, new, 1))
    assert any(one.startswith(fault) for one in found), found


def test_what_a_patch_file_lacks_is_a_fault_of_the_series() -> None:
    (fault,) = faults_of(patch=PATCH.replace("Subject: ", ""))
    assert fault.startswith("patches[0].file: 0001-greet.patch has no header 'Subject: ...'")


# ---- series.yaml


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('schema: "1"', 'schema: "2"', "schema: got '2', expected '1', the version of this format"),
        ("pending:", "awaiting:", "awaiting: unknown key, expected one of not_needed, not_possible, patches, pending"),
        (
            "file: 0001-greet.patch",
            "file: greet.patch",
            "patches[0].file: got 'greet.patch', expected a file such as 0001-",
        ),
        (
            "file: 0001-greet.patch",
            "file: 0001-part.patch",
            "patches[0].file: there is no 0001-part.patch in the folder; add or unlist it",
        ),
        ('releases: "<2"', "releases: two", "patches[0].releases: got 'two', expected a PEP 440 specifier"),
        ("/pull/1\n", "/pull/2\n", "patches[0].upstream: got 'https://example.com/pull/2', but 0001-greet.patch says"),
        (
            "drop_when: 3.0 is out",
            "drop_when: never",
            "patches[0].drop_when: got 'never', but 0001-greet.patch says '3.0 is out'; make them the same",
        ),
        (
            "upstream: https",
            "upstream: see https",
            "patches[0].upstream: got 'see https://example.com/pull/1', expected",
        ),
        (
            "{file: src/hello.py, text",
            "{file: src/other.py, text",
            "patches[0].asserts: nothing is asserted of src/hello.py, which 0001-greet.patch changes",
        ),
        (
            "{file: src/hello.py, text",
            "{file: src/other.py, text",
            "patches[0].asserts: 0001-greet.patch does not change src/other.py; assert only of what it changes",
        ),
        ("{file: src/hello.py", "{file: ../hello.py", "patches[0].asserts[0].file: got '../hello.py', expected a path"),
        ('count: "1"', 'count: "many"', "patches[0].asserts[0].count: got 'many', expected how often it is there"),
        (
            "topic: greeting\n",
            "topic: greetings\n",
            "patches[0].topic: got 'greetings', expected one of greeting, native",
        ),
        ("source: sdist", "source: git", "releases.\"1.0\".source: got 'git', expected one of sdist, wheel"),
        ('"1.0": {', '"one": {', "releases.one: got the key 'one', expected a PEP 440 version"),
        ('"0.9": its', '"1.0": its', 'pending."1.0": stands under releases, too; remove one of them'),
        ('releases: "<2"\n', 'releases: "<1"\n', "topics: 1.0: nothing says what of greeting; add a patch, or why"),
        (
            'releases: ">=2", because: it greets',
            'releases: ">=1", because: it greets',
            "topics: 1.0: 0001-greet.patch and not-needed '>=1' are both for greeting; expected one",
        ),
        (
            "not_possible:\n",
            'not_possible:\n  - {topic: native, releases: ">=3", because: x, evidence: y}\n',
            "topics: not-possible '>=3' of native: '>=3' admits no release of this series; correct or remove it",
        ),
    ],
)
def test_a_fault_of_a_series_is_told_with_its_place(old: str, new: str, fault: str) -> None:
    assert old in SERIES
    found = faults_of(SERIES.replace(old, new, 1))
    assert any(one.startswith(fault) for one in found), found


def test_a_patch_that_is_not_listed_is_a_fault() -> None:
    (fault,) = faults_of(more={"0002-more.patch": PATCH})
    assert fault == "patches: 0002-more.patch is in the folder and not in the list; list or delete it"


def test_patches_stand_in_the_order_of_their_numbers() -> None:
    entry = SERIES[SERIES.index("  - file") : SERIES.index("not_needed")]
    twice = SERIES.replace(entry, entry.replace("0001-greet", "0002-more").replace("<2", "<1") + entry)
    found = faults_of(twice, more={"0002-more.patch": PATCH})
    assert "patches[1].file: stands after 0002-more.patch, expected a higher number: they apply in this order" in found
