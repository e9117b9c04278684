"""Runs inside a build: checks a git repository out at one commit, and its submodules at the commits that it names.

With --keep it runs where a bundle is made, and fetches the same repositories and commits without checking them out.

A tag is only what was asked for: where it points elsewhere by now, a warning says so, and the commit counts.
Repositories are kept in a cache between builds, so that an interrupted or repeated build fetches nothing twice.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import urlsplit

CACHE = Path("/dev/sparkbake/git-cache")
# Rules `url.<base>.insteadOf` for mirrors; the files belong to this build step alone.
CONFIG = Path("/dev/sparkbake/gitconfig")
CA = Path("/dev/sparkbake/ca.pem")
ATTEMPTS = 3
# What git says when the other side, or the way there, has a bad moment.
TRANSIENT = re.compile(
    r"timed? ?out|reset by peer|early EOF|hung up|RPC failed|HTTP 5\d\d|error: 5\d\d|Temporary failure|GnuTLS recv",
    re.IGNORECASE,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", required=True, help="its address")
    parser.add_argument("--commit", required=True, help="40 hex digits")
    parser.add_argument("--tag", help="what was asked for")
    parser.add_argument("--submodules", action="store_true")
    parser.add_argument("--epoch", type=int, help="time of every file, seconds since 1970")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="fetch into repositories there, and no more")
    parser.add_argument("--gitconfig", type=Path, default=CONFIG, help="git's settings (default: %(default)s)")
    parser.add_argument("--ca", type=Path, default=CA, help="certificates (default: %(default)s)")
    options = parser.parse_args()
    if (options.keep is None) == (options.epoch is None or options.folder is None):
        parser.error("expected --epoch and a folder, or --keep")
    if not re.fullmatch(r"[0-9a-f]{40}", options.commit):
        fail(f"{options.repository}: got commit '{options.commit}', expected 40 hex digits")
    os.umask(0o022)
    os.environ |= environment(options.gitconfig, options.ca)
    if options.keep:
        keep(options.keep, options.repository, options.commit, tag=options.tag, submodules=options.submodules)
        return
    check_out(options.folder, options.repository, options.commit, tag=options.tag, submodules=options.submodules)
    settle(options.folder, options.epoch)


def say(text: str) -> None:
    print(f"checkout: {text}", flush=True)


def fail(text: str) -> NoReturn:
    print(f"checkout: error: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


def environment(config: Path | None = None, ca: Path | None = None) -> dict[str, str]:
    """No setting of the image's counts, no question is asked, and nothing is fetched behind our back."""
    found = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C.UTF-8"}
    config, ca = config or CONFIG, ca or CA
    found["GIT_CONFIG_GLOBAL"] = str(config) if config.exists() and config.stat().st_size else "/dev/null"
    if ca.exists() and ca.stat().st_size:
        found["GIT_SSL_CAINFO"] = str(ca)
    return found


def git(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *map(str, words)], capture_output=True, text=True, check=False)  # noqa: S607


def answer(*words: str | Path) -> str:
    """What git prints; it must not fail."""
    done = git(*words)
    if done.returncode:
        fail(f"git {' '.join(map(str, words))} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def ask(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    """Ask another machine: what is transient is tried again, and how often is said."""
    for attempt in range(1, ATTEMPTS + 1):
        done = git(*words)
        if done.returncode == 0 or not TRANSIENT.search(done.stderr) or attempt == ATTEMPTS:
            break
        say(f"attempt {attempt} of {ATTEMPTS} failed: {done.stderr.strip().splitlines()[-1]}")
        time.sleep(2**attempt)
    return done


def check_out(folder: Path, repository: str, commit: str, *, tag: str | None, submodules: bool) -> None:
    with cached(repository, CACHE) as cache:
        have(cache, repository, commit, tag)
        answer("init", "--quiet", folder)
        answer("-C", folder, "remote", "add", "origin", repository)
        answer("-C", folder, "fetch", "--quiet", "--depth", "1", "--no-tags", cache.as_uri(), commit)
    answer("-C", folder, "checkout", "--quiet", "--detach", commit)
    found = answer("-C", folder, "rev-parse", "HEAD")
    if found != commit:
        fail(f"{repository}: checked out {found}, expected {commit}")
    say(f"{folder}: {repository} at {commit}{f', asked for as {tag}' if tag else ''}")
    modules = submodules_of(folder, repository, commit)
    if submodules:
        for path, address, named in modules:
            check_out(folder / path, address, named, tag=None, submodules=True)
    elif modules:
        say(f"{folder}: {len(modules)} submodules are left out: {', '.join(path for path, _url, _commit in modules)}")
    if changed := answer("-C", folder, "status", "--porcelain"):
        fail(f"{folder}: is not as its commit has it:\n{changed}")


def keep(place: Path, repository: str, commit: str, *, tag: str | None, submodules: bool) -> None:
    """Have a commit in a repository below a folder, and those of its submodules; each is said once it is there."""
    with cached(repository, place) as cache:
        have(cache, repository, commit, tag)
        modules = submodules_of(cache, repository, commit) if submodules else []
    say(f"kept {repository} {commit} {cache.name}")
    for _path, address, named in modules:
        keep(place, address, named, tag=None, submodules=True)


def have(cache: Path, repository: str, commit: str, tag: str | None) -> None:
    """Have a commit in the repository that keeps it."""
    if not has(cache, commit):
        fetch(cache, repository, commit, tag)
    # What no branch or tag leads to is given away to nobody by the older protocol, and could be cleared away.
    answer("-C", cache, "update-ref", f"refs/sparkbake/{commit}", commit)
    if tag:
        compare_tag(cache, repository, commit, tag)


@contextlib.contextmanager
def cached(repository: str, place: Path) -> Iterator[Path]:
    """The bare repository that keeps what was fetched, for this process alone."""
    name = re.sub(r"\W+", "-", urlsplit(repository).path).strip("-")
    cache = place / f"{name}-{hashlib.sha256(repository.encode()).hexdigest()[:12]}.git"
    place.mkdir(parents=True, exist_ok=True)
    with cache.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A git that was ended in the middle, as by another step that failed, leaves its own locks; nobody has them now.
        for stale in cache.rglob("*.lock"):
            stale.unlink()
        # What an interrupted run left half-made is completed: `git init` changes nothing that is there.
        answer("init", "--quiet", "--bare", cache)
        answer("-C", cache, "config", "uploadpack.allowAnySHA1InWant", "true")
        yield cache


def has(cache: Path, commit: str) -> bool:
    """Whether the cache has a commit with all its files."""
    done = git("-C", cache, "rev-list", "--objects", "--no-walk", "--quiet", commit)
    return done.returncode == 0


def fetch(cache: Path, repository: str, commit: str, tag: str | None) -> None:
    """Fetch one commit alone; where a server does not give a commit by its name, everything it has."""
    say(f"fetching {commit} from {repository}")
    first = ask("-C", cache, "fetch", "--quiet", "--depth", "1", "--no-tags", repository, commit)
    if has(cache, commit):
        return
    say(f"not given by its name ({last_line(first.stderr)}); fetching all branches and tags")
    everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
    shallow = ["--unshallow"] if (cache / "shallow").exists() else []
    second = ask("-C", cache, "fetch", "--quiet", *shallow, repository, *everything)
    if has(cache, commit):
        return
    if second.returncode:
        fail(
            f"{repository}: cannot be read: {second.stderr.strip()}; see that it is there, "
            "or name a mirror under `git` in mirrors.yaml"
        )
    where = tag and git("-C", cache, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}").stdout.strip()
    asked = f" (its tag {tag} is {where or 'not there, either'})" if tag else ""
    fail(f"{repository}: has no commit {commit} on any branch or tag{asked}; correct the commit, or the repository")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]


def compare_tag(cache: Path, repository: str, commit: str, tag: str) -> None:
    done = ask("-C", cache, "ls-remote", repository, f"refs/tags/{tag}", f"refs/tags/{tag}^{{}}")
    if done.returncode:
        say(f"warning: {repository}: where the tag {tag} points now was not learned: {last_line(done.stderr)}")
        return
    found = {name: digest for digest, _tab, name in (line.partition("\t") for line in done.stdout.splitlines())}
    # A tag object has a second line, for the commit that it is about.
    now = found.get(f"refs/tags/{tag}^{{}}", found.get(f"refs/tags/{tag}"))
    if now is None:
        say(f"warning: {repository} has no tag {tag} any more; the commit {commit} counts")
    elif now != commit:
        say(f"warning: {repository}: the tag {tag} points to {now} now; the commit {commit} counts")


def submodules_of(folder: Path, repository: str, tree: str) -> list[tuple[str, str, str]]:
    """Path, address and commit of each submodule that a commit has."""
    listed = answer("-C", folder, "ls-tree", "-r", "--full-tree", tree).splitlines()
    entries = [(line.split(), path) for line, _tab, path in (one.partition("\t") for one in listed)]
    links = {path: words[2] for words, path in entries if words[0] == "160000"}
    addresses = {}
    if any(path == ".gitmodules" for _entry, path in entries):
        fields: dict[str, dict[str, str]] = {}
        for line in answer("-C", folder, "config", "--blob", f"{tree}:.gitmodules", "--list").splitlines():
            key, _is, value = line.partition("=")
            name, _dot, field = key.removeprefix("submodule.").rpartition(".")
            fields.setdefault(name, {})[field] = value
        addresses = {one["path"]: one["url"] for one in fields.values() if "path" in one and "url" in one}
    if unknown := sorted(set(links) - set(addresses)):
        fail(f"{repository}: has a submodule at {', '.join(unknown)}, but .gitmodules gives no address for it")
    return [(path, absolute(addresses[path], repository), commit) for path, commit in sorted(links.items())]


def absolute(address: str, repository: str) -> str:
    """An address that may be relative to that of the superproject, as git reads it.

    >>> absolute("../fmt.git", "https://host.example/some/project")
    'https://host.example/some/fmt.git'
    """
    if not address.startswith(("./", "../")):
        return address
    parts = urlsplit(repository)
    path = PurePosixPath(os.path.normpath(PurePosixPath(parts.path) / address))
    return parts._replace(path=str(path)).geturl()


def settle(folder: Path, epoch: int) -> None:
    """Give every file one time, so that the same commit is the same bytes for what is built from it."""
    for root, folders, names in os.walk(folder, topdown=False):
        for name in names + folders:
            os.utime(Path(root) / name, (epoch, epoch), follow_symlinks=False)
    os.utime(folder, (epoch, epoch))


if __name__ == "__main__":
    main()
