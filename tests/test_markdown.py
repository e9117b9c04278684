"""Claims about pieces of Markdown."""

import pytest

from sparkbake.markdown import joined, link, table


def test_a_table_has_a_line_a_row_and_keeps_bars_in_their_cells() -> None:
    assert list(table(("a", "b"), [("1", "x | y"), ("2", "")])) == [
        "| a | b |", "|---|---|", r"| 1 | x \| y |", "| 2 |  |",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "said"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_words_are_listed_as_a_person_does(parts: list[str], said: str) -> None:
    assert joined(parts) == said


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("https://host.example/org/vllm/pull/7", "[vllm#7](https://host.example/org/vllm/pull/7)"),
        ("https://host.example/org/nccl/issues/12", "[nccl#12](https://host.example/org/nccl/issues/12)"),
        ("https://host.example/pull/7", "https://host.example/pull/7"),
        ("none: nobody asked", "none: nobody asked"),
    ],
)
def test_threads_are_linked_by_name(reference: str, said: str) -> None:
    assert link(reference) == said
