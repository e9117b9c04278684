"""Claims about reading files of a package index in pieces; the index is played."""

import hashlib
import io
import re
import struct
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from tests.cudabuilder import make_elf

from sparkbake import remote
from sparkbake.errors import LockError
from sparkbake.remote import RemoteFile, content_length, download, read_build_id, read_member

URL = "https://files.example/vllm-0.20.2-py3-none-any.whl"


class Answer(io.BytesIO):
    """What urlopen gives."""

    def __init__(self, data: bytes, status: int, length: int) -> None:
        super().__init__(data)
        self.status = status
        self.headers = {"Content-Length": str(length)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class FakeServer:
    """Serves one file, in ranges or not, and counts what it sends."""

    def __init__(self, data: bytes, *, has_ranges: bool = True) -> None:
        self.data = data
        self.has_ranges = has_ranges
        self.sent_bytes = 0
        self.requests = 0

    def open(self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        assert url == URL
        self.requests += 1
        if method == "HEAD":
            return Answer(b"", 200, len(self.data))
        if not self.has_ranges:
            return Answer(self.data, 200, len(self.data))
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", (headers or {})["Range"])
        assert match
        first, last = int(match[1]), int(match[2])
        assert 0 <= first <= last < len(self.data), "a range that a server refuses"
        piece = self.data[first : last + 1]
        self.sent_bytes += len(piece)
        return Answer(piece, 206, len(piece))


def serve(monkeypatch: pytest.MonkeyPatch, data: bytes, *, has_ranges: bool = True) -> FakeServer:
    server = FakeServer(data, has_ranges=has_ranges)
    monkeypatch.setattr(remote, "_open", server.open)
    return server


def large_wheel() -> bytes:
    """10 MB that no compression makes smaller, with a small file at the end and one at the beginning."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as wheel:
        wheel.writestr("vllm/_version.py", "commit_id = 'g0123456'")
        wheel.writestr("vllm/_C.so", bytes(10 * 10**6))
        wheel.writestr("vllm-0.20.2.dist-info/METADATA", "Name: vllm")
    return packed.getvalue()


def test_the_size_is_what_the_head_says(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, bytes(1234))
    assert content_length(URL) == 1234
    assert server.sent_bytes == 0


def test_members_are_read_without_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, large_wheel())
    with zipfile.ZipFile(RemoteFile(URL)) as wheel:
        assert read_member(wheel, r".*\.dist-info/METADATA") == "Name: vllm"
        assert read_member(wheel, r"vllm/_version\.py") == "commit_id = 'g0123456'"
    assert server.sent_bytes < 3 * 10**6


def test_a_member_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, large_wheel())
    with zipfile.ZipFile(RemoteFile(URL)) as wheel, pytest.raises(LockError, match="the wheel has no file LICENSE"):
        read_member(wheel, "LICENSE")


def serve_library(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("nvidia/nccl/lib/libnccl.so.2", content)
    serve(monkeypatch, packed.getvalue())


def test_the_build_id_of_a_library_is_read_from_its_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    note = struct.pack("<III", 4, 4, 3) + b"GNU\0" + bytes.fromhex("0badcafe")
    serve_library(monkeypatch, make_elf({".note.gnu.build-id": note}))
    assert read_build_id(URL, "nvidia/nccl/lib/libnccl.so.2") == "0badcafe"


@pytest.mark.parametrize(
    ("content", "member", "told"),
    [
        (b"text", "nvidia/nccl/lib/libnccl.so.3", "the wheel has no such file; correct `library` in matrix.yaml"),
        (b"text", "nvidia/nccl/lib/libnccl.so.2", "correct `library` in matrix.yaml"),
        (make_elf(), "nvidia/nccl/lib/libnccl.so.2", "has no Build-ID; remove `library` in matrix.yaml"),
    ],
)
def test_a_library_without_a_build_id_is_told(
    content: bytes, member: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_library(monkeypatch, content)
    with pytest.raises(LockError, match=f"{re.escape(member)}.*{re.escape(told)}"):
        read_build_id(URL, member)


def test_pieces_are_the_bytes_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(i % 251 for i in range(3 << 20))
    serve(monkeypatch, data)
    file = RemoteFile(URL)
    assert (file.seekable(), file.readable()) == (True, True)
    for start, size in ((0, 10), (5, 1 << 20), (1 << 20, 2 << 20), (10, 3), (len(data) - 4, 100)):
        assert file.seek(start) == start
        assert file.read(size) == data[start : start + size]
        assert file.tell() == min(start + size, len(data))
    assert file.seek(-4, io.SEEK_END) == len(data) - 4
    assert file.read() == data[-4:]
    assert file.read() == b""
    file.seek(1)
    assert file.seek(2, io.SEEK_CUR) == 3


def test_an_index_without_ranges_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, large_wheel(), has_ranges=False)
    with pytest.raises(LockError) as caught:
        zipfile.ZipFile(RemoteFile(URL))
    assert str(caught.value) == ("vllm-0.20.2-py3-none-any.whl: the package index does not answer range requests")


def fail_with(error: OSError, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every request fail; returns the list of those that were made."""
    asked: list[str] = []

    def urlopen(request: urllib.request.Request, timeout: float) -> None:
        asked.append(request.full_url)
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return asked


def test_what_may_pass_is_tried_again_and_the_message_says_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fail_with(urllib.error.URLError("no such name"), monkeypatch)
    with pytest.raises(LockError, match=r"a\.whl: cannot be read from the package index, 3 times: .*no such name"):
        content_length("https://index.example/a.whl")
    assert len(asked) == 3


def test_a_definite_no_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://index.example/a.whl"
    asked = fail_with(urllib.error.HTTPError(url, 404, "Not Found", Message(), None), monkeypatch)
    with pytest.raises(LockError, match="from the package index: HTTP Error 404"):
        content_length(url)
    assert len(asked) == 1


# ---- fetching files whole


def test_a_file_is_fetched_whole_and_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = large_wheel()
    serve(monkeypatch, data, has_ranges=False)
    pieces: list[int] = []
    download(URL, tmp_path / "a.whl", sha256=hashlib.sha256(data).hexdigest(), count=pieces.append)
    assert (tmp_path / "a.whl").read_bytes() == data
    assert sum(pieces) == len(data)
    assert [one.name for one in tmp_path.iterdir()] == ["a.whl"]


def test_a_file_that_is_another_or_ends_early_replaces_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"as it was")
    serve(monkeypatch, b"another", has_ranges=False)
    with pytest.raises(LockError) as caught:
        download(URL, tmp_path / "a.whl", sha256=64 * "0", count=lambda _size: None)
    assert str(caught.value) == (
        f"a.whl: got 7 bytes with the hash {hashlib.sha256(b'another').hexdigest()[:12]}, expected 000000000000: it "
        "broke off, or is another file; run it again"
    )
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"a.whl": b"as it was"}


def test_a_disk_that_is_full_is_told_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve(monkeypatch, b"data", has_ranges=False)

    def full(_size: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(LockError, match=r"a\.whl: fetching it broke off: .*No space left on device; run it again"):
        download(URL, tmp_path / "a.whl", sha256=64 * "0", count=full)
    assert list(tmp_path.iterdir()) == []
