"""Claims about source distributions: how they are found, kept, checked and read; index and network are played."""

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from sparkbake import process, sources
from sparkbake.errors import LockError, ProcessError
from sparkbake.sources import fetch_sdist, find_sdist, is_kept, parse_sdist, read_members

FILE = "vllm-0.32.0.tar.gz"
PYLOCK = """\
lock-version = "1.0"
[[packages]]
name = "vllm"
version = "0.32.0"
sdist = {{ url = "https://files.example/a/vllm-0.32.0.tar.gz", hashes = {{ sha256 = "{sha256}" }} }}
wheels = [{{ url = "https://files.example/b/vllm-0.32.0-py3-none-any.whl", hashes = {{ sha256 = "00" }} }}]
"""


def archive(files: Mapping[str, bytes]) -> bytes:
    """A source distribution."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(f"vllm-0.32.0/{path}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


SDIST = archive({"CMakeLists.txt": b"project(x)\n", "cmake/utils.cmake": b"# \xc3\xa9\n", "csrc/a.cu": b"\xff"})
SHA256 = hashlib.sha256(SDIST).hexdigest()


class FakeIndex:
    """Answers uv's question and gives the file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, sha256: str = SHA256, pylock: str = PYLOCK) -> None:
        self.pylock = pylock.format(sha256=sha256)
        self.asked: list[str] = []
        monkeypatch.setattr(process, "run", self.run)
        monkeypatch.setattr(sources, "RemoteFile", self.open)

    def run(self, _argv: object, *, timeout_s: float, stdin: str) -> str:
        assert timeout_s
        self.asked.append(stdin)
        return self.pylock

    def open(self, url: str) -> io.BytesIO:
        assert url == f"https://files.example/a/{FILE}"
        return io.BytesIO(SDIST)


# ---- where it is


def test_file_address_and_hash_are_as_uv_has_them() -> None:
    found = parse_sdist("vllm", "0.32.0", PYLOCK.format(sha256=SHA256))
    assert found
    assert (found.file, found.sha256, found.url) == (FILE, SHA256, f"https://files.example/a/{FILE}")


def test_a_release_of_wheels_only_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = [line for line in PYLOCK.splitlines() if not line.startswith("sdist")]
    FakeIndex(monkeypatch, pylock="\n".join(lines))
    assert find_sdist("vllm", "0.32.0") is None
    with pytest.raises(LockError, match=r"^vllm 0\.32\.0: the package index has no source distribution of it, only"):
        fetch_sdist("vllm", "0.32.0", tmp_path)


def test_an_index_without_hashes_is_refused() -> None:
    with pytest.raises(LockError, match=r"^vllm 0\.32\.0: the package index gives no sha256 of its source"):
        parse_sdist("vllm", "0.32.0", PYLOCK.format(sha256=""))


def test_a_release_that_the_index_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_named: object) -> str:
        raise ProcessError("uv: exit status 1", returncode=1, output="there is no version of vllm==9.9.9")

    monkeypatch.setattr(process, "run", refuse)
    with pytest.raises(LockError, match=r"(?s)^vllm 9\.9\.9: the package index does not give it:.*there is no version"):
        find_sdist("vllm", "9.9.9")


# ---- the cache


def test_a_file_is_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    index = FakeIndex(monkeypatch)
    assert not is_kept("vllm", "0.32.0", tmp_path)
    path = fetch_sdist("vllm", "0.32.0", tmp_path)
    assert path == tmp_path / "sources" / FILE
    assert path.read_bytes() == SDIST
    assert is_kept("vllm", "0.32.0", tmp_path)
    assert fetch_sdist("vllm", "0.32.0", tmp_path) == path
    assert index.asked == ["vllm==0.32.0\n"]
    assert sorted(one.name for one in path.parent.iterdir()) == [FILE, f"{FILE}.sha256"]


def test_a_damaged_file_is_fetched_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeIndex(monkeypatch)
    path = fetch_sdist("vllm", "0.32.0", tmp_path)
    path.write_bytes(SDIST[:-1])
    assert not is_kept("vllm", "0.32.0", tmp_path)
    assert fetch_sdist("vllm", "0.32.0", tmp_path).read_bytes() == SDIST


def test_a_file_that_is_not_what_the_index_says_is_refused_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    FakeIndex(monkeypatch, sha256=64 * "0")
    with pytest.raises(LockError, match=rf"^{FILE}: got the sha256 {SHA256}, the package index says 0{{64}}"):
        fetch_sdist("vllm", "0.32.0", tmp_path)
    assert list((tmp_path / "sources").iterdir()) == []


def test_another_spelling_of_a_name_is_the_same_release(tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "Flash-Attn-2.8.tar.gz").write_bytes(SDIST)
    (folder / "Flash-Attn-2.8.tar.gz.sha256").write_text(f"{SHA256}  Flash-Attn-2.8.tar.gz\n", encoding="utf-8")
    assert fetch_sdist("flash_attn", "2.8", tmp_path).name == "Flash-Attn-2.8.tar.gz"


# ---- what is in it


def test_only_what_is_wanted_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(SDIST)
    assert read_members(tmp_path / FILE, lambda path: path.endswith((".txt", ".cmake"))) == {
        "CMakeLists.txt": "project(x)\n",
        "cmake/utils.cmake": "# é\n",
    }


@pytest.mark.parametrize("data", [SDIST[:20], b"no archive", b""], ids=["broken off", "no archive", "empty"])
def test_a_file_that_cannot_be_read_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(LockError, match=rf"{FILE}: cannot be read: .*; remove it and run this again"):
        read_members(tmp_path / FILE, lambda _path: True)


def test_a_text_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(SDIST)
    with pytest.raises(LockError, match="cannot be read: 'utf-8' codec"):
        read_members(tmp_path / FILE, lambda path: path == "csrc/a.cu")


def test_a_member_of_unlikely_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(archive({"CMakeLists.txt": bytes((1 << 24) + 1)}))
    with pytest.raises(LockError, match=rf"{FILE}: CMakeLists.txt has 16777217 bytes, more than 16777216"):
        read_members(tmp_path / FILE, lambda _path: True)
