"""What verify makes of an image and of what its probe printed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkbake.errors import VerifyError
from sparkbake.matrix import load_matrix
from sparkbake.model import LocalImage, Target
from sparkbake.project import open_project
from sparkbake.verify import Report, compare, is_clean_report, modules_of, parse_probe, report_json

ROOT = Path(__file__).parents[1]
MATRIX = load_matrix(ROOT / "matrix.yaml")
DIGEST = "sha256:" + "a" * 64
PROBE = "sha256:" + "c" * 64


@pytest.fixture(scope="module")
def target() -> Target:
    project = open_project(ROOT)
    (found,) = project.plan(project.select(["0.32.0-t5"]), project.matrix.bases[1]).targets
    return found


def make_image(target: Target, **changes: Any) -> LocalImage:
    image = LocalImage(digest=DIGEST, labels=target.labels, architecture="arm64", size_bytes=4_000_000_000)
    return replace(image, **changes)


def make_probe(target: Target, **changes: Any) -> dict[str, dict[str, Any]]:
    values: dict[str, Any] = {
        "machine": "aarch64",
        "python": "3.13.5",
        "distributions": {one.name: one.version for one in target.environment.wheels},
        "torch": {"version": "2.13.0+cu130", "cuda": "13.0", "nccl": "2.29.7", "arches": ["sm_100", "sm_120"]},
        "import_vllm": "0.32.0",
        "vllm_command": "0.32.0",
        "ptxas": "13.0.88",
        "nvcc": "13.0.88",
        "gcc": "14.2.0",
        "g++": "14.2.0",
        "python_headers": "/usr/include/python3.13/Python.h",
        "ray_command": "2.59.0",
        "libraries": ["libibverbs.so.1"],
        "linkable": ["libcudart.so"],
        "trimmed": {one.package: {"files": 1, "bytes": 1_000_000} for one in target.trims},
        "imports": dict.fromkeys(modules_of(target), "imports"),
    }
    report = {name: {"value": value, "seconds": 0.1} for name, value in values.items()}
    for name, value in changes.items():
        report[name] = {"error": value} if isinstance(value, str) and "Error" in value else {"value": value}
    return report


def judge(target: Target, image: LocalImage | None = None, *, built: str | None = DIGEST, **changes: Any) -> Report:
    return compare(
        target,
        image or make_image(target),
        make_probe(target, **changes),
        components=MATRIX.components,
        built_digest=built,
        probe_digest=PROBE,
        emulated=True,
    )


def findings(report: Report) -> dict[str, tuple[str, str]]:
    return {one.check: (one.found, one.expected) for one in report.findings}


def test_an_image_as_planned_is_clean(target: Target) -> None:
    assert judge(target).findings == ()


def test_a_lying_label_is_found(target: Target) -> None:
    labels = dict(target.labels) | {"dev.scitrera.nccl_version": "9.9.9"}
    report = judge(target, make_image(target, labels=tuple(labels.items())))
    assert findings(report) == {"label dev.scitrera.nccl_version": ("9.9.9", "2.29.7")}


def test_a_missing_label_is_found(target: Target) -> None:
    labels = tuple(pair for pair in target.labels if pair[0] != "dev.scitrera.overrides")
    assert findings(judge(target, make_image(target, labels=labels))) == {
        "label dev.scitrera.overrides": ("nothing", "none")
    }


def test_another_image_under_the_tag_is_found(target: Target) -> None:
    other = "sha256:" + "b" * 64
    assert findings(judge(target, built=other)) == {"digest": (DIGEST, other)}


def test_an_image_for_another_architecture_is_found(target: Target) -> None:
    report = judge(target, make_image(target, architecture="amd64"), machine="x86_64")
    assert findings(report) == {"architecture": ("amd64", "arm64"), "machine": ("x86_64", "aarch64")}


def test_a_cpu_build_of_torch_is_found(target: Target) -> None:
    cpu: dict[str, Any] = {"version": "2.13.0+cpu", "cuda": None, "nccl": "2.29.7", "arches": []}
    assert findings(judge(target, torch=cpu))["torch build"] == ("CPU-only, 2.13.0+cpu", "a CUDA build")


def test_torch_for_another_cuda_is_found(target: Target) -> None:
    other = {"version": "2.13.0+cu126", "cuda": "12.6", "nccl": "2.29.7", "arches": ["sm_120"]}
    assert findings(judge(target, torch=other)) == {"torch.version.cuda": ("12.6", "13.0.3")}


def test_another_nccl_behind_torch_is_found(target: Target) -> None:
    other = {"version": "2.13.0+cu130", "cuda": "13.0", "nccl": "2.28.9", "arches": ["sm_120"]}
    assert findings(judge(target, torch=other)) == {"NCCL in torch": ("2.28.9", "2.29.7")}


@pytest.mark.parametrize("arches", [[], ["sm_90", "sm_100"]])
def test_torch_without_kernels_for_the_chip_is_found(target: Target, arches: list[str]) -> None:
    said = {"version": "2.13.0+cu130", "cuda": "13.0", "nccl": "2.29.7", "arches": arches}
    assert "torch architectures" in findings(judge(target, torch=said))


def test_a_package_that_is_missing_added_or_other_is_found(target: Target) -> None:
    packages = {one.name: one.version for one in target.environment.wheels}
    del packages["ray"]
    packages |= {"leftpad": "1.0", "numpy": "1.0"}
    found = findings(judge(target, distributions=packages))
    locked = {one.name: one.version for one in target.environment.wheels}
    assert found == {
        "package ray": ("nothing", locked["ray"]),
        "package leftpad": ("1.0", "nothing"),
        "package numpy": ("1.0", locked["numpy"]),
    }


def test_a_component_of_another_version_than_its_label_is_found(target: Target) -> None:
    packages = {one.name: one.version for one in target.environment.wheels} | {"transformers": "4.57.6"}
    assert findings(judge(target, distributions=packages))["component transformers"] == ("4.57.6", "5.19.0")


@pytest.mark.parametrize("check", ["import_vllm", "vllm_command", "torch", "gcc", "libraries", "ray_command", "ptxas"])
def test_a_program_that_does_not_run_is_found_with_its_error(target: Target, check: str) -> None:
    broken: dict[str, Any] = {check: "OSError: no such thing"}
    found = findings(judge(target, **broken))
    assert any("no such thing" in what for what, _expected in found.values())


def test_a_check_that_the_probe_left_out_is_found(target: Target) -> None:
    probe = make_probe(target)
    del probe["libraries"]
    report = compare(
        target,
        make_image(target),
        probe,
        components=MATRIX.components,
        built_digest=None,
        probe_digest=PROBE,
        emulated=False,
    )
    assert findings(report) == {"libraries": ("no such check in the report", "runs")}


def test_ptxas_of_another_cuda_release_is_found(target: Target) -> None:
    assert findings(judge(target, ptxas="12.8.93")) == {"ptxas": ("12.8.93", "13.0.3")}


def test_the_report_says_that_it_is_clean(target: Target) -> None:
    body = json.loads(report_json(judge(target)))
    assert body["clean"] is True
    assert body["emulated"] is True
    assert body["facts"]["vllm_command"].startswith("0.32.0")


@pytest.mark.parametrize("output", ["", "Traceback ...", "[1, 2]"])
def test_a_probe_without_a_report_is_an_error(output: str) -> None:
    with pytest.raises(VerifyError, match="probe inside the image printed"):
        parse_probe(output, "image:tag")


def test_what_programs_print_before_the_report_does_not_matter() -> None:
    assert parse_probe('WARNING something\n{"gcc": {"value": "14"}}\n', "image:tag") == {"gcc": {"value": "14"}}


def test_a_clean_report_speaks_for_that_image_and_that_probe_alone(target: Target) -> None:
    clean = report_json(judge(target))
    assert is_clean_report(clean, digest=DIGEST, probe_digest=PROBE)
    assert not is_clean_report(clean, digest=PROBE, probe_digest=PROBE)
    assert not is_clean_report(clean, digest=DIGEST, probe_digest=DIGEST)
    assert not is_clean_report(report_json(judge(target, gcc="OSError: gone")), digest=DIGEST, probe_digest=PROBE)
    assert not is_clean_report("{", digest=DIGEST, probe_digest=PROBE)


# ---- trims


def test_a_package_that_is_whole_though_it_should_be_trimmed_is_found(target: Target) -> None:
    trimmed = {one.package: {"files": 1, "bytes": 1} for one in target.trims if one.package != "ray"}
    report = judge(target, trimmed={**trimmed, "numpy": {"files": 1, "bytes": 1}})
    assert {(one.check, one.found, one.expected) for one in report.findings} == {
        ("trimmed numpy", "some files are left out", "whole"),
        ("trimmed ray", "whole", "some files are left out"),
    }


def test_a_module_that_no_longer_imports_is_found(target: Target) -> None:
    tried = {**dict.fromkeys(modules_of(target), "imports"), "cutlass": "ImportError: no libcute"}
    del tried["sympy"]
    report = judge(target, imports=tried)
    assert {(one.check, one.found) for one in report.findings} == {
        ("import cutlass", "ImportError: no libcute"),
        ("import sympy", "not tried"),
    }


def test_a_note_of_what_is_trimmed_that_lies_is_found(target: Target) -> None:
    report = judge(target, trimmed="RuntimeError: ray: ray/jars/a.jar is there")
    assert [(one.check, one.found) for one in report.findings] == [
        ("trimmed", "RuntimeError: ray: ray/jars/a.jar is there")
    ]


def test_nothing_trimmed_and_nothing_to_trim_is_clean(target: Target) -> None:
    whole = replace(target, trims=())
    assert judge(whole).findings == ()
    assert modules_of(whole) == ()
