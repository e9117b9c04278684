"""Read the text of a patch file: its headers, what it changes, and what is wrong with it."""

import re
from collections.abc import Iterator

HEADERS = ("Subject", "Upstream", "Drop-When")
# As `git format-patch` has it; more would be upstream's code, not ours.
MAX_CONTEXT_LINES = 3
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


def headers_of(text: str) -> dict[str, str]:
    """The headers of a patch file, as in Buildroot: https://buildroot.org/downloads/manual/manual.html "Patch policy".

    A header that stands twice is left out.
    """
    head = re.split(r"^--- ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = {name: re.findall(rf"^{name}: (.*\S)$", head, re.MULTILINE) for name in HEADERS}
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def touched_by(text: str) -> tuple[str, ...]:
    """The files that a patch changes, in its order."""
    return tuple(re.findall(r"^--- a/(\S+)\n\+\+\+ b/\1$", text, re.MULTILINE))


def text_faults(text: str) -> list[str]:
    """What is wrong with a patch file, all of it."""
    headers = headers_of(text)
    faults = [f"has no header '{name}: ...', or several; give it one" for name in HEADERS if name not in headers]
    if not text.isascii():
        faults.append("is not plain ASCII; leave such lines out of its context")
    touched = touched_by(text)
    if not touched:
        faults.append("changes nothing; expected '--- a/FILE' and '+++ b/FILE' with the same name, and hunks")
    faults += [f"changes {one} in two places; put them together" for one in touched if touched.count(one) > 1]
    lines = text.splitlines()
    if sum(line.startswith(("--- ", "+++ ")) for line in lines) != 2 * len(touched):
        faults.append("adds, removes or renames a file; expected changes of files alone")
    return faults + list(_hunk_faults(lines))


def _hunk_faults(lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        head = _HUNK.match(line)
        if not line.startswith("@@"):
            continue
        if head is None:
            yield f"line {number}: got '{line}', expected the head of a hunk"
            continue
        old, new = (int(count or "1") for count in head.groups())
        body = _body(lines[number:], old, new)
        if body is None:
            yield f"line {number}: its hunk does not have the {old} and {new} lines it says; make the patch anew"
        elif max(_context(body), _context(body[::-1])) > MAX_CONTEXT_LINES:
            yield f"line {number}: its hunk has more than {MAX_CONTEXT_LINES} lines of context; make it with -U3"
        elif not any(one[:1] in "+-" for one in body):
            yield f"line {number}: its hunk changes nothing; remove it"


def _body(lines: list[str], old: int, new: int) -> list[str] | None:
    """The lines of a hunk; None when they do not add up."""
    body = []
    for line in lines:
        if old <= 0 and new <= 0:
            break
        if not line or line[0] not in " +-":
            return None
        body.append(line)
        old -= line[0] in " -"
        new -= line[0] in " +"
    return body if old == new == 0 else None


def _context(body: list[str]) -> int:
    """How many lines of context a hunk begins with."""
    return next((i for i, line in enumerate(body) if line[0] != " "), len(body))
