"""Claims about applying patches: with git itself, on real files."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.test_patches import NAME, PATCH, parse

from sparkbake.errors import BuildError, ProcessError
from sparkbake.patches import Effect, Patch, Selection, select
from sparkbake.patchfiles import touched_by
from sparkbake.patching import apply, missing_effects

pytestmark = pytest.mark.usefixtures("real_processes")

HELLO = 'def greet():\n    return "hello"\n# end\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree/src").mkdir(parents=True)
    (tmp_path / "tree/src/hello.py").write_text(HELLO, encoding="utf-8")
    return tmp_path / "tree"


def selected(*patches: Patch) -> Selection:
    selection = select(parse(), "1.0")
    return replace(selection, patches=patches) if patches else selection


def variation(name: str, old: str, new: str, text: str = PATCH) -> Patch:
    """The patch, with another name and something changed in it; its effect is what it adds."""
    text = text.replace(old, new)
    (added,) = re.findall(r"^\+(?!\+)(.*)$", text, re.MULTILINE)
    (patch,) = selected().patches
    effects = (Effect(file=touched_by(text)[0], text=added, count=1),)
    return replace(patch, name=name, text=text, effects=effects, touches=touched_by(text))


def content(tree: Path) -> str:
    return (tree / "src/hello.py").read_text(encoding="utf-8")


def test_a_patch_is_applied(tree: Path) -> None:
    apply(selected(), tree)
    assert content(tree) == HELLO.replace("hello", "hello, world")
    assert missing_effects(selected().patches[0], tree) == []


def test_line_numbers_may_differ(tree: Path) -> None:
    """But git takes a hunk that begins at line 1 for one of the beginning of the file."""
    (tree / "src/hello.py").write_text("# new\n" * 40 + HELLO, encoding="utf-8")
    apply(selected(variation(NAME, "-1,3 +1,3", "-2,3 +2,3")), tree)
    assert content(tree).endswith('"hello, world"\n# end\n')


@pytest.mark.parametrize("line", ["def greet(name):", "def  greet():", "def greet(): "])
def test_a_line_of_context_that_differs_at_all_is_refused_and_nothing_is_changed(tree: Path, line: str) -> None:
    (tree / "src/hello.py").write_text(HELLO.replace("def greet():", line), encoding="utf-8")
    before = content(tree)
    with pytest.raises(BuildError, match=rf"{NAME} does not apply to .*/tree, which should be tool 1\.0; nothing was"):
        apply(selected(), tree)
    assert content(tree) == before


def test_a_setting_of_the_user_does_not_let_white_space_differ(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.parent / ".gitconfig").write_text("[apply]\n\tignoreWhitespace = change\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tree.parent))
    (tree / "src/hello.py").write_text(HELLO.replace("def greet", "def  greet"), encoding="utf-8")
    with pytest.raises(BuildError, match="does not apply"):
        apply(selected(), tree)


def test_a_second_time_is_refused(tree: Path) -> None:
    apply(selected(), tree)
    with pytest.raises(BuildError, match=rf"{NAME}: .*/tree has its effect already; begin with fresh sources"):
        apply(selected(), tree)


def test_patches_stack_in_their_order(tree: Path) -> None:
    text = PATCH.replace('"hello"', '"hello, world"').replace('+    return "hello, world"', '+    return "hello, all"')
    first = replace(selected().patches[0], effects=(Effect(file="src/hello.py", text='"hello"', count=0),))
    apply(selected(first, variation("0002-all.patch", "", "", text)), tree)
    assert content(tree) == HELLO.replace("hello", "hello, all")


def test_all_patches_or_none_are_applied_and_the_one_at_fault_is_named(tree: Path) -> None:
    bad = variation("0002-bad.patch", " # end", " # END", PATCH.replace("hello, world", "hi"))
    with pytest.raises(BuildError, match=r"0002-bad\.patch does not apply"):
        apply(selected(*selected().patches, bad), tree)
    assert content(tree) == HELLO


def test_an_effect_that_is_not_there_is_told(tree: Path) -> None:
    wrong = replace(selected().patches[0], effects=(Effect(file="src/hello.py", text="world", count=2),))
    with pytest.raises(BuildError, match=r"without its effect:\nsrc/hello\.py: has 'world' 1 times, expected 2"):
        apply(selected(wrong), tree)


def test_python_that_cannot_be_compiled_is_told(tree: Path) -> None:
    wrong = variation("0001-wrong.patch", '+    return "hello, world"', '+    return "hello,')
    with pytest.raises(
        BuildError, match=r"0001-wrong\.patch .* without its effect:\n.*hello\.py:2: unterminated string"
    ):
        apply(selected(wrong), tree)


def test_another_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=rf"{NAME}: .* has no src/hello\.py; is it the source tree of that release\?"):
        apply(selected(), tmp_path)


def test_a_file_that_is_no_text_is_refused(tree: Path) -> None:
    (tree / "src/hello.py").write_bytes(b"\xff\xfe")
    with pytest.raises(BuildError, match=r"hello\.py: cannot be read: .*; is it a source tree\?"):
        apply(selected(), tree)


def test_a_tree_within_some_repository_is_patched_all_the_same(tree: Path) -> None:
    """There git would take the paths from the top of the repository, find nothing, and say that all is well."""
    subprocess.run(["git", "init", "--quiet", str(tree.parent)], check=True)
    apply(selected(), tree)
    assert "world" in content(tree)


def test_a_tree_that_is_a_repository_is_patched(tree: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tree)], check=True)
    apply(selected(), tree)
    assert "world" in content(tree)


def test_nothing_to_apply_changes_nothing(tree: Path) -> None:
    apply(replace(selected(), patches=()), tree)
    assert content(tree) == HELLO


def test_without_git_the_error_names_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tree))
    with pytest.raises(ProcessError, match="git: not found on PATH"):
        apply(selected(), tree)
