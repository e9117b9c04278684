"""Claims about compiling rows in another way: which rows can be, what their images are called, and what is refused."""

import re
from dataclasses import replace

import pytest
from tests.builders import ROOT, faults_of, real_matrix
from tests.compiledbuilder import T4, T5, compiled, make_compiled
from tests.test_patches import SERIES as TEXT
from tests.test_patches import parse

from sparkbake.errors import UsageError
from sparkbake.matrix import rows
from sparkbake.model import Row, Strategy
from sparkbake.series import load_series
from sparkbake.sourcepins import sources_of
from sparkbake.variants import alternatives, arch_list, check_no_variant, check_variant
from sparkbake.versions import row_tag, variant_tag

# Of its releases 1.0 has the variant, and 2.0 has not.
SERIES = parse()
REAL = load_series(ROOT / "patches" / "vllm")


def of(version: str, row: Row = T4) -> Row:
    return replace(row, release=replace(row.release, vllm=version))


# ---- what an image is called


def test_a_variant_has_a_tag_that_no_row_can_have() -> None:
    """That of a row ends in the major of transformers, or in a revision."""
    assert variant_tag("0.14.1-t4", "12.1") == "0.14.1-t4-sm121"
    given = [row_tag(version, 4, revision=one) for version in ("0.14.1", "0.14.0rc2", "0.6.8.post1") for one in (1, 2)]
    for tag in given:
        assert re.fullmatch(r".*-t\d+(-v\d+)?", tag)
        assert not re.fullmatch(r".*-t\d+(-v\d+)?", variant_tag(tag, "12.1"))


def test_no_two_variants_have_one_tag() -> None:
    """That is why a name has one digit behind its dot: 1.21 would be as 12.1."""
    names = [f"{major}.{minor}" for major in range(1, 130) for minor in range(10)]
    assert len({variant_tag("1.0-t4", name) for name in names}) == len(names)


def test_a_tag_that_is_too_long_is_none() -> None:
    with pytest.raises(ValueError, match="is no valid image tag"):
        variant_tag("0" * 125, "12.1")


def test_a_moving_tag_may_not_be_that_of_a_variant() -> None:
    (fault,) = faults_of(compiled("- tag: latest", "- tag: 0.14.0-t4-sm121"))
    assert (
        "publish.moving: gives '0.14.0-t4-sm121', which is the tag of a variant and never moves; choose another"
        in fault
    )
    assert faults_of(compiled("- tag: latest", "- tag: 0.14.0-t4-sm120")) == ()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ('{"12.1": "12.1a"}', None),
        ('{"1.21": "1.21a"}', "got the key '1.21', expected a compute capability such as 12.1"),
        ('{native: "12.1a"}', "got the key 'native', expected a compute capability such as 12.1"),
        ('{"12.1": "12.0f"}', "got '12.0f', expected 12.1, 12.1a or 12.1f"),
        ('{"12.1": "12.0f;12.1a"}', "got '12.0f;12.1a', expected 12.1, 12.1a or 12.1f"),
    ],
)
def test_a_variant_is_named_as_the_architecture_that_it_is_for(name: str, fault: str | None) -> None:
    text = compiled('variants: {"12.1": "12.1a"}', f"variants: {name}")
    faults = faults_of(text)
    assert (faults == ()) if fault is None else any(fault in one for one in faults), faults


# ---- which rows can be


def test_the_alternatives_of_a_row_say_tag_and_architecture() -> None:
    (found,) = alternatives(make_compiled(), of("1.0"), SERIES)
    assert (found.name, found.tag, found.arch_list, found.refused) == ("12.1", "0.14.0-t4-sm121", "12.1a", None)


def test_an_alternative_that_is_refused_says_why() -> None:
    (found,) = alternatives(make_compiled(), of("2.0"), SERIES)
    assert found.refused == "tool 2.0: no variant '12.1' of it: native: there are no sources"


def test_a_row_that_is_not_compiled_has_none() -> None:
    wheels = next(one for one in rows(make_compiled()) if one.release.strategy is Strategy.WHEELS)
    assert alternatives(make_compiled(), wheels, SERIES) == ()


def test_without_a_variant_the_usual_architecture_counts() -> None:
    assert arch_list(make_compiled(), None) == "12.0f"
    assert arch_list(make_compiled(), "12.1") == "12.1a"


def test_a_variant_that_there_is_none_of_is_refused_with_those_there_are() -> None:
    for name in ("12.0", "12.1a", "sm121", ""):
        with pytest.raises(UsageError, match=rf"^--variant: got '{re.escape(name)}', expected one of 12\.1$"):
            check_variant(make_compiled(), (of("1.0"),), SERIES, name)


def test_every_release_that_has_no_such_variant_is_named_once_with_the_reason() -> None:
    chosen = (of("0.9"), of("2.0"), of("2.0", T5), of("1.0"))
    with pytest.raises(UsageError) as caught:
        check_variant(make_compiled(), chosen, SERIES, "12.1")
    assert str(caught.value) == (
        "tool 0.9: nothing is claimed of it yet: its commit is not known\n"
        "tool 2.0: no variant '12.1' of it: native: there are no sources; leave --variant out, which compiles for 12.0f"
    )


def test_what_the_series_has_no_variant_of_is_refused() -> None:
    """A matrix that names one which nothing was prepared for."""
    series = parse(TEXT.replace(', variant: "12.1"', ""))
    with pytest.raises(UsageError, match=r"^tool: no variant '12\.1'; expected one of none"):
        check_variant(make_compiled(), (of("1.0"),), series, "12.1")


def test_the_tag_of_a_variant_is_no_row_and_the_message_says_how_to_make_it() -> None:
    chosen = rows(make_compiled())
    with pytest.raises(UsageError) as caught:
        check_no_variant(make_compiled(), chosen, "0.14.0-t5-sm121")
    assert str(caught.value) == (
        "'0.14.0-t5-sm121': 0.14.0-t5 compiled in another way, which has no row of its own; "
        "`nox -s build -- 0.14.0-t5 --variant 12.1` makes it"
    )
    for tag in ("0.14.0-t5", "0.14.0-t*", "0.32.0-t5-sm121", "0.14.0-t5-sm120", ""):
        check_no_variant(make_compiled(), chosen, tag)


# ---- the real ones


def test_the_matrix_and_the_patches_know_the_same_variants() -> None:
    names = {name for name, _archs in sources_of(real_matrix()).variants}
    assert names == {one.variant for one in REAL.topics if one.variant} == {"12.1"}


def test_which_real_rows_can_be_compiled_for_12_1_itself() -> None:
    """All whose sources the patches were tried on."""
    compiled_rows = [one for one in rows(real_matrix()) if one.release.strategy is Strategy.SOURCE]
    refused = {
        row.release.vllm: one.refused
        for row in compiled_rows
        for one in alternatives(real_matrix(), row, REAL)
        if one.refused
    }
    assert sorted(refused) == ["0.14.0rc2", "0.15.0", "0.15.1"]
    assert refused["0.15.1"] == (
        "vllm 0.15.1: no variant '12.1' of it: native-lists: the sources cannot be had to prove it on"
    )
