"""Claims about what a matrix says of compiling: read strictly, and complete for every compiled row."""

import pytest
from tests.builders import edited, faults_of, real_matrix
from tests.compiledbuilder import COMMIT, COMPILED_MATRIX, OTHER, compiled, make_compiled

from sparkbake.matrix import rows
from sparkbake.model import Matrix, Row, Strategy
from sparkbake.sourceconsistency import asked_tag, at_version
from sparkbake.sourcedata import Digests, Git
from sparkbake.sourcepins import Pin, cuda_images, foundation_pins, requires_of, row_pins, sources_of


def row(tag: str, matrix: Matrix | None = None) -> Row:
    return next(one for one in rows(matrix or make_compiled()) if one.tag == tag)


def pin(name: str, tag: str | None, commit: str | None, built_from: str | None = None) -> Pin:
    return Pin(name=name, tag=tag, commit=commit, built_from=built_from)


def test_the_small_compiled_matrix_is_valid() -> None:
    assert faults_of(COMPILED_MATRIX) == ()


def test_a_row_has_what_it_says_otherwise_than_its_release() -> None:
    four, five = row("0.14.0-t4"), row("0.14.0-t5")
    assert dict(four.versions)["flashinfer"] == "0.6.1"
    assert dict(five.versions)["flashinfer"] == "0.6.2"
    assert four.variant.exceptions.git == Git(tag="v0.14.0", commit=OTHER)
    assert five.variant.exceptions.transformers == Git(tag="v5.0.0", commit=COMMIT)
    assert [one.package for one in five.overrides] == ["flashinfer-python", "torch", "transformers"]
    (limit,) = four.release.limits
    assert (limit.model, limit.architectures, limit.model_types) == ("Tiny", ("TinyForCausalLM",), ("tiny",))
    assert limit.sentence == "Tiny cannot run, since this release has no such model"


def test_the_pins_of_a_foundation_come_in_the_order_of_compilation() -> None:
    matrix = make_compiled()
    assert foundation_pins(matrix, matrix.foundations[0]) == (
        pin("nccl", "v2.29.2-1", COMMIT),
        pin("nccl-tests", "v2.19.6", None),
        pin("torch", "v2.10.0", COMMIT, OTHER),
        pin("torchvision", "v0.25.0", COMMIT),
        pin("torchaudio", "v2.10.0", COMMIT),
    )


def test_the_pins_of_a_row_end_with_what_cmake_would_fetch_for_its_release() -> None:
    assert row_pins(make_compiled(), row("0.14.0-t5")) == (
        pin("llvm", None, OTHER),
        pin("triton", "v3.5.1", COMMIT),
        pin("vllm", "v0.14.0", COMMIT),
        pin("transformers", "v5.0.0", COMMIT),
        pin("cutlass", "v4.2.1", COMMIT),
    )
    assert row_pins(make_compiled(), row("0.14.0-t4"))[2] == pin("vllm", "v0.14.0", OTHER)


def test_a_commit_that_no_one_knows_is_an_open_pin() -> None:
    flashmla = sources_of(make_compiled()).repository("flashmla")
    assert at_version(flashmla, {"vllm": "0.15.0"}) == "unknown"
    assert at_version(flashmla, {"vllm": "0.14.0"}) is None
    assert asked_tag(flashmla, {"vllm": "0.15.0"}) is None


def test_a_wheel_of_another_commit_is_told_apart() -> None:
    assert pin("torch", "v2.10.0", COMMIT, OTHER).differs
    assert not pin("vllm", "v0.14.0", COMMIT, COMMIT[:9]).differs
    assert not pin("vllm", "v0.14.0", None, OTHER).differs


def test_the_images_of_a_foundation_are_those_of_its_cuda() -> None:
    matrix = make_compiled()
    devel, runtime = cuda_images(matrix, matrix.foundations[0])
    assert devel.reference == "registry.example/cuda:13.1.0-devel"
    assert runtime == Digests(
        reference="registry.example/cuda:13.1.0-runtime", index="sha256:" + 64 * "1", manifest=None
    )


def test_what_a_component_requires_depends_on_the_version_that_decides() -> None:
    sources = sources_of(make_compiled())
    assert requires_of(sources, "tools", {}) == ("ninja",)
    assert requires_of(sources, "vllm", {"vllm": "0.14.0"}) == ("cmake", "ninja")
    assert requires_of(sources, "vllm", {"vllm": "0.20.0"}) == ()


BAD = [
    ("v2.29.2-1: " + COMMIT, "v2.29.2-1: abc", "commits.\"v2.29.2-1\": got 'abc', expected 40 hex digits"),
    ("v2.29.2-1: " + COMMIT, "v9: " + COMMIT, "nccl: commits: has no 'v2.29.2-1', which vLLM 0.14.0 needs; add it"),
    ("devel: registry.example/cuda:{cuda}-devel\n", "devel: registry.example/cuda:latest\n", "with {cuda} in it"),
    ("    registry.example/cuda:13.1.0-devel: {", "    registry.example/cuda:13.0.0-devel: {",
     "digests: has no 'registry.example/cuda:13.1.0-devel', which 2.10.0-cu131 is built on; add it"),
    ("base: ubuntu-24.04\n", "base: ubuntu\n", "source.base: got 'ubuntu', expected one of the bases; correct it"),
    ("    llvm: {", "    lvm: {", "repositories: has no 'llvm'; add it"),
    ('versions: "<2.12"', 'versions: "<2.10"', "has no 'runtime' for torch 2.10.0, which has its cuDNN; add it"),
    ("    llvm: {", "    lvm: {", "lvm: is no component and has no `variable`; nothing would use it"),
    ('    as_of: "2026-02-02"\n  2.11', "  2.11", "has no `as_of`, which a compiled foundation needs; add a date"),
    ("requires: [ninja]", 'requires: ["ninja=="]', "requires: got 'ninja==', expected a PEP 508 requirement"),
    ('{">=2": v2.19.6}', '{"two": v2.19.6}', "got the key 'two', expected a PEP 440 specifier"),
    ("nccl-tests, of: nccl, at", "nccl-tests, at", "stands without `of`, or `of` without it"),
    ("of: triton, at", 'of: triton, tag: "v{version}", at', "stands beside `tag`, expected one of them"),
    ('vllm: "12.0f"', 'vllm: "sm_121"', "arch.vllm: got 'sm_121', expected architectures such as 12.0f"),
    ('torch: "4"', 'torch: "4.5"', "gib_per_job.torch: got '4.5', expected whole GiB"),
    ('fetched: "1"', 'fetched: "1.5"', "disk_gb.fetched: got '1.5', expected whole GB"),
    ("  pytorch:\n", "  pytorch-x:\n", "images: has no 'pytorch', which every compiled foundation is built as"),
    ('versions: ">=0.22"', 'versions: "new"', "versions: got 'new', expected a PEP 440 specifier"),
    ('index: "sha256:' + 64 * "1" + '", manifest: null', "index: abc, manifest: null",
     "index: got 'abc', expected sha256: and 64 hex digits, or null while not known"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "fault"), BAD, ids=[one[2][:40] for one in BAD])
def test_a_fault_is_told_with_what_is_expected(old: str, new: str, fault: str) -> None:
    assert [one for one in faults_of(compiled(old, new)) if fault in one]


def test_a_compiled_release_needs_the_section() -> None:
    text = edited('strategy: wheels\n    foundation: 2.11.0-cu130\n    flashinfer: "0.6.8.post1"',
                  'strategy: source\n    foundation: 2.11.0-cu130\n    flashinfer: "0.6.8.post1"')  # fmt: skip
    assert [one for one in faults_of(text) if "source: missing, but vLLM 0.20.2 has the strategy source" in one]


def test_a_row_of_wheels_names_no_sources() -> None:
    text = edited('t5: {version: "5.19.0"}', 't5: {version: "5.19.0", git: {tag: v1, commit: null}}')
    (fault,) = faults_of(text)
    assert "t5: names sources, which the strategy wheels has no use for; remove them" in fault


def test_a_variant_overrides_flashinfer_only_when_it_brings_it() -> None:
    (fault,) = faults_of(compiled('        flashinfer: "0.6.2"\n', ""))
    assert "overrides 'flashinfer-python', expected transformers alone" in fault


def test_a_flashinfer_of_its_own_that_upstream_does_not_declare_needs_an_override() -> None:
    (fault,) = faults_of(compiled("          flashinfer-python: a fix\n", ""))
    assert "uses flashinfer-python 0.6.2, but vLLM 0.14.0 declares '==0.6.1'" in fault


# ---- the real one


def test_every_compiled_row_finds_its_pins_and_what_its_builds_need() -> None:
    matrix = real_matrix()
    compiled_rows = [one for one in rows(matrix) if one.release.strategy is Strategy.SOURCE]
    assert len(compiled_rows) == 22
    for one in compiled_rows:
        names = [pinned.name for pinned in row_pins(matrix, one)]
        assert names[:3] == ["llvm", "triton", "vllm"]
        assert {"cutlass", "flash-attention", "flashmla", "triton-kernels", "qutlass"} <= set(names)
        assert ("deepgemm" in names) == (one.release.vllm == "0.22.1")
        for component in ("vllm", "triton", "tools", "torch", "runtime"):
            assert requires_of(sources_of(matrix), component, dict(one.versions)), f"{one.tag}: {component}"


def test_the_open_pins_of_the_real_matrix_are_those_that_were_not_found() -> None:
    matrix = real_matrix()
    found = {
        f"{one.tag} {pinned.name}"
        for one in rows(matrix)
        if one.release.strategy is Strategy.SOURCE
        for pinned in row_pins(matrix, one)
        if pinned.commit is None
    }
    assert found == {"0.14.0rc2-t4 vllm", "0.14.0rc2-t5 vllm", "0.15.0-t4 flashmla", "0.15.0-t5 flashmla"}
