"""Claims about adding to matrix.yaml: lines are added, and nothing else changes."""

import difflib
from dataclasses import replace

import pytest
from tests.builders import ROOT, SMALL_MATRIX, make_matrix, real_matrix
from tests.test_bump import V_0_26, V_0_33, small_of_real

from sparkbake.bump import Proposal, Upstream, propose
from sparkbake.bumptext import check_rest, insert, release_lines, unified_diff, with_proposal
from sparkbake.errors import MatrixError
from sparkbake.matrix import rows
from sparkbake.model import Matrix, Strategy

REAL = (ROOT / "matrix.yaml").read_text(encoding="utf-8")
# Of a release that the real matrix will never have.
OLD = replace(
    V_0_26,
    version="0.20.99",
    requires=tuple((name, ">=4.56.0,!=5.0.*" if name == "transformers" else said) for name, said in V_0_26.requires),
    transformers=("4.57.6", "5.14.1"),
)
NEW = replace(
    V_0_33,
    version="999.0.1",
    requires=tuple((name, "==999.0" if name == "torch" else said) for name, said in V_0_33.requires),
    resolved=tuple((name, "999.0" if name == "torch" else said) for name, said in V_0_33.resolved),
)

RELEASE = """\
  "0.20.99":
    strategy: wheels
    foundation: 2.11.0-cu130
    flashinfer: "0.6.14"
    as_of: "2026-08-01"
    # The full commit of the tag is not known yet; the lock has what the wheel names.
    git: {tag: v0.20.99, commit: null}
    declares:
      torch: "==2.11.0"
      torchvision: "==0.26.0"
      torchaudio: "==2.11.0"
      flashinfer-python: "==0.6.14"
      transformers: ">=4.56.0,!=5.0.*"
    transformers:
      t4: {version: "4.57.6"}
      t5: {version: "5.14.1"}
"""


def make(upstream: Upstream) -> Proposal:
    return propose(small_of_real(), upstream)


def put(text: str, proposal: Proposal) -> tuple[str, Matrix]:
    before = real_matrix() if text == REAL else make_matrix()
    return with_proposal(text, before, proposal, name="matrix.yaml")


def added(before: str, after: str) -> list[str]:
    """The lines that `after` has more; fails when any other changed."""
    changes = [
        line
        for line in difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
        if line[0] in "+-?"
    ]
    assert [line for line in changes if line[0] != "+"] == []
    return [line[2:] for line in changes]


# ---- the real matrix


def test_a_release_between_others_only_adds_its_lines_to_the_real_matrix() -> None:
    text, matrix = put(REAL, make(OLD))
    assert "".join(added(REAL, text)) == RELEASE
    names = [one.vllm for one in matrix.releases]
    place = names.index("0.20.99")
    assert names[place - 1 : place + 2] == ["0.20.2", "0.20.99", "0.22.1"]
    assert [one.tag for one in rows(matrix) if one.release.vllm == "0.20.99"] == ["0.20.99-t4", "0.20.99-t5"]


def test_a_new_foundation_and_the_highest_release_only_add_their_lines_to_the_real_matrix() -> None:
    text, matrix = put(REAL, make(NEW))
    lines = added(REAL, text)
    assert "".join(lines[:7]) == (
        "  999.0-cu130:\n"
        '    cuda: "13.0.3"\n    nccl: "2.30.7"\n    torch: "999.0"\n'
        '    torchvision: "0.29.0"\n    torchaudio: "2.11.0"\n'
        '    triton: "3.8.1"\n'
    )
    assert lines[7] == '  "999.0.1":\n'
    assert text.endswith("".join(lines[7:]))
    assert matrix.foundations[-1] == make(NEW).foundation
    assert (matrix.releases[-1].vllm, matrix.releases[-1].strategy) == ("999.0.1", Strategy.WHEELS)


def test_what_was_there_still_means_the_same() -> None:
    before = real_matrix()
    _text, after = put(REAL, make(OLD))
    assert [one for one in after.releases if one.vllm != "0.20.99"] == list(before.releases)
    assert replace(after, releases=()) == replace(before, releases=())


def test_a_whole_commit_needs_no_comment() -> None:
    lines = release_lines(make(replace(V_0_26, commit=40 * "a")))
    assert f"  git: {{tag: v0.26.0, commit: {40 * 'a'}}}" in lines
    assert not any("#" in line for line in lines)


def test_the_diff_is_as_git_shows_it() -> None:
    assert (
        unified_diff("a\n", "a\nb\n", "matrix.yaml") == "--- a/matrix.yaml\n+++ b/matrix.yaml\n@@ -1 +1,2 @@\n a\n+b\n"
    )


# ---- where


TEXT = """\
# top
releases:
  # about 1
  "1.0":  # beside
    a: x
    # in 1
    b: {c: [d,
            e]}

  # about 3, over
  # two lines
  "3.0": y
    # after 3
# about the rest
rest:
  - z
"""


@pytest.mark.parametrize(
    ("key", "before"),
    [
        ("0.9", "  # about 1\n"),
        ("2.0", "  # about 3, over\n"),
        ("2.0-cu130", "  # about 3, over\n"),
        ("3.0.post1", "# about the rest\n"),
    ],
)
def test_an_entry_goes_before_the_first_that_is_higher_and_its_comments(key: str, before: str) -> None:
    text = insert(TEXT, "x.yaml", "releases", key, [f'"{key}":', "  n: m"])
    assert text == TEXT.replace(before, f'  "{key}":\n    n: m\n{before}')


@pytest.mark.parametrize("value", ["y", "{q: r}", "[s]", '"t"', ""])
def test_the_last_line_of_a_file_need_not_end(value: str) -> None:
    assert insert(f"r:\n  1.0: {value}", "x.yaml", "r", "2.0", ["2.0: u"]) == f"r:\n  1.0: {value}\n  2.0: u\n"


def test_a_text_of_several_lines_is_not_split() -> None:
    text = "r:\n  1.0: |\n    two\n    lines\nx: y\n"
    assert insert(text, "x.yaml", "r", "2.0", ["2.0: u"]) == text.replace("x: y", "  2.0: u\nx: y")


@pytest.mark.parametrize("text", ["r: {1.0: x}\n", "other:\n  1.0: x\n", "r: x\n", "- r\n", "r:\n"])
def test_a_section_that_cannot_be_added_to_is_refused(text: str) -> None:
    with pytest.raises(MatrixError) as caught:
        insert(text, "x.yaml", "r", "2.0", ["2.0: u"])
    assert str(caught.value) == "x.yaml: r: cannot be added to, expected a mapping with each key on its own line"


# ---- what is refused


def small_proposal() -> Proposal:
    foundation = make_matrix().foundations[0]
    declares = (("flashinfer-python", "==0.6.14"), ("transformers", ">=5.5.3"))
    return replace(make(V_0_26), foundation=foundation, declares=declares)


def test_a_row_that_would_not_be_valid_is_refused_with_its_place() -> None:
    with pytest.raises(MatrixError, match=r'\."0\.26\.0": uses flashinfer-python 0\.6\.14, but vLLM 0\.26\.0 dec'):
        put(SMALL_MATRIX, replace(small_proposal(), declares=(("flashinfer-python", "==1"),)))


def test_a_row_that_would_change_what_the_others_say_is_refused() -> None:
    before = make_matrix()
    _text, after = put(SMALL_MATRIX, small_proposal())
    other = replace(after, uv="1.0")
    with pytest.raises(MatrixError) as caught:
        check_rest(before, other, "matrix.yaml", small_proposal())
    first, *entry = str(caught.value).splitlines()
    assert first == "matrix.yaml: would mean something else in other places, too; put this in by hand:"
    assert entry == release_lines(small_proposal())
