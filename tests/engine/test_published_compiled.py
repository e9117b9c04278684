"""Compiled images of a real engine, published to a real registry with their foundations, signed, and checked."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compiledimages import DEV, RUNTIME, TAG, VLLM, image_of
from tests.engine.compiledrow import made_row
from tests.engine.loopback import make_keys, registry
from tests.engine.published import environment

from sparkbake.project import Project

pytestmark = pytest.mark.engine


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A checkout whose engine has a compiled row with its foundations."""
    with made_row(tmp_path) as made:
        yield made


def run(project: Project, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sparkbake.cli", "--root", str(project.root), *words],
        env={**environment(), "COSIGN_PASSWORD": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_compiled_row_is_published_with_its_foundations(project: Project, tmp_path: Path) -> None:
    key, public = make_keys(tmp_path)
    foundation = image_of(project, DEV).target.tag
    with registry(tmp_path / "registry") as server:
        words = ["publish", TAG, "--sign-key", key, "--registry", f"{server.host}/sparks"]
        done = run(project, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        for name, tag in ((DEV, foundation), (RUNTIME, foundation), (VLLM, TAG), (VLLM, "latest")):
            done = run(project, "check", f"{server.host}/sparks/{name}:{tag}", "--key", public)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "not checked: record" in done.stderr
        done = run(project, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("nothing to do") == 5
