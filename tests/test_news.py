"""Claims about releases of torch and FlashInfer that no row has."""

from dataclasses import replace

from tests.builders import make_matrix

from sparkbake.matrix import rows
from sparkbake.news import News, declaring, highest_of, news_rows, news_text

REQUIRES = {
    "0.33.0": {"torch": "==2.14.0", "flashinfer-python": ">=0.7,<0.8"},
    "0.100.0": {"torch": "==2.14.0"},
    "0.32.0": {"torch": "", "flashinfer-python": "==0.7.0.post1"},
}
TORCH = News(
    package="torch",
    version="2.14.0",
    published="2026-09-02",
    highest="2.13.0",
    declared_by=("0.33.0",),
    bump="0.33.0",
)


def test_the_highest_version_is_by_number_and_of_any_row() -> None:
    t4, t5, new = rows(make_matrix())
    old = replace(t4, versions=(("torch", "2.9.1"),))
    found = [replace(one, versions=(("torch", "2.10.0-rc6"),)) for one in (t5, new)]
    assert highest_of([old, *found], "torch") == "2.10.0-rc6"


def test_a_release_declares_what_it_asks_for_by_version_alone() -> None:
    assert declaring("torch", "2.14.0", REQUIRES) == ("0.33.0", "0.100.0")
    assert declaring("flashinfer-python", "0.7.3", REQUIRES) == ("0.33.0",)
    assert declaring("torch", "2.15.0", REQUIRES) == ()


def test_each_says_what_to_do() -> None:
    said = [row[4:] for row in news_rows([TORCH, replace(TORCH, bump=None), replace(TORCH, declared_by=(), bump=None)])]
    assert said == [
        ("vLLM 0.33.0", "`nox -s bump -- 0.33.0` takes it with that release"),
        ("vLLM 0.33.0", "nothing: rows of these releases have another one that they admit"),
        ("no released vLLM", "nothing: it comes with the vLLM that declares it"),
    ]


def test_the_text_of_the_issue_says_that_none_is_a_row_and_is_empty_when_nothing_is_new() -> None:
    text = news_text([TORCH, TORCH, replace(TORCH, package="flashinfer-python")], older_than_days=7)
    assert text.startswith(
        "Releases of torch and flashinfer-python that no row of the matrix has, published 7 or more days ago.\n"
        "None of them becomes a row by itself: "
    )
    assert "| torch | 2.14.0 | 2026-09-02 | 2.13.0 | vLLM 0.33.0 | `nox -s bump -- 0.33.0` takes" in text
    assert news_text([], older_than_days=7) == ""
