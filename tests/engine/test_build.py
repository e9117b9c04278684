"""Builds through the real engine, with the real recipes and base, of images whose packages are small."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.small import NAMESPACE, Small, digest_in, docker_run, exists, inspect, make_small, remove

from sparkbake.oci import read_index_digest
from sparkbake.project import cache_folder

pytestmark = [pytest.mark.engine, pytest.mark.network]

T4, T5 = "1.17.0-t4", "1.17.0-t5"
BASE = ("--base", "debian-13")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    project = make_small(tmp_path_factory.mktemp("small") / "checkout")
    yield project
    for tag in (T4, T5):
        remove(project.reference(tag))


@pytest.fixture(scope="module")
def built(small: Small) -> Small:
    done = small.run("build", T4, T5, *BASE, "--no-verify")
    assert done.returncode == 0, done.stderr
    return small


# These images have no torch, no vLLM and no Ray.
LACKING = {("program", name) for name in ("torch", "import_vllm", "vllm_command", "ray_command")}
LACKING |= {("torch", "version.py")}


def errors(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["id"], one["subject"]) for one in report["findings"] if one["severity"] == "error"}


def test_a_built_image_has_the_labels_of_its_plan(built: Small) -> None:
    labels = inspect(built.reference(T5))["Config"]["Labels"]
    assert labels["dev.scitrera.transformers_version"] == "5.2.0"
    assert labels["dev.scitrera.vllm_version"] == "1.17.0"
    assert labels["dev.scitrera.overrides"] == "none"
    assert labels["org.opencontainers.image.created"] == "2026-09-21T14:13:20Z"
    assert labels["org.opencontainers.image.base.name"] == "debian-13"
    assert inspect(built.reference(T5))["Architecture"] == "arm64"


def test_siblings_share_every_layer_but_the_difference_and_the_manifest(built: Small) -> None:
    layers = {tag: inspect(built.reference(tag))["RootFS"]["Layers"] for tag in (T4, T5)}
    differing = [i for i, (left, right) in enumerate(zip(layers[T4], layers[T5], strict=True)) if left != right]
    # Between the two lies what both have by themselves, and after them the working folder.
    assert differing == [len(layers[T4]) - 4, len(layers[T4]) - 2]


def test_building_again_executes_no_step_and_gives_the_same_digest(built: Small) -> None:
    before = inspect(built.reference(T5))["Id"]
    done = built.run("build", T5, *BASE, "--no-verify")
    assert done.returncode == 0, done.stderr
    assert "sparkbake: 0 steps executed" in done.stderr
    assert digest_in(done.stderr) == before


def test_the_programs_of_the_image_run(built: Small) -> None:
    script = "ptxas --version && nvcc --version && gcc --version && python3 -c 'import six' && ls /usr/local/cuda/lib64"
    done = docker_run(built.reference(T5), "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert "release 13.0" in done.stdout
    assert "libcudart.so\n" in done.stdout


def test_nvcc_in_the_image_compiles_for_the_chip_and_links(built: Small) -> None:
    """FlashInfer and torch extensions do this at run time."""
    source = "__global__ void k(float* x) { x[0] = 1; }\nint main() { k<<<1, 1>>>(nullptr); return 0; }\n"
    script = f"cd /tmp && printf '%s' '{source}' > a.cu && nvcc -arch=sm_121a a.cu -o a -cudart shared && ls -l a"
    done = docker_run(built.reference(T5), "sh", "-c", script)
    assert done.returncode == 0, done.stderr


def test_it_runs_as_another_user(built: Small) -> None:
    script = "import six; print(six.__version__)"
    done = docker_run(built.reference(T5), "python3", "-c", script, user="1234:1234")
    assert done.stdout == "1.17.0\n", done.stderr


def test_verify_names_what_is_not_as_the_plan_says(built: Small) -> None:
    """These images have no torch and no vLLM: verify must say so, and find nothing else."""
    done = built.run("verify", T5, "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert errors(report) == LACKING


def test_verify_finds_a_lying_label(built: Small, tmp_path: Path) -> None:
    reference = built.reference(T4)
    honest = inspect(reference)["Id"]
    (tmp_path / "Dockerfile").write_text(f"FROM {reference}\nLABEL dev.scitrera.torch_version=9.9.9\n")
    build = ["docker", "buildx", "build", "--platform", "linux/arm64", "--provenance=false", "--tag", reference]
    subprocess.run([*build, str(tmp_path)], check=True, capture_output=True)
    try:
        report = json.loads(built.run("verify", T4, "--json").stdout)
    finally:
        built.run("build", T4, *BASE, "--no-verify")
    label = next(one for one in report["findings"] if one["id"] == "label")
    assert label["subject"] == "dev.scitrera.torch_version"
    assert (label["found"], label["expected"]) == ("9.9.9", "3.0.2")
    assert inspect(reference)["Id"] == honest


def test_verify_sees_what_is_trimmed_and_that_the_rest_imports(built: Small) -> None:
    facts = json.loads(built.run("verify", T5, "--json").stdout)["facts"]
    assert facts["trimmed"].startswith("0 MB of 1 packages")
    assert facts["imports"].startswith("1 of 1 modules")


def test_an_image_that_keeps_everything_is_another_and_says_so(built: Small) -> None:
    listing = ("ls", "/opt/venv/lib/python3.13/site-packages/pip/_vendor")
    trimmed = inspect(built.reference(T5))
    assert trimmed["Config"]["Labels"]["dev.scitrera.trimmed"] == "pip"
    assert "tomli" not in docker_run(built.reference(T5), *listing).stdout.split()
    try:
        done = built.run("build", T5, *BASE, "--no-verify", "--no-trim")
        assert done.returncode == 0, done.stderr
        whole = inspect(built.reference(T5))
        assert whole["Config"]["Labels"]["dev.scitrera.trimmed"] == "none"
        assert "tomli" in docker_run(built.reference(T5), *listing).stdout.split()
        assert errors(json.loads(built.run("verify", T5, "--json").stdout)) == LACKING
    finally:
        built.run("build", T5, *BASE, "--no-verify")
    assert inspect(built.reference(T5))["Id"] == trimmed["Id"]


def test_an_oci_file_holds_the_same_image_and_is_verified_without_running_it(built: Small, tmp_path: Path) -> None:
    file = tmp_path / "image.oci.tar"
    done = built.run("build", T5, *BASE, "--json", "--output", f"oci:{file}")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["programs"], errors(report)) == ("not run", {("torch", "version.py")})
    with tarfile.open(file) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        (manifest,) = json.load(index)["manifests"]
    assert manifest["digest"] == inspect(built.reference(T5))["Id"]


def test_several_oci_files_go_to_a_folder(built: Small, tmp_path: Path) -> None:
    done = built.run("build", T4, T5, *BASE, "--no-verify", "--output", f"oci:{tmp_path / 'images'}")
    assert done.returncode == 0, done.stderr
    assert sorted(one.name for one in (tmp_path / "images").iterdir()) == [f"{T4}.oci.tar", f"{T5}.oci.tar"]


def test_two_builds_from_nothing_have_the_same_digest(built: Small) -> None:
    before = inspect(built.reference(T5))["Id"]
    done = built.run("build", T5, *BASE, "--no-verify", "--no-cache")
    assert done.returncode == 0, done.stderr
    assert "sparkbake: 0 steps executed" not in done.stderr
    assert digest_in(done.stderr) == before


def test_a_named_builder_gives_the_same_image(built: Small) -> None:
    before = inspect(built.reference(T5))["Id"]
    done = built.run("build", T5, *BASE, "--no-verify", "--builder", "default")
    assert done.returncode == 0, done.stderr
    assert inspect(built.reference(T5))["Id"] == before


def test_a_wrong_hash_fails_the_build_and_names_the_package(small: Small, tmp_path: Path) -> None:
    project = make_copy(small, tmp_path)
    lock = json.loads((project.root / "locks" / f"{T5}.json").read_text())
    wheels = lock["environments"]["debian-13"]["wheels"]
    right = next(one["sha256"] for one in wheels if one["name"] == "chardet")
    project.edit_lock(T5, right, "0" * 64)
    remove(project.reference(T5))
    done = project.run("build", T5, *BASE, "--no-verify")
    assert done.returncode == 7, done.stderr
    assert "chardet" in done.stderr
    assert "full log: " in done.stderr
    assert not exists(project.reference(T5))


def test_an_interrupted_build_leaves_no_tag_and_the_next_goes_on(small: Small) -> None:
    remove(small.reference(T5))
    words = small.command("build", T5, *BASE, "--no-verify", "--no-cache", "--progress", "plain")
    with subprocess.Popen(words, env=small.environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "fetching and installing" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130, rest
    assert "interrupted: what was not finished has no tag" in rest
    assert not exists(small.reference(T5))
    done = small.run("build", T5, *BASE, "--no-verify")
    assert done.returncode == 0, done.stderr
    assert exists(small.reference(T5))


def test_without_an_engine_it_says_how_to_get_one(small: Small) -> None:
    began = time.monotonic()
    done = small.run("build", T5, *BASE, DOCKER_HOST="unix:///nonexistent/docker.sock")
    assert done.returncode == 4
    assert "no Docker Engine answers" in done.stderr
    assert "quickstart" in done.stderr
    assert time.monotonic() - began < 15


def test_a_dry_run_needs_no_engine(small: Small) -> None:
    done = small.run("build", T5, "--dry-run", DOCKER_HOST="unix:///nonexistent/docker.sock")
    assert done.returncode == 0, done.stderr
    assert f"docker.io/{NAMESPACE}/small:{T5}" in done.stdout
    assert "to download" in done.stdout


def test_a_mirrored_base_must_be_the_locked_one(small: Small, tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    done = small.run("build", T5, *BASE, "--mirrors", str(mirrors_of(tmp_path, f"{tmp_path}/layout@{digest}")))
    assert done.returncode == 5
    assert f"names {digest} for it, which is not the locked base: expected {locked_index(small)}" in done.stderr
    assert "--base auto" in done.stderr


def test_a_mirrored_base_that_is_not_there_says_so(small: Small, tmp_path: Path) -> None:
    place = f"{tmp_path}/nothing@{locked_index(small)}"
    done = small.run("build", T5, *BASE, "--mirrors", str(mirrors_of(tmp_path, place)))
    assert done.returncode == 5
    assert "it has no index.json" in done.stderr


def test_a_mirrored_base_gives_the_same_image(built: Small, tmp_path: Path) -> None:
    # Other suites have bases of other architectures made.
    bases = (cache_folder() / "bases").glob("debian-13-*")
    layout = next(one for one in bases if read_index_digest(one) == locked_index(built))
    copy = shutil.copytree(layout, tmp_path / "layout", copy_function=os.link)
    before = inspect(built.reference(T5))["Id"]
    mirrors = mirrors_of(tmp_path, f"{copy}@{locked_index(built)}")
    done = built.run("build", T5, *BASE, "--no-verify", "--no-cache", "--mirrors", str(mirrors))
    assert done.returncode == 0, done.stderr
    assert f"from oci-layout:{copy}" in done.stderr
    assert digest_in(done.stderr) == before


def test_a_second_build_in_one_checkout_is_refused(small: Small) -> None:
    (small.root / "build").mkdir(exist_ok=True)
    with (small.root / "build" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = small.run("build", T5, *BASE, "--no-verify")
    assert done.returncode == 7
    assert "another build runs in this checkout" in done.stderr


def mirrors_of(folder: Path, place: str) -> Path:
    path = folder / "mirrors.yaml"
    path.write_text(f'schema: "1"\nbases:\n  debian-13: oci-layout:{place}\n')
    return path


def locked_index(small: Small) -> str:
    body = json.loads((small.root / "locks" / "bases" / "debian-13.json").read_text())
    return str(body["index_digest"])


def make_copy(small: Small, place: Path) -> Small:
    """The same checkout again, so that a test may spoil it."""
    root = place / "checkout"
    shutil.copytree(small.root, root)
    return Small(root=root)
