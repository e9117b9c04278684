"""Claims about the script that checks sources out inside builds: with git itself, on repositories made here."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.builders import load_script

checkout = load_script("checkout")
EPOCH = 499_162_500
AUTHOR = {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENV = {**os.environ, **AUTHOR, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


def git(folder: Path, *words: str) -> str:
    allowed = ("-c", "protocol.file.allow=always")
    done = subprocess.run(["git", "-C", folder, *allowed, *words], env=ENV, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make_repository(folder: Path, text: str = "one\n") -> str:
    """A repository with one commit on a branch."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    return commit(folder, text)


def commit(folder: Path, text: str) -> str:
    (folder / "file").write_text(text, encoding="utf-8")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "text")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Run the script as a build does; git.example leads to repositories in a folder."""
    (tmp_path / "gitconfig").write_text(
        f'[url "file://{tmp_path}/up/"]\n\tinsteadOf = https://git.example/\n[protocol]\n\tversion = 0\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(checkout, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(checkout, "CONFIG", tmp_path / "gitconfig")
    monkeypatch.setattr(checkout.time, "sleep", lambda _seconds: None)
    for name in (*checkout.environment(), "GIT_SSL_CAINFO"):
        monkeypatch.setenv(name, "")

    def runs(commit: str, *words: str, name: str = "lib", folder: str = "src") -> Path:
        address = f"https://git.example/{name}"
        argv = ["checkout.py", "--repository", address, "--commit", commit, "--epoch", str(EPOCH), *words]
        monkeypatch.setattr("sys.argv", [*argv, str(tmp_path / folder)])
        checkout.main()
        return tmp_path / folder

    return runs


def error_of(run: Callable[..., Path], capsys: pytest.CaptureFixture[str], *words: str, **more: str) -> str:
    with pytest.raises(SystemExit) as ended:
        run(*words, **more)
    assert ended.value.code == 1
    return capsys.readouterr().err


def test_the_commit_is_checked_out_from_a_mirror_with_one_time(run: Callable[..., Path], tmp_path: Path) -> None:
    first = make_repository(tmp_path / "up/lib")
    commit(tmp_path / "up/lib", "two\n")
    git(tmp_path / "up/lib", "config", "uploadpack.allowAnySHA1InWant", "true")
    folder = run(first)
    assert (folder / "file").read_text(encoding="utf-8") == "one\n"
    assert git(folder, "rev-parse", "HEAD") == first
    assert git(folder, "remote", "get-url", "origin") == "https://git.example/lib"
    assert {int(one.lstat().st_mtime) for one in (folder, *folder.rglob("*"))} == {EPOCH}


def test_where_a_server_gives_no_commit_by_its_name_all_is_fetched(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_repository(tmp_path / "up/lib")
    commit(tmp_path / "up/lib", "two\n")
    assert (run(first) / "file").read_text(encoding="utf-8") == "one\n"
    assert "not given by its name" in capsys.readouterr().out


def test_what_is_cached_is_not_fetched_again(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_repository(tmp_path / "up/lib")
    run(made)
    (tmp_path / "up/lib").rename(tmp_path / "up/gone")
    capsys.readouterr()
    assert (run(made, "--tag", "v1", folder="again") / "file").exists()
    said = capsys.readouterr().out
    assert "fetching" not in said
    assert "warning: https://git.example/lib: where the tag v1 points now was not learned: " in said


def test_locks_that_an_ended_git_left_behind_stop_nobody(run: Callable[..., Path], tmp_path: Path) -> None:
    run(make_repository(tmp_path / "up/lib"))
    [cache] = (tmp_path / "cache").glob("*.git")
    left = [cache / name for name in ("shallow.lock", "config.lock", "refs/heads/main.lock")]
    for one in left:
        one.touch()
    second = commit(tmp_path / "up/lib", "two\n")
    assert (run(second, folder="again") / "file").read_text(encoding="utf-8") == "two\n"
    assert not any(one.exists() for one in left)


def test_a_commit_that_is_not_there_names_both_and_the_tag(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_repository(tmp_path / "up/lib")
    git(tmp_path / "up/lib", "tag", "--annotate", "--message", "v1", "v1")
    said = error_of(run, capsys, "f" * 40, "--tag", "v1")
    assert f"https://git.example/lib: has no commit {'f' * 40} on any branch or tag (its tag v1 is {made})" in said
    assert "(its tag v2 is not there, either)" in error_of(run, capsys, "e" * 40, "--tag", "v2")


def test_a_repository_that_cannot_be_read_says_where_a_mirror_goes(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    said = error_of(run, capsys, "f" * 40)
    assert "https://git.example/lib: cannot be read: " in said
    assert "name a mirror under `git` in mirrors.yaml" in said


def test_a_branch_is_no_commit(run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    said = error_of(run, capsys, "main")
    assert said == "checkout: error: https://git.example/lib: got commit 'main', expected 40 hex digits\n"


@pytest.mark.parametrize("kind", [("tag",), ("tag", "--annotate", "--message", "text")])
def test_a_tag_that_still_points_there_is_not_spoken_of(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: tuple[str, ...]
) -> None:
    made = make_repository(tmp_path / "up/lib")
    git(tmp_path / "up/lib", *kind, "v1")
    run(made, "--tag", "v1")
    said = capsys.readouterr().out
    assert "warning" not in said
    assert f"https://git.example/lib at {made}, asked for as v1" in said


def test_a_tag_that_moved_or_went_is_told_and_the_commit_counts(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_repository(tmp_path / "up/lib")
    newer = commit(tmp_path / "up/lib", "two\n")
    git(tmp_path / "up/lib", "tag", "v1")
    assert (run(made, "--tag", "v1") / "file").read_text(encoding="utf-8") == "one\n"
    assert f"the tag v1 points to {newer} now; the commit {made} counts" in capsys.readouterr().out
    run(made, "--tag", "v2", folder="again")
    assert "https://git.example/lib has no tag v2 any more; the commit" in capsys.readouterr().out


# ---- submodules


def make_nested(up: Path) -> tuple[str, str, str]:
    """Repositories with a submodule in a submodule, by a relative and by an absolute address; their commits."""
    deep = make_repository(up / "deep", "deep\n")
    make_repository(up / "middle")
    git(up / "middle", "submodule", "--quiet", "add", "../deep", "inside")
    git(up / "middle", "config", "--file", ".gitmodules", "submodule.inside.url", "../deep")
    middle = commit(up / "middle", "middle\n")
    make_repository(up / "lib")
    git(up / "lib", "submodule", "--quiet", "add", "../middle", "third_party/middle")
    git(up / "lib", "config", "--file", ".gitmodules", "submodule.third_party/middle.url", "https://git.example/middle")
    return commit(up / "lib", "top\n"), middle, deep


def test_submodules_are_at_the_commits_that_are_named(run: Callable[..., Path], tmp_path: Path) -> None:
    top, middle, deep = make_nested(tmp_path / "up")
    commit(tmp_path / "up/deep", "newer\n")
    folder = run(top, "--submodules")
    assert git(folder / "third_party/middle", "rev-parse", "HEAD") == middle
    assert git(folder / "third_party/middle/inside", "rev-parse", "HEAD") == deep
    assert (folder / "third_party/middle/inside/file").read_text(encoding="utf-8") == "deep\n"


def test_submodules_that_are_left_out_are_named(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top, _middle, _deep = make_nested(tmp_path / "up")
    folder = run(top)
    assert list((folder / "third_party/middle").iterdir()) == []
    assert "1 submodules are left out: third_party/middle" in capsys.readouterr().out


def test_a_submodule_s_commit_that_nobody_pushed(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top, middle, _deep = make_nested(tmp_path / "up")
    git(tmp_path / "up/lib", "update-index", "--cacheinfo", f"160000,{'e' * 40},third_party/middle")
    git(tmp_path / "up/lib", "commit", "--quiet", "--message", "lost")
    said = error_of(run, capsys, git(tmp_path / "up/lib", "rev-parse", "HEAD"), "--submodules")
    assert f"https://git.example/middle: has no commit {'e' * 40}" in said
    assert top != middle


def test_a_submodule_without_an_address(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_nested(tmp_path / "up")
    (tmp_path / "up/lib/.gitmodules").write_text("", encoding="utf-8")
    made = commit(tmp_path / "up/lib", "lost\n")
    said = error_of(run, capsys, made, "--submodules")
    assert "has a submodule at third_party/middle, but .gitmodules gives no address for it" in said


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("../fmt.git", "https://h.example/a/fmt.git"),
        ("../../b/fmt", "https://h.example/b/fmt"),
        ("./fmt", "https://h.example/a/lib.git/fmt"),
        ("https://other.example/fmt", "https://other.example/fmt"),
    ],
)
def test_a_relative_address_begins_at_the_superproject_s(address: str, expected: str) -> None:
    assert checkout.absolute(address, "https://h.example/a/lib.git") == expected


# ---- bad moments


def test_what_is_transient_is_tried_again_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [(128, "fatal: early EOF"), (128, "fatal: the remote end hung up"), (0, "")]
    asked = iter([subprocess.CompletedProcess([], status, "", text) for status, text in answers])
    monkeypatch.setattr(checkout, "git", lambda *_words: next(asked))
    monkeypatch.setattr(checkout.time, "sleep", lambda _seconds: None)
    assert checkout.ask("fetch").returncode == 0
    assert capsys.readouterr().out.splitlines() == [
        "checkout: attempt 1 of 3 failed: fatal: early EOF",
        "checkout: attempt 2 of 3 failed: fatal: the remote end hung up",
    ]


def test_a_definite_no_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([subprocess.CompletedProcess([], 128, "", "fatal: repository not found")])
    monkeypatch.setattr(checkout, "git", lambda *_words: next(answers))
    assert checkout.ask("fetch").returncode == 128


def test_certificates_that_were_given_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "CA", tmp_path / "ca.pem")
    assert "GIT_SSL_CAINFO" not in checkout.environment()
    (tmp_path / "ca.pem").write_text("PEM", encoding="utf-8")
    assert checkout.environment()["GIT_SSL_CAINFO"] == str(tmp_path / "ca.pem")


# ---- kept for a bundle


def test_what_is_kept_is_all_that_a_checkout_fetches_and_can_be_checked_out_again(
    run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = make_repository(tmp_path / "up/deep")
    make_repository(tmp_path / "up/lib")
    git(tmp_path / "up/lib", "submodule", "add", "--quiet", f"file://{tmp_path}/up/deep", "third/deep")
    git(tmp_path / "up/lib", "config", "--file", ".gitmodules", "submodule.third/deep.url", "../deep")
    top = commit(tmp_path / "up/lib", "two\n")
    argv = ["checkout.py", "--repository", "https://git.example/lib", "--commit", top, "--submodules"]
    monkeypatch.setattr("sys.argv", [*argv, "--keep", str(tmp_path / "kept")])
    checkout.main()
    kept = [line.split()[2:] for line in capsys.readouterr().out.splitlines() if line.startswith("checkout: kept ")]
    assert [one[:2] for one in kept] == [["https://git.example/lib", top], ["https://git.example/deep", deep]]
    places = [tmp_path / "kept" / one[2] for one in kept]
    assert [git(place, "cat-file", "-t", one[1]) for place, one in zip(places, kept, strict=True)] == ["commit"] * 2
    # From there, and from nowhere else.
    rules = "".join(
        f'[url "file://{place}"]\n\tinsteadOf = {one[0]}\n' for place, one in zip(places, kept, strict=True)
    )
    (tmp_path / "gitconfig").write_text(rules, encoding="utf-8")
    folder = run(top, "--submodules")
    assert (folder / "third/deep/file").read_text(encoding="utf-8") == "one\n"


def test_half_of_what_it_needs_is_no_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["checkout.py", "--repository", "https://git.example/lib", "--commit", 40 * "0"])
    with pytest.raises(SystemExit):
        checkout.main()
    assert "expected --epoch and a folder, or --keep" in capsys.readouterr().err
