"""The guides name no command that nobody has looked at: each is run by a test, or stands with the reason why not."""

import re
import shlex

import pytest
from tests.builders import real_matrix
from tests.docscommands import KNOWN, PAGES, ROOT, all_commands, commands
from tests.hostbuilder import KINDS

from sparkbake.arguments import make_parser
from sparkbake.matrix import rows


def test_commands_are_read_as_a_shell_would() -> None:
    page = "text\n```sh\n# a comment\ndocker run \\\n    IMAGE  info\n\nls | cat\n```\n```\nnot this\n```\n"
    assert commands(page) == ["docker run IMAGE info", "ls | cat"]


@pytest.mark.parametrize("page", PAGES)
def test_each_command_of_a_guide_is_run_or_says_why_not(page: str) -> None:
    known = {one for group in KNOWN for one in group}
    unknown = [one for where, one in all_commands() if where == page and one not in known]
    assert not unknown, f"docs/{page}: list these in tests/docscommands.py, under RUN or, with a reason, NOT_RUN"


def test_no_command_is_listed_that_no_guide_has() -> None:
    found = {one for _page, one in all_commands()}
    listed = [one for group in KNOWN for one in group]
    assert set(listed) - found == set()
    assert len(listed) == len(set(listed))


def _guides() -> list[tuple[str, str]]:
    found = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "moe_configs" / "README.md"]
    return [(path.name, path.read_text(encoding="utf-8")) for path in sorted(found)]


@pytest.mark.parametrize(("name", "text"), _guides(), ids=[name for name, _text in _guides()])
def test_sessions_options_and_tags_of_a_guide_exist(name: str, text: str) -> None:
    """What `nox -s` is given is read by our own command line, but for words that stand for others."""
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE))
    for command in [one for one in commands(text) if one.startswith("nox -s ")]:
        words = shlex.split(command, comments=True)
        assert words[2] in sessions | {"list"}, f"{name}: {command}"
        arguments = words[4:] if words[3:4] == ["--"] else []
        if not any("[" in one for one in arguments) and words[2] not in {
            "bench",
            "tests",
            "engine_tests",
            "network_tests",
            "e2e",
            "lint",
        }:
            make_parser("").parse_args([words[2], *arguments])
    tags = {row.tag for row in rows(real_matrix())}
    for tag in re.findall(r"scitrera/dgx-spark-vllm:(\d\S*?-t\d)", text):
        assert tag in tags, f"{name}: {tag}"


def _tables(page: str) -> list[list[str]]:
    """The rows of all tables of a page, without their heads; a bar after a backslash is no border."""
    found: list[list[str]] = []
    for block in re.findall(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE):
        found += [[one.strip() for one in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
    return found


def test_the_guide_of_the_doctor_lists_its_checks_in_their_order() -> None:
    rows_there = _tables((ROOT / "docs" / "doctor.md").read_text(encoding="utf-8"))
    assert [one[0] for one in rows_there][: len(KINDS)] == KINDS


def test_what_the_guide_shows_of_a_failing_host_has_the_checks_of_today() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    shown = page.partition("\ncheck ")[2].partition("\n\n")[0].splitlines()[1:]
    assert [line.split()[0] for line in shown] == KINDS
    assert f"\n{len(KINDS)} checks: 1 error, " in page


START = (ROOT / "recipes" / "runtime" / "start.sh").read_text(encoding="utf-8")
IMAGE_COMMANDS = set(re.findall(r"[\w-]+", re.search(r"^ +(serve \|.*)\)$", START, re.MULTILINE)[1]))  # type: ignore[index]
# Of the column "find it with": what a command there begins with that is neither ours nor the doctor's.
PROGRAMS = {"curl", "docker", "free", "journalctl", "ls", "ping", "ss"}


def _is_found(span: str) -> bool:
    """Whether what stands in the column exists: a check, a command of the image or of nox, a program, an option."""
    first, *rest = span.split()
    if first == "IMAGE":
        return rest[0] in IMAGE_COMMANDS | {"printenv", "python3", "which", "nvcc"}
    if first == "nox":
        sessions = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
        return rest[0] == "-s" and rest[1] in sessions
    return span in KINDS or first in PROGRAMS or first.startswith("-")


def test_each_problem_has_a_check_that_finds_it_and_that_exists() -> None:
    """An id that no check has would send a reader to look for nothing."""
    problems = _tables((ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))
    # None is read where the tables are not understood.
    assert len(problems) > 30
    for seen, found_with, remedy in problems:
        assert found_with, f"{seen}: no check"
        assert remedy, seen
        unknown = [one for one in re.findall(r"`([^`]+)`", found_with) if not _is_found(one)]
        assert not unknown, f"{seen}: {unknown}"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "/dev/shm"),
        (0, "hold"),
        (0, "compute_121"),
        (1, "No CUDA GPUs"),
        (1, "Permission denied"),
        (2, "GLM-4.7-Flash"),
        (3, "vocab file"),
        (3, "wake"),
        (3, "two servers"),
        (4, "CUTLASS"),
        (4, "default MoE config"),
    ],
)
def test_a_problem_of_the_seeds_is_among_them(number: int, words: str) -> None:
    """Each of the five documents that users wrote; `number` is which."""
    problems = _tables((ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))
    assert [one for one in problems if words in one[0]], f"seed {number}"


def test_links_between_guides_lead_somewhere() -> None:
    for name, text in _guides():
        folder = {"README.md": ROOT}.get(name, ROOT / "docs")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            places = (folder / target, ROOT / "moe_configs" / target)
            assert any(one.exists() for one in places), f"{name}: {target}"
