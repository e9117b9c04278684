"""Claims about the first process of a container, with real processes: what it passes on, collects, and ends with."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.builders import ROOT

RUNTIME = ROOT / "recipes" / "runtime"
# What `replace_by` does as process 1, in a process that any user may start; like process 1 it gets all orphans.
SCRIPT = """
import ctypes, os, sys
sys.path.insert(0, sys.argv[1])
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
from spark import child
exec(os.environ.get("BEFORE", ""))
sys.exit(child.run(sys.argv[2:], {"PATH": "/usr/bin:/bin", "X": "y z"}))
"""


@contextmanager
def first_process(*words: str, before: str = "") -> Iterator["subprocess.Popen[str]"]:
    """A process that runs a command as its child; `before` is run just before that, in Python."""
    with subprocess.Popen(
        [sys.executable, "-I", "-B", "-c", SCRIPT, str(RUNTIME), *words],
        env={"PATH": "/usr/bin:/bin", "BEFORE": before},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(*words: str, before: str = "") -> tuple[int, str, str]:
    with first_process(*words, before=before) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def shell(script: str) -> Sequence[str]:
    return ("sh", "-c", script)


# ---- how it ends


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_status_is_passed_on(code: int) -> None:
    assert ended(*shell(f"exit {code}")) == (code, "", "")


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
def test_a_child_that_a_signal_ends_is_told_as_shells_do(name: str, code: int) -> None:
    assert ended(*shell(f"kill -{name} $$")) == (code, "", "")


def test_a_command_that_is_not_there_ends_it_with_127() -> None:
    assert ended("no-such-program", "x") == (127, "", "spark: no-such-program: not found on PATH of this image\n")


def test_a_command_that_cannot_be_started_ends_it_with_126(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    assert ended(str(path)) == (126, "", f"spark: {path}: cannot be started: Permission denied\n")


def test_words_and_variables_arrive_as_they_are() -> None:
    words = ["a b", "", "'q\"", "$HOME", "*", "ü\n"]
    script = 'printf "<%s>" "$X" "$@"'
    assert ended("sh", "-c", script, "sh", *words) == (0, "<y z>" + "".join(f"<{one}>" for one in words), "")


# ---- signals


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_a_signal_is_passed_on_and_the_child_decides(name: str) -> None:
    with first_process(
        *shell(f"trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 1 & wait; done")
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
        one.send_signal(getattr(signal, f"SIG{name}"))
        assert (one.stdout.readline(), one.wait(60)) == (f"got {name}\n", 7)


def test_a_child_without_a_handler_is_ended_by_it() -> None:
    with first_process(*shell("echo ready; exec sleep 60")) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
        one.terminate()
        assert one.wait(60) == 143


@contextmanager
def at_a_terminal(*words: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The same with a terminal of its own as standard input, and the other end of that."""
    master, slave = os.openpty()
    script = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + SCRIPT
    with subprocess.Popen(
        [sys.executable, "-I", "-B", "-c", script, str(RUNTIME), *words],
        env={},
        stdin=slave,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process, master
        finally:
            process.kill()
            os.close(master)
            os.close(slave)


@pytest.mark.parametrize(("name", "key"), [("INT", b"\x03"), ("QUIT", b"\x1c")])
def test_with_a_terminal_a_signal_arrives_once_whoever_sends_it(name: str, key: bytes) -> None:
    """From another process (`docker kill`), and from the terminal, which sends it to the child, too."""
    script = f"trap 'echo got' {name}; trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done"
    with at_a_terminal(*shell(script)) as (one, terminal):
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
        for send in (lambda: one.send_signal(getattr(signal, f"SIG{name}")), lambda: os.write(terminal, key)):
            send()
            assert one.stdout.readline() == "got\n"
        time.sleep(0.2)  # in which a second one would come
        one.terminate()
        assert (one.stdout.read(), one.wait(60)) == ("", 7)


def test_a_signal_that_comes_before_the_child_has_started_is_not_lost() -> None:
    """As soon as there is a child, before it is another program; and before there is one, while signals are awaited."""
    at_once = (
        "fork = os.fork\ndef forked():\n child = fork()\n os.kill(os.getpid(), 15) if child else 0\n return child\n"
    )
    assert ended("sleep", "60", before=f"{at_once}os.fork = forked")[0] == 143
    earlier = "fork = os.fork\ndef forked():\n os.kill(os.getpid(), 15)\n return fork()\n"
    assert ended("sleep", "60", before=f"{earlier}os.fork = forked")[0] == 143


def test_the_child_has_no_signal_blocked_or_ignored() -> None:
    code, out, _err = ended("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    assert (code, out) == (0, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n")


def test_a_command_that_takes_the_place_of_ours_ignores_no_signal_either() -> None:
    script = SCRIPT.replace("sys.exit(child.run(", "sys.exit(child.replace_by(")
    argv = [sys.executable, "-I", "-B", "-c", script, str(RUNTIME), "grep", "SigIgn", "/proc/self/status"]
    done = subprocess.run(argv, env={}, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "SigIgn:\t0000000000000000\n"


# ---- orphans


def test_orphans_are_collected_while_the_child_runs() -> None:
    """The shell starts others, ends them of its own, and looks for zombies among the children of its parent."""
    script = (
        "for n in 1 2 3; do sh -c 'sleep 0.05 & exec true'; done; "
        "for n in $(seq 60); do sleep 0.05; set -- $(cat /proc/$PPID/task/$PPID/children); [ $# = 1 ] && break; done; "
        'echo "left: $#"'
    )
    assert ended(*shell(script)) == (0, "left: 1\n", "")


def test_orphans_that_end_do_not_end_it() -> None:
    assert ended(*shell("sh -c 'exit 9 & exec true'; sleep 0.1; exit 4"))[0] == 4
