"""Claims about fat binaries: every piece of device code is found with its architecture, and a bad one is refused."""

import io
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cudabuilder import (
    FLAGS,
    make_container,
    make_cubin,
    make_elf,
    make_entry,
    make_packed,
)

from sparkbake.elf import read_elf
from sparkbake.errors import ImageError
from sparkbake.fatbin import Code, Suffix, cubin_code, read_containers

ONE = make_container(make_entry("sass", 120, "f"), make_entry("ptx", 80))


def read(data: bytes, offset: int = 0) -> list[tuple[Code, ...]]:
    return list(read_containers("lib.so", io.BytesIO(data), offset=offset, size_bytes=len(data) - offset))


def names(data: bytes) -> list[list[str]]:
    return [[code.name for code in one] for one in read(data)]


# ---- containers and entries


@pytest.mark.parametrize("suffix", FLAGS)
def test_kind_architecture_and_suffix_stand_in_the_header(suffix: Suffix) -> None:
    data = make_container(make_entry("sass", 121, suffix), make_entry("ptx", 90, suffix))
    assert names(data) == [[f"sm_121{suffix}", f"compute_90{suffix}"]]


def test_each_container_is_told_apart_and_zeros_between_them_are_skipped() -> None:
    data = bytes(8) + ONE + bytes(16) + make_container(make_entry("sass", 75)) + bytes(4)
    assert names(data) == [["sm_120f", "compute_80"], ["sm_75"]]


def test_a_container_without_entries_is_one() -> None:
    assert read(make_container()) == [()]


def test_a_section_begins_where_it_begins() -> None:
    assert [len(one) for one in read(b"padding" + ONE, offset=7)] == [2]


def test_headers_may_have_a_name_and_options() -> None:
    data = make_container(make_entry("ptx", 80, name="foo", options=b"--maxrregcount 32"), make_entry("sass", 80))
    assert names(data) == [["compute_80", "sm_80"]]


def test_the_size_is_that_in_the_file() -> None:
    assert [code.stored_bytes for code in read(make_container(make_entry("sass", 80, payload=bytes(41))))[0]] == [48]


@pytest.mark.parametrize(("number", "name"), [(8, "kind 8 of 121a"), (77, "kind 77 of 121a"), (16, "sm_121a")])
def test_other_kinds_are_named_and_none_is_dropped(number: int, name: str) -> None:
    found = read(make_container(make_entry(number, 121, "a"), make_entry("sass", 80)))[0]
    assert [code.name for code in found] == [name, "sm_80"]
    assert found[0].number == number


def test_cubins_that_are_packed_as_one_are_all_found() -> None:
    found = read(make_container(make_packed([(120, "f"), (121, "a"), (121, "")]), make_entry("sass", 90, "a")))[0]
    assert [code.name for code in found] == ["sm_120f", "sm_121a", "sm_121", "sm_90a"]
    assert [code.stored_bytes for code in found] == [8, 0, 0, 8]


def test_packed_cubins_may_have_neither_name_nor_options() -> None:
    packed = make_packed([(120, "")])
    plain = make_entry("sass", 121)[:64]
    table = struct.pack("<II", 2, 8 + 128) + plain * 2
    assert names(make_container(packed[:4] + struct.pack("<I", 200) + packed[8:64] + table + b"12345678")) == [
        ["sm_121"] * 2
    ]


@pytest.mark.parametrize(
    ("payload", "is_emptied"), [(bytes(16), True), (bytes(7) + b"x" + bytes(8), False), (b"x" + bytes(15), False)]
)
def test_code_that_is_overwritten_with_zeros_is_told_apart(payload: bytes, *, is_emptied: bool) -> None:
    found = read(make_container(make_entry("sass", 90, payload=payload), make_entry("sass", 120)))[0]
    assert [code.is_emptied for code in found] == [is_emptied, False]


def test_code_of_no_bytes_is_not_overwritten() -> None:
    assert [code.is_emptied for code in read(make_container(make_entry("sass", 90, payload=b"")))[0]] == [False]


# ---- what is wrong with a bad one


def recounted(packed: bytes, count: int) -> bytes:
    """Packed cubins that say that they are another number."""
    return packed[:64] + struct.pack("<I", count) + packed[68:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (make_container(magic=0x466243B1), "byte 0: got magic 0x466243b1, version 1, header size 16, expected"),
        (make_container(version=2), "version 2"),
        (make_container(header_bytes=8), "header size 8"),
        (ONE[:12], "byte 0: 12 bytes are left, expected a fat binary's header of 16"),
        (ONE[:-8], "a fat binary up to byte .* goes beyond its section, which ends at"),
        (make_container(entries_bytes=1 << 63), "goes beyond its section"),
        (make_container(bytes(40)), "byte 16: 40 bytes are left for an entry of at least 64"),
        (make_container(bytes(64)), "byte 16: an entry of 0 . 0 bytes, expected at least 64 and at most 64; damaged"),
        (make_container(make_entry("sass", 80)[:-8]), "byte 16: an entry of 64 . 8 bytes, expected .* at most 64"),
        (make_container(make_entry(256, 80)), "a table of 64 bytes of packed entries; damaged"),
        (make_container(recounted(make_packed([(120, "")]), 2)), "a table of 96 bytes for 2 packed entries; damaged"),
        (make_container(recounted(make_packed([(120, ""), (121, "")]), 1)), "1 packed entries take 96 of 184 bytes"),
        (b"not zero" + bytes(8), "no fat binary, damaged, or of a newer CUDA"),
    ],
)  # fmt: skip
def test_a_bad_section_is_refused_with_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read(data)


def test_a_section_beyond_the_end_of_the_file_is_refused() -> None:
    with pytest.raises(ImageError, match="ends within a fat binary's header"):
        list(read_containers("lib.so", io.BytesIO(ONE), offset=0, size_bytes=len(ONE) + 64))


PIECES = st.tuples(
    st.integers(0, 300).filter(lambda kind: kind != 256), st.integers(0, 999), st.sampled_from(sorted(FLAGS))
)


@given(st.lists(st.tuples(st.lists(PIECES), st.integers(0, 3))))
def test_what_was_put_in_comes_out(containers: list[tuple[list[tuple[int, int, Suffix]], int]]) -> None:
    data = b"".join(
        make_container(*(make_entry(kind, number, suffix) for kind, number, suffix in pieces)) + bytes(8 * gap)
        for pieces, gap in containers
    )
    found = [[(code.number, code.architecture, code.suffix) for code in one] for one in read(data)]
    assert found == [pieces for pieces, _gap in containers]


MIXED = make_container(make_entry("ptx", 80, options=b"x"), make_packed([(120, "f"), (121, "a")])) + ONE


@given(st.integers(0, len(MIXED) - 1), st.binary(min_size=1, max_size=8))
def test_damage_is_an_image_error_or_nothing(at: int, rubbish: bytes) -> None:
    with suppress(ImageError):
        read(MIXED[:at] + rubbish + MIXED[at + len(rubbish) :])


@given(st.integers(1, len(ONE) - 1))
def test_a_container_that_is_cut_off_is_an_image_error(size: int) -> None:
    with pytest.raises(ImageError, match=r"^lib\.so: "):
        read(ONE[:size])


# ---- cubins


def code_of(data: bytes) -> Code | None:
    return cubin_code("k.cubin", io.BytesIO(data), read_elf("k.cubin", io.BytesIO(data)), size_bytes=len(data))


@pytest.mark.parametrize("suffix", FLAGS)
@pytest.mark.parametrize("architecture", [90, 121])
def test_a_cubin_of_cuda_13_says_what_it_is_for(architecture: int, suffix: Suffix) -> None:
    data = make_cubin(architecture, suffix)
    assert code_of(data) == Code(
        kind="sass", number=2, architecture=architecture, suffix=suffix, stored_bytes=len(data)
    )


@pytest.mark.parametrize("suffix", ["", "a"])
def test_a_cubin_of_cuda_12_says_what_it_is_for(suffix: Suffix) -> None:
    found = code_of(make_cubin(90, suffix, is_new=False))
    assert found
    assert found.name == f"sm_90{suffix}"


def test_a_program_is_no_cubin() -> None:
    assert code_of(make_elf()) is None


def test_a_damaged_note_of_a_cubin_is_refused() -> None:
    data = make_elf({".note.nv.tkinfo": struct.pack("<III", 4, 99, 2000)}, machine=190, abi_version=8)
    with pytest.raises(ImageError, match="a note at byte 0"):
        code_of(data)
