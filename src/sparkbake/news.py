"""Say what upstream has published beside vLLM: releases of torch and FlashInfer that no row has, and who declares them.

None of them can become a row by itself: a row is a release of vLLM, with what that declares.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from sparkbake.markdown import joined, table
from sparkbake.model import Row
from sparkbake.versions import admits

# Components that vLLM pins, and that come out on their own.
WATCHED = ("torch", "flashinfer")
HEADERS = ("package", "release", "published", "highest in the matrix", "declared by", "what to do")


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """A release that no row has.

    Attributes:
        package: its distribution.
        published: ISO date.
        highest: version of it that the matrix has.
        declared_by: releases of vLLM, ascending, that ask for just this one or a range that it is in.
        bump: the last of those that the matrix does not have; None where it has all of them.
    """

    package: str
    version: str
    published: str
    highest: str
    declared_by: tuple[str, ...]
    bump: str | None


def highest_of(rows: Sequence[Row], component: str) -> str:
    """The highest version of a component that any row has."""
    return max((dict(row.versions)[component] for row in rows), key=Version)


def declaring(package: str, version: str, requires: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Releases of vLLM that ask for a version, ascending.

    Args:
        requires: release of vLLM to what it asks for, package to specifier; without a specifier it asks for nothing.
    """
    asking = [vllm for vllm, asked in requires.items() if asked.get(package) and admits(asked[package], version)]
    return tuple(sorted(asking, key=Version))


def news_rows(found: Sequence[News]) -> list[tuple[str, ...]]:
    """For a table; see `HEADERS`."""
    return [(one.package, one.version, one.published, one.highest, _declared(one), _remedy(one)) for one in found]


def news_text(found: Sequence[News], *, older_than_days: int) -> str:
    """Markdown for an issue; empty when there is nothing to say."""
    return "\n".join(_lines(found, older_than_days)) + "\n" if found else ""


def _lines(found: Sequence[News], older_than_days: int) -> Iterator[str]:
    names = joined(list(dict.fromkeys(one.package for one in found)))
    yield f"Releases of {names} that no row of the matrix has, published {older_than_days} or more days ago."
    yield "None of them becomes a row by itself: a row is a release of vLLM, with what that declares."
    yield ""
    yield from table(HEADERS, news_rows(found))


def _declared(one: News) -> str:
    return f"vLLM {joined(one.declared_by)}" if one.declared_by else "no released vLLM"


def _remedy(one: News) -> str:
    if one.bump:
        return f"`nox -s bump -- {one.bump}` takes it with that release"
    if one.declared_by:
        return "nothing: rows of these releases have another one that they admit"
    return "nothing: it comes with the vLLM that declares it"
