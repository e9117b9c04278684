"""Claims about the git sources of a bundle: kept, packed, and given to git over HTTP, by git itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.builders import RECIPES

from sparkbake.bundle import GIT
from sparkbake.bundlegit import Kept, git_files, keep_crate_sources, keep_sources, read_kept, tidy
from sparkbake.errors import BundleError
from sparkbake.loopback import LOOPBACK, listen, serving
from sparkbake.mirrors import Mirrors
from sparkbake.sourcebundle import CrateSource
from sparkbake.sourcemodel import GitSource
from sparkbake.sourcesecrets import git_config
from sparkbake.sourceserver import Served

HOST = "https://git.example"
SCRIPT = RECIPES / "scripts" / "checkout.py"
AUTHOR = {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
PLAIN = {**os.environ, **AUTHOR, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}

pytestmark = pytest.mark.usefixtures("real_processes", "loopback")


def git(folder: Path, *words: str, **more: str) -> str:
    done = subprocess.run(
        ["git", "-C", folder, *words], env={**PLAIN, **more}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(folder: Path, text: str) -> str:
    if not folder.exists():
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet", "--initial-branch", "main")
        # As GitHub does.
        git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    (folder / "file").write_text(text, encoding="utf-8")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "text")
    return git(folder, "rev-parse", "HEAD")


class World:
    """Upstreams: `lib`, whose second commit of three is wanted, with a submodule `deep`; and where they are kept."""

    def __init__(self, root: Path) -> None:
        self.root, self.place = root, root / "bundle" / GIT
        self.up = root / "up"
        self.deep = commit(self.up / "deep", "deep\n")
        commit(self.up / "lib", "one\n")
        allowed = ("-c", "protocol.file.allow=always")
        git(self.up / "lib", *allowed, "submodule", "add", "--quiet", f"file://{self.up}/deep", "third/deep")
        git(self.up / "lib", "config", "--file", ".gitmodules", "submodule.third/deep.url", "../deep")
        self.lib = commit(self.up / "lib", "two\n")
        git(self.up / "lib", "tag", "--annotate", "--message", "v2", "v2")
        self.newest = commit(self.up / "lib", "three\n")
        self.said: list[str] = []

    @property
    def config(self) -> str:
        return git_config(Mirrors(git=((f"{HOST}/", f"file://{self.up}/"),)))

    def source(self, commit: str, tag: str | None = "v2") -> GitSource:
        return GitSource(name="lib", repository=f"{HOST}/lib", tag=tag, commit=commit, submodules=True)

    def keep(self, *sources: GitSource) -> dict[str, Kept]:
        kept = keep_sources(self.place, sources, script=SCRIPT, gitconfig=self.config, ca=None, say=self.said.append)
        for one in kept.values():
            tidy(self.place, one)
        for lock in self.place.glob("*.lock"):
            lock.unlink()
        return kept

    def files(self) -> dict[str, int]:
        """When each file was written."""
        return {
            str(one.relative_to(self.place)): one.stat().st_mtime_ns for one in self.place.rglob("*") if one.is_file()
        }


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def checked_out(
    world: World, kept: dict[str, Kept], wanted: str, tag: str, protocol: str
) -> "subprocess.CompletedProcess[str]":
    """Check the source out as a build does, from what is kept and over HTTP."""
    server = listen(0, Served(folders=(("/git/", world.place),)).answer)
    address = f"http://{LOOPBACK}:{server.server_address[1]}/git/"
    with serving(server):
        config = world.root / "gitconfig"
        rules = git_config(Mirrors(git=tuple((one, f"{address}{some.folder}") for one, some in kept.items())))
        config.write_text(f"{rules}[protocol]\n\tversion = {protocol}\n", encoding="utf-8")
        code = f"import sys; sys.argv[0] = 'checkout.py'; sys.path.insert(0, {str(SCRIPT.parent)!r}); import checkout; "
        cache = str(world.root / f"cache-{protocol}")
        code += f"from pathlib import Path; checkout.CACHE = Path({cache!r}); checkout.main()"
        argv = [sys.executable, "-B", "-c", code, "--repository", f"{HOST}/lib", "--commit", wanted, "--tag", tag]
        argv += [
            "--submodules",
            "--epoch",
            "499162500",
            "--gitconfig",
            str(config),
            str(world.root / f"out-{protocol}"),
        ]
        return subprocess.run(argv, env=PLAIN, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("protocol", ["0", "2"])
def test_a_build_gets_a_commit_and_its_submodules_from_what_is_kept(world: World, protocol: str) -> None:
    kept = world.keep(world.source(world.lib))
    assert set(kept) == {f"{HOST}/lib", f"{HOST}/deep"}
    done = checked_out(world, kept, world.lib, "v2", protocol)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout, "its tag is known, too"
    out = world.root / f"out-{protocol}"
    assert (out / "file").read_text(encoding="utf-8") == "two\n"
    assert (out / "third/deep/file").read_text(encoding="utf-8") == "deep\n"
    assert git(out, "rev-parse", "HEAD") == world.lib


def test_what_is_not_kept_is_not_given(world: World) -> None:
    kept = world.keep(world.source(world.lib))
    done = checked_out(world, kept, world.newest, "v2", "2")
    assert done.returncode == 1
    assert f"{HOST}/lib: has no commit {world.newest} on any branch or tag" in done.stderr


def test_a_repository_is_one_pack_and_nothing_that_git_does_without(world: World) -> None:
    kept = world.keep(world.source(world.lib), world.source(world.newest, None))
    files = [path.relative_to(world.place).as_posix() for path in git_files(world.place.parent, kept)]
    assert sorted(files) == sorted(world.files())
    names = {one.partition("/")[2].rpartition("/")[0] for one in files}
    assert names == {"", "refs/heads", "objects/pack"}
    assert len([one for one in files if one.endswith(".pack")]) == len(kept)


def test_what_is_there_is_neither_fetched_nor_packed_again(world: World) -> None:
    world.keep(world.source(world.lib))
    before = world.files()
    world.said.clear()
    world.keep(world.source(world.lib))
    after = world.files()
    assert after.keys() == before.keys()
    assert [one for one in after if "/objects/" in one and after[one] != before[one]] == []
    assert not [one for one in world.said if "fetching" in one]


def test_a_commit_that_is_not_wanted_any_more_goes_and_what_an_ended_run_left_too(world: World) -> None:
    kept = world.keep(world.source(world.lib))
    repository = world.place / kept[f"{HOST}/lib"].folder
    (repository / "objects/pack/tmp_pack_1").write_bytes(b"half")
    kept = world.keep(world.source(world.newest, None))
    assert not list(repository.rglob("tmp_*"))
    there = git(repository, "cat-file", "--batch-all-objects", "--batch-check").split()
    assert world.newest in there
    assert world.lib not in there


def test_a_commit_that_nobody_has_is_named(world: World) -> None:
    with pytest.raises(BundleError) as caught:
        world.keep(world.source(40 * "1"))
    assert f"lib: cannot be had: checkout: error: {HOST}/lib: has no commit {40 * '1'}" in caught.value.faults[0]


def test_a_repository_of_crates_is_kept_with_its_past_and_what_leads_to_it(world: World) -> None:
    kept: dict[str, Kept] = {}
    wanted = CrateSource(repository=f"{HOST}/lib", commit=world.newest, branch="next", tag=None)
    keep_crate_sources(world.place, [wanted], kept, world.config)
    tidy(world.place, kept[f"{HOST}/lib"])
    assert read_kept(world.place, kept[f"{HOST}/lib"], world.newest, "file") == "three\n"
    server = listen(0, Served(folders=(("/git/", world.place),)).answer)
    with serving(server):
        address = f"http://{LOOPBACK}:{server.server_address[1]}/git/{kept[f'{HOST}/lib'].folder}"
        listed = git(world.root, "ls-remote", address)
        git(world.root, "clone", "--quiet", "--bare", address, str(world.root / "clone"))
    assert {line.split("\t")[1] for line in listed.splitlines()} >= {"HEAD", "refs/heads/next"}
    assert git(world.root / "clone", "rev-list", "--count", "next") == "3"


def test_a_commit_of_a_crate_that_its_repository_has_not_is_named(world: World) -> None:
    wanted = CrateSource(repository=f"{HOST}/lib", commit=40 * "1", branch=None, tag=None)
    with pytest.raises(BundleError, match=f"has not the commit {40 * '1'} that Cargo"):
        keep_crate_sources(world.place, [wanted], {}, world.config)
