"""Claims about `sbom` as a user calls it: of which image, in which format, and where to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.imagebuilder import (
    MANIFEST,
    Layers,
    config_of,
    content_of,
    target_of,
    with_content,
    without,
    write_image,
)
from tests.ocibuilder import MadeLayer, make_file, pack, write_layout

from sparkbake import process
from sparkbake.cli import main
from sparkbake.images import open_image
from sparkbake.labels import OCI
from sparkbake.project import Project

FORMATS = ["cyclonedx", "spdx"]
PREFIX = "dev.example"
TORCH = "pkg:pypi/torch@2.11.0"


@pytest.fixture(scope="module")
def image(project: Project, layers: Layers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("image") / "image", layers, config_of(target_of(project)))


def sbom(project: Project, *words: str | Path) -> int:
    return main(["--root", str(project.root), "sbom", *map(str, words)])


Refused = Callable[..., str]


@pytest.fixture
def refused(project: Project, layers: Layers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Ask for the bill of an image that has none; what is said of it."""

    def said(made: Layers = layers, **labels: str | None) -> str:
        image = write_image(tmp_path / "image", made, config_of(target_of(project), **labels))
        assert sbom(project, f"oci:{image}") == 8
        told = capsys.readouterr()
        assert told.out == ""
        return told.err

    return said


# ---- the bill


def test_a_bill_names_every_package(project: Project, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sbom(project, f"oci:{image}") == 0
    bill: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    said = {one["name"]: one for one in bill["components"]}
    locked = {one.name for one in target_of(project).environment.wheels}
    assert said.keys() == locked | {"ubuntu", "base-files", "libc6", "python3", "curl"}
    assert (said["torch"]["purl"], said["torch"]["version"]) == (TORCH, "2.11.0")
    assert said["curl"]["purl"].startswith("pkg:deb/ubuntu/curl@1.0-1?")
    about = bill["metadata"]["component"]
    assert about["name"] == target_of(project).reference
    assert about["version"] == open_image(image, platform="linux/arm64").info.digest
    lack = {"name": "sparkbake:trimmed", "value": "files of the wheel that the image lacks: 1, of 8 bytes in all"}
    assert lack in said["torch"]["properties"]


def test_a_bill_in_the_other_format_names_the_same(
    project: Project, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sbom(project, f"oci:{image}", "--format", "spdx") == 0
    bill: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert bill["spdxVersion"] == "SPDX-2.3"
    names = {one["name"] for one in bill["packages"]}
    assert {"torch", "vllm", "curl", "libc6"} <= names


@pytest.mark.parametrize("form", FORMATS)
def test_the_file_is_what_is_printed_and_the_same_each_time(
    project: Project, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    archive = pack(image, tmp_path / "image.tar")
    assert sbom(project, f"oci:{image}", "--format", form) == 0
    printed = capsys.readouterr().out.encode()
    for source, path in ((image, tmp_path / "one.json"), (archive, tmp_path / "two.json")):
        assert sbom(project, f"oci:{source}", "--format", form, "--output", path) == 0
        assert path.read_bytes() == printed
        said = capsys.readouterr()
        assert said.out == ""
        assert f"{path}: 11 packages, {form}" in said.err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["image.tar", "one.json", "two.json"]


def test_patches_that_the_image_lists_are_of_their_package(
    project: Project, layers: Layers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = {"component": "vllm", "file": "0001-tiles.patch", "sha256": 64 * "a"}
    manifest = {**json.loads(content_of(layers, MANIFEST)), "patches": [patch]}
    made = with_content(layers, MANIFEST, json.dumps(manifest).encode())
    assert sbom(project, f"oci:{write_image(tmp_path / 'image', made, config_of(target_of(project)))}") == 0
    bill = json.loads(capsys.readouterr().out)
    (vllm,) = [one for one in bill["components"] if one["name"] == "vllm"]
    assert vllm["pedigree"]["patches"] == [{"type": "unofficial", "diff": {"url": "0001-tiles.patch"}}]


# ---- where to


def test_a_file_in_a_folder_that_is_not_there_is_refused(
    project: Project, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sbom(project, f"oci:{image}", "--output", tmp_path / "no" / "bill.json") == 2
    assert f"--output: the folder {tmp_path / 'no'} does not exist; make it" in capsys.readouterr().err


def test_a_folder_in_place_of_a_file_is_refused(
    project: Project, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bills"
    folder.mkdir()
    assert sbom(project, f"oci:{image}", "--output", folder) == 2
    assert f"--output: {folder} is a folder, expected a file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [folder]


# ---- of what


def test_an_image_that_nothing_names_is_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert sbom(project, "nothing") == 2
    assert "got 'nothing', expected an OCI archive or layout folder that exists" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_refused(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sbom(project, f"oci:{tmp_path}/no.tar") == 8
    assert "no such file or folder" in capsys.readouterr().err


def test_an_image_of_a_registry_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "run", lambda *_words, **_rest: pytest.fail("must not be asked"))
    assert sbom(project, "docker://registry.example/a:1") == 2
    assert "whose layers would have to be fetched whole" in capsys.readouterr().err


def test_an_image_of_another_project_is_refused(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_layout(tmp_path / "other", [MadeLayer(members=[make_file("a")])])
    assert sbom(project, f"oci:{other}") == 8
    message = "its labels say that it is None on None, expected a tag and a base of the matrix"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        (OCI + "version", "0.99.0-t5", "say that it is 0.99.0-t5 on registry.example/library/ubuntu:24.04, expected"),
        (OCI + "base.name", "fedora", "its labels say that it is 0.20.2-t4 on fedora, expected a tag and a base"),
        (OCI + "base.name", None, "its labels say that it is 0.20.2-t4 on None, expected a tag and a base"),
        (f"{PREFIX}.lock_digest", "sha256:0", "was made from the lock sha256:0, but that of 0.20.2-t4 is sha256:"),
    ],
)
def test_an_image_of_labels_that_fit_nothing_is_refused(
    refused: Refused, label: str, value: str | None, message: str
) -> None:
    assert message in refused(**{label: value})


@pytest.mark.parametrize("text", [None, b"{", b"[]", b"{}", b'{"patches": [1]}', b'{"patches": [{"a": "b"}]}'])
def test_an_image_without_a_whole_manifest_is_refused(refused: Refused, layers: Layers, text: bytes | None) -> None:
    said = refused(without(layers, MANIFEST) if text is None else with_content(layers, MANIFEST, text))
    assert f"{MANIFEST} is not there, or damaged: " in said
    assert said.rstrip().endswith("; make the image anew")
