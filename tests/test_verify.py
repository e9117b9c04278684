"""What verify makes of an image and of what its probe printed."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkbake.errors import VerifyError
from sparkbake.findings import Finding, Waived
from sparkbake.matrix import load_matrix
from sparkbake.model import Target
from sparkbake.project import open_project
from sparkbake.verify import (
    Programs,
    Report,
    is_clean_report,
    judge_identity,
    judge_probe,
    modules_of,
    parse_probe,
    probe_facts,
    report_json,
)

# What every torch of ours has compiled in.
WHOLE = {"cudnn": 91900, "lapack": True}

ROOT = Path(__file__).parents[1]
MATRIX = load_matrix(ROOT / "matrix.yaml")
DIGEST = "sha256:" + "a" * 64
CHECKS = "sha256:" + "c" * 64
TODAY = "2026-11-21"


@pytest.fixture(scope="module")
def target() -> Target:
    project = open_project(ROOT)
    (found,) = project.plan(project.select(["0.32.0-t5"]), project.matrix.bases[1]).targets
    return found


def make_probe(target: Target, **changes: Any) -> dict[str, dict[str, Any]]:
    values: dict[str, Any] = {
        "machine": "aarch64",
        "python": "3.13.5",
        "distributions": {one.name: one.version for one in target.environment.wheels},
        "torch": {"version": "2.13.0+cu130", "cuda": "13.0", "nccl": "2.29.7", "arches": ["sm_100", "sm_120"], **WHOLE},
        "import_vllm": "0.32.0",
        "vllm_command": "0.32.0",
        "ptxas": "13.0.88",
        "ptxas_for_chip": "sm_121a",
        "nvcc": "13.0.88",
        "gcc": "14.2.0",
        "g++": "14.2.0",
        "python_headers": "/usr/include/python3.13/Python.h",
        "ray_command": "2.59.0",
        "libraries": ["libibverbs.so.1"],
        "linkable": ["libcudart.so"],
        "trimmed": {one.package: {"files": 1, "bytes": 1_000_000} for one in target.trims if not one.cubins},
        "imports": dict.fromkeys(modules_of(target), "imports"),
    }
    report = {name: {"value": value, "seconds": 0.1} for name, value in values.items()}
    for name, value in changes.items():
        report[name] = {"error": value} if isinstance(value, str) and "Error" in value else {"value": value}
    return report


def judge(target: Target, **changes: Any) -> tuple[Finding, ...]:
    return judge_probe(target, make_probe(target, **changes), MATRIX.components)


def findings(found: Iterable[Finding]) -> dict[str, tuple[str, str]]:
    return {f"{one.id} {one.subject}": (one.found, one.expected) for one in found}


def make_report(target: Target, *found: Finding, programs: Programs = "under emulation") -> Report:
    return Report(
        tag=target.tag,
        name=target.name,
        reference=target.reference,
        digest=DIGEST,
        plan_digest="sha256:" + "d" * 64,
        checks_digest=CHECKS,
        programs=programs,
        facts=probe_facts(make_probe(target)),
        findings=found,
        waived=(),
    )


def test_an_image_as_planned_is_clean(target: Target) -> None:
    assert judge(target) == ()


def test_another_image_under_the_tag_is_found(target: Target) -> None:
    other = "sha256:" + "b" * 64
    assert judge_identity(target, DIGEST, DIGEST) == ()
    assert judge_identity(target, DIGEST, None) == ()
    assert findings(judge_identity(target, DIGEST, other)) == {f"digest {target.reference}": (DIGEST, other)}


def test_an_image_for_another_machine_is_found(target: Target) -> None:
    assert findings(judge(target, machine="x86_64")) == {"program machine": ("x86_64", "aarch64")}


def test_a_cpu_build_of_torch_is_found(target: Target) -> None:
    cpu: dict[str, Any] = {"version": "2.13.0+cpu", "cuda": None, "nccl": "2.29.7", "arches": [], **WHOLE}
    assert findings(judge(target, torch=cpu))["torch build"] == ("CPU-only, 2.13.0+cpu", "a CUDA build")


def test_torch_for_another_cuda_is_found(target: Target) -> None:
    other = {"version": "2.13.0+cu126", "cuda": "12.6", "nccl": "2.29.7", "arches": ["sm_120"], **WHOLE}
    assert findings(judge(target, torch=other)) == {"torch CUDA": ("12.6", "13.0.3")}


@pytest.mark.parametrize("cuda", ["latest", "13.x", "12.9"])
def test_torch_for_a_cuda_that_is_not_of_the_release_is_found(target: Target, cuda: str) -> None:
    other = {"version": "2.13.0+cu130", "cuda": cuda, "nccl": "2.29.7", "arches": ["sm_120"], **WHOLE}
    assert findings(judge(target, torch=other)) == {"torch CUDA": (cuda, "13.0.3")}


def test_without_a_component_for_nccl_that_of_torch_is_not_looked_at(target: Target) -> None:
    bare = replace(target, versions=tuple(one for one in target.versions if one[0] != "nccl"))
    components = [one for one in MATRIX.components if one.name != "nccl"]
    other = {"version": "2.13.0+cu130", "cuda": "13.0", "nccl": "2.28.9", "arches": ["sm_120"], **WHOLE}
    assert judge_probe(bare, make_probe(target, torch=other), components) == ()


def test_another_nccl_behind_torch_is_found(target: Target) -> None:
    other = {"version": "2.13.0+cu130", "cuda": "13.0", "nccl": "2.28.9", "arches": ["sm_120"], **WHOLE}
    assert findings(judge(target, torch=other)) == {"torch NCCL": ("2.28.9", "2.29.7")}


@pytest.mark.parametrize(("name", "subject"), [("cudnn", "cuDNN"), ("lapack", "LAPACK")])
def test_a_torch_that_was_compiled_without_a_part_of_it(target: Target, name: str, subject: str) -> None:
    said = {"version": "2.13.0+cu130", "cuda": "13.0", "nccl": "2.29.7", "arches": ["sm_120"], **WHOLE, name: None}
    assert findings(judge(target, torch=said)) == {f"torch {subject}": ("none", "compiled in")}


@pytest.mark.parametrize("arches", [[], ["sm_90", "sm_100"]])
def test_torch_without_kernels_for_the_chip_is_found(target: Target, arches: list[str]) -> None:
    said = {"version": "2.13.0+cu130", "cuda": "13.0", "nccl": "2.29.7", "arches": arches, **WHOLE}
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


@pytest.mark.parametrize(
    "check", ["import_vllm", "vllm_command", "torch", "gcc", "libraries", "ray_command", "ptxas", "ptxas_for_chip"]
)
def test_a_program_that_does_not_run_is_found_with_its_error(target: Target, check: str) -> None:
    broken: dict[str, Any] = {check: "OSError: no such thing"}
    found = findings(judge(target, **broken))
    assert any("no such thing" in what for what, _expected in found.values())


def test_a_check_that_the_probe_left_out_is_found(target: Target) -> None:
    probe = make_probe(target)
    del probe["libraries"]
    found = judge_probe(target, probe, MATRIX.components)
    assert findings(found) == {"program libraries": ("no such check in the report", "runs")}


def test_ptxas_of_another_cuda_release_is_found(target: Target) -> None:
    assert findings(judge(target, ptxas="12.8.93")) == {"program ptxas": ("12.8.93", "13.0.3")}


def test_the_report_says_that_it_is_clean(target: Target) -> None:
    body = json.loads(report_json(make_report(target)))
    assert body["clean"] is True
    assert body["programs"] == "under emulation"
    assert body["facts"]["vllm_command"].startswith("0.32.0")


def test_a_report_with_warnings_alone_is_clean(target: Target) -> None:
    (error,) = judge(target, ptxas="12.8.93")
    warning = replace(error, severity="warning")
    assert json.loads(report_json(make_report(target, warning)))["clean"] is True
    report = make_report(target, warning, error)
    assert report.errors == 1
    assert json.loads(report_json(report))["clean"] is False


@pytest.mark.parametrize("output", ["", "Traceback ...", "[1, 2]"])
def test_a_probe_without_a_report_is_an_error(output: str) -> None:
    with pytest.raises(VerifyError, match="probe inside the image printed"):
        parse_probe(output, "image:tag")


def test_what_programs_print_before_the_report_does_not_matter() -> None:
    assert parse_probe('WARNING something\n{"gcc": {"value": "14"}}\n', "image:tag") == {"gcc": {"value": "14"}}


def test_a_clean_report_speaks_for_that_image_and_those_checks_alone(target: Target) -> None:
    clean = report_json(make_report(target))
    assert is_clean_report(clean, digest=DIGEST, checks_digest=CHECKS, today=TODAY)
    assert not is_clean_report(clean, digest=CHECKS, checks_digest=CHECKS, today=TODAY)
    assert not is_clean_report(clean, digest=DIGEST, checks_digest=DIGEST, today=TODAY)
    unclean = report_json(make_report(target, *judge(target, gcc="OSError: gone")))
    assert not is_clean_report(unclean, digest=DIGEST, checks_digest=CHECKS, today=TODAY)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_what_is_no_report_speaks_for_no_image(text: str) -> None:
    assert not is_clean_report(text, digest=DIGEST, checks_digest=CHECKS, today=TODAY)


@pytest.mark.parametrize(("expires", "is_clean"), [("2026-11-22", True), (TODAY, True), ("2026-11-20", False)])
def test_a_report_speaks_for_an_image_as_long_as_its_waivers_count(
    target: Target, expires: str, *, is_clean: bool
) -> None:
    (finding,) = judge(target, ptxas="12.8.93")
    waived = (
        Waived(finding=finding, reason="borne", expires="2099-12-31"),
        Waived(finding=finding, reason="borne", expires=expires),
    )
    report = report_json(replace(make_report(target), waived=waived))
    assert is_clean_report(report, digest=DIGEST, checks_digest=CHECKS, today=TODAY) is is_clean


def test_a_report_of_an_image_whose_programs_were_not_run_speaks_for_none(target: Target) -> None:
    unrun = report_json(make_report(target, programs="not run"))
    assert not is_clean_report(unrun, digest=DIGEST, checks_digest=CHECKS, today=TODAY)


# ---- trims


def test_a_package_that_is_whole_though_it_should_be_trimmed_is_found(target: Target) -> None:
    trimmed = {one.package: {"files": 1, "bytes": 1} for one in target.trims if not one.cubins}
    del trimmed["ray"]
    assert findings(judge(target, trimmed={**trimmed, "numpy": {"files": 1, "bytes": 1}})) == {
        "trim numpy": ("some files are left out", "whole"),
        "trim ray": ("whole", "some files are left out"),
    }


def test_a_module_that_no_longer_imports_is_found(target: Target) -> None:
    tried = {**dict.fromkeys(modules_of(target), "imports"), "cutlass": "ImportError: no libcute"}
    del tried["sympy"]
    assert findings(judge(target, imports=tried)) == {
        "import cutlass": ("ImportError: no libcute", "imports"),
        "import sympy": ("not tried", "imports"),
    }


def test_a_note_of_what_is_trimmed_that_lies_is_found(target: Target) -> None:
    lie = "RuntimeError: ray: ray/jars/a.jar is there"
    assert findings(judge(target, trimmed=lie)) == {"program trimmed": (lie, "runs")}


def test_nothing_trimmed_and_nothing_to_trim_is_clean(target: Target) -> None:
    whole = replace(target, trims=())
    assert judge(whole) == ()
    assert modules_of(whole) == ()
