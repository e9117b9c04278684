"""Claims about the one door to other programs, and about the guard that keeps tests from going through it."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from sparkbake import process
from sparkbake.errors import ProcessError


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


# ---- run


@pytest.mark.usefixtures("real_processes")
def test_what_a_program_writes_to_standard_output_is_returned() -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr)"
    assert process.run(python(script), timeout_s=20) == "out\n"


@pytest.mark.usefixtures("real_processes")
def test_a_program_that_fails_is_told_with_its_command_its_status_and_what_it_said() -> None:
    argv = python("import sys; print('out'); print('first\\nlast', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ProcessError, match=r"^\S+python\S* -c 'import sys; .*': exit status 3\nfirst\nlast$") as caught:
        process.run(argv, timeout_s=20)
    assert (caught.value.returncode, caught.value.output) == (3, "first\nlast")


@pytest.mark.usefixtures("real_processes")
def test_a_program_that_fails_with_words_on_standard_output_alone_is_told_with_them() -> None:
    with pytest.raises(ProcessError, match=r"exit status 1\nwhy$"):
        process.run(python("print('why'); raise SystemExit(1)"), timeout_s=20)


@pytest.mark.usefixtures("real_processes")
def test_of_a_long_output_the_end_is_kept() -> None:
    with pytest.raises(ProcessError) as caught:
        process.run(python("print('x' * 9999 + 'end'); raise SystemExit(1)"), timeout_s=20)
    assert len(caught.value.output) == 4000
    assert caught.value.output.endswith("xend")


@pytest.mark.usefixtures("real_processes")
def test_a_missing_program_is_told_with_what_installs_it(tmp_path: Path) -> None:
    for start in (process.run, process.stream):
        with pytest.raises(
            ProcessError, match=r"^no-such-program: not found on PATH; install it, or run \./quickstart, which does$"
        ):
            start_with(start, ["no-such-program", "--version"], tmp_path)


@pytest.mark.usefixtures("real_processes")
def test_a_program_that_may_not_be_run_is_told_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    for start in (process.run, process.stream):
        with pytest.raises(ProcessError, match=rf"^{path}: cannot be started: Permission denied: {path}$"):
            start_with(start, [str(path)], tmp_path)


@pytest.mark.usefixtures("real_processes")
def test_a_missing_folder_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for start in (process.run, process.stream):
        with pytest.raises(ProcessError, match=rf"cannot be started: No such file or directory: {nowhere}$"):
            start_with(start, python("pass"), nowhere)


def start_with(start: object, argv: list[str], cwd: Path) -> None:
    if start is process.run:
        process.run(argv, timeout_s=20, cwd=cwd)
    else:
        process.stream(argv, print, cwd=cwd)


@pytest.mark.usefixtures("real_processes")
def test_a_program_that_does_not_end_is_ended_and_told() -> None:
    with pytest.raises(ProcessError, match=r"time\.sleep\(60\)': no end after 0\.2 s$"):
        process.run(python("import time; time.sleep(60)"), timeout_s=0.2)


@pytest.mark.usefixtures("real_processes")
def test_a_program_gets_its_input_its_folder_and_its_variables(tmp_path: Path) -> None:
    script = "import os, sys; print(sys.stdin.read(), os.getcwd(), os.environ['NOTE'], 'PATH' in os.environ)"
    found = process.run(python(script), timeout_s=20, cwd=tmp_path, env={"NOTE": "hello"}, stdin="words")
    assert found == f"words {tmp_path} hello True\n"


@pytest.mark.usefixtures("real_processes")
def test_without_input_it_is_empty() -> None:
    assert process.run(python("import sys; print(repr(sys.stdin.read()))"), timeout_s=20) == "''\n"


@pytest.mark.usefixtures("real_processes")
def test_arguments_reach_the_program_as_they_are() -> None:
    words = ["a b", "$HOME", "*", "; true", "'"]
    script = "import sys; print(sys.argv[1:])"
    assert process.run([*python(script), *words], timeout_s=20) == f"{words}\n"


@pytest.mark.usefixtures("real_processes")
def test_bytes_that_are_no_text_are_replaced() -> None:
    found = process.run(python("import sys; sys.stdout.buffer.write(bytes([255, 65]))"), timeout_s=20)
    assert found == "\N{REPLACEMENT CHARACTER}A"


# ---- stream


@pytest.mark.usefixtures("real_processes")
def test_lines_of_both_streams_are_handed_over_and_the_status_is_returned() -> None:
    lines: list[str] = []
    script = (
        "import sys\nprint('one', flush=True)\nprint('two', file=sys.stderr, flush=True)\n"
        "print('three', end='')\nsys.exit(5)"
    )
    assert process.stream(python(script), lines.append) == 5
    assert lines == ["one", "two", "three"]


@pytest.mark.usefixtures("real_processes")
def test_a_line_is_handed_over_before_the_program_ends(tmp_path: Path) -> None:
    """The program waits for a file that only its reader makes."""
    seen = tmp_path / "seen"
    script = (
        "import pathlib, time\nprint('first', flush=True)\n"
        f"while not pathlib.Path({str(seen)!r}).exists():\n    time.sleep(0.01)\n"
    )
    assert process.stream(python(script), lambda _line: seen.touch()) == 0


@pytest.mark.usefixtures("real_processes")
def test_an_inherited_terminal_hands_no_line_over(capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    assert process.stream(python("print('shown')"), lines.append, inherit=True) == 0
    assert (lines, capfd.readouterr().out) == ([], "shown\n")


@pytest.mark.usefixtures("real_processes")
def test_an_interrupt_lets_the_program_clean_up_and_is_passed_on(tmp_path: Path) -> None:
    cleaned = tmp_path / "cleaned"
    script = (
        "import os, pathlib, signal, sys, time\n"
        "def clean(*_):\n"
        f"    pathlib.Path({str(cleaned)!r}).touch()\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, clean)\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
    )
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        process.stream(python(script), interrupt)
    assert cleaned.exists()
    assert time.monotonic() - began < 15
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], signal.SIG_DFL)


# ---- the guard of the default run


def test_a_test_that_would_start_a_process_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match="this test would start a process; fake process"):
        process.run(["true"], timeout_s=20)
    with pytest.raises(pytest.fail.Exception, match="this test would start a process; fake process"):
        process.stream(["true"], print)


def test_a_test_that_would_open_a_socket_fails() -> None:
    with (
        socket.socket() as one,
        pytest.raises(pytest.fail.Exception, match=r"this test would open a socket; .* mark it `engine` or `network`"),
    ):
        one.connect(("127.0.0.1", 9))
    with pytest.raises(pytest.fail.Exception, match="this test would look up a host"):
        socket.create_connection(("registry.example", 443))
