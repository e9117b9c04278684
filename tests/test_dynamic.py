"""Claims about what is read of an ELF file for the dynamic linker, and about damaged tables."""

import io
import struct
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cudabuilder import make_elf
from tests.elfbuilder import DEFAULT, GLOBAL, HIDDEN, LOCAL, PROTECTED, UNIQUE, WEAK, make_library

from sparkbake.dynamic import Dynamic, read_dynamic
from sparkbake.elf import Elf, Section, read_elf
from sparkbake.errors import ImageError

ONE = make_library("libone.so.1", needed=["libc.so.6"], runpath="$ORIGIN", defined=["f"], undefined=["puts"])


def maybe(data: bytes) -> Dynamic | None:
    file = io.BytesIO(data)
    return read_dynamic("lib.so", file, read_elf("lib.so", file))


def read(data: bytes) -> Dynamic:
    found = maybe(data)
    assert found
    return found


def numbers(*names: bytes) -> set[int]:
    return {hash(name) for name in names}


def test_name_needs_and_symbols_are_found() -> None:
    assert read(ONE) == Dynamic(
        soname="libone.so.1",
        needed=("libc.so.6",),
        search=("$ORIGIN",),
        defined=frozenset(numbers(b"f")),
        undefined=("puts",),
    )


def test_a_file_without_dynamic_section_asks_for_nothing() -> None:
    assert maybe(make_elf({".text": b"x"})) is None


def test_split_off_debug_information_asks_for_nothing() -> None:
    """It has the section's header, and none of its bytes."""
    assert maybe(make_elf(empty=[".dynamic", ".dynsym", ".dynstr"])) is None


def test_needed_names_keep_their_order() -> None:
    assert read(make_library(needed=["b.so", "a.so"])).needed == ("b.so", "a.so")


def test_a_runpath_makes_the_rpath_void() -> None:
    """https://man7.org/linux/man-pages/man8/ld.so.8.html: DT_RPATH is used if DT_RUNPATH does not exist."""
    assert read(make_library(rpath="/a", runpath="/b:$ORIGIN/../lib")).search == ("/b", "$ORIGIN/../lib")
    assert read(make_library(rpath="/a:")).search == ("/a",)


def test_offered_are_global_weak_and_unique_symbols_that_others_can_see() -> None:
    symbols = [
        ("global", GLOBAL, DEFAULT, 7),
        ("weak", WEAK, PROTECTED, 7),
        ("unique", UNIQUE, DEFAULT, 0xFFF1),
        ("local", LOCAL, DEFAULT, 7),
        ("hidden", GLOBAL, HIDDEN, 7),
    ]
    assert read(make_library(symbols=symbols)).defined == numbers(b"global", b"weak", b"unique")


def test_wanted_are_global_symbols_once_and_sorted_and_no_weak_ones() -> None:
    symbols = [("maybe", WEAK, DEFAULT, 0), ("", GLOBAL, DEFAULT, 0), ("b", GLOBAL, DEFAULT, 0)]
    assert read(make_library(undefined=["b", "a"], symbols=symbols)).undefined == ("a", "b")


def test_what_stands_behind_the_end_mark_is_not_read() -> None:
    dynamic = struct.pack("<qQqQ", 0, 0, 1, 1)
    assert read(make_elf({".dynamic": dynamic, ".dynstr": b"\0x\0"})).needed == ()


def test_a_name_that_is_no_utf8_is_shown_escaped() -> None:
    dynamic = struct.pack("<qQ", 14, 1)
    assert read(make_elf({".dynamic": dynamic, ".dynstr": b"\0\xff\0"})).soname == "\\xff"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {".dynamic": bytes(17)},
            r"^lib\.so: section '\.dynamic' has 17 bytes, expected a multiple of 16; damaged",
        ),
        (
            {".dynamic": bytes(16), ".dynsym": bytes(25)},
            r"section '\.dynsym' has 25 bytes, expected a multiple of 24; damaged",
        ),
        (
            {".dynamic": struct.pack("<qQ", 1, 9), ".dynstr": b"\0a\0"},
            r"a name at byte 9 of 3 bytes of '\.dynstr' has no end; damaged",
        ),
        (
            {".dynamic": struct.pack("<qQ", 1, 1), ".dynstr": b"\0a"},
            r"a name at byte 1 of 2 bytes of '\.dynstr' has no end; damaged",
        ),
        (
            {".dynamic": bytes(16), ".dynsym": struct.pack("<IBBHQQ", 5, 16, 0, 1, 0, 0)},
            r"a name at byte 5 of 0 bytes of '\.dynstr' has no end; damaged",
        ),
    ],
)
def test_a_damaged_table_is_refused_with_what_is_wrong(sections: dict[str, bytes], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        maybe(make_elf(sections))


def test_a_table_larger_than_any_real_one_is_refused() -> None:
    sections = (
        Section(name=".dynamic", offset=0, size_bytes=16),
        Section(name=".dynstr", offset=0, size_bytes=1 << 29),
    )
    elf = Elf(machine=183, abi_version=0, flags=0, sections=sections)
    with pytest.raises(
        ImageError, match=r"section '\.dynstr' has 536870912 bytes, expected at most 268435456; damaged"
    ):
        read_dynamic("lib.so", io.BytesIO(ONE), elf)


@given(st.integers(0, len(ONE) - 1), st.integers(0, 255))
def test_one_damaged_byte_is_an_image_error_or_nothing(at: int, value: int) -> None:
    with suppress(ImageError):
        maybe(ONE[:at] + bytes([value]) + ONE[at + 1 :])


def test_as_many_symbols_as_torch_has_are_read_in_a_moment() -> None:
    """The limit is ten times what it takes, for the machines of CI."""
    data = make_library(defined=[f"_ZN2at4_ops{number}" for number in range(150_000)])
    started = time.process_time()
    assert len(read(data).defined) == 150_000
    assert time.process_time() - started < 3
