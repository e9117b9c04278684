"""Claims about overwriting the cubins of other chips: just those are gone, and nothing else of a file changes."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cudabuilder import FLAGS, PAYLOAD, make_container, make_entry, make_packed, make_program

from sparkbake.devicecode import verdict_of
from sparkbake.elf import read_elf
from sparkbake.errors import ImageError
from sparkbake.fatbin import Code, Suffix, read_payloads
from sparkbake.pruning import prune

CHIP = 121


def pruned(data: bytes, chip: int = CHIP) -> tuple[bytes, int]:
    file = io.BytesIO(data)
    gone = prune("lib.so", file, chip)
    return file.getvalue(), gone


def pieces(data: bytes) -> list[tuple[Code, int | None]]:
    file = io.BytesIO(data)
    return list(read_payloads("lib.so", file, read_elf("lib.so", file)))


def emptied(data: bytes) -> list[str]:
    return [code.name for code, _at in pieces(data) if code.is_emptied]


def test_what_a_chip_cannot_load_is_overwritten_and_the_rest_stays_byte_by_byte() -> None:
    kept, gone = b"kept" * 2, b"gone" * 2
    entries = {
        "sm_80": make_entry("sass", 80, payload=gone),
        "sm_90a": make_entry("sass", 90, "a", payload=gone),
        "sm_120": make_entry("sass", 120, payload=kept),
        "sm_120a": make_entry("sass", 120, "a", payload=gone),
        "sm_120f": make_entry("sass", 120, "f", payload=kept),
        "sm_121a": make_entry("sass", 121, "a", payload=kept),
        "compute_80": make_entry("ptx", 80, payload=kept),
    }
    data = make_program(
        make_container(*entries.values()), bytes(8), make_container(make_entry("sass", 103, payload=gone))
    )
    found, count = pruned(data)
    assert found == data.replace(gone, bytes(8))
    assert count == 4 * 8
    assert emptied(found) == ["sm_80", "sm_90a", "sm_120a", "sm_103"]


def test_relocatable_code_is_overwritten_too() -> None:
    found, count = pruned(make_program(make_container(make_entry("sass", 90)), section="__nv_relfatbin"))
    assert (emptied(found), count) == (["sm_90"], 8)


def test_a_large_cubin_is_overwritten_to_its_end() -> None:
    payload = bytes([1]) * (3 << 20)
    found, count = pruned(
        make_program(make_container(make_entry("sass", 90, payload=payload), make_entry("sass", 120)))
    )
    assert (count, bytes([1]) * 8 in found, PAYLOAD in found) == (3 << 20, False, True)


def test_a_second_time_there_is_nothing_to_do() -> None:
    once, _count = pruned(make_program(make_container(make_entry("sass", 90), make_entry("sass", 120))))
    assert pruned(once) == (once, 0)


PIECES = st.tuples(st.sampled_from(["sass", "ptx", 8, 16]), st.integers(50, 130), st.sampled_from(sorted(FLAGS)))


@given(st.lists(st.lists(PIECES, max_size=4), max_size=4), st.sampled_from([90, 120, 121]))
def test_headers_and_places_stay_and_just_sass_that_does_not_run_is_gone(
    containers: list[list[tuple[int | str, int, Suffix]]], chip: int
) -> None:
    data = make_program(*(make_container(*(make_entry(*one) for one in some)) for some in containers))
    before = pieces(data)
    found, count = pruned(data, chip)
    after = pieces(found)
    assert len(found) == len(data)
    assert [(code.name, code.number, at) for code, at in after] == [(code.name, code.number, at) for code, at in before]
    wanted = [code.kind == "sass" and verdict_of(code, chip) == "none" for code, _at in before]
    assert [code.is_emptied for code, _at in after] == wanted
    assert count == sum(code.stored_bytes for (code, _at), is_gone in zip(before, wanted, strict=True) if is_gone)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#!/bin/sh\n", "lib.so: "),
        (make_program(make_container(make_entry("sass", 90)), make_container(version=2)), "version 2"),
        (
            make_program(make_container(make_entry("sass", 90), make_packed([(120, "f"), (90, "a")]))),
            "lib.so: sm_90a is packed as one with others, expected each by itself; do not prune it",
        ),
    ],
)
def test_of_what_cannot_be_pruned_nothing_is_written(data: bytes, message: str) -> None:
    file = io.BytesIO(data)
    with pytest.raises(ImageError, match=message):
        prune("lib.so", file, CHIP)
    assert file.getvalue() == data


def test_what_is_packed_as_one_may_stay_where_all_of_it_runs() -> None:
    data = make_program(make_container(make_packed([(120, "f"), (121, "a")]), make_entry("sass", 90)))
    assert emptied(pruned(data)[0]) == ["sm_90"]
