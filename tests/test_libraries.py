"""Claims about the runtime libraries of an image, copies of them, and the ptxas that Triton gets."""

import dataclasses

import pytest
from tests.elfbuilder import make_library, make_survey

from sparkbake.errors import ImageError
from sparkbake.findings import Finding
from sparkbake.libraries import (
    Ptxas,
    RuntimeLibrary,
    duplicates,
    environment,
    image_machine,
    missing_ptxas,
    runtime_libraries,
    which_ptxas,
)
from sparkbake.surveyed import Survey

SITE = "opt/venv/lib/python3.13/site-packages"
NCCL = make_library("libnccl.so.2", note=b"\xab\xcd")
OTHER_NCCL = make_library("libnccl.so.2", defined=["more"])
PTXAS = make_library()
ENV = {"TRITON_PTXAS_PATH": "/usr/local/cuda/bin/ptxas"}


def stems(files: dict[str, bytes]) -> list[str]:
    return [one.stem for one in runtime_libraries(make_survey(files))]


def found_twice(files: dict[str, bytes]) -> tuple[Finding, ...]:
    return duplicates(runtime_libraries(make_survey(files)))


# ---- what the config says


def test_the_architecture_of_the_config_says_which_programs_are_the_image_s_own() -> None:
    assert image_machine(make_survey({})) == 183
    assert image_machine(make_survey({}, architecture="amd64")) == 62


def test_an_architecture_that_is_not_known_is_refused() -> None:
    with pytest.raises(ImageError, match=r"^an image: is for 'riscv64', expected one of arm64, amd64$"):
        image_machine(make_survey({}, architecture="riscv64"))


def test_the_variables_of_a_config_are_read_and_may_be_none() -> None:
    assert environment(make_survey({}, env={"A": "b=c"})) == {"A": "b=c"}
    bare = dataclasses.replace(make_survey({}), config='{"architecture": "arm64", "config": {"Env": null}}')
    assert environment(bare) == {}


# ---- the libraries


def test_a_library_is_described_with_its_package() -> None:
    path = f"{SITE}/nvidia/nccl/lib/libnccl.so.2"
    record = f"{SITE}/nvidia_nccl_cu13-2.29.7.dist-info/RECORD"
    survey = make_survey({path: NCCL, record: b"nvidia/nccl/lib/libnccl.so.2,sha256=x,1\n"}, links={"l": path})
    assert runtime_libraries(survey) == (
        RuntimeLibrary(
            stem="libnccl.so.2",
            paths=(path,),
            soname="libnccl.so.2",
            build_id="abcd",
            size_bytes=len(NCCL),
            sha256=survey.seen[path].entry.sha256,
            package="nvidia-nccl-cu13",
            version="2.29.7",
        ),
    )


def test_a_library_of_no_python_package_has_no_version() -> None:
    (found,) = runtime_libraries(make_survey({"usr/lib/libnccl.so.2.29.7": NCCL}))
    assert (found.package, found.version) == (None, None)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("libcudart.so.13.0.96", "libcudart.so.13"),
        ("libcudart-1b2c3d4e.so.13.0.48", "libcudart.so.13"),
        ("libcublasLt.so.13", "libcublasLt.so.13"),
        ("libcudnn.so.9", "libcudnn.so.9"),
        ("libnvrtc-builtins.so.13.0", "libnvrtc-builtins.so.13"),
        ("libnvrtc-builtins-1b2c3d4e.so.13.0", "libnvrtc-builtins.so.13"),
        ("libnccl_m2n.so", "libnccl_m2n.so"),
        ("ptxas", "ptxas"),
    ],
)
def test_copies_have_one_stem_whatever_their_names(name: str, stem: str) -> None:
    assert stems({f"x.libs/{name}": make_library()}) == [stem]


@pytest.mark.parametrize("name", ["libcudnn_ops.so.9", "libcudart_static.a", "libcudart.so.13.txt", "libnvjpeg.so.13"])
def test_other_files_are_no_runtime_libraries(name: str) -> None:
    assert stems({name: make_library()}) == []


def test_the_soname_says_the_major_version_that_a_file_name_lacks() -> None:
    assert stems({"libcudart.so": make_library("libcudart.so.13")}) == ["libcudart.so.13"]


def test_stubs_and_libraries_for_another_machine_are_left_out() -> None:
    assert stems({"cuda/lib64/stubs/libcublas.so": NCCL, "libcublas.so.13": make_library(machine=62)}) == []


def test_two_contents_of_nccl_are_an_error_with_both() -> None:
    record = f"{SITE}/nvidia_nccl_cu13-2.29.7.dist-info/RECORD"
    ours = f"{SITE}/nvidia/nccl/lib/libnccl.so.2"
    files = {ours: NCCL, "usr/lib/libnccl.so.2.1": OTHER_NCCL, record: b"nvidia/nccl/lib/libnccl.so.2,,\n"}
    assert found_twice(files) == (
        Finding(
            id="two-nccl",
            severity="error",
            subject=f"{ours}, usr/lib/libnccl.so.2.1",
            found="nvidia-nccl-cu13 2.29.7 (Build-ID abcd), of no package (Build-ID none)",
            expected="one libnccl.so",
            remedy="uninstall, or trim in matrix.yaml, all but the one that torch is linked to",
        ),
    )


def test_a_vendored_copy_of_another_library_is_a_warning() -> None:
    files = {"a/libcudart.so.13": NCCL, "x.libs/libcudart-1b2c3d4e.so.13.0.48": OTHER_NCCL}
    (found,) = found_twice(files)
    assert (found.id, found.severity, found.expected) == ("two-copies", "warning", "one libcudart.so.13")


def test_a_library_for_two_major_versions_of_cuda_is_not_there_twice() -> None:
    assert found_twice({"libcudart.so.12": NCCL, "libcudart.so.13": OTHER_NCCL}) == ()


def test_two_major_versions_of_nccl_are_two() -> None:
    assert [one.id for one in found_twice({"libnccl.so.2": NCCL, "libnccl.so.3": OTHER_NCCL})] == ["two-nccl"]


def test_equal_copies_are_one_library_at_several_paths() -> None:
    files = {"a/libnccl.so.2": NCCL, "b/libnccl.so.2": NCCL}
    (found,) = runtime_libraries(make_survey(files))
    assert found.paths == ("a/libnccl.so.2", "b/libnccl.so.2")
    assert found_twice(files) == ()


def test_several_ptxas_are_no_fault() -> None:
    assert found_twice({"a/ptxas": NCCL, "b/ptxas": OTHER_NCCL}) == ()


# ---- the assembler


def with_ptxas(content: bytes, *, target: str = "/opt/cuda") -> Survey:
    return make_survey({"opt/cuda/bin/ptxas": content}, links={"usr/local/cuda": target}, env=ENV)


def test_the_ptxas_that_a_variable_names_is_found_through_links() -> None:
    found = which_ptxas(with_ptxas(PTXAS))
    named = ENV["TRITON_PTXAS_PATH"]
    assert found == (Ptxas(variable="TRITON_PTXAS_PATH", named=named, path="opt/cuda/bin/ptxas", is_program=True),)
    assert missing_ptxas(found) == ()


def test_an_image_that_sets_no_variable_names_no_ptxas() -> None:
    assert which_ptxas(make_survey({"bin/ptxas": PTXAS}, env={"TRITON_PTXAS_PATH": ""})) == ()


def test_both_variables_are_looked_at() -> None:
    survey = make_survey({}, env={"TRITON_PTXAS_PATH": "/a", "TRITON_PTXAS_BLACKWELL_PATH": "/b"})
    assert [one.named for one in which_ptxas(survey)] == ["/a", "/b"]


def test_a_ptxas_that_is_not_there_is_an_error() -> None:
    assert missing_ptxas(which_ptxas(with_ptxas(PTXAS, target="/opt/other"))) == (
        Finding(
            id="ptxas-missing",
            severity="error",
            subject="TRITON_PTXAS_PATH",
            found="/usr/local/cuda/bin/ptxas, which is not there",
            expected="a ptxas for the image's own machine",
            remedy="install nvidia-cuda-nvcc, or set the variable in recipes/ to where its ptxas is",
        ),
    )


@pytest.mark.parametrize("content", [make_library(machine=62), b"#!/bin/sh\n"])
def test_a_ptxas_that_the_machine_cannot_run_is_an_error(content: bytes) -> None:
    (found,) = missing_ptxas(which_ptxas(with_ptxas(content)))
    assert found.found == "/usr/local/cuda/bin/ptxas, which is opt/cuda/bin/ptxas, no program for this machine"


def test_a_ptxas_that_nobody_may_execute_is_an_error() -> None:
    survey = with_ptxas(PTXAS)
    seen = survey.seen["opt/cuda/bin/ptxas"]
    plain = dataclasses.replace(seen, entry=dataclasses.replace(seen.entry, mode=0o644))
    survey = dataclasses.replace(survey, seen={**survey.seen, "opt/cuda/bin/ptxas": plain})
    assert [one.id for one in missing_ptxas(which_ptxas(survey))] == ["ptxas-missing"]
