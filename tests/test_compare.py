"""Claims about the differences of two images: all are said, each once, and none of an image and itself."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkbake.compare import (
    SHOWN_PER_LAYER,
    Difference,
    difference_rows,
    differences,
    differences_json,
    entry_differences,
)
from sparkbake.imageinfo import Entry, ImageInfo, LayerInfo

FILE = Entry(path="a", kind="file", mode=0o644, uid=0, gid=0, mtime=1, size_bytes=3, target="", sha256="ab", headers=())
LAYER = LayerInfo(digest="sha256:1", diff_id="sha256:2", media_type="tar", size_bytes=9, created_by="")
CUDA = replace(LAYER, created_by="COPY /layers/cuda/ / # buildkit")


def image(*layers: LayerInfo, **config: Any) -> ImageInfo:
    return ImageInfo(digest="sha256:0", config_digest="sha256:1", config=json.dumps(config), labels=(), layers=layers)


def found(one: Sequence[Entry], other: Sequence[Entry]) -> list[tuple[str, str, str, str]]:
    return [(each.path, each.what, each.first, each.second) for each in entry_differences("1", one, other)]


def told(first: ImageInfo, second: ImageInfo, one: Sequence[Entry] = (), other: Sequence[Entry] = ()) -> list[str]:
    some = differences(first, second, lambda _layer: one, lambda _layer: other)
    return [f"{each.layer}|{each.path}|{each.what}|{each.first}|{each.second}" for each in some]


# ---- entries


@pytest.mark.parametrize(
    ("change", "what", "first", "second"),
    [
        ({"sha256": "cd", "size_bytes": 4}, "content", "sha256:ab (3 bytes)", "sha256:cd (4 bytes)"),
        ({"mode": 0o4755}, "mode", "0644", "4755"),
        ({"mtime": 2}, "mtime", "1", "2"),
        ({"uid": 5}, "owner", "0:0", "5:0"),
        ({"gid": 6}, "owner", "0:0", "0:6"),
        ({"headers": (("x", "y"),)}, "headers", "", "x=y"),
    ],
)
def test_each_fact_of_an_entry_is_compared(change: dict[str, Any], what: str, first: str, second: str) -> None:
    assert found([FILE], [replace(FILE, **change)]) == [("a", what, first, second)]


def test_another_kind_and_another_target() -> None:
    link = replace(FILE, kind="link", target="b", sha256="", size_bytes=0)
    assert found([link], [replace(link, target="c")]) == [("a", "link target", "b", "c")]
    assert [what for _path, what, *_rest in found([FILE], [link])] == ["kind", "content", "link target"]


def test_what_only_one_has() -> None:
    other = replace(FILE, path="b")
    assert found([FILE], [other]) == [
        ("a", "only in the first", "file", "absent"),
        ("b", "only in the second", "absent", "file"),
    ]


def test_a_path_that_stands_twice_in_a_tar_is_compared_in_its_order() -> None:
    assert found([FILE, FILE], [FILE]) == [("a", "only in the first", "file", "absent")]
    assert [what for _path, what, *_rest in found([FILE, FILE], [FILE, replace(FILE, mtime=2)])] == ["mtime"]


def test_another_order_names_the_first_path_that_differs() -> None:
    a, b, c = (replace(FILE, path=path) for path in "abc")
    assert found([a, b, c], [a, c, b]) == [("b", "order", "b", "c")]


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    facts = st.tuples(st.sampled_from("abcd"), st.integers(0, 2), st.sampled_from(["ab", "cd"]))
    return [replace(FILE, path=path, mtime=mtime, sha256=sha256) for path, mtime, sha256 in draw(st.lists(facts))]


@given(entries())
def test_a_list_does_not_differ_from_itself(some: list[Entry]) -> None:
    assert found(some, some) == []


@given(entries(), entries())
def test_lists_that_differ_have_differences_and_the_same_from_both_sides(one: list[Entry], other: list[Entry]) -> None:
    assert bool(found(one, other)) == (one != other)
    assert len(found(one, other)) == len(found(other, one))


# ---- layers


def test_an_image_does_not_differ_from_itself_and_no_layer_is_read() -> None:
    one = image(LAYER, CUDA, a=1)
    assert differences(one, one, lambda _layer: pytest.fail("read"), lambda _layer: pytest.fail("read")) == ()


def test_one_tar_in_two_blobs_is_a_difference_of_compression() -> None:
    other = replace(CUDA, digest="sha256:3", size_bytes=8)
    assert told(image(LAYER, CUDA), image(LAYER, other)) == [
        "2 (cuda)||compression|sha256:1 (tar, 9 bytes)|sha256:3 (tar, 8 bytes)"
    ]


def test_the_same_entries_in_two_tars_are_a_difference_of_the_format() -> None:
    other = replace(LAYER, digest="sha256:3", diff_id="sha256:4")
    assert told(image(LAYER), image(other), [FILE], [FILE]) == ["1||tar format|sha256:2|sha256:4"]
    assert told(image(LAYER), image(other), [FILE], []) == ["1|a|only in the first|file|absent"]


def test_a_layer_with_two_names_has_both() -> None:
    other = replace(CUDA, diff_id="sha256:4", created_by="COPY --link --from=layout /layers/torch/ /")
    (line,) = told(image(CUDA), image(other), [FILE], [FILE])
    assert line.startswith("1 (cuda and torch)|")


def test_layers_that_only_one_has_are_counted() -> None:
    assert told(image(LAYER), image(LAYER, CUDA)) == ["||number of layers|1|2"]


# ---- configs


def test_a_config_differs_by_key() -> None:
    first = image(config={"Env": ["A=1"], "Cmd": None}, history=[{"created": "x"}, {"created": "y"}])
    second = image(config={"Env": ["A=2"], "Labels": {"a.b": "1"}}, history=[{"created": "x"}, {"created": "z"}])
    assert told(first, second) == [
        "config|config.Cmd|only in the first|null|absent",
        'config|config.Env|value|["A=1"]|["A=2"]',
        'config|config.Labels.a.b|only in the second|absent|"1"',
        'config|history[1].created|value|"y"|"z"',
    ]


def test_a_number_and_its_text_are_not_the_same() -> None:
    assert told(image(a=1), image(a="1")) == ['config|a|value|1|"1"']


# ---- for people, and for machines


def test_the_table_shows_some_of_each_layer_and_says_how_many_more_there_are() -> None:
    one = Difference(layer="1", path="a", what="mode", first="0644", second="0755")
    some = [one] * (SHOWN_PER_LAYER + 2) + [replace(one, layer="2")] * SHOWN_PER_LAYER
    rows = difference_rows(some)
    assert rows[0] == ("1", "a", "mode", "0644", "0755")
    assert rows[SHOWN_PER_LAYER] == ("1", "and 2 more (--json has all)", "", "", "")
    assert len(rows) == 2 * SHOWN_PER_LAYER + 1
    assert len(differences_json(some)) == len(some)
    assert differences_json([one]) == [{"layer": "1", "path": "a", "what": "mode", "first": "0644", "second": "0755"}]
