"""Put a proposed release into the text of matrix.yaml: whole lines are added, no other byte changes."""

import difflib
from collections.abc import Sequence
from dataclasses import replace

import yaml
from packaging.version import Version

from sparkbake.bump import Proposal
from sparkbake.errors import MatrixError
from sparkbake.matrix import parse_matrix
from sparkbake.model import Matrix
from sparkbake.versions import major


def with_proposal(text: str, before: Matrix, proposal: Proposal, *, name: str) -> tuple[str, Matrix]:
    """The text of a matrix with a release more, and with its foundation if that is new, and what it says then.

    Args:
        before: what the text says.
        name: how messages call the file.

    Raises:
        MatrixError: it cannot be put in, or the matrix would not be valid with it, or say anything else than before.
    """
    if proposal.is_new:
        text = insert(text, name, "foundations", proposal.foundation.name, foundation_lines(proposal))
    text = insert(text, name, "releases", proposal.version, release_lines(proposal))
    after = parse_matrix(text, name)
    check_rest(before, after, name, proposal)
    return text, after


def check_rest(before: Matrix, after: Matrix, name: str, proposal: Proposal) -> None:
    """Hold a matrix with a proposal against what it was without it.

    Raises:
        MatrixError: it differs in anything else.
    """
    old = {one.name for one in before.foundations}
    rest = replace(
        after,
        foundations=tuple(one for one in after.foundations if one.name in old),
        releases=tuple(one for one in after.releases if one.vllm != proposal.version),
    )
    if rest != before:
        entry = "\n".join(release_lines(proposal))
        raise MatrixError([f"{name}: would mean something else in other places, too; put this in by hand:\n{entry}"])


def unified_diff(before: str, after: str, name: str) -> str:
    """What changed, as `git diff` shows it."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(lines)


# ---- what is put in


def foundation_lines(proposal: Proposal) -> list[str]:
    """The entry of a foundation, not indented."""
    foundation = proposal.foundation
    return [f"{foundation.name}:", *(f'  {name}: "{version}"' for name, version in foundation.versions)]


def release_lines(proposal: Proposal) -> list[str]:
    """The entry of a release, not indented."""
    unknown = "  # The full commit of the tag is not known yet; the lock has what the wheel names."
    return [
        f'"{proposal.version}":',
        "  strategy: wheels",
        f"  foundation: {proposal.foundation.name}",
        f'  flashinfer: "{proposal.flashinfer}"',
        f'  as_of: "{proposal.as_of}"',
        *([] if proposal.commit else [unknown]),
        f"  git: {{tag: v{proposal.version}, commit: {proposal.commit or 'null'}}}",
        *(["  declares:"] if proposal.declares else []),
        *(f'    {package}: "{specifier}"' for package, specifier in proposal.declares),
        "  transformers:",
        *(f'    t{major(version)}: {{version: "{version}"}}' for version in proposal.transformers),
    ]


# ---- where


def insert(text: str, name: str, section: str, key: str, entry: Sequence[str]) -> str:
    """Put an entry into a mapping of a YAML file whose keys begin with versions, before the first that is higher.

    Comments above an entry stay with it, as do those below the last line of the last one that are indented deeper.

    Raises:
        MatrixError: the section is not there, or is not written with one key a line.
    """
    node = _section(text, section)
    if node is None:
        raise MatrixError([f"{name}: {section}: cannot be added to, expected a mapping with each key on its own line"])
    lines = text.splitlines(keepends=True)
    indent = " " * node.value[0][0].start_mark.column
    higher = [one for one, _value in node.value if _order(one.value) > _order(key)]
    at = _above(lines, higher[0].start_mark.line, indent) if higher else _below(lines, _end(node), indent)
    if lines[at - 1][-1:] != "\n":
        lines[at - 1] += "\n"
    return "".join([*lines[:at], *(f"{indent}{line}\n" for line in entry), *lines[at:]])


def _section(text: str, section: str) -> yaml.MappingNode | None:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    values = [value for key, value in pairs if key.value == section]
    node = values[0] if values else None
    return node if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style else None


def _order(key: str) -> Version:
    return Version(key.partition("-")[0])


def _above(lines: Sequence[str], line: int, indent: str) -> int:
    """The first line of an entry's comments."""
    while line and lines[line - 1].startswith(f"{indent}#"):
        line -= 1
    return line


def _below(lines: Sequence[str], line: int, indent: str) -> int:
    """The line after an entry's own comments."""
    while line < len(lines) and lines[line].startswith(f"{indent} ") and lines[line].lstrip().startswith("#"):
        line += 1
    return line


def _end(node: yaml.Node) -> int:
    """The line after the last that a node has, without comments and empty lines behind it."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return int(node.end_mark.line) + (node.end_mark.column > 0)
