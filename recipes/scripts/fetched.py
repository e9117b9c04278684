"""Runs inside a build: holds what vLLM's CMake is handed against what it would fetch on its own.

With a *_SRC_DIR variable set, CMake looks at neither the repository nor the commit that the release names beside it, so
that a wrong pin would be compiled without a word. What nothing was handed for is no matter of this script: CMake itself
ends with an error then (FETCHCONTENT_FULLY_DISCONNECTED).
"""

import argparse
import itertools
import json
import re
import sys
from pathlib import Path

VARIABLE = re.compile(r"ENV\{(\w+_SRC_DIR)\}")
SET = re.compile(r'\bset\s*\(\s*(\w+)\s+"?([^\s")]+)"?\s*\)', re.IGNORECASE)
DECLARED = re.compile(r"GIT_REPOSITORY\s+([^\s)]+)\s+(?:[^()]*?\s)?GIT_TAG\s+([^\s)]+)")
Named = dict[str, list[tuple[str, str]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--handed", type=Path, required=True, help="JSON list: variable, repository, tag, commit")
    parser.add_argument("tree", type=Path, help="vLLM's sources")
    options = parser.parse_args()
    found = declared(options.tree)
    handed = json.loads(options.handed.read_text(encoding="utf-8"))
    faults = [fault for one in handed for fault in faults_of(one, found)]
    for fault in faults:
        print(f"fetched: error: {fault}", file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"fetched: {len(handed)} sources are what this release would fetch")


def declared(tree: Path) -> Named:
    """Variable to each repository and tag or commit that CMake would fetch without it."""
    files = [tree / "CMakeLists.txt", *sorted((tree / "cmake/external_projects").glob("*.cmake"))]
    found: Named = {}
    for path in files:
        for variable, named in declared_in(path.read_text(encoding="utf-8")):
            found.setdefault(variable, []).extend(named)
    return found


def declared_in(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    r"""What one CMake file would fetch; the variable is the last that it asked the environment for before.

    Where it sets a name in several places, for several machines, each value is an answer.

    >>> declared_in('if(DEFINED ENV{A_SRC_DIR})\nset(T "v1")\nF(a GIT_REPOSITORY https://h/a.git GIT_TAG ${T})')
    [('A_SRC_DIR', [('https://h/a.git', 'v1')])]
    """
    # What stands in a comment is fetched by nobody.
    text = re.sub(r"(?m)(^|\s)#.*$", "", text)
    values: dict[str, list[str]] = {}
    for name, value in SET.findall(text):
        values.setdefault(name, []).append(value)
    found = []
    for match in DECLARED.finditer(text):
        asked = VARIABLE.findall(text[: match.start()])
        pairs = itertools.product(meant(match[1], values), meant(match[2], values))
        found.append((asked[-1] if asked else "", list(pairs)))
    return found


def meant(word: str, values: dict[str, list[str]]) -> list[str]:
    """All that a word of CMake may stand for."""
    word = word.strip('"')
    name = re.fullmatch(r"\$\{(\w+)\}", word)
    return values.get(name[1], [word]) if name else [word]


def faults_of(handed: dict[str, str], found: Named) -> list[str]:
    variable, named = handed["variable"], handed["tag"] or handed["commit"]
    ours = (plain(handed["repository"]), named)
    theirs = found.get(variable, [])
    if not theirs:
        return [f"{variable}: is handed over, but this release fetches nothing in its place; take it out of the matrix"]
    if ours in [(plain(repository), tag) for repository, tag in theirs]:
        return []
    said = " or ".join(f"{repository} at {tag}" for repository, tag in theirs)
    return [f"{variable}: got {handed['repository']} at {named}, but this release names {said}; correct the matrix"]


def plain(repository: str) -> str:
    """An address as it is compared: hosts and owners in either case, with ".git" or without."""
    return repository.lower().removesuffix("/").removesuffix(".git")


if __name__ == "__main__":
    main()
