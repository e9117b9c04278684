"""A real build, its real provenance and its real bill of materials, published and checked."""

import json
from pathlib import Path

import pytest
from tests.engine.loopback import make_keys, registry
from tests.engine.small import Small, make_small, remove
from tests.saidbuilder import clean_report
from tests.test_slsa import SLSA

from sparkbake.engine import local_image
from sparkbake.looks import target_of
from sparkbake.project import open_project, write_file
from sparkbake.provenance import provenance_path
from sparkbake.verify import report_json
from sparkbake.verifying import bill_path, report_path

pytestmark = [pytest.mark.engine, pytest.mark.network]

TAG = "1.17.0-t5"


def make_report(small: Small) -> None:
    """What `verify` would leave, were these images clean: they have no torch and no vLLM."""
    project = open_project(small.root)
    image = local_image(small.reference(TAG))
    assert image is not None
    (row,) = project.select([TAG])
    target = target_of(project, row, image.labels)
    write_file(report_path(project, target), report_json(clean_report(project, target, image.digest)))
    done = small.run("sbom", TAG, "--format", "spdx", "--output", str(bill_path(project, target)))
    assert done.returncode == 0, done.stderr
    provenance = json.loads(provenance_path(project, target.name).read_text(encoding="utf-8"))
    SLSA.validate(provenance["predicate"])
    assert provenance["digest"] == image.digest
    assert "geheim" not in json.dumps(provenance)


def test_a_build_is_published_with_its_own_provenance(tmp_path: Path) -> None:
    small = make_small(tmp_path / "checkout")
    try:
        done = small.run("build", TAG, "--base", "debian-13", "--no-verify", NO_PROXY="geheim.example,*")
        assert done.returncode == 0, done.stderr
        make_report(small)
        key, public = make_keys(tmp_path)
        with registry(tmp_path / "registry") as server:
            place = ["--registry", f"{server.host}/sparks"]
            done = small.run("publish", TAG, "--sign-key", key, *place, COSIGN_PASSWORD="")
            assert done.returncode == 0, done.stdout + done.stderr
            reference = f"{server.host}/sparks/small:{TAG}"
            done = small.run("check", reference, "--key", public)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "not checked: record" in done.stderr
    finally:
        remove(small.reference(TAG))
