"""What docs/kernels.md says is what upstream's own CMake files say, and what is patched into them wrongly is found.

It takes the source distributions of all releases of the page: 400 MB, kept in the user's cache.
"""

from functools import cache

import pytest
from tests.builders import ROOT

from sparkbake.cmakerun import follow, is_build_file, patched_files
from sparkbake.errors import LockError, ProcessError
from sparkbake.kernelrun import allowed, asked, compute, page
from sparkbake.kernels import Kernels, findings_of
from sparkbake.patches import select
from sparkbake.project import cache_folder, open_project
from sparkbake.series import load_series
from sparkbake.sources import fetch_sdist, read_members

pytestmark = pytest.mark.network

SERIES = load_series(ROOT / "patches" / "vllm")
SUPPORTED = '"7.5;8.0;8.6;8.7;8.9;9.0;10.0;11.0;12.0"'


@cache
def build_files(vllm: str) -> dict[str, str]:
    return read_members(fetch_sdist("vllm", vllm, cache_folder()), is_build_file)


def patched(vllm: str, before: str, after: str, *, times: int = 1) -> dict[str, str]:
    files = build_files(vllm)
    text = files["CMakeLists.txt"]
    assert text.count(before) == times
    return {**files, "CMakeLists.txt": text.replace(before, after)}


def found(vllm: str, arch: str, *, files: dict[str, str] | None = None, cuda: str = "13.0") -> dict[str, str]:
    """Family to its architectures."""
    built = follow(ROOT, vllm, files or build_files(vllm), arch=arch, cuda=cuda)
    return {one.name: ";".join(one.archs) for one in built.families}


def errors(vllm: str, arch: str, *, files: dict[str, str] | None = None, cuda: str = "13.0") -> dict[str, set[str]]:
    """Kind of finding to families."""
    built = follow(ROOT, vllm, files or build_files(vllm), arch=arch, cuda=cuda)
    kinds: dict[str, set[str]] = {}
    for one in findings_of(built, "12.1"):
        if one.severity == "error":
            kinds.setdefault(one.id, set()).add(one.subject.split()[2])
    return kinds


def test_the_page_is_what_upstream_says() -> None:
    text = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    assert page(open_project(ROOT), text) == text, "run `nox -s kernels -- --write` and read the diff"


@pytest.mark.parametrize("vllm", ["0.13.0", "0.16.0", "0.19.1", "0.20.2", "0.32.0"])
def test_family_code_gets_every_kernel_for_12x(vllm: str) -> None:
    assert errors(vllm, "12.0f") == {}


def test_a_plain_12_1_loses_the_features_of_its_family_in_0_19() -> None:
    """CMake of 0.19 keeps the user's spelling; ptxas refuses FP4 instructions for a plain sm_121."""
    assert found("0.19.1", "12.1")["FP4_SM120"] == "12.1"
    assert "FP4_SM120" in errors("0.19.1", "12.1")["kernels-without-features"]


def test_a_chip_added_to_those_supported_loses_every_kernel_for_12x_up_to_0_18() -> None:
    """Their CMake takes 12.0f for nothing but 12.0."""
    files = patched("0.13.0", SUPPORTED, f'{SUPPORTED[:-1]};12.1"')
    missing = errors("0.13.0", "12.1a", files=files)["kernels-missing"]
    assert missing == {"SCALED_MM_SM120", "FP4_SM120", "CUTLASS_MOE_DATA", "MLA", "QUTLASS"}


def test_code_for_just_12_0_does_not_load_on_this_chip() -> None:
    assert errors("0.32.0", "12.0a")["kernels-of-other-chip"] >= {"SCALED_MM_SM120", "FP4_SM120"}


def test_a_patch_that_takes_12x_out_of_a_list_of_12x_kernels_is_seen() -> None:
    """As the backport of vllm#40923 put back: Marlin as PTX for 8.0."""
    files = patched("0.32.0", 'MARLIN_ARCHS "8.0+PTX;12.0f"', 'MARLIN_ARCHS "8.0+PTX"')
    assert found("0.32.0", "12.0f", files=files)["MARLIN"] == "8.0+PTX"
    files = patched("0.13.0", 'MARLIN_ARCHS "8.0+PTX"', 'MARLIN_ARCHS "8.0+PTX;12.0f"')
    assert found("0.13.0", "12.0f", files=files)["MARLIN"] == "12.0f"


def test_a_compiled_row_is_computed_as_it_is_compiled_and_else_as_released() -> None:
    project, asked_for = open_project(ROOT), {"0.14.1": "13.1.0", "0.20.2": "13.0.2"}
    marlin = {}
    for as_released in (False, True):
        computed = compute(project, asked_for, SERIES, arch="12.0f", as_released=as_released)
        for vllm, built in computed.items():
            assert isinstance(built, Kernels)
            marlin[vllm, as_released] = {one.name: one.archs for one in built.families}["MARLIN"]
    assert marlin == {
        ("0.14.1", False): ("12.0f",),
        ("0.14.1", True): ("8.0+PTX",),
        ("0.20.2", False): ("8.0+PTX",),
        ("0.20.2", True): ("8.0+PTX",),
    }


@pytest.mark.parametrize("vllm", ["0.13.0", "0.14.1", "0.18.1", "0.19.1", "0.22.1"])
def test_our_patches_give_marlin_its_12x_kernels(vllm: str) -> None:
    files = patched_files(fetch_sdist("vllm", vllm, cache_folder()), select(SERIES, vllm))
    built = found(vllm, "12.0f", files=files)
    assert (built["MARLIN"], built["MARLIN_BF16"], built["MARLIN_MOE"]) == ("12.0f", "12.0f", "12.0f")
    assert errors(vllm, "12.0f", files=files) == {}


@pytest.mark.parametrize(("vllm", "archs"), [("0.13.0", "12.1f"), ("0.18.1", "12.1f"), ("0.22.1", "12.1a")])
def test_the_native_variant_compiles_for_12_1_itself(vllm: str, archs: str) -> None:
    files = patched_files(fetch_sdist("vllm", vllm, cache_folder()), select(SERIES, vllm, "12.1"))
    built = found(vllm, "12.1a", files=files)
    assert {built[name] for name in ("SCALED_MM_SM120", "FP4_SM120", "CUTLASS_MOE_DATA", "MARLIN_MOE")} == {archs}


def test_every_release_that_has_the_variant_is_whole_but_for_what_is_spared() -> None:
    """And just that is missing: what upstream or a patch gives it by now need not be spared any more."""
    project = open_project(ROOT)
    releases = allowed(asked(project, [], cuda=None), SERIES, "12.1")
    computed = compute(project, releases, SERIES, arch="12.1a", variant="12.1")
    assert len(computed) == 8
    for vllm, built in computed.items():
        assert isinstance(built, Kernels)
        missing = findings_of(built, "12.1")
        assert {one.severity for one in missing} <= {"warning"}, vllm
        assert [one.subject.split()[2] for one in missing] == [name for name, _why in built.spared], vllm
        assert {arch.partition(".")[0] for one in built.families for arch in one.archs if one.name != "CUDA_ARCHS"} <= {
            "8",
            "9",
            "12",
        }


@pytest.mark.parametrize("vllm", ["0.13.0", "0.14.0", "0.14.1", "0.16.0", "0.17.0", "0.18.1"])
def test_no_backend_calls_the_spared_kernels_on_12x(vllm: str) -> None:
    """As upstream's own backend says, which is the evidence of the series."""
    path = "vllm/v1/attention/backends/mla/cutlass_mla.py"
    (text,) = read_members(fetch_sdist("vllm", vllm, cache_folder()), lambda one: one == path).values()
    body = text.partition("def supports_compute_capability(")[2]
    assert body.splitlines()[1].strip() == "return capability.major == 10"


def test_cuda_12_compiles_for_12_0_alone() -> None:
    assert "SCALED_MM_SM120" in errors("0.16.0", "12.0f", cuda="12.9")["kernels-of-other-chip"]


def test_an_architecture_of_another_major_version_leaves_12x_kernels_out() -> None:
    assert errors("0.20.2", "9.0")["kernels-missing"] >= {"SCALED_MM_SM120", "FP4_SM120", "MARLIN_FP8"}


def test_an_architecture_that_upstream_refuses_is_an_error() -> None:
    with pytest.raises(ProcessError, match=r"(?s)^vllm 0\.32\.0: .*TORCH_CUDA_ARCH_LIST=5\.0.*No supported CUDA"):
        found("0.32.0", "5.0")


def test_build_files_that_never_ask_for_architectures_are_an_error() -> None:
    files = {**build_files("0.32.0"), "CMakeLists.txt": "cmake_minimum_required(VERSION 3.26)\nproject(x)\n"}
    with pytest.raises(LockError, match=r"could not be followed: 0 lists of architectures and 0 groups of sources"):
        found("0.32.0", "12.0f", files=files)
