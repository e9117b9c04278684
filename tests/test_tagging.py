"""Claims about the section `publish` of the matrix: which tags move, and what is wrong in it."""

import pytest
from tests.builders import SMALL_MATRIX, edited, faults_of, make_matrix

from sparkbake.tagging import Moving, Tagging, tags_of

TAGGING = Tagging(
    moving=(Moving(template="{minor}-{variant}", reason="x"), Moving(template="latest", reason="x")),
    withdrawn=(),
    hosts=(),
)


def test_the_section_is_read_whole() -> None:
    tagging = make_matrix().tagging
    assert [one.template for one in tagging.moving] == ["{minor}-{variant}", "latest"]
    assert [one.tag for one in tagging.withdrawn] == ["0.32.0-t5"]
    assert tagging.base == "debian-13"
    assert tagging.hosts == (("registry.example:5000", "api.registry.example"),)


def test_a_matrix_without_it_has_no_moving_tags() -> None:
    begin, end = SMALL_MATRIX.index("publish:\n"), SMALL_MATRIX.index("chip:\n")
    assert make_matrix(SMALL_MATRIX[begin:end], "").tagging == Tagging(moving=(), withdrawn=(), hosts=())


@pytest.mark.parametrize(
    ("release", "major", "expected"),
    [
        ("0.32.0", 5, ("0.32-t5", "latest")),
        ("0.32.1.post1", 4, ("0.32-t4", "latest")),
        ("1", 5, ("1.0-t5", "latest")),
        ("0.32.0rc1", 5, ()),
    ],
)
def test_the_moving_tags_of_a_row(release: str, major: int, expected: tuple[str, ...]) -> None:
    assert tags_of(TAGGING, f"{release}-t{major}", release=release, major=major) == expected


def test_a_withdrawn_row_has_none() -> None:
    tagging = make_matrix().tagging
    assert tags_of(tagging, "0.32.0-t5", release="0.32.0", major=5) == ()
    assert tags_of(tagging, "0.20.2-t5", release="0.20.2", major=5) == ("0.20-t5", "latest")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  base: debian-13\n", "  base: debian-12\n", "publish.base: got 'debian-12', expected one of ubuntu-24.04, "),
        ("- tag: latest", "- tag: -latest", "publish.moving[1].tag: got '-latest', expected a tag such as latest or"),
        ("- tag: latest", '- tag: "{mayor}"', "moving[1].tag: got '{mayor}' in it, expected of such only {minor} and"),
        (
            "- tag: latest",
            '- tag: "{minor}-{variant}"',
            "publish.moving: '{minor}-{variant}' stands twice, expected once",
        ),
        ("- tag: latest", "- tag: 0.20.2-t4", "publish.moving: gives '0.20.2-t4', which is the tag of a row"),
        ("- tag: 0.32.0-t5", "- tag: 0.33.0-t5", "publish.withdrawn: got '0.33.0-t5', expected the tag of a row"),
        ("api.registry.example", "https://api", "got 'https://api', expected a host such as registry.example:5000"),
        ("  withdrawn:", "  withdrawen:", "publish.withdrawen: unknown key"),
        ("      reason: it answers slowly", "      why: it answers slowly", "publish.withdrawn[0].reason: missing"),
    ],
)
def test_a_fault_is_told_with_its_place(old: str, new: str, message: str) -> None:
    faults = faults_of(edited(old, new))
    assert any(message in one for one in faults), faults
