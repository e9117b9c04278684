"""Every Dockerfile of the rows, compiled or from wheels, as BuildKit reads it; nothing is built or fetched."""

import re
import subprocess
from pathlib import Path

import pytest
from tests.builders import ROOT

pytestmark = pytest.mark.engine

GOLDEN = sorted((ROOT / "tests").glob("golden*/*/Dockerfile"))
TIMEOUT_S = 60


def check(folder: Path, nothing: Path) -> "subprocess.CompletedProcess[str]":
    """Have a Dockerfile checked; an empty folder takes the place of each stage that a named context is for."""
    text = (folder / "Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM (?:--platform=\S+ )?(?:scratch|\S+@sha256:\S+) AS (\S+)$", text, re.MULTILINE)
    assert stages
    argv = ["docker", "buildx", "build", "--check", "--progress", "plain"]
    argv += [word for stage in stages for word in ("--build-context", f"{stage}={nothing}")]
    return subprocess.run([*argv, str(folder)], capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


def test_those_of_both_strategies_are_checked() -> None:
    assert {one.parent.parent.name for one in GOLDEN} == {"golden", "golden-source"}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_buildkit_finds_nothing_to_say(path: Path, tmp_path: Path) -> None:
    done = check(path.parent, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Check complete, no warnings found." in done.stdout + done.stderr


def test_it_would_say_something(tmp_path: Path) -> None:
    text = GOLDEN[-1].read_text(encoding="utf-8")
    (tmp_path / "Dockerfile").write_text(text.replace(" AS image\n", " as image\n"), encoding="utf-8")
    done = check(tmp_path, tmp_path)
    assert done.returncode != 0
    assert "FromAsCasing" in done.stdout + done.stderr
