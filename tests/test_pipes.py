"""Claims about programs that read and write bytes."""

import sys
from pathlib import Path

import pytest

from sparkbake.errors import ProcessError
from sparkbake.pipes import pipe

pytestmark = pytest.mark.usefixtures("real_processes")


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_bytes_go_in_and_come_out_as_they_are(tmp_path: Path) -> None:
    script = "import os, sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1] + os.environ['WORD'].encode())"
    with (tmp_path / "out").open("w+b") as file:
        pipe(python(script), stdin=b"\x00\xff", stdout=file, timeout_s=20, env={"WORD": "x"})
    assert (tmp_path / "out").read_bytes() == b"\xff\x00x"


def test_a_program_that_fails_is_told_with_what_it_said_and_its_bytes_stay(tmp_path: Path) -> None:
    script = "import sys; print('part', flush=True); print('why', file=sys.stderr); sys.exit(3)"
    with (tmp_path / "out").open("w+b") as file, pytest.raises(ProcessError, match=r"exit status 3\nwhy$") as caught:
        pipe(python(script), stdin=b"", stdout=file, timeout_s=20, env={})
    assert (caught.value.returncode, caught.value.output) == (3, "why")
    assert (tmp_path / "out").read_bytes() == b"part\n"


def test_a_program_that_is_missing_or_takes_too_long_is_told(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+b") as file:
        with pytest.raises(ProcessError, match=r"^no-such-program: cannot be started: .*; is it installed\?$"):
            pipe(["no-such-program"], stdin=b"", stdout=file, timeout_s=20, env={})
        with pytest.raises(ProcessError, match=r"no end after 0\.1 s$"):
            pipe(python("import time; time.sleep(9)"), stdin=b"", stdout=file, timeout_s=0.1, env={})
