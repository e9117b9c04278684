"""Claims about the strict reading of YAML, made with the matrix, which is read with it."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.builders import BAD_KEYS, BAD_SCALARS, BAD_SHAPES, SMALL_MATRIX, BadMatrix, faults_of

from sparkbake.errors import MatrixError
from sparkbake.fields import read_fields
from sparkbake.matrix import parse_matrix


def read_key(text: str) -> str:
    root = read_fields(text, "x.yaml")
    found = root.text("key")
    root.raise_faults()
    return found


@pytest.mark.parametrize("bad", [*BAD_SCALARS, *BAD_KEYS, *BAD_SHAPES], ids=lambda one: str(one.name))
def test_a_fault_is_told_with_its_place_and_what_to_do(bad: BadMatrix) -> None:
    with pytest.raises(MatrixError) as caught:
        parse_matrix(bad.text, "matrix.yaml")
    assert caught.value.faults == (bad.fault,)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "x.yaml: got an empty file, expected a mapping of keys"),
        ("# nothing\n", "x.yaml: got an empty file, expected a mapping of keys"),
        ("- a\n- b\n", "x.yaml: got a list, expected a mapping of keys"),
        ("hello\n", "x.yaml: got 'hello', expected a mapping of keys"),
        ("a: b\n c: d\n", "x.yaml:2:3: not YAML: mapping values are not allowed here; mend the line"),
        ("a: [b\n", "x.yaml:2:1: not YAML: expected ',' or ']', but got '<stream end>'; mend the line"),
        ("a: *b\n", "x.yaml:1:4: not YAML: found undefined alias 'b'; mend the line"),
        ("a: b\n---\na: b\n", "x.yaml:2:1: not YAML: but found another document; mend the line"),
        ("[" * 1000, "x.yaml: nested too deep to be read; expected a mapping of keys"),
    ],
)
def test_a_file_that_is_no_mapping_is_told_with_what_it_is(text: str, fault: str) -> None:
    with pytest.raises(MatrixError) as caught:
        read_fields(text, "x.yaml")
    assert caught.value.faults == (fault,)


def test_a_character_that_yaml_does_not_allow_is_told() -> None:
    with pytest.raises(MatrixError, match=r"x\.yaml: not YAML: unacceptable character #x0000(.|\n)*; mend the file"):
        read_fields("a: \x00", "x.yaml")


@pytest.mark.parametrize(
    "value", ["2.10", "13.0", "2026-01-01", "on", "off", "yes", "no", "true", "1:30", "0x1f", "0123456", "0.5e-3", ".5"]
)
def test_what_yaml_would_turn_into_something_else_must_be_quoted(value: str) -> None:
    with pytest.raises(MatrixError, match=rf'got {value} unquoted, which YAML reads as an? \w+; write "{value}"$'):
        read_key(f"key: {value}")


@given(st.from_regex(r"[0-9a-z.:_~+-]{1,8}", fullmatch=True))
def test_a_quoted_string_is_read_as_it_stands(value: str) -> None:
    assert read_key(f'key: "{value}"') == value


@given(st.from_regex(r"[0-9a-z.:_~+-]{1,8}", fullmatch=True))
def test_an_unquoted_string_is_read_as_it_stands_or_refused(value: str) -> None:
    try:
        found = read_key(f"key: {value}")
    except MatrixError:
        return
    assert found == value


def test_digits_of_other_scripts_are_no_digits() -> None:
    root = read_fields("key: \N{ARABIC-INDIC DIGIT THREE}.1", "x.yaml")
    root.text("key", pattern=r"\d+\.\d+", expected="major.minor")
    with pytest.raises(MatrixError, match=r"x\.yaml:1:6: key: got '.\.1', expected major\.minor"):
        root.raise_faults()


def test_an_alias_means_what_it_points_to() -> None:
    root = read_fields("one: &here [a, b]\ntwo: *here\n", "x.yaml")
    assert root.texts("two", pattern=".", expected="a letter") == ("a", "b")


def test_what_is_below_a_fault_is_not_told_as_well() -> None:
    root = read_fields("one: two\n", "x.yaml")
    below = root.mapping("one")
    below.text("missing")
    below.mapping("missing as well").items("and more")
    below.done()
    with pytest.raises(MatrixError) as caught:
        root.raise_faults()
    assert caught.value.faults == ("x.yaml:1:6: one: got 'two', expected a mapping",)


@given(st.text())
@example("\ud800")
@example("a: &a [*a]")
@example("? [a]\n: b")
@example("releases: !!set {a, b}")
@example("<<: *x")
@example("{" * 1000)
def test_no_text_raises_anything_but_a_matrix_error(text: str) -> None:
    assert all(one.startswith("matrix.yaml") for one in faults_of(text))


@given(st.text(alphabet="[]{}:,-?*&!|>'\"%@` \n\tab1", max_size=40))
def test_no_text_of_yaml_signs_raises_anything_but_a_matrix_error(text: str) -> None:
    assert all(one.startswith("matrix.yaml") for one in faults_of(text))


@settings(max_examples=20)
@given(st.integers(0, len(SMALL_MATRIX)), st.integers(0, 60), st.text(alphabet="[]{}:,-*&!'\" \na1", max_size=4))
def test_no_damage_to_a_matrix_raises_anything_but_a_matrix_error(start: int, length: int, inserted: str) -> None:
    assert all(
        one.startswith("matrix.yaml")
        for one in faults_of(SMALL_MATRIX[:start] + inserted + SMALL_MATRIX[start + length :])
    )
