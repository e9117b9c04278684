"""The one door to other programs; only the probe for foreign architectures in `preflight` starts one itself."""

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sparkbake.errors import ProcessError

_KEPT_OUTPUT_CHARS = 4000


def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float | None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Run a program to its end and return what it wrote to standard output.

    Args:
        argv: program and arguments; never a shell line.
        timeout_s: seconds until it is ended; None means it may take as long as it takes.
        env: variables added to this process's own.
        stdin: text for its standard input; without it the input is empty.

    Raises:
        ProcessError: the program cannot be started, ended with another status than 0, or ran out of time.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **env} if env else None,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except OSError as err:
        raise _not_started(words[0], err) from err
    except subprocess.TimeoutExpired as err:
        raise ProcessError(f"{shlex.join(words)}: no end after {timeout_s} s") from err
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip())[-_KEPT_OUTPUT_CHARS:]
        raise ProcessError(
            f"{shlex.join(words)}: exit status {done.returncode}\n{output}", returncode=done.returncode, output=output
        )
    return done.stdout


def stream(
    argv: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    inherit: bool = False,
) -> int:
    """Run a program and hand over each line it prints, both streams together, as it comes.

    A KeyboardInterrupt is passed on to the program, which gets 20 seconds to clean up before it is ended.

    Args:
        inherit: let it write to this process's own terminal instead; then no line is handed over.

    Returns:
        Its exit status.

    Raises:
        ProcessError: the program cannot be started.
    """
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env={**os.environ, **env} if env else None,
            stdin=subprocess.DEVNULL,
            stdout=None if inherit else subprocess.PIPE,
            stderr=None if inherit else subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as err:
        raise _not_started(words[0], err) from err
    try:
        with process:
            for line in process.stdout or ():
                on_line(line.rstrip("\n"))
            return process.wait()
    except KeyboardInterrupt:
        _end(process)
        raise


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _not_started(program: str, err: OSError) -> ProcessError:
    if isinstance(err, FileNotFoundError) and err.filename == program:
        return ProcessError(f"{program}: not found on PATH; install it, or run ./quickstart, which does")
    return ProcessError(f"{program}: cannot be started: {err.strerror}: {err.filename}")
