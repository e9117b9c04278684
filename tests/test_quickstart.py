"""The script a newcomer starts, on machines that lack something."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What the script itself calls, without any Python or git.
TOOLS = ("sh", "dirname", "id", "cut", "sha256sum", "cat", "mkdir", "uname", "sed", "head", "mktemp", "rm", "readlink")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder of programs as a bare machine has them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, f"{name} is missing on this machine"
        (folder / name).symlink_to(found)
    return folder


def quickstart(*words: str, path: Path | None = None, home: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"HOME": str(home), "PATH": str(path) if path else os.environ["PATH"]}
    return subprocess.run(
        [ROOT / "quickstart", *words], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def program(folder: Path, name: str, text: str) -> None:
    # First away with what is there: it may be a link to this machine's own program.
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_help_says_what_it_does(tmp_path: Path) -> None:
    done = quickstart("--help", home=tmp_path)
    assert done.returncode == 0
    assert "./quickstart build 0.32.0-t5" in done.stdout
    assert "is never touched" in done.stdout


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    done = quickstart("--chek", "build", home=tmp_path)
    assert done.returncode == 1
    assert "unknown option '--chek'" in done.stderr


def test_no_session_is_refused(tmp_path: Path) -> None:
    done = quickstart("--check", home=tmp_path)
    assert done.returncode == 1
    assert "no session named" in done.stderr


def test_without_python_it_says_which_is_needed(bare: Path, tmp_path: Path) -> None:
    done = quickstart("tests", path=bare, home=tmp_path)
    assert done.returncode == 1
    assert "found no Python 3.11 or newer" in done.stderr


def test_an_old_python_is_not_enough(bare: Path, tmp_path: Path) -> None:
    program(bare, "python3", "exit 1")
    done = quickstart("tests", path=bare, home=tmp_path)
    assert done.returncode == 1
    assert "found no Python 3.11 or newer" in done.stderr


def test_without_git_it_says_so(bare: Path, tmp_path: Path) -> None:
    program(bare, "python3", "exit 0")
    done = quickstart("tests", path=bare, home=tmp_path)
    assert done.returncode == 1
    assert "found no git" in done.stderr


def test_check_changes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = quickstart("--check", "tests", home=home)
    assert done.returncode == 0
    assert "would make" in done.stderr
    assert "would run: nox -s tests" in done.stderr
    assert list(home.iterdir()) == []


def test_check_names_a_missing_engine_and_installs_none(bare: Path, tmp_path: Path) -> None:
    """A machine whose `docker` answers nothing, as one without an engine."""
    program(bare, "python3", "exit 0")
    program(bare, "git", "exit 0")
    program(bare, "docker", "exit 1")
    program(bare, "apt-get", f"touch {tmp_path}/apt-was-called")
    done = quickstart("--check", "build", "0.32.0-t5", path=bare, home=tmp_path)
    assert "no engine answers: would install one" in done.stderr
    assert not (tmp_path / "apt-was-called").exists()


def test_where_it_may_not_install_it_says_what_is_missing(bare: Path, tmp_path: Path) -> None:
    program(bare, "id", "echo 1000")
    program(bare, "docker", "exit 1")
    done = engine(bare, tmp_path)
    assert done.returncode == 1
    assert "no Docker Engine answers, and this is not root" in done.stderr
    assert "sudo" in done.stderr


@pytest.fixture
def spark(bare: Path, tmp_path: Path) -> Path:
    """A folder of programs as an arm64 machine with an engine has them; apt-get only notes that it was called."""
    program(bare, "docker", 'case "$1" in version) echo 28.5.2 ;; buildx) echo "buildx v0.29.1 x" ;; esac')
    program(bare, "uname", "echo aarch64")
    program(bare, "apt-get", f'echo "$*" >>{tmp_path}/apt-calls')
    return bare


def engine(path: Path, home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [ROOT / "tools" / "engine.sh", *words],
        env={"PATH": str(path), "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_an_engine_that_answers_is_left_alone(spark: Path, tmp_path: Path) -> None:
    """By another user than root, so that whatever it would install ends it."""
    program(spark, "id", "echo 1000")
    program(spark, "mmdebstrap", "exit 0")
    program(spark, "arch-test", "exit 0")
    done = engine(spark, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "engine 28.5.2 answers; it is left as it is" in done.stderr
    assert "this machine is arm64; no emulation needed" in done.stderr
    assert not (tmp_path / "apt-calls").exists()


def test_root_gets_what_bootstraps_a_base(spark: Path, tmp_path: Path) -> None:
    program(spark, "id", "echo 0")
    done = engine(spark, tmp_path)
    assert done.returncode == 0, done.stderr
    update, install = (tmp_path / "apt-calls").read_text().splitlines()
    assert update == "update -qq"
    assert "--no-install-recommends mmdebstrap arch-test" in install


def test_another_user_is_told_what_bootstraps_a_base(spark: Path, tmp_path: Path) -> None:
    program(spark, "id", "echo 1000")
    done = engine(spark, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "needed only where no registry answers: sudo apt-get install mmdebstrap arch-test" in done.stderr
    assert not (tmp_path / "apt-calls").exists()


def test_check_of_the_engine_installs_nothing(spark: Path, tmp_path: Path) -> None:
    program(spark, "id", "echo 0")
    done = engine(spark, tmp_path, "--check")
    assert done.returncode == 0, done.stderr
    assert "would install: mmdebstrap arch-test" in done.stderr
    assert not (tmp_path / "apt-calls").exists()


def test_an_engine_that_is_too_old_is_refused(bare: Path, tmp_path: Path) -> None:
    program(bare, "docker", "echo 20.10.24")
    done = engine(bare, tmp_path)
    assert done.returncode == 1
    assert "20.10.24 is too old; expected 27 or newer" in done.stderr


def test_cosign_that_is_new_enough_is_left_alone(spark: Path, tmp_path: Path) -> None:
    program(spark, "cosign", '[ "$1 $2" = "signing-config create" ]')
    done = engine(spark, tmp_path, "--cosign")
    assert (done.returncode, done.stderr) == (0, "engine: cosign is there\n")
    assert not (tmp_path / "apt-calls").exists()


def test_who_may_not_install_cosign_is_told_how(spark: Path, tmp_path: Path) -> None:
    program(spark, "id", "echo 1000")
    done = engine(spark, tmp_path, "--cosign")
    assert done.returncode == 1
    assert "cosign 3 or newer is missing, and this is not root; run 'sudo " in done.stderr
    assert "/tools/engine.sh --cosign'" in done.stderr
    assert not (tmp_path / "apt-calls").exists()
