"""Apply patches to a source tree: all or none, without fuzz, and prove that each did what it is for."""

from collections.abc import Sequence
from pathlib import Path

from sparkbake import process
from sparkbake.errors import BuildError, ProcessError
from sparkbake.patches import Patch, Selection

_APPLY_TIMEOUT_S = 60


def apply(selection: Selection, tree: Path) -> None:
    """Apply what is selected to an unpatched source tree.

    `git apply` has no fuzz: every line of context must be there as it is. Only the line numbers may differ.

    Args:
        tree: the folder that the paths in the patches begin from; a repository or none.

    Raises:
        BuildError: a patch is applied already or does not apply, and nothing was changed; or one did not have its
            effect, or left a Python file that cannot be compiled.
        ProcessError: git is not there.
    """
    for patch in selection.patches:
        _check_fresh(patch, tree)
    for count, patch in enumerate(selection.patches, start=1):
        _check(selection, selection.patches[:count], patch, tree)
    if selection.patches:
        _git_apply([], selection.patches, tree)
    for patch in selection.patches:
        faults = missing_effects(patch, tree) + [fault for file in patch.touches for fault in _syntax(tree / file)]
        if faults:
            raise BuildError(f"{patch.name} was applied to {tree} without its effect:\n" + "\n".join(faults))


def missing_effects(patch: Patch, tree: Path) -> list[str]:
    """What a patch is to bring about and a tree does not have, in words; empty when it has all of it."""
    faults = []
    for effect in patch.effects:
        found = _read(tree / effect.file).count(effect.text)
        if found != effect.count:
            faults.append(f"{effect.file}: has '{effect.text}' {found} times, expected {effect.count}")
    return faults


def _check_fresh(patch: Patch, tree: Path) -> None:
    for file in patch.touches:
        if not (tree / file).is_file():
            raise BuildError(f"{patch.name}: {tree} has no {file}; is it the source tree of that release?")
    if not missing_effects(patch, tree):
        raise BuildError(f"{patch.name}: {tree} has its effect already; begin with fresh sources")


def _check(selection: Selection, patches: Sequence[Patch], last: Patch, tree: Path) -> None:
    """Try a patch on top of those before it, without changing anything."""
    try:
        _git_apply(["--check"], patches, tree)
    except ProcessError as err:
        if err.returncode is None:
            raise
        raise BuildError(
            f"{last.name} does not apply to {tree}, which should be {selection.component} "
            f"{selection.release.version}; nothing was changed:\n{err.output}"
        ) from err


def _git_apply(options: Sequence[str], patches: Sequence[Patch], tree: Path) -> None:
    """Hand patches to git as one; it changes all files or none.

    In a folder of some repository git would take paths from the top of that and skip what is not there, so it may not
    look above the tree; and no setting of whoever runs this may let it ignore white space.
    """
    resolved = tree.resolve()
    process.run(
        ["git", "apply", "--whitespace=nowarn", *options, "-"],
        timeout_s=_APPLY_TIMEOUT_S,
        cwd=resolved,
        env={
            "GIT_CEILING_DIRECTORIES": str(resolved.parent),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C.UTF-8",
        },
        stdin="".join(one.text for one in patches),
    )


def _syntax(path: Path) -> list[str]:
    if path.suffix != ".py":
        return []
    try:
        compile(_read(path), str(path), "exec", dont_inherit=True)
    except SyntaxError as err:
        return [f"{path}:{err.lineno}: {err.msg}"]
    return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise BuildError(f"{path}: cannot be read: {err}; is it a source tree?") from err
