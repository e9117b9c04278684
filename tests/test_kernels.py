"""Claims about which kernels a release is said to build, from calls as CMake's trace has them of upstream's files."""

from dataclasses import replace

import pytest

from sparkbake.cmaketrace import Call
from sparkbake.errors import LockError
from sparkbake.kernels import Computed, Family, Kernels, arch_verdict, findings_of, kernels_of, markdown_kernels

UTILS = "cmake/utils.cmake"
QUTLASS = "cmake/external_projects/qutlass.cmake"


def call(command: str, *arguments: str, path: str = "CMakeLists.txt", line: int = 1, text: str = "") -> Call:
    return Call(command=command, arguments=arguments, path=path, line=line, text=text)


def intersected(variable: str, wanted: str, result: str, *, line: int = 1, path: str = "CMakeLists.txt") -> list[Call]:
    """What the trace has of `cuda_archs_loose_intersection(VARIABLE "WANTED" "${CUDA_ARCHS}")`."""
    return [
        call("cuda_archs_loose_intersection", variable, wanted, "12.0f", path=path, line=line),
        call("set", "_SRC_CUDA_ARCHS", wanted, path=UTILS),
        call("set", variable, *([result] if result else []), "PARENT_SCOPE", path=UTILS),
    ]


def compiled(variable: str, archs: str, *sources: str, path: str = "CMakeLists.txt") -> list[Call]:
    text = f'set_gencode_flags_for_srcs(\n  SRCS "${{SRCS}}"\n  CUDA_ARCHS "${{{variable}}}")'
    given = ("SRCS", ";".join(sources), "CUDA_ARCHS", archs)
    return [call("set_gencode_flags_for_srcs", *given, path=path, line=9, text=text)]


REST = [*intersected("CUDA_ARCHS", "9.0;12.0", "12.0f", line=160), *compiled("CUDA_ARCHS", "12.0f", "a.cu", "b.cu")]


def read(*calls: list[Call]) -> dict[str, Family]:
    return {one.name: one for one in whole(*calls).families}


def whole(*calls: list[Call]) -> Kernels:
    every = [one for some in (REST, *calls) for one in some]
    return kernels_of("0.32.0", every, arch="12.0f", cuda="13.0")


def findings(*calls: list[Call]) -> list[tuple[str, str]]:
    return [(one.id, one.severity) for one in findings_of(whole(*calls), "12.1")]


# ---- families


def test_a_family_has_upstreams_list_what_came_of_it_and_its_sources() -> None:
    family = read(intersected("W4A8_ARCHS", "9.0a;12.0f;", "12.0f", line=7), compiled("W4A8_ARCHS", "12.0f", "w.cu"))
    assert family["W4A8"] == Family(
        name="W4A8", place="CMakeLists.txt:7", wanted=("9.0a", "12.0f"), archs=("12.0f",), sources=("w.cu",)
    )


def test_a_family_that_is_not_built_has_no_architecture() -> None:
    family = read(intersected("MACHETE_ARCHS", "9.0a", ""))["MACHETE"]
    assert (family.archs, family.sources) == ((), ())


def test_sources_without_a_list_of_their_own_are_a_family() -> None:
    assert read()["CUDA_ARCHS"].sources == ("a.cu", "b.cu")


def test_one_variable_with_the_lists_of_several_generations_is_several_families() -> None:
    found = read(
        intersected("SCALED_MM_ARCHS", "9.0a;", "", line=1),
        intersected("SCALED_MM_ARCHS", "12.0f", "12.0f", line=2),
        compiled("SCALED_MM_ARCHS", "12.0f", "sm120.cu"),
        intersected("SCALED_MM_ARCHS", "10.0f;11.0f", "", line=3),
    )
    assert set(found) == {"CUDA_ARCHS", "SCALED_MM_SM90", "SCALED_MM_SM120", "SCALED_MM_SM100"}
    assert found["SCALED_MM_SM120"].sources == ("sm120.cu",)
    assert found["SCALED_MM_SM100"].sources == ()


def test_a_list_that_another_function_of_upstream_intersects_is_known_by_the_outer_one() -> None:
    """As cuda_archs_sm90plus does."""
    outer = call("cuda_archs_sm90plus", "ROUTER_ARCHS", "12.0f", line=5)
    inner = [
        call("cuda_archs_loose_intersection", "_archs", "9.0a;12.0f", "12.0f", path=UTILS),
        call("set", "_archs", "12.0f", "PARENT_SCOPE", path=UTILS),
        call("set", "ROUTER_ARCHS", "12.0f", "PARENT_SCOPE", path=UTILS),
    ]
    family = read([outer, *inner])["ROUTER"]
    assert (family.wanted, family.archs, family.place) == (("9.0a", "12.0f"), ("12.0f",), "CMakeLists.txt:5")


def test_a_list_that_upstream_changes_afterwards_is_what_sources_are_compiled_for() -> None:
    """As the MiniMax M3 kernel of 0.32.0: intersected with 10.x, then appended to for the others."""
    family = read(intersected("M3_ARCHS", "10.0f", ""), compiled("M3_ARCHS", "12.0f", "m3.cu"))["M3"]
    assert (family.wanted, family.archs) == (("10.0f",), ("12.0f",))


def test_a_list_made_of_other_lists_is_a_family_without_one_of_its_own() -> None:
    found = read(
        intersected("QUTLASS_SM120_ARCHS", "12.0f", "12.0f", path=QUTLASS),
        compiled("QUTLASS_ARCHS", "12.0f", "q.cu", path=QUTLASS),
    )
    assert found["QUTLASS"] == Family(
        name="QUTLASS", place=f"{QUTLASS}:9", wanted=(), archs=("12.0f",), sources=("q.cu",)
    )


def test_two_groups_of_sources_for_one_list_are_one_family() -> None:
    found = read(
        intersected("FP4_ARCHS", "12.0f", "12.0f"),
        compiled("FP4_ARCHS", "12.0f", "x.cu", "y.cu"),
        compiled("FP4_ARCHS", "12.0f", "y.cu", "z.cu"),
    )
    assert found["FP4"].sources == ("x.cu", "y.cu", "z.cu")


def test_fetched_projects_are_named() -> None:
    fetch = [call("FetchContent_Declare", "cutlass", "GIT_TAG", "x"), call("FetchContent_Populate", "QuTLASS")]
    assert whole(fetch).fetched == ("cutlass", "qutlass")


# ---- what cannot be followed


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([], "0 lists of architectures and 0 groups of sources were seen"),
        (intersected("CUDA_ARCHS", "12.0", "12.0"), "1 lists of architectures and 0 groups of sources"),
        (compiled("CUDA_ARCHS", "12.0f", "a.cu"), "0 lists of architectures and 1 groups of sources"),
        (intersected("X_ARCHS", "12.0", "12.0") + compiled("X_ARCHS", "12.0", "a.cu"), "could not be followed"),
    ],
)
def test_build_files_that_cannot_be_followed_are_refused(calls: list[Call], message: str) -> None:
    with pytest.raises(LockError, match=f"^vllm 0.32.0: .*{message}"):
        kernels_of("0.32.0", calls, arch="12.0f", cuda="13.0")


def test_sources_that_name_no_variable_are_refused() -> None:
    literal = call("set_gencode_flags_for_srcs", "SRCS", "a.cu", "CUDA_ARCHS", "12.0f", line=3, text='... "12.0f")')
    with pytest.raises(LockError, match=r"^vllm 0.32.0: CMakeLists.txt:3: .* names no variable for CUDA_ARCHS"):
        kernels_of("0.32.0", [*REST, literal], arch="12.0f", cuda="13.0")


# ---- findings


def test_what_upstream_has_for_other_chips_is_no_finding() -> None:
    assert findings(intersected("MACHETE_ARCHS", "9.0a", ""), intersected("MLA_ARCHS", "10.0f;11.0f", "")) == []


@pytest.mark.parametrize("archs", ["12.0f", "12.1f", "12.1a", "12.0f;12.1a", "12.0a;12.1a"])
def test_family_code_and_code_for_just_this_chip_are_no_finding(archs: str) -> None:
    assert findings(intersected("FP4_ARCHS", "12.0f", archs)) == []


@pytest.mark.parametrize(
    ("wanted", "archs", "kind"),
    [
        ("12.0f", "", "kernels-missing"),
        ("9.0a;12.0", "", "kernels-missing"),
        ("12.0f", "12.0a", "kernels-of-other-chip"),
        ("12.0a", "12.0a", "kernels-of-other-chip"),
        ("12.0f", "12.2f", "kernels-of-other-chip"),
        ("9.0a;12.0f", "9.0a", "kernels-of-other-chip"),
        ("12.0f", "12.1", "kernels-without-features"),
        ("12.0f", "12.0", "kernels-without-features"),
        ("8.0+PTX;12.0f", "8.0+PTX", "kernels-without-features"),
    ],
)
def test_what_the_chip_would_not_get_is_an_error(wanted: str, archs: str, kind: str) -> None:
    assert findings(intersected("FP4_ARCHS", wanted, archs)) == [(kind, "error")]


def test_a_plain_list_of_upstream_may_come_out_plain() -> None:
    assert findings(intersected("MARLIN_FP8_ARCHS", "8.9;12.0", "12.0")) == []


def test_a_family_that_is_spared_is_a_warning_with_the_reason_when_it_is_missing() -> None:
    built = replace(whole(intersected("MLA_ARCHS", "10.0f;12.0f", "")), spared=(("MLA", "nothing calls it"),))
    (found,) = findings_of(built, "12.1")
    assert (found.id, found.severity, found.remedy) == ("kernels-missing", "warning", "none: nothing calls it")
    other = replace(whole(intersected("FP4_ARCHS", "12.0f", "")), spared=built.spared)
    assert [one.severity for one in findings_of(other, "12.1")] == ["error"]
    # Built, but for another chip: that nobody spares.
    wrong = replace(whole(intersected("MLA_ARCHS", "12.0f", "12.0a")), spared=built.spared)
    assert [(one.id, one.severity) for one in findings_of(wrong, "12.1")] == [("kernels-of-other-chip", "error")]


def test_a_fetched_project_that_upstream_pins_to_another_chip_is_a_warning() -> None:
    pinned = intersected("QUTLASS_ARCHS", "12.0a;10.0a", "12.0a", path=QUTLASS)
    assert findings(pinned) == [("kernels-of-other-chip", "warning")]
    assert findings(intersected("QUTLASS_ARCHS", "12.0f", "12.0a", path=QUTLASS)) == [
        ("kernels-of-other-chip", "error")
    ]
    assert findings(intersected("QUTLASS_ARCHS", "12.0f", "", path=QUTLASS)) == [("kernels-missing", "error")]


def test_a_finding_says_what_was_asked_for_and_what_to_do() -> None:
    (found,) = findings_of(whole(intersected("FP4_ARCHS", "10.0f;12.0f", "", line=632)), "12.1")
    assert found.subject == "vllm 0.32.0: FP4 (CMakeLists.txt:632)"
    assert found.found == "nothing for TORCH_CUDA_ARCH_LIST=12.0f, CUDA 13.0"
    assert found.expected == "code for compute capability 12.1 out of 10.0f;12.0f"
    assert found.remedy == "build with 12.0f, or patch upstream's list"


def test_another_chip_is_judged_by_its_own_major_version() -> None:
    found = whole(intersected("FP4_ARCHS", "12.0f", ""), intersected("MLA_ARCHS", "10.0f", ""))
    assert [one.subject for one in findings_of(found, "10.0")] == ["vllm 0.32.0: MLA (CMakeLists.txt:1)"]


@pytest.mark.parametrize(
    ("arch", "verdict"),
    [("12.1a", "native"), ("12.0f", "family"), ("12.0", "same-major"), ("8.0+PTX", "ptx"), ("12.0a", "none")],
)
def test_how_a_chip_runs_an_architecture_of_a_list(arch: str, verdict: str) -> None:
    assert arch_verdict(arch, 121) == verdict


# ---- the page


def test_the_page_has_a_column_for_each_release_and_a_row_for_each_family_of_the_chip() -> None:
    old = whole(
        intersected("MARLIN_ARCHS", "8.0+PTX", "8.0+PTX"),
        intersected("MLA_ARCHS", "12.0f", "", line=3),
        intersected("W4A8_ARCHS", "9.0a", ""),
        [call("FetchContent_Declare", "cutlass")],
    )
    new = replace(whole(), as_released=False, patches=("0002-lists.patch", "0004-moe.patch"))
    unpatched = replace(whole(), as_released=False)
    computed: dict[str, Computed] = {"0.32.0": old, "0.15.0": "there is no sdist", "0.33.0": new, "0.34.0": unpatched}
    text = markdown_kernels(computed, "12.1")
    assert text == (
        "| family | 0.32.0 | 0.32.0 | 0.32.0 |\n"
        "|---|---|---|---|\n"
        "| CUDA_ARCHS | 12.0f | 12.0f | 12.0f |\n"
        "| MARLIN | 8.0+PTX |  |  |\n"
        "| MLA | - |  |  |\n"
        "\n"
        "In the build files, but never for this chip: W4A8.\n"
        "\n"
        "| release | CUDA | sources | fetched: not here | findings |\n"
        "|---|---|---|---|---|\n"
        "| 0.32.0 | 13.0 | as released | cutlass | error: kernels-missing: MLA (CMakeLists.txt:3) |\n"
        "| 0.15.0 | - | - | - | not computed: there is no sdist |\n"
        "| 0.33.0 | 13.0 | patches: 0002, 0004 |  | none |\n"
        "| 0.34.0 | 13.0 | patches: none |  | none |\n"
    )


def test_lists_of_one_name_that_come_out_differently_are_all_shown() -> None:
    found = whole(intersected("MM_ARCHS", "12.0f", "12.0f", line=1), intersected("MM_ARCHS", "12.0a", "12.0a", line=2))
    assert "| MM_SM120 | 12.0f / 12.0a |\n" in markdown_kernels({"0.32.0": found}, "12.1")
