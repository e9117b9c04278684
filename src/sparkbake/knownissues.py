"""Read known-issues.yaml: what goes wrong on the chip with a row's versions, and what to do then."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparkbake.fields import Fields, read_fields, read_text
from sparkbake.model import Pairs, Row, Strategy
from sparkbake.versions import admits, is_specifier

FILE = "known-issues.yaml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Issue:
    """Something that is known to go wrong.

    Attributes:
        versions: component to a PEP 440 specifier of its versions; all must hold, none is about every row.
        strategy: of rows that come about so alone; None of all.
        upstream: an address, or "none: " and how it is known.
    """

    title: str
    versions: Pairs
    strategy: Strategy | None
    text: str
    workaround: str
    upstream: str


def load_issues(path: Path, rows: Sequence[Row]) -> tuple[Issue, ...]:
    """Read and check the known issues.

    Raises:
        MatrixError: with every fault of the file; an issue that is about none of the rows is one.
    """
    return parse_issues(read_text(path), path.name, rows)


def parse_issues(text: str, name: str, rows: Sequence[Row]) -> tuple[Issue, ...]:
    """Parse the text of known issues; see `load_issues`."""
    root = read_fields(text, name)
    root.text("schema", pattern="1", expected="'1', the version of this format")
    components = tuple(dict.fromkeys(component for row in rows for component, _version in row.versions))
    entries = root.items_or_empty("issues")
    issues = tuple(_issue(one, components) for one in entries)
    root.done()
    root.raise_faults()
    for entry, issue in zip(entries, issues, strict=True):
        if not any(is_about(issue, row) for row in rows):
            entry.fault("title", f"'{issue.title}' is about no row of matrix.yaml; correct its versions, or remove it")
    root.raise_faults()
    return issues


def _issue(fields: Fields, components: Sequence[str]) -> Issue:
    versions = fields.mapping_or_empty("versions")
    strategy = fields.text_or_none("strategy")
    if strategy is not None:
        strategy = fields.choice("strategy", [one.value for one in Strategy])
    issue = Issue(
        title=fields.text("title"),
        versions=tuple((name, _specifier(versions, name, components)) for name in versions.keys),
        strategy=Strategy(strategy) if strategy else None,
        text=fields.text("text"),
        workaround=fields.text("workaround"),
        upstream=fields.text("upstream", pattern=r"https://\S+|none: .+", expected="an address, or 'none: ' and why"),
    )
    fields.done()
    return issue


def _specifier(versions: Fields, name: str, components: Sequence[str]) -> str:
    if name not in components:
        versions.fault(name, f"got the key '{name}', expected a component: {', '.join(components)}")
    specifier = versions.text(name)
    if specifier and not is_specifier(specifier):
        versions.fault(name, f"got '{specifier}', expected a PEP 440 specifier such as >=0.28")
        return ""
    return specifier


def is_about(issue: Issue, row: Row) -> bool:
    """Whether a row has what an issue is about; a component that a row has no version of is not."""
    versions = dict(row.versions)
    if issue.strategy not in (None, row.release.strategy):
        return False
    return all(name in versions and admits(specifier, versions[name]) for name, specifier in issue.versions)
