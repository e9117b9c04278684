"""What a container starts with, laid out in a folder of a test; programs that stand in for those of an image; ports."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import socket

from tests.imagebuilder import target_of

from sparkbake.project import Project
from sparkbake.runtime import FOLDER

START = "usr/local/bin/spark"
LIBRARY = "usr/lib/sparkbake"


def lay_out(project: Project, root: Path) -> Path:
    """Write the files of an image into a folder, and return its entrypoint, which knows that it is there."""
    for one in project.runtime(target_of(project)):
        path = root / one.path.relative_to(FOLDER)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.content, encoding="utf-8")
    start = root / START
    text = start.read_text(encoding="utf-8")
    for there, here in (("/usr/bin/python3", sys.executable), (f"/{LIBRARY}", str(root / LIBRARY))):
        if text.count(there) != 1:
            raise ValueError(f"{there} stands {text.count(there)} times in start.sh, expected once")
        text = text.replace(there, here)
    start.write_text(text, encoding="utf-8")
    start.chmod(0o755)
    return start


def call(argv: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command, with these variables and PATH alone."""
    done = subprocess.run(
        [str(one) for one in argv],
        env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "USER": "root", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


def stand_in(folder: Path, name: str, script: str) -> Path:
    """A program made of a few lines for sh."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
    path.chmod(0o755)
    return path


@contextmanager
def listening() -> Iterator[int]:
    """A port of this machine that something listens on, and says nothing."""
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one.getsockname()[1]


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
