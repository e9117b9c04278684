"""Claims about what is found wrong with a compiled image: clean ones, tampered with in every way that matters."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.compiledimages import (
    CORE,
    DEV,
    NCCL,
    RUNTIME,
    TAG,
    VLLM,
    image_of,
    make_compiled_checkout,
    make_compiled_layers,
    make_compiled_packages,
    write_compiled,
)
from tests.cudabuilder import make_program
from tests.elfbuilder import make_library
from tests.imagebuilder import SASS_90A, Layers, content_of, torch_version, with_content, with_member, without
from tests.ocibuilder import SITE, make_file, make_link
from tests.verified import VALIDATOR, Result

from sparkbake.labels import OCI
from sparkbake.project import Project
from sparkbake.verifying import verify_files

Verify = Callable[..., Result]
PATCHED = "vllm/_custom_ops.py"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_compiled_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def layers(project: Project) -> Layers:
    return make_compiled_layers(project)


@pytest.fixture
def verify(project: Project, tmp_path: Path) -> Verify:
    def verified(made: Layers, name: str = VLLM, variant: str | None = None, **more: Any) -> Result:
        image = image_of(project, name, variant)
        place = write_compiled(tmp_path / "image", image, made, **more)
        status = verify_files(project, {place: None}, as_json=False)
        text = (project.build / "reports" / f"{image.target.name}.unrun.json").read_text(encoding="utf-8")
        report = json.loads(text)
        VALIDATOR.validate(report)
        return Result(status=status, report=report)

    return verified


def changed(project: Project, name: str, files: dict[str, bytes | None]) -> Layers:
    """An image of which one package was compiled to something else, so that all records are honest."""
    packages = make_compiled_packages(image_of(project))
    return make_compiled_layers(project, packages={**packages, name: packages[name].having(files)})


# ---- nothing wrong


@pytest.mark.parametrize("name", [DEV, RUNTIME, VLLM])
def test_an_image_as_its_recipe_makes_it_is_clean(verify: Verify, project: Project, name: str) -> None:
    """Nothing is said of what only images from wheels have: trims, owners of files, rules and waivers for these."""
    found = verify(make_compiled_layers(project, name), name)
    assert (found.status, found.report["findings"], found.report["waived"]) == (0, [], [])
    target = image_of(project, name).target
    assert (found.report["tag"], found.report["name"]) == (target.tag, target.name)


def test_the_report_says_which_patches_were_looked_for(verify: Verify, layers: Layers) -> None:
    facts = verify(layers).report["facts"]
    assert facts["patches looked for"].startswith("0003-fp8-linear-torch.patch, 0004-fp8-moe-triton.patch: 5 places")


# ---- what it says of itself


def test_a_label_that_lies_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(layers, labels={"dev.example.vllm_commit": "f" * 40})
    assert (found.status, found.errors) == (1, [("label", "dev.example.vllm_commit")])
    assert found.report["findings"][0]["remedy"].endswith(f"`nox -s build -- {TAG} --no-cache`")


def test_an_image_of_another_build_context_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(layers, labels={"dev.example.context_digest": "sha256:" + 64 * "0"})
    assert found.errors == [("label", "dev.example.context_digest")]


def test_a_manifest_of_another_plan_is_found(verify: Verify, layers: Layers) -> None:
    path = "usr/share/sparkbake/manifest.json"
    body = json.loads(content_of(layers, path))
    made = with_content(layers, path, json.dumps({**body, "plan_digest": "sha256:0"}).encode())
    found = verify(made)
    assert found.errors == [("manifest", path)]
    assert found.said("manifest")[0] == "other values of plan_digest"


@pytest.mark.parametrize(
    ("key", "value"),
    [("Entrypoint", None), ("Healthcheck", {"Test": ["NONE"]}), ("User", "nobody"), ("Cmd", ["vllm"])],
)
def test_another_start_is_found(verify: Verify, layers: Layers, key: str, value: object) -> None:
    found = verify(layers, **{key: value})
    assert found.errors == [("config", key)]


def test_a_variable_that_neither_the_recipes_nor_cuda_s_images_set_is_found(
    verify: Verify, project: Project, layers: Layers
) -> None:
    env = image_of(project).settings["Env"]
    assert isinstance(env, list)
    found = verify(layers, Env=[*env, "LD_PRELOAD=/x.so"])
    assert found.errors == [("config", "Env")]


def test_a_variable_of_the_foundation_that_is_another_is_found(
    verify: Verify, project: Project, layers: Layers
) -> None:
    env = image_of(project).settings["Env"]
    assert isinstance(env, list)
    assert "NCCL_ROOT=/opt/nccl" in env
    found = verify(layers, Env=[one if "NCCL_ROOT" not in one else "NCCL_ROOT=/usr" for one in env])
    assert found.errors == [("config", "Env")]


def test_an_entrypoint_that_is_not_as_in_this_checkout_is_found(verify: Verify, layers: Layers) -> None:
    assert verify(with_content(layers, "usr/local/bin/spark", b"#!/bin/sh\n")).errors == [
        ("runtime", "usr/local/bin/spark")
    ]
    assert verify(without(layers, "usr/local/bin/spark")).errors == [("runtime", "usr/local/bin/spark")]


def test_an_entrypoint_that_cannot_be_executed_is_found(verify: Verify, layers: Layers) -> None:
    made = with_member(layers, make_file("usr/local/bin/spark", content_of(layers, "usr/local/bin/spark"), mode=0o644))
    found = verify(made)
    assert found.errors == [("runtime", "usr/local/bin/spark")]
    assert found.said("runtime")[0].endswith("mode 644")


# ---- packages


def test_a_package_that_is_missing_is_found(verify: Verify, project: Project) -> None:
    packages = make_compiled_packages(image_of(project))
    del packages["ray"], packages["triton"]
    found = verify(make_compiled_layers(project, packages=packages))
    assert found.errors == [("package", "ray"), ("package", "triton")]


def test_a_package_more_is_found(verify: Verify, project: Project) -> None:
    packages = make_compiled_packages(image_of(project))
    packages["nvidia-nccl-cu13"] = packages["ray"]
    found = verify(make_compiled_layers(project, packages=packages))
    assert found.errors == [("package", "nvidia-nccl-cu13")]


def test_a_torch_for_the_cpu_is_found(verify: Verify, project: Project) -> None:
    packages = make_compiled_packages(image_of(project))
    cpu = {"torch/version.py": torch_version("2.10.0+cpu", None)}
    packages["torch"] = replace(packages["torch"], version="2.10.0+cpu").having(cpu)
    found = verify(make_compiled_layers(project, packages=packages))
    assert found.errors == [("torch", "build")]


def test_a_package_of_the_operating_system_that_is_missing_is_found(verify: Verify, project: Project) -> None:
    found = verify(make_compiled_layers(project, DEV, system=("python3", "curl", "git")), DEV)
    assert found.errors == [("os-package", "libblas3"), ("os-package", "make")]


# ---- one NCCL


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib/aarch64-linux-gnu/libnccl.so.2.28.9",
        f"{SITE}/nvidia/nccl/lib/libnccl.so.2",
        f"{SITE}/torchaudio.libs/libnccl-1b2c3d4e.so.2",
        "opt/nccl/lib/libnccl_static.a",
    ],
)
def test_another_nccl_is_found_whatever_it_holds(verify: Verify, layers: Layers, path: str) -> None:
    found = verify(with_member(layers, make_file(path, b"no ELF file")))
    assert found.errors == [("nccl", path)]
    assert found.said("nccl") == ("another NCCL", f"{NCCL} alone")


def test_another_nccl_is_told_once(verify: Verify, layers: Layers) -> None:
    path = "usr/lib/libnccl.so.2"
    assert verify(with_member(layers, make_file(path, make_library("libnccl.so.2")))).errors == [("nccl", path)]


@pytest.mark.parametrize("path", ["usr/lib/libnccl-net.so", "usr/lib/libnccl-tuner.so.1"])
def test_a_plug_in_of_nccl_is_no_other_nccl(verify: Verify, layers: Layers, path: str) -> None:
    assert verify(with_member(layers, make_file(path, b""))).errors == []


def test_a_link_is_no_other_nccl(verify: Verify, layers: Layers) -> None:
    assert verify(with_member(layers, make_link("usr/lib/libnccl.so.2", f"/{NCCL}"))).errors == []


def test_an_nccl_that_is_missing_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(without(layers, NCCL))
    assert ("nccl", NCCL) in found.errors


# ---- patches


def test_a_patched_file_that_was_reverted_is_found(verify: Verify, project: Project) -> None:
    found = verify(changed(project, "vllm", {PATCHED: b"def cutlass_group_gemm_supported():\n    return True\n"}))
    assert found.errors == [("patch", PATCHED), ("patch", PATCHED)]
    first = found.report["findings"][0]
    assert first["found"].startswith("0 times: ")
    assert first["expected"] == "1 times, by 0004-fp8-moe-triton.patch"


def test_a_patched_file_that_is_not_installed_is_found(verify: Verify, project: Project) -> None:
    found = verify(changed(project, "vllm", {PATCHED: None}))
    assert found.errors == [("patch", PATCHED)]
    assert found.said("patch")[0] == "no such file"


# ---- what is compiled


def test_an_extension_that_the_chip_cannot_run_is_found(verify: Verify, project: Project) -> None:
    found = verify(changed(project, "vllm", {CORE: make_program(SASS_90A)}))
    assert found.errors == [("device-code", f"{SITE}/{CORE}")]


def test_an_extension_that_is_damaged_is_found(verify: Verify, project: Project) -> None:
    found = verify(changed(project, "vllm", {CORE: b"\x7fELF and no more"}))
    assert found.errors == [("elf-unread", f"{SITE}/{CORE}")]


def test_an_extension_that_would_not_load_is_found(verify: Verify, project: Project) -> None:
    found = verify(changed(project, "vllm", {"vllm/_moe_C.abi3.so": make_library(needed=["libnowhere.so.1"])}))
    assert found.errors == [("missing-library", f"{SITE}/vllm/_moe_C.abi3.so")]


def test_an_assembler_for_triton_that_is_missing_is_found(verify: Verify, layers: Layers) -> None:
    found = verify(without(layers, "usr/local/cuda/bin/ptxas"))
    assert {one for one, _subject in found.errors} == {"ptxas-missing"}


# ---- foundations


def test_the_remedy_for_a_foundation_is_its_own(verify: Verify, project: Project) -> None:
    """It is taken as it is wherever it is, so that a new build of a row would not mend it."""
    found = verify(without(make_compiled_layers(project, RUNTIME), NCCL), RUNTIME)
    reference = image_of(project, RUNTIME).target.reference
    (one,) = [one for one in found.report["findings"] if one["id"] == "nccl"]
    assert (
        one["remedy"]
        == f"remove the image and build it anew: `docker image rm {reference}`, then `nox -s build -- {TAG}`"
    )


def test_both_images_of_a_foundation_are_told_apart(verify: Verify, project: Project) -> None:
    made = make_compiled_layers(project, DEV)
    found = verify(made, DEV)
    assert found.report["name"] == image_of(project, DEV).target.name
    title = dict(image_of(project, RUNTIME).target.labels)[OCI + "title"]
    assert title != dict(image_of(project, DEV).target.labels)[OCI + "title"]


# ---- variants


def test_a_variant_is_held_against_its_own_plan(verify: Verify, project: Project) -> None:
    """It is told by its labels; what a usual build of the row would be is no matter."""
    found = verify(make_compiled_layers(project, variant="12.1"), variant="12.1")
    assert (found.status, found.report["findings"]) == (0, [])
    assert found.report["tag"] == f"{TAG}-sm121"


def test_the_remedy_for_a_variant_builds_that(verify: Verify, project: Project) -> None:
    made = without(make_compiled_layers(project, variant="12.1"), "usr/local/bin/spark")
    (one,) = verify(made, variant="12.1").report["findings"]
    assert one["remedy"].endswith(f"`nox -s build -- {TAG} --variant 12.1 --no-cache`")
