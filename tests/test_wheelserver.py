"""Claims about the index that a bundle is while a build lasts; what installers make of it is tested with an engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from tests.bundlebuilder import INSTALLER, LOCKED, wheel_bytes

from sparkbake.bundle import WHEELS, Bundle
from sparkbake.errors import BuildError, BundleError
from sparkbake.loopback import Answer
from sparkbake.wheelserver import Shelf, serve

TORCH = LOCKED[1]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / WHEELS).mkdir()
    for one in LOCKED:
        (tmp_path / WHEELS / one.file).write_bytes(wheel_bytes(one.file))
    return Shelf(folder=tmp_path, wheels=(*LOCKED, *INSTALLER))


def test_a_package_has_a_page_with_its_files_and_their_hashes(shelf: Shelf) -> None:
    answer = shelf.answer("/simple/torch/")
    assert answer is not None
    assert isinstance(answer.body, bytes)
    assert answer.media_type == "application/vnd.pypi.simple.v1+json"
    assert json.loads(answer.body) == {
        "meta": {"api-version": "1.1"},
        "name": "torch",
        "versions": ["2.11.0"],
        "files": [
            {
                "filename": TORCH.file,
                "url": f"/files/{TORCH.file}",
                "hashes": {"sha256": TORCH.sha256},
                "size": TORCH.size_bytes,
                "core-metadata": True,
            }
        ],
    }


def test_a_package_with_a_file_for_each_machine_lists_both(shelf: Shelf) -> None:
    answer = shelf.answer("/simple/uv/")
    assert answer is not None
    assert isinstance(answer.body, bytes)
    assert [one["filename"] for one in json.loads(answer.body)["files"]] == [one.file for one in INSTALLER]
    assert json.loads(answer.body)["versions"] == ["0.13.8"]


def test_a_wheel_is_given_as_it_lies_there(shelf: Shelf) -> None:
    place = shelf.folder / WHEELS / TORCH.file
    assert shelf.answer(f"/files/{TORCH.file}") == Answer(media_type="application/octet-stream", body=place)


def test_the_metadata_of_a_wheel_is_given_without_the_rest(shelf: Shelf) -> None:
    answer = shelf.answer(f"/files/{TORCH.file}.metadata")
    assert answer is not None
    assert isinstance(answer.body, bytes)
    assert answer.body.startswith(b"Metadata-Version: 2.1\nName: torch\nVersion: 2.11.0\n")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/simple/", "/simple/numpy/", "/files/", "/files/other-1.0-py3-none-any.whl", TORCH.file,
        "/files/../bundle.json", "/files//etc/passwd", "/simple/../bundle.json",
    ],
)  # fmt: skip
def test_nothing_else_is_given(shelf: Shelf, path: str) -> None:
    (shelf.folder / "bundle.json").write_text("{}")
    assert shelf.answer(path) is None
    assert shelf.asked == [path]


# ---- while a build lasts


class FakeServer:
    """Plays LoopbackServer, on a machine where some ports are taken."""

    taken: ClassVar[set[int]] = set()

    def __init__(self, address: tuple[str, int], _handler: object) -> None:
        host, port = address
        if port in self.taken:
            raise OSError(98, "Address already in use")
        self.server_address = (host, port or 33333)
        self.closed = False

    def serve_forever(self, poll_interval: float) -> None:
        """Nobody asks."""

    def shutdown(self) -> None:
        """It ends by itself."""

    def server_close(self) -> None:
        self.closed = True


BUNDLE = Bundle(
    tag="x", base="x", lock_digest="sha256:" + 56 * "0" + "00000007", base_digest="", architectures=(), files=()
)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    monkeypatch.setattr("sparkbake.loopback.LoopbackServer", FakeServer)
    yield FakeServer.taken
    FakeServer.taken.clear()


def test_the_address_is_the_same_for_the_same_lock_where_its_port_is_free(tmp_path: Path, taken: set[int]) -> None:
    with serve(tmp_path, BUNDLE, LOCKED) as address:
        assert address == "http://127.0.0.1:49159/simple/"
    taken.add(49159)
    with serve(tmp_path, BUNDLE, LOCKED) as address:
        assert address == "http://127.0.0.1:33333/simple/"


def test_no_port_at_all_is_told(tmp_path: Path, taken: set[int]) -> None:
    taken |= {0, 49159}
    with (
        pytest.raises(BundleError, match=r"no port of 127\.0\.0\.1 can be had to serve .*: .*already in use"),
        serve(tmp_path, BUNDLE, LOCKED),
    ):
        pytest.fail("it serves nowhere")


def test_a_build_that_failed_and_asked_nothing_has_an_engine_elsewhere(tmp_path: Path, taken: set[int]) -> None:
    with pytest.raises(BuildError) as caught, serve(tmp_path, BUNDLE, LOCKED):
        raise BuildError("x: failed")
    assert str(caught.value) == (
        "x: failed\nno step of this build asked http://127.0.0.1:49159 for a wheel of the bundle: the engine must run "
        "on this machine, in its network"
    )
