"""Upgrading and going back by digest, with the commands of the guide, a real registry, and small images of ours."""

import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.docscommands import BEFORE, IMAGE, RUN_WITH_REGISTRY
from tests.engine.loopback import Server, free_port, registry
from tests.engine.small import exists, remove
from tests.ocibuilder import digest_of

pytestmark = [pytest.mark.engine, pytest.mark.network]

REPOSITORY = IMAGE.partition(":")[0]
PULL, NOTE, NOTE_BEFORE, STOP, BACK = RUN_WITH_REGISTRY


@dataclass(frozen=True, kw_only=True)
class Guide:
    """Where the commands of the guide are run.

    Attributes:
        folder: with the files that they write.
        host: of the registry that has the images.
        container: in the place of "vllm".
    """

    folder: Path
    host: str
    container: str

    def name(self, image: str) -> str:
        return f"{self.host}/{image}"

    def sh(self, command: str) -> "subprocess.CompletedProcess[str]":
        words = command.replace(REPOSITORY, self.name(REPOSITORY))
        words = re.sub(r"(?<=--force )vllm$", self.container, words)
        return subprocess.run(
            ["/bin/sh", "-c", words], cwd=self.folder, capture_output=True, text=True, check=False, timeout=300
        )

    def run(self, command: str) -> str:
        """Run a command of the guide, which does and prints what it says."""
        done = self.sh(command)
        output = (done.stdout + done.stderr).replace(self.container, "vllm")
        assert done.returncode == 0, output
        assert re.search(RUN_WITH_REGISTRY[command], output, re.MULTILINE), output
        return done.stdout


def publish(guide: Guide, image: str, base: str, *, which: str) -> None:
    """Put an image into the registry, and nothing of it into the engine; `info` of it says `which`."""
    recipe = f"FROM {base}\nENV MAX_JOBS={which}\n"
    docker("build", "--quiet", "--tag", guide.name(image), "-", text=recipe)
    docker("push", "--quiet", guide.name(image))
    remove(guide.name(image))


def docker(*words: str, text: str = "") -> str:
    done = subprocess.run(["docker", *words], input=text, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def guide(tmp_path: Path) -> Iterator[Guide]:
    name = f"sparkbake-{uuid.uuid4().hex[:8]}"
    made = Guide(folder=tmp_path / "commands", host=f"127.0.0.1:{free_port()}", container=name)
    made.folder.mkdir()
    yield made
    subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
    listed = docker("image", "ls", "--quiet", made.name(REPOSITORY)).split()
    if listed:
        docker("image", "rm", "--force", *listed)


def registry_of(guide: Guide, folder: Path) -> AbstractContextManager[Server]:
    return registry(folder / "registry", port=int(guide.host.rpartition(":")[2]))


def test_the_guide_upgrades_and_goes_back_by_digest(guide: Guide, ray_image: str, tmp_path: Path) -> None:
    with registry_of(guide, tmp_path) as server:
        publish(guide, BEFORE, ray_image, which="before")
        publish(guide, IMAGE, ray_image, which="after")
        docker("pull", "--quiet", guide.name(BEFORE))
        docker("run", "--detach", "--name", guide.container, guide.name(BEFORE), "sleep", "600")
        before = guide.run(NOTE_BEFORE).strip()
        guide.run(PULL)
        guide.run(STOP)
        after = guide.run(NOTE).strip()
        assert before != after
        for digest, image in ((before, BEFORE), (after, IMAGE)):
            assert digest.startswith(f"{guide.name(REPOSITORY)}@sha256:")
            path, tag = image.split(":")
            status, there = server.ask("GET", f"/v2/{path}/manifests/{tag}")
            assert (status, digest_of(there)) == (200, digest.partition("@")[2])
    # The registry is gone; the engine still has what was there before.
    guide.run(BACK)


def test_a_digest_brings_back_what_its_tag_no_longer_names(guide: Guide, ray_image: str, tmp_path: Path) -> None:
    with registry_of(guide, tmp_path):
        publish(guide, BEFORE, ray_image, which="before")
        docker("pull", "--quiet", guide.name(BEFORE))
        guide.run(NOTE_BEFORE)
        remove(guide.name(BEFORE))
        publish(guide, BEFORE, ray_image, which="moved")
        assert "moved" in docker("run", "--rm", guide.name(BEFORE), "printenv", "MAX_JOBS")
        guide.run(BACK)


def test_an_image_that_was_removed_needs_its_registry(guide: Guide, ray_image: str, tmp_path: Path) -> None:
    """What the guide warns of: without both there is no way back."""
    with registry_of(guide, tmp_path):
        publish(guide, BEFORE, ray_image, which="before")
        docker("pull", "--quiet", guide.name(BEFORE))
        guide.run(NOTE_BEFORE)
        remove(guide.name(BEFORE))
        assert not exists(guide.name(BEFORE))
    assert guide.sh(BACK).returncode != 0
