"""Claims about known-issues.yaml: which rows an issue is about, and every fault of the file."""

import pytest
from tests.builders import ROOT, make_matrix, make_row, real_matrix, with_strategy

from sparkbake.errors import MatrixError
from sparkbake.knownissues import Issue, is_about, load_issues, parse_issues
from sparkbake.matrix import rows
from sparkbake.model import Strategy

ISSUES = """\
schema: "1"
issues:
  - title: It answers slowly
    versions: {vllm: ">=0.21", torch: "==2.11.*"}
    strategy: wheels
    text: Reported with one Spark.
    workaround: wait.
    upstream: https://example.com/tool/issues/7
  - title: It is large
    text: Everywhere.
    workaround: none.
    upstream: "none: seen by everybody"
"""
SMALL_ROWS = rows(make_matrix())


def parse(text: str = ISSUES) -> tuple[Issue, ...]:
    return parse_issues(text, "known-issues.yaml", SMALL_ROWS)


def test_an_issue_is_about_rows_of_which_all_versions_fit() -> None:
    slow, large = parse()
    assert slow.strategy is Strategy.WHEELS
    assert slow.versions == (("vllm", ">=0.21"), ("torch", "==2.11.*"))
    assert [row.tag for row in SMALL_ROWS if is_about(slow, row)] == ["0.32.0-t5"]
    assert [row.tag for row in SMALL_ROWS if is_about(large, row)] == [row.tag for row in SMALL_ROWS]


def test_an_issue_of_one_strategy_is_not_about_rows_of_another() -> None:
    matrix = with_strategy("0.32.0", Strategy.SOURCE)
    assert not is_about(parse()[0], make_row("0.32.0-t5", matrix))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "versions: {vllm",
            "version: {vllm",
            r"issues\[0\]\.version: unknown key, .*; did you mean 'versions'\?",
        ),
        ("{vllm:", "{vlm:", r"versions\.vlm: got the key 'vlm', expected a component: cuda, torch, .*vllm"),
        ('">=0.21"', '"0.21"', r"versions\.vllm: got '0\.21', expected a PEP 440 specifier such as >=0\.28"),
        ("strategy: wheels", "strategy: whels", r"strategy: got 'whels', expected one of wheels, source; did you mean"),
        ("upstream: https", "upstream: ftp", r"upstream: got 'ftp.*', expected an address, or 'none: ' and why"),
        ("    workaround: wait.\n", "", r"issues\[0\]\.workaround: missing, expected a string"),
        ('schema: "1"', 'schema: "2"', r"schema: got '2', expected '1', the version of this format"),
        (
            '">=0.21"',
            '">=0.40"',
            r"issues\[0\]\.title: 'It answers slowly' is about no row of matrix\.yaml; correct its versions, or",
        ),
    ],
)
def test_a_fault_says_where_and_what_is_expected(old: str, new: str, fault: str) -> None:
    assert ISSUES.count(old) == 1
    with pytest.raises(MatrixError, match=rf"^known-issues\.yaml:\d+:\d+: .*{fault}") as caught:
        parse(ISSUES.replace(old, new))
    assert len(caught.value.faults) == 1


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(MatrixError) as caught:
        parse(ISSUES.replace("{vllm:", "{vlm:").replace("workaround: none.", "remedy: none."))
    assert len(caught.value.faults) == 3


def test_the_real_issues_have_no_fault() -> None:
    assert load_issues(ROOT / "known-issues.yaml", rows(real_matrix()))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(MatrixError, match=r"nowhere\.yaml: cannot be read: .*; expected a UTF-8 file there"):
        load_issues(ROOT / "nowhere.yaml", SMALL_ROWS)
