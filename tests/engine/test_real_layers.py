"""What real images are made of: nothing falls between layers, siblings share them, rebuilds are the same bytes."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from tests.engine.small import Small, make_small, remove

from sparkbake.expected import record_path
from sparkbake.imageinfo import layer_name
from sparkbake.images import OpenImage, open_image
from sparkbake.project import open_project
from sparkbake.recording import expected_of, sizes_of, write_record

pytestmark = [pytest.mark.engine, pytest.mark.network]

T4, T5 = "1.17.0-t4", "1.17.0-t5"
BASE = ("--base", "debian-13")
SITE = PurePosixPath("opt/venv/lib/python3.13/site-packages")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    project = make_small(tmp_path_factory.mktemp("small") / "checkout")
    done = project.run("build", T4, T5, *BASE, "--no-verify")
    assert done.returncode == 0, done.stderr
    yield project
    for tag in (T4, T5):
        remove(project.reference(tag))


@pytest.fixture(scope="module")
def image(small: Small, tmp_path_factory: pytest.TempPathFactory) -> OpenImage:
    file = tmp_path_factory.mktemp("oci") / "image.oci.tar"
    done = small.run("build", T5, *BASE, "--no-verify", "--output", f"oci:{file}")
    assert done.returncode == 0, done.stderr
    return open_image(file, platform="linux/arm64")


def test_every_file_of_the_environment_is_in_the_image_exactly_once(image: OpenImage) -> None:
    """By each package's RECORD: its files are there, or TRIMMED.json says why not; and no other file is there."""
    counts: Counter[str] = Counter()
    notes: dict[str, bytes] = {}
    for layer in image.info.layers[1:]:
        for entry, chunks in image.contents(layer):
            if entry.kind == "folder":
                continue
            counts[entry.path] += 1
            if entry.path.endswith((".dist-info/RECORD", ".dist-info/TRIMMED.json")):
                notes[entry.path] = b"".join(chunks)
    assert {path for path, count in counts.items() if count > 1} == set()
    listed, trimmed = set(), set()
    for path, content in notes.items():
        if path.endswith("RECORD"):
            listed |= {below_root(row[0]) for row in csv.reader(io.StringIO(content.decode()))}
        else:
            trimmed |= {below_root(name) for name in json.loads(content)}
            listed.add(path)
    assert trimmed <= listed
    assert len(trimmed) > 1
    packages = {path for path in counts if path.startswith((f"{SITE}/", "opt/venv/bin/"))}
    assert packages - listed == {
        *(path for path in counts if path.startswith("opt/venv/bin/python")),
        *(path for path in packages if path.startswith("opt/venv/bin/") and "ctivate" in path),
        *(path for path in packages if path.startswith(f"{SITE}/nvidia/cu13/lib") and is_ours(path, listed)),
    }
    assert listed - trimmed - set(counts) == set()


def below_root(path: str) -> str:
    """A path of a RECORD, which is below site-packages."""
    return os.path.normpath(SITE / path)


def is_ours(path: str, listed: set[str]) -> bool:
    """Whether a path is a name that the recipes make for the linker."""
    return path not in listed and path.endswith((".so", "/lib64"))


def test_all_files_have_one_time_and_belong_to_root(image: OpenImage) -> None:
    facts = {(entry.mtime, entry.uid, entry.gid) for layer in image.info.layers[1:] for entry in image.entries(layer)}
    assert facts == {(499162500, 0, 0)}


def test_each_layer_has_the_packages_it_is_named_after(image: OpenImage) -> None:
    names = [layer_name(one) for one in image.info.layers]
    assert names[0] is None
    assert "cuda.nvidia-cuda-nvcc" in names
    assert [one for one in names if one][-3:] == ["difference", "runtime", "manifest"]
    (layer,) = (one for one in image.info.layers if layer_name(one) == "difference")
    tops = {
        PurePosixPath(one.path).relative_to(SITE).parts[0]
        for one in image.entries(layer)
        if str(SITE) + "/" in one.path
    }
    assert {top.partition("-")[0] for top in tops} == {"chardet"}


def test_layers_are_zstd_and_gzip_on_request_with_the_same_contents(
    small: Small, image: OpenImage, tmp_path: Path
) -> None:
    done = small.run(
        "build", T5, *BASE, "--compression", "gzip", "--no-verify", "--output", f"oci:{tmp_path / 'image.oci.tar'}"
    )
    assert done.returncode == 0, done.stderr
    other = open_image(tmp_path / "image.oci.tar", platform="linux/arm64")
    for opened, suffix in ((image, "+zstd"), (other, "+gzip")):
        assert {one.media_type.rpartition(".")[2] for one in opened.info.layers} == {f"tar{suffix}"}
    assert [one.diff_id for one in other.info.layers] == [one.diff_id for one in image.info.layers]
    assert other.info.config_digest == image.info.config_digest


def test_moving_to_a_sibling_moves_what_differs_and_nothing_else(small: Small) -> None:
    done = small.run("delta", T4, T5, "--json")
    assert done.returncode == 0, done.stderr
    delta = json.loads(done.stdout)
    assert [one["name"] for one in delta["layers"] if one["state"] == "changed"] == ["difference", "manifest"]
    assert {one["name"] for one in delta["packages"]} == {"chardet", "(manifest)"}
    assert 0.9 < delta["ratio"] < 1.15
    assert small.run("delta", T4, T5).stdout.strip().splitlines()[-1].startswith("to move: 0.")


def test_two_builds_from_nothing_are_identical(small: Small) -> None:
    """Under another time zone, umask and folder, with an empty package cache and with a full one."""
    done = small.run("reproduce", T5, *BASE, "--json")
    assert done.returncode == 0, done.stderr
    (verdict,) = json.loads(done.stdout)
    assert verdict["identical"] is True
    assert verdict["differences"] == []
    assert len(set(verdict["digests"].values())) == 1
    assert not list((small.root / "build").glob("reproduce-*"))


def test_what_differs_from_another_image_is_named(small: Small, tmp_path: Path) -> None:
    other = tmp_path / "whole.oci.tar"
    done = small.run("build", T5, *BASE, "--no-trim", "--no-verify", "--output", f"oci:{other}")
    assert done.returncode == 0, done.stderr
    done = small.run("reproduce", T5, *BASE, "--against", f"oci:{other}", "--json")
    assert done.returncode == 1, done.stderr
    (verdict,) = json.loads(done.stdout)
    told = {(one["path"], one["what"]) for one in verdict["differences"]}
    assert (f"{SITE}/pip/_vendor/tomli/_parser.py", "only in the second") in told
    assert ("config.Labels.dev.scitrera.trimmed", "value") in told
    kept = list((small.root / "build").glob("reproduce-*"))
    assert [path.name for path in kept[0].glob("*.oci.tar")] == ["first.oci.tar"]


def test_nothing_is_built_to_be_compared_with_nothing(small: Small) -> None:
    done = small.run("reproduce", T5, *BASE, "--against", "no-such-file")
    assert done.returncode == 2
    assert "got 'no-such-file', expected an OCI archive" in done.stderr


def test_a_build_is_held_against_its_record(small: Small, image: OpenImage) -> None:
    project = open_project(small.root)
    (target,) = project.plan(project.select([T5]), project.matrix.bases[1]).targets
    path = record_path(project.locks, T5)
    command = ("build", T5, *BASE, "--no-verify")
    try:
        done = small.run(*command)
        assert f"{T5} on debian-13: its digest is not recorded yet" in done.stderr
        write_record(
            project, T5, {"debian-13": expected_of(image.info, sizes_of(image), project.plan_digest(target), "28.5.2")}
        )
        done = small.run(*command)
        assert (done.returncode, "its digest is the recorded one" in done.stderr) == (0, True)
        path.write_text(path.read_text().replace(image.info.digest, "sha256:" + 64 * "0"))
        done = small.run(*command)
        assert (done.returncode, "every file is as recorded, but layers are" in done.stderr) == (0, True)
        path.write_text(path.read_text().replace(image.info.config_digest, "sha256:" + 64 * "0"))
        done = small.run(*command)
        assert done.returncode == 1
        assert f"its digest is not the recorded sha256:{64 * '0'}, though the inputs are the same" in done.stderr
    finally:
        path.unlink(missing_ok=True)


def test_an_image_with_findings_is_not_recorded(small: Small) -> None:
    """These have no torch and no vLLM, so verify finds something."""
    done = small.run("build", T5, *BASE, "--record")
    assert done.returncode == 1
    assert not record_path(small.root / "locks", T5).exists()
