"""Commands of the guides, run as they stand there, but with a small image for the real one and without a GPU."""

import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docscommands import IMAGE, RUN

pytestmark = [pytest.mark.engine, pytest.mark.network]


@pytest.fixture(scope="module")
def volume() -> Iterator[str]:
    name = f"sparkbake-{uuid.uuid4().hex[:8]}"
    yield name
    subprocess.run(["docker", "volume", "rm", name], capture_output=True, check=False)


@pytest.mark.parametrize("command", RUN)
def test_a_command_of_the_guides_does_what_they_say(
    command: str, ray_image: str, volume: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ~ of the guides, so that nothing is made in the home of who runs this.
    monkeypatch.setenv("HOME", str(tmp_path))
    words = command.replace(IMAGE, ray_image).replace("--gpus all ", "").replace("spark-cache", volume)
    words = words.replace("docker run --rm", "docker run").replace("docker run", "docker run --rm")
    done = subprocess.run(
        ["/bin/sh", "-c", words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    status, printed = RUN[command]
    output = done.stdout + done.stderr + "".join(one.read_text() for one in tmp_path.glob("*.json"))
    assert done.returncode == status, output
    assert re.search(printed, output, re.MULTILINE), output
