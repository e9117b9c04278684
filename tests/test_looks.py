"""Claims about `verify` of compiled rows in an engine, as a user calls it and as `build` does, programs and all."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.compiledimages import (
    DEV,
    NCCL,
    RUNTIME,
    TAG,
    VLLM,
    image_of,
    make_compiled_checkout,
    make_compiled_layers,
    write_compiled,
)
from tests.imagebuilder import without
from tests.ocibuilder import pack
from tests.verified import findings_of

from sparkbake import process, saving, sourcebuild, verifying
from sparkbake.buildx import BakeResult
from sparkbake.cli import main
from sparkbake.engine import EngineState
from sparkbake.errors import VerifyError
from sparkbake.findings import Finding
from sparkbake.images import open_image
from sparkbake.looks import judge_programs, modules_in, planned_of
from sparkbake.model import LocalImage
from sparkbake.project import Project
from sparkbake.sourceimage import CompiledImage
from sparkbake.sourcereuse import sealed
from sparkbake.verifying import bill_path, report_path, verify_built

# What every torch of ours has compiled in.
WHOLE = {"cudnn": 91900, "lapack": True}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_compiled_checkout(tmp_path_factory.mktemp("checkout"))


def probe_of(image: CompiledImage, **changes: Any) -> dict[str, Any]:
    """What recipes/scripts/probe.py prints in a clean image."""
    vllm = {} if image.is_foundation else {"import_vllm": "0.14.0", "vllm_command": "0.14.0", "ray_command": "1.0"}
    said: dict[str, Any] = {
        "machine": "aarch64",
        "python": "3.12.3",
        "distributions": dict(image.packages),
        "torch": {"version": "2.10.0", "cuda": "13.1", "nccl": "2.29.2", "arches": ["sm_121a"], **WHOLE},
        "ptxas": "13.1.80",
        **dict.fromkeys(("ptxas_for_chip", "nvcc", "gcc", "g++", "python_headers", "libraries", "linkable"), "it"),
        "trimmed": {},
        "imports": dict.fromkeys(modules_in(image), "imports"),
        **vllm,
        **changes,
    }
    return {name: {"value": value, "seconds": 0.1} for name, value in said.items()}


# ---- programs


@pytest.mark.parametrize("name", [DEV, RUNTIME, VLLM])
def test_an_image_that_says_what_it_should_is_clean(project: Project, name: str) -> None:
    """A foundation has neither vLLM nor Ray; nobody asks for them there."""
    image = image_of(project, name)
    assert judge_programs(project, image, probe_of(image)) == ()


def test_all_that_is_compiled_must_import(project: Project) -> None:
    assert modules_in(image_of(project, RUNTIME)) == ("torch", "torchaudio", "torchvision")
    assert modules_in(image_of(project)) == ("torch", "torchaudio", "torchvision", "triton", "vllm")


def told(found: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(one.id, one.subject) for one in found]


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"import_vllm": "0.14.1"}, ("program", "import_vllm")),
        ({"vllm_command": "0.14.0+cpu"}, ("program", "vllm_command")),
        ({"ptxas": "13.0.88"}, ("program", "ptxas")),
        ({"imports": dict.fromkeys(("torch", "torchaudio", "torchvision", "vllm"), "imports")}, ("import", "triton")),
        (
            {"torch": {"version": "2.10.0", "cuda": "13.1", "nccl": "2.28.9", "arches": ["sm_121a"], **WHOLE}},
            ("torch", "NCCL"),
        ),
        (
            {"torch": {"version": "2.10.0+cpu", "cuda": None, "nccl": "2.29.2", "arches": ["sm_121a"], **WHOLE}},
            ("torch", "build"),
        ),
        (
            {"torch": {"version": "2.10.0", "cuda": "13.1", "nccl": "2.29.2", "arches": ["sm_90"], **WHOLE}},
            ("torch", "architectures"),
        ),
    ],
)
def test_what_an_image_says_otherwise_is_found(
    project: Project, changes: dict[str, Any], finding: tuple[str, str]
) -> None:
    image = image_of(project)
    assert told(judge_programs(project, image, probe_of(image, **changes))) == [finding]


@pytest.mark.parametrize(("name", "version"), [("ray", None), ("torch", "2.9.1"), ("nvidia-nccl-cu13", "2.29.2")])
def test_other_packages_are_found(project: Project, name: str, version: str | None) -> None:
    image = image_of(project)
    packages = {**image.packages, name: version}
    said = {name: version for name, version in packages.items() if version}
    assert told(judge_programs(project, image, probe_of(image, distributions=said))) == [("package", name)]


# ---- images of the engine


class Engine:
    """An engine that has some images, by reference, and runs what they are to say.

    Attributes:
        ran: the modules that each probe was to import.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self.project = project
        self.folder = folder
        self.state = EngineState(
            version="29.0.0", architecture="arm64", has_containerd_store=True, data_folder="/x", cached_bytes=0
        )
        self.places: dict[str, Path] = {}
        self.images: dict[str, LocalImage] = {}
        self.ran: list[str] = []

    def hold(self, name: str, *, without_path: str = "") -> str:
        """Have the image of a kind; its digest."""
        image = image_of(self.project, name)
        layers = without(make_compiled_layers(self.project, name), without_path)
        place = write_compiled(self.folder / name, image, layers)
        info = open_image(place, platform="linux/arm64").info
        self.places[image.target.reference] = place
        self.images[image.target.reference] = LocalImage(
            digest=info.digest, labels=info.labels, architecture="arm64", size_bytes=1
        )
        return info.digest

    def run(self, argv: Sequence[str | Path], **_rest: Any) -> str:
        assert argv[:3] == ["docker", "image", "save"]
        pack(self.places[str(argv[3])], Path(argv[-1]))
        return ""

    def run_python(self, reference: str, _script: str, _modules: Sequence[str], **_rest: Any) -> str:
        self.ran.append(reference)
        kinds = ((DEV, None), (RUNTIME, None), (VLLM, None), (VLLM, "12.1"))
        found = (image_of(self.project, name, variant) for name, variant in kinds)
        return json.dumps(probe_of(next(one for one in found if one.target.reference == reference)))


@pytest.fixture
def engine(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    found = Engine(project, tmp_path)
    monkeypatch.setattr(verifying, "engine_state", lambda: found.state)
    monkeypatch.setattr(verifying, "local_image", found.images.get)
    monkeypatch.setattr(verifying, "run_python", found.run_python)
    monkeypatch.setattr(saving, "local_image", found.images.get)
    monkeypatch.setattr(saving, "free_bytes", lambda _folder: 10**12)
    monkeypatch.setattr(process, "run", found.run)
    return found


def verify(project: Project, *words: str) -> int:
    return main(["--root", str(project.root), "verify", *words])


def report_of(project: Project, name: str) -> dict[str, Any]:
    path = report_path(project, image_of(project, name).target)
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return body


def test_a_row_is_looked_at_with_its_foundations(engine: Engine) -> None:
    for name in (DEV, RUNTIME, VLLM):
        engine.hold(name)
    assert verify(engine.project, TAG) == 0
    reports = [report_of(engine.project, name) for name in (DEV, RUNTIME, VLLM)]
    assert [one["findings"] for one in reports] == [[], [], []]
    assert engine.ran == [one["reference"] for one in reports]


def test_a_foundation_that_is_elsewhere_is_not_looked_at(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    """The registry may have it, from where a build has taken it."""
    engine.hold(VLLM)
    assert verify(engine.project, TAG) == 0
    reference = image_of(engine.project, RUNTIME).target.reference
    assert f"{reference}: not in the engine, so that it is not looked at" in capsys.readouterr().err
    assert engine.ran == [image_of(engine.project).target.reference]


def test_a_row_that_the_engine_has_not_ends_with_1(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(engine.project, TAG) == 1
    message = f"{image_of(engine.project).target.reference}: the engine has no such image; run `nox -s build -- {TAG}`"
    assert message in capsys.readouterr().err


def test_a_fault_of_a_foundation_is_reported_under_its_own_name(engine: Engine) -> None:
    engine.hold(VLLM)
    engine.hold(RUNTIME, without_path=NCCL)
    assert verify(engine.project, TAG) == 1
    assert ("nccl", NCCL) in findings_of(report_of(engine.project, RUNTIME))
    assert findings_of(report_of(engine.project, VLLM)) == []


def test_an_image_that_was_found_clean_is_not_looked_at_again(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    image = image_of(engine.project, DEV)
    digests = {image.target.name: engine.hold(DEV)}
    bill_path(engine.project, image.target).unlink(missing_ok=True)
    for _time in range(2):
        assert verify_built(engine.project, [image], engine.state, digests, as_json=False) == 0
    assert engine.ran == [image.target.reference]
    assert "2.10.0-cu131: this very image was found clean before" in capsys.readouterr().err


def test_a_build_looks_at_what_it_was_given(engine: Engine) -> None:
    digest = engine.hold(VLLM)
    image = image_of(engine.project)
    assert verify_built(engine.project, [image], engine.state, {image.target.name: digest}, as_json=False) == 0
    other = {image.target.name: "sha256:" + 64 * "0"}
    assert verify_built(engine.project, [image], engine.state, other, as_json=False) == 1
    assert findings_of(report_of(engine.project, VLLM)) == [("digest", image.target.reference)]


@pytest.mark.parametrize("no_verify", [True, False])
def test_a_build_looks_at_what_it_has_built_alone(
    engine: Engine, capsys: pytest.CaptureFixture[str], *, no_verify: bool
) -> None:
    """The foundations were there already, and may be in a registry alone."""
    project, image = engine.project, image_of(engine.project)
    plan = project.source_plan(project.select([TAG]))
    status = sourcebuild._verify_built(
        project,
        sealed(plan, project.source_contexts(plan), project.matrix.project.label_prefix),
        engine.state,
        result=BakeResult(digests={image.target.name: engine.hold(VLLM)}, executed=()),
        options=argparse.Namespace(no_verify=no_verify, json=False),
    )
    assert status == 0
    assert engine.ran == ([] if no_verify else [image.target.reference])
    assert ("not verified, as --no-verify asks" in capsys.readouterr().err) is no_verify


# ---- variants


def test_a_variant_is_looked_at_when_it_is_asked_for(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.hold(VLLM)
    assert verify(engine.project, TAG, "--variant", "12.1") == 1
    reference = image_of(engine.project, VLLM, "12.1").target.reference
    assert reference.endswith(f":{TAG}-sm121")
    message = f"{reference}: the engine has no such image; run `nox -s build -- {TAG} --variant 12.1`"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["0.20.2-t4"], [TAG, "0.20.2-t4"], ["oci:."]])
def test_a_variant_is_of_compiled_rows_alone(
    engine: Engine, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert verify(engine.project, *words, "--variant", "12.1") == 2
    assert "--variant: is for rows that are compiled" in capsys.readouterr().err


@pytest.mark.parametrize("variant", ["12.2", "no tag has this", ""])
def test_an_image_that_calls_itself_a_variant_that_there_is_none_of_is_none_of_ours(
    project: Project, variant: str
) -> None:
    labels = tuple({**dict(image_of(project).target.labels), "dev.example.variant": variant}.items())
    with pytest.raises(VerifyError, match=r"^x\.tar: .*it is no image of this project"):
        planned_of(project, labels, "x.tar")


def test_a_foundation_has_no_variant(project: Project) -> None:
    labels = tuple({**dict(image_of(project, DEV).target.labels), "dev.example.variant": "12.1"}.items())
    with pytest.raises(VerifyError, match="it is no image of this project"):
        planned_of(project, labels, "x.tar")


def test_the_usual_image_is_none_of_a_variant(engine: Engine) -> None:
    """As somebody who gives it that name would find."""
    digest = engine.hold(VLLM)
    usual, native = (image_of(engine.project, VLLM, one) for one in (None, "12.1"))
    engine.images[native.target.reference] = engine.images[usual.target.reference]
    engine.places[native.target.reference] = engine.places[usual.target.reference]
    assert verify_built(engine.project, [native], engine.state, {native.target.name: digest}, as_json=False) == 1
    report = json.loads(report_path(engine.project, native.target).read_text(encoding="utf-8"))
    assert {("label", "dev.example.variant"), ("label", "dev.example.vllm_arch_list")} <= set(findings_of(report))
