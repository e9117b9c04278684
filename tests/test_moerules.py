"""Claims about moe_configs/rules.yaml: how it is read, and which kernel it gives a model."""

from collections.abc import Mapping

import pytest
from packaging.version import Version
from tests.builders import ROOT, real_matrix

from sparkbake.errors import MatrixError, UsageError
from sparkbake.moerules import Rules, fits, kernel_for, parse_rules, parse_version

RULES = """\
schema: "1"
refined_blocks: ">=2"
kernels:
  - scheme: fp8
    releases: ">=2"
    block_shape: "128,128"
    kernel: Deep
    unless: [USE_DEEP=0]
    asked: --use triton
    reason: it is faster
  - scheme: fp8
    releases: ">=1"
    kernel: Triton
    reads: true
    reason: it is all there is
"""


def rules(old: str = "", new: str = "") -> Rules:
    assert RULES.count(old) == 1 or not old
    return parse_rules(RULES.replace(old, new) if old else RULES, "rules.yaml")


def real_rules() -> Rules:
    return parse_rules((ROOT / "moe_configs" / "rules.yaml").read_text(encoding="utf-8"), "rules.yaml")


def kernel(
    version: str,
    *,
    scheme: str = "fp8",
    blocks: tuple[int, int] | None = (128, 128),
    environment: Mapping[str, str] | None = None,
    of: Rules | None = None,
) -> str | None:
    found = kernel_for(
        (of or rules()).kernels,
        scheme=scheme,
        block_shape=blocks,
        version=Version(version),
        environment=environment or {},
    )
    return found.name if found else None


def test_the_first_kernel_that_fits_applies() -> None:
    assert kernel("2.1") == "Deep"
    assert kernel("1.9") == "Triton"
    assert kernel("2.1", blocks=(64, 64)) == "Triton"
    assert kernel("2.1", blocks=None) == "Triton"
    assert kernel("2.1", environment={"USE_DEEP": "0"}) == "Triton"
    assert kernel("2.1", environment={"USE_DEEP": "1"}) == "Deep"


def test_what_no_rule_is_for_is_not_known() -> None:
    assert kernel("0.9") is None
    assert kernel("2.1", scheme="int8") is None


def test_a_release_is_what_its_sources_say() -> None:
    assert fits(">=2", Version("2.0+cu130"))
    assert fits(">=2", Version("2.0rc1"))
    assert not fits(">=2", Version("1.9.post1"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('schema: "1"', 'schema: "2"', "schema: got '2', expected '1'"),
        ('">=2"\nkernels', "newer\nkernels", "refined_blocks: got 'newer', expected releases such as"),
        ('block_shape: "128,128"', 'block_shape: "128"', r"block_shape: got '128', expected two sizes such as"),
        ("[USE_DEEP=0]", "[USE_DEEP]", r"unless\[0\]: got 'USE_DEEP', expected settings such as A=0"),
        ("    reads: true\n", "    reads: true\n    asked: x\n", "asked: is of no use to a kernel that opens a config"),
        ("    reason: it is faster\n", "", r"kernels\[0\]\.reason: missing"),
        ("    kernel: Deep\n", "    kernel: Deep\n    kern: x\n", r"kernels\[0\]\.kern: unknown key"),
    ],
)
def test_a_fault_of_the_rules_names_its_place(old: str, new: str, message: str) -> None:
    with pytest.raises(MatrixError, match=message):
        rules(old, new)


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="x: has vLLM 'dev', expected a version"):
        parse_version("x", "dev")


def test_the_real_rules_say_a_kernel_for_all_kinds_of_weights_of_every_release() -> None:
    known = real_rules()
    schemes = ("bf16", "fp8-block", "fp8-static", "fp8-dynamic", "int8", "wna16", "moe-wna16", "mxfp4", "nvfp4")
    for release in real_matrix().releases:
        for scheme in schemes:
            assert kernel(release.vllm, scheme=scheme, of=known), f"{release.vllm}: {scheme}"


def test_fp8_blocks_go_to_deepgemm_from_where_that_is_for_the_chip() -> None:
    """vllm/platforms/cuda.py: support_deep_gemm() takes 12.x from 0.24.0; vllm#50332 saw it on a GB10."""
    known = real_rules()
    assert [kernel(one, scheme="fp8-block", of=known) for one in ("0.20.2", "0.24.0", "0.32.0")] == [
        "Triton", "DeepGEMM", "DeepGEMM",
    ]  # fmt: skip
    assert kernel("0.13.0", scheme="fp8-block", of=known) == "Triton"
    off = {"VLLM_USE_DEEP_GEMM": "0"}
    assert kernel("0.32.0", scheme="fp8-block", environment=off, of=known) == "Triton"
    assert kernel("0.32.0", scheme="fp8-block", blocks=(64, 64), of=known) == "Triton"


def test_before_0_20_bfloat16_goes_to_flashinfer_only_if_somebody_asks_for_it() -> None:
    known = real_rules()
    assert [kernel(one, scheme="bf16", of=known) for one in ("0.19.1", "0.20.2")] == ["Triton", "FlashInfer CUTLASS"]
    asked = {"VLLM_USE_FLASHINFER_MOE_FP16": "1"}
    assert kernel("0.19.1", scheme="bf16", environment=asked, of=known) is None, "with tensor parallelism it has no say"
