"""Claims about our commands as process 1 of a namespace, as containers have it: kernels treat that otherwise."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.builders import ROOT

pytestmark = pytest.mark.engine

# A process 1 without a handler for a signal never gets it.
SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from spark import child
assert os.getpid() == 1
child.replace_by(sys.argv[2:], dict(os.environ))
"""


def start(*words: str) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-I", "-B", "-c", SCRIPT, str(ROOT / "recipes/runtime"), *words]
    return subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", *argv], stdout=subprocess.PIPE, text=True)


def first_of(process: "subprocess.Popen[str]") -> int:
    """The one child of unshare: process 1 of the namespace, by its number outside."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("INT", 130), ("HUP", 129)])
def test_a_child_of_process_1_gets_its_signals(name: str, code: int) -> None:
    with start("sh", "-c", "echo ready; exec sleep 60") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(first_of(process), getattr(signal, f"SIG{name}"))
        assert process.wait(60) == code


def test_process_1_ends_as_its_child_does() -> None:
    with start("sh", "-c", "exit 5") as process:
        assert process.wait(60) == 5
