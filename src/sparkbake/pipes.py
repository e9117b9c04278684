"""Run a program that reads bytes and writes bytes, of which there may be many.

Beside `process`, which has text alone: that module is a file of every image, and its bytes are part of their digests.
"""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from sparkbake.errors import ProcessError

_KEPT_OUTPUT_CHARS = 4000


def pipe(
    argv: Sequence[str | Path], *, stdin: bytes, stdout: IO[bytes], timeout_s: float, env: Mapping[str, str]
) -> None:
    """Run a program to its end.

    Args:
        argv: program and arguments; never a shell line.
        stdout: a file with a descriptor of its own, which gets what it writes.
        timeout_s: seconds until it is ended.
        env: variables added to this process's own.

    Raises:
        ProcessError: it cannot be started, ended with another status than 0, or ran out of time.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **env},
            input=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            check=False,
        )
    except OSError as err:
        raise ProcessError(f"{words[0]}: cannot be started: {err}; is it installed?") from err
    except subprocess.TimeoutExpired as err:
        raise ProcessError(f"{shlex.join(words)}: no end after {timeout_s} s") from err
    if done.returncode:
        output = done.stderr.decode(errors="replace").strip()[-_KEPT_OUTPUT_CHARS:]
        raise ProcessError(
            f"{shlex.join(words)}: exit status {done.returncode}\n{output}", returncode=done.returncode, output=output
        )
