"""Git sources of a bundle: fetched by the script that checks them out inside builds, each repository packed once."""

import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sparkbake import process
from sparkbake.bundle import GIT
from sparkbake.errors import BundleError, ProcessError
from sparkbake.sourcebundle import CrateSource
from sparkbake.sourcemodel import GitSource

_TIMEOUT_S = 3600
_KEPT = re.compile(r"checkout: kept (\S+) ([0-9a-f]{40}) (\S+\.git)")
# What git needs of a repository that is only read from.
_FILES = re.compile(r"HEAD|config|packed-refs|shallow|refs/heads/kept(-[0-9a-f]+)?|objects/pack/pack-[0-9a-f]+\.\w+")
_PLAIN = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
Say = Callable[[str], None]


@dataclass(kw_only=True, slots=True)
class Kept:
    """A repository of a bundle.

    Attributes:
        folder: its name below GIT.
        refs: what leads to the commits: "refs/heads/kept" to a commit. No ref, no commit: git clears it away.
    """

    folder: str
    refs: dict[str, str] = field(default_factory=dict)

    def add(self, commit: str, *, tag: str | None = None, branch: str | None = None) -> None:
        """Lead to a commit, also by the names that it is asked for by."""
        self.refs[f"refs/heads/kept-{commit[:12]}"] = commit
        # Packed refs leave an empty folder, and git takes none without it for a repository.
        self.refs.setdefault("refs/heads/kept", commit)
        self.refs |= {f"refs/tags/{tag}": commit} if tag else {}
        self.refs |= {f"refs/heads/{branch}": commit} if branch else {}


def keep_sources(
    place: Path, sources: Sequence[GitSource], *, script: Path, gitconfig: str, ca: Path | None, say: Say
) -> dict[str, Kept]:
    """Have sources and their submodules below a folder; what is there already is not fetched again.

    Args:
        script: recipes/scripts/checkout.py.
        gitconfig: settings by which git finds mirrors.
        ca: certificates to trust.

    Returns:
        Address to what is there.

    Raises:
        BundleError: a commit cannot be had.
    """
    found: dict[str, Kept] = {}
    with tempfile.TemporaryDirectory(prefix="sparkbake-bundle-") as folder:
        config = Path(folder, "gitconfig")
        config.touch(mode=0o600)
        config.write_text(gitconfig, encoding="utf-8")
        shared: list[str | Path] = [sys.executable, script, "--keep", place, "--gitconfig", config]
        shared += ["--ca", ca] if ca else []
        for number, one in enumerate(sources, 1):
            say(f"source {number} of {len(sources)}: {one.name}")
            for address, commit, name in _keep(shared, one, say):
                tag = one.tag if (address, commit) == (one.repository, one.commit) else None
                found.setdefault(address, Kept(folder=name)).add(commit, tag=tag)
    return found


def _keep(shared: Sequence[str | Path], source: GitSource, say: Say) -> list[tuple[str, str, str]]:
    """Address, commit and folder of a source and of each submodule."""
    argv = [*shared, "--repository", source.repository, "--commit", source.commit or ""]
    argv += ["--tag", source.tag] if source.tag else []
    argv += ["--submodules"] if source.submodules else []
    lines: list[str] = []
    kept: list[tuple[str, str, str]] = []

    def hear(line: str) -> None:
        if found := _KEPT.fullmatch(line):
            kept.append((found[1], found[2], found[3]))
            return
        lines.append(line)
        say(f"{source.name}: {line}")

    if process.stream(argv, hear):
        said = (lines or ["git ended"])[-1]
        raise BundleError([f"{source.name}: cannot be had: {said}; what was fetched stays: run it again"])
    return kept


def keep_crate_sources(place: Path, sources: Sequence[CrateSource], kept: dict[str, Kept], gitconfig: str) -> None:
    """Have the repositories that a Cargo.lock names, with their past, without which cargo's git refuses them.

    Args:
        kept: gets them, too.

    Raises:
        BundleError: one cannot be had, or has not the commit.
    """
    with tempfile.TemporaryDirectory(prefix="sparkbake-bundle-") as folder:
        config = Path(folder, "gitconfig")
        config.write_text(gitconfig, encoding="utf-8")
        for one in sources:
            plain = re.sub(r"[^0-9A-Za-z]+", "-", one.repository.partition("://")[2]).strip("-")
            repository = kept.setdefault(one.repository, Kept(folder=f"crate-{plain}.git"))
            _keep_whole(place / repository.folder, one, {**_PLAIN, "GIT_CONFIG_GLOBAL": str(config)})
            repository.add(one.commit, tag=one.tag, branch=one.branch)


def _keep_whole(path: Path, source: CrateSource, settings: Mapping[str, str]) -> None:
    refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    try:
        if not (path / "HEAD").is_file():
            process.run(["git", "init", "--quiet", "--bare", path], timeout_s=60, env=settings)
        if not _has(path, source.commit):
            more = ["--unshallow"] if (path / "shallow").exists() else []
            argv: list[str | Path] = ["git", "-C", path, "fetch", "--quiet", *more, source.repository, *refs]
            process.run(argv, timeout_s=_TIMEOUT_S, env=settings)
        _git(path, "cat-file", "-e", f"{source.commit}^{{commit}}")
    except ProcessError as err:
        told = f"cannot be read, or has not the commit {source.commit} that Cargo.lock names: {err.output}"
        raise BundleError([f"{source.repository}: {told}"]) from err


def _has(path: Path, commit: str) -> bool:
    """Whether a repository has a commit with its past."""
    try:
        _git(path, "cat-file", "-e", f"{commit}^{{commit}}")
    except ProcessError:
        return False
    return not (path / "shallow").exists()


def read_kept(place: Path, kept: Kept, commit: str, path: str) -> str:
    """A file of a commit.

    Raises:
        BundleError: it has none.
    """
    try:
        return _git(place / kept.folder, "show", f"{commit}:{path}")
    except ProcessError as err:
        raise BundleError(
            [f"{kept.folder}: the commit {commit} has no {path}, where crates are named: {err.output}"]
        ) from err


def tidy(place: Path, kept: Kept) -> None:
    """Leave of a repository one pack with what is wanted, and no file that git does without."""
    repository = place / kept.folder
    _git(repository, "symbolic-ref", "HEAD", "refs/heads/kept")
    for line in _git(repository, "for-each-ref", "--format=%(refname)").splitlines():
        if line not in kept.refs:
            _git(repository, "update-ref", "-d", line)
    for name, commit in kept.refs.items():
        _git(repository, "update-ref", name, commit)
    if not _is_tidy(repository):
        _git(repository, "gc", "--quiet", "--prune=now")
        # As a file, for packing left none.
        commit = kept.refs["refs/heads/kept"]
        _git(repository, "update-ref", "-d", "refs/heads/kept")
        _git(repository, "update-ref", "refs/heads/kept", commit)
    _clear(repository)


def _is_tidy(repository: Path) -> bool:
    """Whether all objects are in one pack."""
    files = [one for one in (repository / "objects").rglob("*") if one.is_file()]
    packs = [one for one in files if one.suffix == ".pack"]
    loose = [one for one in files if one.parent.name not in ("pack", "info") or one.name.startswith("tmp_")]
    return len(packs) == 1 and not loose


def _clear(repository: Path) -> None:
    for one in sorted(repository.rglob("*"), reverse=True):
        path = one.relative_to(repository).as_posix()
        if one.is_file() and not _FILES.fullmatch(path) and not path.startswith("refs/"):
            one.unlink()
        elif one.is_dir() and path not in ("refs", "objects", "objects/pack") and not any(one.iterdir()):
            one.rmdir()


def _git(repository: Path, *words: str) -> str:
    return process.run(["git", "-C", repository, *words], timeout_s=_TIMEOUT_S, env=_PLAIN)


def git_files(folder: Path, kept: dict[str, Kept]) -> list[Path]:
    """The files of all repositories of a bundle."""
    names = {one.folder for one in kept.values()}
    return [path for name in sorted(names) for path in sorted((folder / GIT / name).rglob("*")) if path.is_file()]
