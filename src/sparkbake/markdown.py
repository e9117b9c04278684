"""Pieces of Markdown that generated pages are made of."""

import re
from collections.abc import Iterable, Iterator, Sequence

_THREAD = re.compile(r"/[^/]+/([^/]+)/(?:issues|pull)/(\d+)$")


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; a bar in a cell is written so that it stays in it."""
    yield f"| {' | '.join(headers)} |"
    yield "|---" * len(headers) + "|"
    for row in rows:
        cells = [cell.replace("|", r"\|") for cell in row]
        yield f"| {' | '.join(cells)} |"


def joined(parts: Sequence[str]) -> str:
    """Words as a person lists them.

    >>> joined(["torch", "ray", "vllm"])
    'torch, ray and vllm'
    """
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def link(reference: str) -> str:
    """An address of an issue or a pull request as a link named after it, "vllm#42354"; any other text as it is."""
    found = _THREAD.search(reference)
    return f"[{found[1]}#{found[2]}]({reference})" if found else reference
