"""Claims about matrix.yaml: what is refused and how that is said, and what follows from what is accepted."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import (
    BAD_REFERENCES,
    BAD_VALUES,
    SMALL_MATRIX,
    BadMatrix,
    edited,
    faults_of,
    make_matrix,
    make_row,
    real_matrix,
)

from sparkbake.errors import MatrixError
from sparkbake.matrix import load_matrix, parse_matrix, rows
from sparkbake.model import Base, Component, Extra, Newer, Override, Strategy


@pytest.mark.parametrize("bad", [*BAD_VALUES, *BAD_REFERENCES], ids=lambda one: str(one.name))
def test_a_fault_is_told_with_its_place_and_what_to_do(bad: BadMatrix) -> None:
    assert faults_of(bad.text) == (bad.fault,)


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    text = edited('uv: "0.13.8"', "uv: latest")
    text = text.replace("linux/arm64", "linux/mips").replace("2.11.0-cu130\n    flashinfer", "none\n    flashinfer", 1)
    with pytest.raises(MatrixError) as caught:
        parse_matrix(text.replace("vendor: Example", "vendr: Example"), "matrix.yaml")
    assert [one.partition(": ")[2].partition(":")[0] for one in caught.value.faults] == [
        "project.vendor",
        "project.vendr",
        "chip.platform",
        "uv",
        'releases."0.20.2".foundation',
    ]
    assert str(caught.value) == "\n".join(caught.value.faults)


def test_a_misspelt_required_key_is_told_as_missing_and_as_unknown() -> None:
    with pytest.raises(MatrixError) as caught:
        make_matrix("  vendor: Example", "  vendr: Example")
    missing, unknown = caught.value.faults
    assert "project.vendor: missing, expected a string that is not empty; add it" in missing
    assert "project.vendr: unknown key" in unknown
    assert unknown.endswith("did you mean 'vendor'?")


@pytest.mark.parametrize(("section", "following"), [("foundations", "releases"), ("components", "extras")])
def test_one_missing_section_is_one_fault(section: str, following: str) -> None:
    text = SMALL_MATRIX.partition(f"{section}:")[0] + f"{following}:" + SMALL_MATRIX.partition(f"\n{following}:")[2]
    assert faults_of(text) == (f"matrix.yaml:1:1: {section}: missing, expected a mapping; add it",)


def test_a_fault_in_a_release_that_is_looked_at_twice_is_told_once() -> None:
    text = edited('2.11.0-cu130\n    flashinfer: "0.6', '2.12.0-cu130\n    strategy: wheels\n    flashinfer: "0.6')
    with pytest.raises(MatrixError) as caught:
        parse_matrix(text, "matrix.yaml")
    assert len(caught.value.faults) == 2


def test_a_matrix_that_is_not_there_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match=r"nowhere\.yaml: cannot be read: .*; expected a UTF-8 file there"):
        load_matrix(tmp_path / "nowhere.yaml")


def test_a_matrix_that_is_no_utf8_is_told_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_bytes(b"vendor: \xff")
    with pytest.raises(MatrixError, match=r"matrix\.yaml: cannot be read: .*; expected a UTF-8 file there"):
        load_matrix(path)


def test_the_small_matrix_is_read_as_it_says() -> None:
    matrix = make_matrix()
    old, new = matrix.releases
    assert matrix.project.registry == "registry.example:5000"
    assert matrix.chip.architecture == "arm64"
    assert matrix.bases[1] == Base(
        name="debian-13", python="3.13", manylinux="manylinux_2_40", image=None, suites=("trixie",)
    )
    assert matrix.components[0] == Component(name="cuda", distribution="cuda-toolkit", extras=("nvcc",), library=None)
    assert matrix.extras == (Extra(requirement="ray", reason="two Sparks need it"),)
    assert old.strategy is Strategy.WHEELS
    assert old.newer == (Newer(package="fastsafetensors", as_of="2026-08-01", reason="no wheel before"),)
    assert old.overrides == (Override(package="torch", reason="the foundation has a fix that 2.10.0 lacks"),)
    assert [one.major for one in old.variants] == [4, 5]
    assert (old.commit, new.commit) == ("0123456789abcdef0123456789abcdef01234567", None)
    assert not old.published


def test_every_variant_of_every_release_is_a_row_in_the_order_of_the_file() -> None:
    assert [one.tag for one in rows(make_matrix())] == ["0.20.2-t4", "0.20.2-t5", "0.32.0-t5"]


def test_a_row_has_the_versions_of_its_foundation_its_release_and_its_variant() -> None:
    assert make_row("0.20.2-t5").versions == (
        ("cuda", "13.0.2"),
        ("torch", "2.11.0"),
        ("flashinfer", "0.6.8.post1"),
        ("transformers", "5.8.0"),
        ("vllm", "0.20.2"),
    )


def test_a_row_carries_the_overrides_of_its_release_and_of_its_variant() -> None:
    assert [one.package for one in make_row("0.20.2-t4").overrides] == ["torch"]
    assert [one.package for one in make_row("0.20.2-t5").overrides] == ["torch", "transformers"]


def test_names_of_distributions_mean_the_same_however_they_are_spelt() -> None:
    plain = make_matrix()
    spelt = make_matrix('flashinfer-python: "==0.6.8', 'FlashInfer_Python: "==0.6.8')
    assert spelt == plain


def test_two_foundations_may_have_the_same_torch_and_cuda() -> None:
    text = edited('  2.11.0-cu130:\n    cuda: "13.0.2"', '  2.11.0-v2-cu130:\n    cuda: "13.0.2"')
    matrix = parse_matrix(text.replace("foundation: 2.11.0-cu130", "foundation: 2.11.0-v2-cu130"), "matrix.yaml")
    assert [one.name for one in matrix.foundations] == ["2.11.0-v2-cu130"]


def test_comments_and_the_style_of_writing_mean_nothing() -> None:
    rewritten = yaml.safe_dump(yaml.safe_load(SMALL_MATRIX), sort_keys=False, default_flow_style=True)
    assert parse_matrix(f"# hello\n{rewritten}", "matrix.yaml") == make_matrix()


_ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.dates() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(one for key, below in inner for one in _paths(below, (*path, key)))]


@settings(max_examples=40)
@given(st.sampled_from(_paths(yaml.safe_load(SMALL_MATRIX))[1:]), _ANY)
def test_whatever_stands_in_one_place_it_is_read_or_told_as_a_fault(path: tuple[str | int, ...], value: object) -> None:
    body = yaml.safe_load(SMALL_MATRIX)
    inner = body
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    text = yaml.safe_dump(body, allow_unicode=True)
    faults = faults_of(text)
    assert all(one.startswith("matrix.yaml:") for one in faults)
    if not faults:
        assert all(one.tag for one in rows(parse_matrix(text, "matrix.yaml")))


# ---- the real one


def test_the_real_matrix_is_valid() -> None:
    matrix = real_matrix()
    tags = [one.tag for one in rows(matrix)]
    assert tags
    assert len(set(tags)) == len(tags)


def test_every_override_of_the_real_matrix_has_a_reason() -> None:
    for row in rows(real_matrix()):
        for one in row.overrides:
            assert len(one.reason.split()) > 2, f"{row.tag}: {one.package}"
