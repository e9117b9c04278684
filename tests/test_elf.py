"""Claims about reading ELF files: what is found without reading them whole, and what is wrong with a bad one."""

import io
import struct
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cudabuilder import make_elf, make_note

from sparkbake.elf import Elf, Section, build_id, is_elf, notes, read_elf
from sparkbake.errors import ImageError

TWO = make_elf({".text": b"x" * 9, ".data": b"y"}, machine=190, abi_version=8, flags=0x06007902)


class Counting(io.BytesIO):
    """A file that counts the bytes that are read of it."""

    seen = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.seen += len(data)
        return data


def read(data: bytes) -> Elf:
    return read_elf("lib.so", io.BytesIO(data))


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


def header_at(data: bytes, index: int) -> int:
    """The place of a section header."""
    return int(struct.unpack_from("<Q", data, 40)[0]) + index * 64


def test_header_and_sections_are_found() -> None:
    elf = read(TWO)
    assert (elf.machine, elf.abi_version, elf.flags) == (190, 8, 0x06007902)
    assert [(one.name, one.offset, one.size_bytes) for one in elf.sections[:2]] == [(".text", 64, 9), (".data", 80, 1)]
    assert elf.named(".data", ".bss") == (Section(name=".data", offset=80, size_bytes=1),)


def test_two_sections_of_one_name_are_both_found() -> None:
    assert len(read(make_elf([(".a", b"1"), (".a", b"2")])).named(".a")) == 2


def test_a_section_without_bytes_in_the_file_is_left_out() -> None:
    assert [one.name for one in read(make_elf(empty=[".bss"])).sections] == [".shstrtab"]


def test_a_file_without_section_headers_has_no_sections() -> None:
    assert read(patched(TWO, 40, "<Q", 0)).sections == ()


def test_more_sections_than_the_header_can_count_stand_in_section_0() -> None:
    """https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html: e_shnum 0, e_shstrndx SHN_XINDEX."""
    data = patched(patched(TWO, 60, "<H", 0), 62, "<H", 0xFFFF)
    data = patched(patched(data, header_at(data, 0) + 32, "<Q", 4), header_at(data, 0) + 40, "<I", 3)
    assert read(data) == read(TWO)


def test_only_headers_and_names_are_read() -> None:
    file = Counting(make_elf({".text": bytes(1 << 20)}))
    read_elf("lib.so", file)
    assert file.seen < 1000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x7fELF", "lib.so: ends within the ELF header: 4 of 64 bytes at 0; damaged"),
        (patched(TWO, 4, "<B", 1), "expected a 64-bit little-endian ELF file"),
        (patched(TWO, 5, "<B", 2), "expected a 64-bit little-endian ELF file"),
        (patched(TWO, 58, "<H", 40), "its section headers have 40 bytes each, expected 64"),
        (TWO[:-1], "4 section headers at byte .* go beyond its end at .*; cut off or damaged"),
        (patched(TWO, 40, "<Q", 1 << 60), "go beyond its end"),
        (patched(TWO, 62, "<H", 9), "names section 9 as that of the names, and has 4; damaged"),
        (patched(TWO, header_at(TWO, 3) + 32, "<Q", 1 << 40), "its section names take .* bytes, expected at most"),
        (patched(TWO, header_at(TWO, 1), "<I", 999), "a section name at byte 999 of .* bytes of names has no end"),
        (patched(TWO, header_at(TWO, 1) + 32, "<Q", 9999), "section '.text' has 9999 bytes at 64, beyond its end at"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read(data)


@given(st.integers(0, len(TWO) - 1), st.integers(0, 255))
def test_one_damaged_byte_is_an_image_error_or_nothing(at: int, value: int) -> None:
    with suppress(ImageError):
        read(patched(TWO, at, "<B", value))


@given(st.integers(0, len(TWO) - 1))
def test_a_file_that_is_cut_off_is_an_image_error(size: int) -> None:
    with pytest.raises(ImageError, match=r"^lib\.so: "):
        read(TWO[:size])


def test_the_build_id_is_found_among_other_notes() -> None:
    section = make_note(b"stapsdt\0", 3, b"12345") + make_note(b"GNU\0", 1, b"1") + make_note(b"GNU\0", 3, b"\x01\xfe")
    data = make_elf({".note.gnu.build-id": section})
    assert build_id("lib.so", io.BytesIO(data), read(data)) == "01fe"


def test_a_file_without_build_id_has_none() -> None:
    assert build_id("lib.so", io.BytesIO(TWO), read(TWO)) is None


def test_a_note_that_goes_beyond_its_section_is_refused() -> None:
    data = make_elf({".note.x": make_note(b"GNU\0", 3, b"12345678")[:-4]})
    with pytest.raises(ImageError, match=r"a note at byte 0 of '\.note\.x' goes beyond it; damaged"):
        list(notes("lib.so", io.BytesIO(data), read(data).named(".note.x")[0]))


def test_what_begins_like_an_elf_file_that_can_be_read() -> None:
    assert is_elf(TWO)
    assert not is_elf(b"\x7fELF\x01\x01\x01")
    assert not is_elf(b"#!/bin/sh")


def test_a_real_program_is_read() -> None:
    """The Python that runs this; another format than ELF it has only where there are no images, either."""
    with Path(sys.executable).resolve().open("rb") as file:
        assert read_elf("python", file).named(".text", ".dynstr")
