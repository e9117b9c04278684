"""Compiled images of a real engine, published to a real registry with their foundations, signed, and checked."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compiledimages import (
    DEV,
    RUNTIME,
    TAG,
    VLLM,
    image_of,
    make_compiled_checkout,
    make_compiled_layers,
    write_compiled,
)
from tests.engine.loopback import make_keys, registry
from tests.engine.published import environment
from tests.engine.small import remove
from tests.ocibuilder import pack
from tests.saidbuilder import BUILT, clean_report

from sparkbake.buildx import BakeResult
from sparkbake.engine import local_image
from sparkbake.images import open_image
from sparkbake.looks import compiled_images
from sparkbake.materials import bill_of
from sparkbake.project import Project, write_file
from sparkbake.provenance import keep_provenance
from sparkbake.spdx import spdx_json
from sparkbake.survey import read_survey
from sparkbake.verify import report_json
from sparkbake.verifying import bill_path, report_path

pytestmark = pytest.mark.engine

NAMES = (DEV, RUNTIME, VLLM)


def load(project: Project, name: str, folder: Path) -> str:
    """Give the engine an image without programs, with all that `verify` leaves of a clean one; its digest."""
    image = image_of(project, name)
    reference, place = image.target.reference, write_compiled(folder, image, make_compiled_layers(project, name))
    index = json.loads((place / "index.json").read_text(encoding="utf-8"))
    named = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": image.target.tag}
    index["manifests"][0]["annotations"] = named
    (place / "index.json").write_text(json.dumps(index), encoding="utf-8")
    archive = pack(place, place.with_suffix(".tar"))
    subprocess.run(["docker", "image", "load", "--input", str(archive)], check=True, capture_output=True)
    found = local_image(reference)
    assert found is not None
    assert found.digest == index["manifests"][0]["digest"]
    survey = read_survey(open_image(place, platform="linux/arm64"), name, print, compute_capability="12.1")
    write_file(bill_path(project, image.target), spdx_json(bill_of(project, survey, image)))
    write_file(report_path(project, image.target), report_json(clean_report(project, image, found.digest)))
    return found.digest


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A checkout whose engine has a compiled row with its foundations."""
    made = make_compiled_checkout(tmp_path / "checkout")
    images = compiled_images(made, made.select([TAG]))
    try:
        digests = {image_of(made, name).target.name: load(made, name, tmp_path / name) for name in NAMES}
        keep_provenance(
            made, images, BakeResult(digests=digests, executed=(), provenance=dict.fromkeys(digests, BUILT))
        )
        yield made
    finally:
        for one in images:
            remove(one.target.reference)


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
