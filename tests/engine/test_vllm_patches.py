"""Every patch of vLLM does what it says, on the real sources of every release; what needs none is shown, too.

Choices of backends are made by vLLM's own modules, whole, in a process that has neither torch nor a GPU; vllmprobe.py
says what is made up for that. Lists of architectures are computed by the release's own cmake/utils.cmake. No kernel is
compiled here, and none runs.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uv
from packaging.version import Version
from tests.builders import ROOT, real_matrix
from tests.engine import vllmprobe
from tests.engine.vllmsources import unpack

from sparkbake import process
from sparkbake.errors import BuildError
from sparkbake.moerules import kernel_for, parse_rules
from sparkbake.patches import Release, Selection, Waiver, outcomes, select
from sparkbake.patching import apply
from sparkbake.series import load_series
from sparkbake.sourcepins import sources_of
from sparkbake.versions import admits

pytestmark = pytest.mark.network

SERIES = load_series(ROOT / "patches" / "vllm")
RELEASES = {one.version: one for one in SERIES.releases}
SDISTS = [one.version for one in SERIES.releases if one.source == "sdist"]
VARIANTS = [(one, None) for one in RELEASES] + [(one, "12.1") for one in SDISTS]
PROBED = {one.replace(".", "/") for one in vllmprobe.REAL}
PROBED |= {f"{one}/__init__" for one in PROBED}
CMAKE = {"CMakeLists.txt", "cmake/utils.cmake", "cmake/external_projects/qutlass.cmake"}
TOUCHED = {file for patch in SERIES.patches for file in patch.touches}
CHIPS = (121, 120, 90)
FROM_0_15 = [one for one in RELEASES if Version(one) >= Version("0.15")]
LINEAR_KERNEL = "FP8ScaledMMLinearKernel"
LINEAR_KERNELS = f"FlashInfer{LINEAR_KERNEL},Cutlass{LINEAR_KERNEL}"
SAID = "[vLLM SM_121] Detected GB10 (SM_121) - "


def is_wanted(name: str) -> bool:
    models = re.fullmatch(r"vllm/model_executor/models/(registry|glm4_moe_lite)\.py", name)
    return name in TOUCHED | CMAKE or (name.endswith(".py") and name[:-3] in PROBED) or models is not None


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is needed of every release, untouched."""
    folder = tmp_path_factory.mktemp("vllm")

    def fetch(release: Release) -> None:
        assert unpack(release, is_wanted, folder / release.version)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, SERIES.releases))
    return folder


@pytest.fixture
def tree(pristine: Path, tmp_path: Path) -> Iterator[Any]:
    """Makes a fresh tree of a release."""

    def make(version: str) -> Path:
        shutil.copytree(pristine / version, tmp_path / version)
        return tmp_path / version

    yield make
    shutil.rmtree(tmp_path)


def provable(version: str, variant: str | None = None) -> Selection:
    """What applies to a release and can be tried: a wheel has only what is below vllm/."""
    selection = select(SERIES, version, variant)
    if RELEASES[version].source == "sdist":
        return selection
    python = (one for one in selection.patches if all(file.startswith("vllm/") for file in one.touches))
    return replace(selection, patches=tuple(python))


def ask(tree: Path, capability: int, question: str, **environment: str) -> tuple[Any, str]:
    """What vLLM's own code answers, and what it logs about it."""
    argv: list[str | Path] = [sys.executable, "-W", "error", vllmprobe.__file__, tree, str(capability), question]
    said = json.loads(process.run(argv, timeout_s=60, env=environment))
    return said["answer"], "\n".join(said["log"])


# ---- applying


@pytest.mark.parametrize(("version", "variant"), VARIANTS)
def test_the_patches_of_a_release_apply_once_and_have_their_effect(
    tree: Any, version: str, variant: str | None
) -> None:
    selection = provable(version, variant)
    sources = tree(version)
    apply(selection, sources)
    if selection.patches:
        with pytest.raises(BuildError, match=r"has its effect already; begin with fresh sources"):
            apply(selection, sources)


@pytest.mark.parametrize("version", [one.version for one in SERIES.releases if one.source == "wheel"])
def test_only_the_lists_for_marlin_are_claimed_without_sources(version: str) -> None:
    left_out = set(select(SERIES, version).patches) - set(provable(version).patches)
    assert {one.topic for one in left_out} == {"marlin-lists"}


# ---- backends


@pytest.mark.parametrize("version", ["0.13.0", "0.14.0", "0.14.1"])
def test_fp8_linear_takes_torch_on_12_1_alone(tree: Any, version: str) -> None:
    sources = tree(version)
    before = {chip: ask(sources, chip, "fp8_linear")[0] for chip in CHIPS}
    assert before[121] == before[120] == {"backend": "flashinfer", "block_cutlass": True}
    assert before[90] == {"backend": "cutlass", "block_cutlass": True}
    apply(select(SERIES, version), sources)
    answer, log = ask(sources, 121, "fp8_linear")
    assert answer == {"backend": "torch", "block_cutlass": False}
    assert log.count(f"{SAID}using torch backend for FP8 linear layers") == 1
    for chip in (120, 90):
        assert ask(sources, chip, "fp8_linear") == (before[chip], "")


@pytest.mark.parametrize("version", FROM_0_15)
def test_from_0_15_a_variable_does_the_same_for_fp8_linear(tree: Any, version: str) -> None:
    sources = tree(version)

    def kernels(**environment: str) -> tuple[str, ...]:
        return tuple(ask(sources, chip, "disabled_kernels", **environment)[0] for chip in CHIPS)

    usual = (f"FlashInfer{LINEAR_KERNEL}", f"FlashInfer{LINEAR_KERNEL}", f"Cutlass{LINEAR_KERNEL}")
    for patched in (False, True):
        if patched:
            apply(provable(version), sources)
        assert kernels() == usual
        assert kernels(VLLM_DISABLED_KERNELS=LINEAR_KERNELS) == (f"PerTensorTorch{LINEAR_KERNEL}",) * 3


def test_images_set_the_variable_that_is_tried_here_from_0_15() -> None:
    (setting,) = (one for one in sources_of(real_matrix()).settings if one.name == "VLLM_DISABLED_KERNELS")
    assert setting.value == LINEAR_KERNELS
    patched = {one for one in RELEASES if any(patch.topic == "fp8-linear" for patch in select(SERIES, one).patches)}
    assert {one for one in RELEASES if admits(setting.versions, one)} == set(RELEASES) - patched


@pytest.mark.parametrize(
    ("version", "question"), [("0.14.0", "fp8_moe"), ("0.14.1", "fp8_moe"), ("0.15.0", "fp8_moe_of_experts")]
)
def test_fp8_moe_takes_triton_on_12_x(tree: Any, version: str, question: str) -> None:
    sources = tree(version)
    assert [ask(sources, chip, question)[0] for chip in CHIPS] == ["VLLM_CUTLASS"] * 3
    assert [ask(sources, chip, "group_gemm")[0] for chip in CHIPS] == [True] * 3
    apply(provable(version), sources)
    answer, log = ask(sources, 121, question)
    assert answer == "TRITON"
    assert f"{SAID}using Triton backend for MOE layers" in log
    for chip, expected in ((120, "TRITON"), (90, "VLLM_CUTLASS")):
        answer, log = ask(sources, chip, question)
        assert answer == expected
        assert SAID not in log
    assert [ask(sources, chip, "group_gemm")[0] for chip in CHIPS] == [False, False, True]


@pytest.mark.parametrize("version", [one for one in FROM_0_15 if one != "0.15.0"])
def test_from_0_15_1_fp8_moe_takes_triton_by_itself(tree: Any, version: str) -> None:
    """Since upstream says that CUTLASS has no grouped GEMM for 12.x; what patches there are change nothing of it."""
    sources = tree(version)
    for patched in (False, True):
        if patched:
            apply(provable(version), sources)
        found = [ask(sources, chip, "fp8_moe_of_experts")[0] for chip in CHIPS]
        assert found == ["TRITON", "TRITON", "VLLM_CUTLASS"]
        assert [ask(sources, chip, "group_gemm")[0] for chip in CHIPS] == [False, False, True]


def test_fp8_moe_of_0_13_takes_triton_by_itself(tree: Any) -> None:
    """CUTLASS is for exactly 9.0 and 10.0 there; the compiled answer would be yes on 12.x as well."""
    sources = tree("0.13.0")
    for patched in (False, True):
        if patched:
            apply(provable("0.13.0"), sources)
        found = [ask(sources, chip, "fp8_moe_of_0_13")[0] for chip in CHIPS]
        assert found == [{"backends": ["TRITON", "TRITON"], "cutlass": chip == 90} for chip in CHIPS]


@pytest.mark.parametrize("version", [one for one in RELEASES if one != "0.13.0"])
def test_the_rules_of_tuned_configs_say_what_a_release_chooses_for_fp8(tree: Any, version: str) -> None:
    """moe_configs/rules.yaml; with the patches that our images have. 0.13 asks otherwise, and takes Triton for all."""
    sources = tree(version)
    apply(provable(version), sources)
    rules = parse_rules((ROOT / "moe_configs/rules.yaml").read_text(encoding="utf-8"), "rules.yaml").kernels
    chosen, _log = ask(sources, 121, "fp8_moe_kinds_of_experts" if version in FROM_0_15 else "fp8_moe_kinds")
    for scheme, backend in chosen.items():
        blocks = (128, 128) if scheme == "fp8-block" else None
        rule = kernel_for(rules, scheme=scheme, block_shape=blocks, version=Version(version), environment={})
        assert rule is not None
        assert rule.name == {"TRITON": "Triton", "FLASHINFER_CUTLASS": "FlashInfer CUTLASS"}[backend], scheme


def test_every_release_is_asked_for_both_its_backends() -> None:
    """A new one in the series must be so, too: what is said of it is claimed by a range."""
    assert set(FROM_0_15) == set(RELEASES) - {"0.13.0", "0.14.0", "0.14.1"}


@pytest.mark.parametrize("version", list(RELEASES))
def test_glm_has_its_model_and_its_attention_together_or_not_at_all(tree: Any, version: str) -> None:
    """That is why a patch of is_deepseek_mla alone would do nothing; up to 0.13 it lies in a module of its own."""
    sources = tree(version)
    model = (sources / "vllm/model_executor/models/glm4_moe_lite.py").is_file()
    registered = "Glm4MoeLiteForCausalLM" in (sources / "vllm/model_executor/models/registry.py").read_text()
    found = {outcome.kind for outcome in outcomes(SERIES, version) if isinstance(outcome, Waiver)}
    assert model == registered == (version >= "0.15")
    assert ("not-possible" in found) == (not model or RELEASES[version].source == "wheel")
    if version >= "0.14":
        assert ask(sources, 121, "glm_mla")[0] == model


# ---- lists of architectures


def lists(tree: Path, target: str) -> list[tuple[str, str, str]]:
    """Name, entries and what becomes of them for one target and CUDA 13, of every list, in the order of the files.

    Run are the release's own functions and its own calls of them; of a choice by the CUDA version the one for 13.0 is
    taken, and what stands around the calls is left out.
    """
    text = "".join((tree / name).read_text(encoding="utf-8") for name in sorted(CMAKE) if "utils" not in name)
    supported = re.search(r'VERSION_GREATER_EQUAL 13\.0\)\n(?:\s*#.*\n)*\s*(set\(CUDA_SUPPORTED_ARCHS "[^"]*"\))', text)
    assert supported
    call = r'cuda_archs_loose_intersection\((\w+) "([^"$]*)"\s+"\$\{CUDA_ARCHS\}"\)'
    choice = rf"VERSION_GREATER_EQUAL 13\.0\)\n(\s*{call}\n)\s*else\(\)\n\s*{call}\n\s*endif"
    script = [f"include({tree}/cmake/utils.cmake)", supported[1], f'set(CUDA_ARCHS "{target}")']
    script += ['cuda_archs_loose_intersection(CUDA_ARCHS "${CUDA_SUPPORTED_ARCHS}" "${CUDA_ARCHS}")']
    for name, entries in re.findall(call, re.sub(choice, r"\1", text)):
        script.append(f'cuda_archs_loose_intersection({name} "{entries}" "${{CUDA_ARCHS}}")')
        script.append(f'message("{name}|{entries}|${{{name}}}")')
    file = tree / "lists.cmake"
    file.write_text("\n".join(script), encoding="utf-8")
    argv = [uv.find_uv_bin(), "tool", "run", "--quiet", "--from", "cmake", "cmake", "-P", str(file)]
    said = process.run(["sh", "-c", 'exec "$@" 2>&1', "sh", *argv], timeout_s=300)
    found = [tuple(line.split("|")) for line in said.splitlines() if line.count("|") == 2]
    return [(name, entries, resolved) for name, entries, resolved in found]


def resolved(found: list[tuple[str, str, str]], name: str) -> set[str]:
    return {what for called, _entries, what in found if called == name and what}


@pytest.mark.parametrize("version", SDISTS)
def test_the_default_build_has_marlin_for_the_family_and_nothing_else_changes(tree: Any, version: str) -> None:
    sources = tree(version)
    before = lists(sources, "12.0f")
    apply(select(SERIES, version), sources)
    after = lists(sources, "12.0f")
    changed = {name: (old, new) for (name, _, old), (_, _, new) in zip(before, after, strict=True) if old != new}
    assert changed == {
        "MARLIN_ARCHS": ("8.0+PTX", "12.0f"),
        "MARLIN_BF16_ARCHS": ("9.0+PTX", "12.0f"),
        "MARLIN_MOE_ARCHS": ("8.0+PTX", "12.0f"),
    }
    for name in ("SCALED_MM_ARCHS", "FP4_ARCHS", "CUTLASS_MOE_DATA_ARCHS"):
        assert resolved(after, name) == {"12.0f"}


@pytest.mark.parametrize("version", SDISTS)
def test_the_native_build_has_every_list_for_12_1_and_none_of_another_chip(tree: Any, version: str) -> None:
    sources = tree(version)
    apply(select(SERIES, version, "12.1"), sources)
    after = lists(sources, "12.1a")
    names = ["MARLIN_ARCHS", "MARLIN_BF16_ARCHS", "MARLIN_MOE_ARCHS", "MARLIN_FP8_ARCHS", "MARLIN_MOE_FP8_ARCHS"]
    for name in [*names, "SCALED_MM_ARCHS", "FP4_ARCHS", "CUTLASS_MOE_DATA_ARCHS", "QUTLASS_ARCHS"]:
        assert {one[:4] for one in resolved(after, name)} == {"12.1"}, name
    for name, entries, what in after:
        assert "12.0" not in what, name
        assert "12." in entries or "12." not in what, f"{name}: kernels for another chip are built for this one"
