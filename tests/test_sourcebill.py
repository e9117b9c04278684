"""Claims about bills of materials of compiled images: what was compiled, from which commits, with which patches."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.billvalidator import faults_of
from tests.compiledbuilder import COMMIT, OTHER
from tests.compiledimages import DEV, VLLM, image_of, make_compiled_checkout, make_compiled_layers, write_compiled

from sparkbake import process, saving
from sparkbake.cli import main
from sparkbake.images import open_image
from sparkbake.materials import bill_of
from sparkbake.project import Project
from sparkbake.survey import read_survey


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_compiled_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module", params=[DEV, VLLM])
def made(
    request: pytest.FixtureRequest, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    name = str(request.param)
    layers = make_compiled_layers(project, name)
    return name, write_compiled(tmp_path_factory.mktemp("image") / "image", image_of(project, name), layers)


def sbom(project: Project, *words: str | Path) -> int:
    return main(["--root", str(project.root), "sbom", *map(str, words)])


def test_a_bill_names_all_that_is_compiled_and_all_that_is_installed(
    project: Project, made: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    name, image = made
    assert sbom(project, f"oci:{image}") == 0
    body: dict[str, Any] = json.loads(capsys.readouterr().out)
    said = {one["name"]: one for one in body["components"]}
    foundation = {"nccl", "nccl-tests", "torch", "torchvision", "torchaudio", "numpy", "curl", "libc6"}
    more = {DEV: {"ninja", "git"}, VLLM: {"triton", "llvm", "vllm", "cutlass", "ray"}}
    assert foundation | more[name] <= said.keys()
    assert len(said) == len(body["components"]), "each once"
    assert body["metadata"]["component"]["name"] == image_of(project, name).target.reference
    torch = said["torch"]
    assert (torch["version"], torch["purl"].partition("?")[0]) == ("2.10.0", "pkg:generic/torch@2.10.0")
    assert torch["pedigree"]["ancestors"][0]["version"] == COMMIT
    assert said["numpy"]["hashes"]


def test_a_bill_names_the_patches_of_vllm_and_the_commit_of_what_has_no_version(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_compiled(tmp_path / "image", image_of(project), make_compiled_layers(project))
    assert sbom(project, f"oci:{image}") == 0
    said = {one["name"]: one for one in json.loads(capsys.readouterr().out)["components"]}
    patches = [one["diff"]["url"] for one in said["vllm"]["pedigree"]["patches"]]
    assert patches == ["0002-marlin-lists.patch", "0003-fp8-linear-torch.patch", "0004-fp8-moe-triton.patch"]
    assert (said["llvm"]["version"], said["cutlass"]["version"]) == (OTHER, "v4.2.1")


def test_a_bill_is_valid_in_both_formats(project: Project, made: tuple[str, Path]) -> None:
    _name, image = made
    opened = open_image(image, platform="linux/arm64")
    survey = read_survey(opened, "it", lambda _text: None, compute_capability="12.1")
    assert faults_of(bill_of(project, survey)) == []


def test_an_image_of_another_plan_has_no_bill(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {"dev.example.context_digest": "sha256:0"}
    image = write_compiled(tmp_path / "image", image_of(project), make_compiled_layers(project), labels=labels)
    assert sbom(project, f"oci:{image}") == 8
    assert "was made from the build context sha256:0, but that of 0.14.0-t4 is sha256:" in capsys.readouterr().err


def test_an_image_without_its_manifest_has_no_bill(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = {name: some for name, some in make_compiled_layers(project).items() if name != "manifest"}
    assert sbom(project, f"oci:{write_compiled(tmp_path / 'image', image_of(project), layers)}") == 8
    assert "usr/share/sparkbake/manifest.json is not there, or damaged" in capsys.readouterr().err


def test_a_compiled_row_is_named_by_its_tag(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the engine is asked for is the image of the row."""
    asked: list[str] = []
    monkeypatch.setattr(saving, "local_image", asked.append)
    monkeypatch.setattr(process, "run", lambda *_argv, **_rest: pytest.fail("nothing is there to be saved"))
    assert sbom(project, "0.14.0-t4") == 8
    assert asked == [image_of(project).target.reference]
    assert "the engine has no such image" in capsys.readouterr().err
