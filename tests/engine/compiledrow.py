"""A checkout with a compiled row and its foundations in the engine, found clean, with all that `build` has left."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

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

NAMES = (DEV, RUNTIME, VLLM)


@contextlib.contextmanager
def made_row(folder: Path) -> Iterator[Project]:
    """The checkout, in `folder`/checkout; its images go in the end."""
    made = make_compiled_checkout(folder / "checkout")
    images = compiled_images(made, made.select([TAG]))
    try:
        digests = {image_of(made, name).target.name: load(made, name, folder / name) for name in NAMES}
        keep_provenance(
            made, images, BakeResult(digests=digests, executed=(), provenance=dict.fromkeys(digests, BUILT))
        )
        yield made
    finally:
        for one in images:
            remove(one.target.reference)


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
