"""Account for every file of an image: it is of an OS package, a Python package, ours, or made by a rule that says why.

What nobody accounts for, or is not as its owner has it, is a finding. Against whom changed the records as well this is
no help: that the layers are the built ones, their digests say.
"""

import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sparkbake.claims import OwnerKind, Part, fault, os_part, our_part, resolver
from sparkbake.findings import Finding, Severity
from sparkbake.model import Collision
from sparkbake.paths import follow
from sparkbake.pythonfiles import python_part
from sparkbake.rules import FileRule
from sparkbake.surveyed import Seen, Survey

# Filled when a container starts; so links may point there.
_RUNTIME_FOLDERS = ("dev", "proc", "run", "sys")


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one kind of owner has of an image: files, links and hard links, which count as 0 bytes.

    Attributes:
        kind: "os" of a package, or of dpkg itself; "unowned" of nobody.
        checked: how many files have a content, and links a target, that their owner notes; right or wrong.
    """

    kind: OwnerKind
    files: int
    size_bytes: int
    checked: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Accounts:
    """Whose the files of an image are.

    Attributes:
        shares: every kind of owner.
        findings: in no order, however many.
    """

    shares: tuple[Share, ...]
    findings: tuple[Finding, ...]


def account(
    survey: Survey, *, collisions: Sequence[Collision], generated: Sequence[FileRule], removed: Sequence[FileRule]
) -> Accounts:
    """Say of every file of an image whose it is, and whether it is as its owner has it.

    A file that several kinds of owners claim is of the first of them: OS packages, Python packages, ours, generated.

    Args:
        collisions: of the matrix.
        generated, removed: as in `rules.Rules`.

    Raises:
        ImageError: a record is damaged: one of dpkg's, a RECORD, TRIMMED.json, PRUNED.json or files.json.
    """
    seen, real = survey.seen, resolver(survey.seen)
    system = os_part(survey, real)
    python = python_part(survey, real, collisions, system.owned.keys())
    ours = our_part(survey, system.owned.keys() | python.owned.keys())
    left = {path for path, one in seen.items() if one.entry.kind != "folder"}
    left.difference_update(system.owned, python.owned, ours.owned)
    made = {path for path in left if _is_about(generated, path)}
    parts = (
        *(system, python, ours),
        Part(kind="generated", owned=dict.fromkeys(made, False)),
        Part(kind="unowned", owned=dict.fromkeys(left - made, False)),
    )
    dangling = dict(_dangling(seen))
    absent = {path for path, _owner in system.missing} | {target for target in dangling.values() if target}
    findings = [
        *(one for part in parts for one in part.findings),
        *(_missing(path, owner) for path, owner in system.missing if not _is_about(removed, path)),
        *(_missing(path, owner) for part in (python, ours) for path, owner in part.missing),
        *(_unowned(seen[path]) for path in left - made),
        *_led_away(seen, system, made),
        *(_broken(seen[path]) for path, target in dangling.items() if not (target and _is_about(removed, target))),
        *_unused("generated", generated, left),
        *_unused("removed", removed, absent),
    ]
    return Accounts(shares=tuple(_share(seen, part) for part in parts), findings=tuple(findings))


def _share(seen: Mapping[str, Seen], part: Part) -> Share:
    return Share(
        kind=part.kind,
        files=len(part.owned),
        size_bytes=sum(seen[path].entry.size_bytes for path in part.owned),
        checked=sum(part.owned.values()),
    )


def _is_about(rules: Sequence[FileRule], path: str) -> bool:
    return any(fnmatchcase(path, pattern) for rule in rules for pattern in rule.paths)


# ---- where links lead


def _led_away(seen: Mapping[str, Seen], system: Part, made: Collection[str]) -> Iterator[Finding]:
    """Links of OS packages to files of others; dpkg does not note the target of a link, so this has to do."""
    for path, is_checked in system.owned.items():
        if is_checked or seen[path].entry.kind != "link":
            continue
        target = follow(seen, path) or path
        there = seen.get(target)
        if there and there.entry.kind != "folder" and target not in system.owned and target not in made:
            found = f"link to {seen[path].entry.target}"
            yield fault("link-changed", path, found=found, expected="a link to a file of an OS package")


def _dangling(seen: Mapping[str, Seen]) -> Iterator[tuple[str, str | None]]:
    """Path of each link whose end is not in the image, and where that should be; None of a circle."""
    known = {"", *seen, *_RUNTIME_FOLDERS}
    for path in seen:
        folder = posixpath.dirname(path)
        while folder not in known:  # a layer need not have an entry for each folder
            known.add(folder)
            folder = posixpath.dirname(folder)
    for path, one in seen.items():
        if one.entry.kind == "hardlink" and one.entry.target not in seen:
            yield path, one.entry.target
        elif one.entry.kind == "link":
            target = follow(seen, path)
            if target is None or (target not in known and target.partition("/")[0] not in _RUNTIME_FOLDERS):
                yield path, target


# ---- findings


def _missing(path: str, owner: str) -> Finding:
    return fault("file-missing", path, found="no such file", expected=f"as {owner} has it")


def _unowned(one: Seen) -> Finding:
    entry = one.entry
    there = f"{entry.kind} to {entry.target}" if entry.target else f"{entry.kind} of {entry.size_bytes} bytes"
    return fault(
        "file-unowned", entry.path, found=f"{there} in layer {one.layer_name}", expected="an owner, or no file"
    )


def _broken(one: Seen) -> Finding:
    # A hard link has its content of the file that it leads to.
    severity: Severity = "error" if one.entry.kind == "hardlink" else "warning"
    found = f"{one.entry.kind} to {one.entry.target}"
    return fault("link-dangling", one.entry.path, found=found, expected="a path of the image", severity=severity)


def _unused(name: str, rules: Sequence[FileRule], paths: Collection[str]) -> Iterator[Finding]:
    """The patterns that match none of the paths they are for; with an owner, or there, a file needs no rule."""
    for pattern in (one for rule in rules for one in rule.paths):
        if not any(fnmatchcase(path, pattern) for path in paths):
            expected = "a file without another owner" if name == "generated" else "a file that is left out"
            yield fault("rule-unused", f"{name}: {pattern}", found="no match", expected=expected, severity="warning")
