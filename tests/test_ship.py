"""Claims about `ship` up to the other machine; tests/engine has real engines behind real sshds."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.compiledimages import TAG, make_compiled_checkout
from tests.imagebuilder import make_checkout
from tests.ocibuilder import (
    INDEX,
    MANIFEST,
    add_blob,
    add_image,
    blob_path,
    copied,
    make_file,
    write_index,
    write_layout,
)

from sparkbake import process, ship
from sparkbake.blobs import folder
from sparkbake.cli import main
from sparkbake.errors import HostError, ImageError, ProcessError, UsageError
from sparkbake.imageinfo import ImageInfo
from sparkbake.images import open_image
from sparkbake.ship import checked_hosts
from sparkbake.shipfar import FarEngine, check, look
from sparkbake.shipserver import content_of
from sparkbake.shipssh import Connection

NAMED = "sparks/spark-vllm"
INFO: dict[str, Any] = {
    "ServerVersion": "28.5.2",
    "Architecture": "aarch64",
    "DockerRootDir": "/var/lib/docker",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
    "SecurityOptions": ["name=seccomp,profile=builtin"],
}


def make_info(place: Path) -> ImageInfo:
    layers = [copied("cuda", [make_file("opt/a", b"a" * 5000)]), copied("vllm", [make_file("opt/b", b"b")])]
    return open_image(write_layout(place, layers), platform="linux/arm64").info


def make_far(**changed: Any) -> FarEngine:
    far = FarEngine(
        version="28.5.2",
        architecture="arm64",
        has_containerd_store=True,
        is_rootless=False,
        folder="/var/lib/docker",
        free_bytes=10**12,
        image_id=None,
        diff_ids=frozenset(),
    )
    return replace(far, **changed)


@pytest.fixture
def info(tmp_path: Path) -> ImageInfo:
    return make_info(tmp_path / "image")


@pytest.fixture
def connection(tmp_path: Path) -> Connection:
    return Connection("spark2", tmp_path / "socket")


def play(monkeypatch: pytest.MonkeyPatch, answer: Callable[[list[str]], str]) -> list[list[str]]:
    """Let a function answer for all programs; what they were called with."""
    called: list[list[str]] = []

    def run(argv: list[str], **_named: object) -> str:
        called.append(argv)
        return answer(argv)

    monkeypatch.setattr(process, "run", run)
    return called


def fail(output: str, returncode: int) -> ProcessError:
    return ProcessError(f"ssh: exit status {returncode}\n{output}", returncode=returncode, output=output)


# ---- which machines


@pytest.mark.parametrize(
    ("hosts", "parallel", "message"),
    [
        (["spark2", "-oProxyCommand=x"], 1, "HOST: got '-oProxyCommand=x', expected an ssh destination such as spark2"),
        ([" "], 1, "HOST: got ' ', expected an ssh destination"),
        (["a", "b", "a"], 1, "HOST: a is named twice; name each machine once"),
        (["a"], 0, "--parallel: got 0, expected 1 or more"),
    ],
)
def test_what_names_no_machines_is_refused(hosts: list[str], parallel: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_hosts(hosts, parallel)
    assert message in str(caught.value)


def test_a_pattern_of_several_rows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_checkout(tmp_path)
    assert main(["--root", str(tmp_path), "ship", "0.20.2-*", "spark2"]) == 2
    assert "TAG: got '0.20.2-*', which is 0.20.2-t4, 0.20.2-t5; expected one row" in capsys.readouterr().err


def test_an_image_that_the_engine_lacks_is_named_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkout(tmp_path)
    monkeypatch.setattr(ship, "local_image", lambda _reference: None)
    assert main(["--root", str(tmp_path), "ship", "0.20.2-t4", "spark2"]) == ImageError.exit_code
    assert "the engine has no such image; run `nox -s build -- 0.20.2-t4`" in capsys.readouterr().err


def test_a_compiled_row_is_shipped_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_compiled_checkout(tmp_path / "checkout")
    asked: list[str] = []
    monkeypatch.setattr(ship, "local_image", asked.append)
    assert main(["--root", str(tmp_path / "checkout"), "ship", TAG, "spark2"]) == ImageError.exit_code
    assert asked == [f"registry.example:5000/sparks/spark-vllm:{TAG}"]
    assert f"the engine has no such image; run `nox -s build -- {TAG}`" in capsys.readouterr().err


# ---- what is served


def test_all_that_a_manifest_leads_to_is_served_and_nothing_else(tmp_path: Path, info: ImageInfo) -> None:
    stranger = add_blob(tmp_path / "image", b"{}", "application/json")
    content = content_of(NAMED, info.digest, folder(tmp_path / "image"), "x")
    assert set(content.manifests) == {info.digest}
    assert set(content.blobs) == {info.config_digest, *(one.digest for one in info.layers)}
    assert stranger["digest"] not in content.blobs


def test_an_index_is_served_with_the_images_that_are_there(tmp_path: Path) -> None:
    place = tmp_path / "image"
    present = add_image(place, [copied("cuda", [make_file("opt/a")])])
    absent = {**present, "digest": "sha256:" + "0" * 64}
    index = add_blob(place, json.dumps({"mediaType": INDEX, "manifests": [present, absent]}).encode(), INDEX)
    write_index(place, [index])
    content = content_of(NAMED, index["digest"], folder(place), "x")
    assert dict(content.manifests) == {index["digest"]: INDEX, present["digest"]: present["mediaType"]}


def test_a_manifest_that_does_not_say_what_it_is_is_served_as_one_of_oci(tmp_path: Path) -> None:
    made = add_image(tmp_path, [copied("cuda", [make_file("opt/a")])])
    body = json.loads(blob_path(tmp_path, made["digest"]).read_bytes())
    del body["mediaType"]
    silent = add_blob(tmp_path, json.dumps(body).encode(), "")
    assert content_of(NAMED, silent["digest"], folder(tmp_path), "x").manifests == {silent["digest"]: MANIFEST}


# ---- what the other engine has


def test_an_image_is_known_by_its_manifest_or_without_containerd_by_its_config(info: ImageInfo) -> None:
    assert make_far(image_id=info.digest).has(info, info.digest)
    assert make_far(image_id=info.config_digest, has_containerd_store=False).has(info, info.digest)
    assert not make_far(image_id=info.config_digest).has(info, info.digest)
    assert not make_far().has(info, info.digest)


def test_layers_of_which_it_has_the_contents_are_not_lacking(info: ImageInfo) -> None:
    assert make_far(diff_ids=frozenset([info.layers[0].diff_id])).lacks(info) == info.layers[1:]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "amd64"}, "it is amd64, the image is for arm64: ship to machines of that kind"),
        ({"is_rootless": True}, "its engine is rootless and does not see 127.0.0.1 of the machine"),
        ({"version": "20.10.5"}, "Docker Engine 20.10.5 does not know zstd, expected 23 or newer: upgrade it"),
        ({"free_bytes": 4 * 10**9}, "/var/lib/docker has 4.0 GB free, expected 5.0 GB (5 of them to spare): free some"),
    ],
)
def test_an_engine_that_cannot_take_it_is_told_before(info: ImageInfo, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(HostError) as caught:
        check(make_far(**changed), info, "arm64")
    assert message in str(caught.value)


def test_an_engine_without_faults_or_of_unknown_room_is_taken(info: ImageInfo) -> None:
    check(make_far(), info, "arm64")
    check(make_far(free_bytes=None), info, "arm64")


def test_what_an_engine_answers_is_read(monkeypatch: pytest.MonkeyPatch, connection: Connection) -> None:
    diff_id = "sha256:" + "1" * 64
    answers = [json.dumps(INFO), f'1000\nsha256:2\n["{diff_id}"]\nnull\n']
    called = play(monkeypatch, lambda _argv: answers.pop(0))
    far = look(connection, "x:1")
    assert far == make_far(free_bytes=1_024_000, image_id="sha256:2", diff_ids=frozenset([diff_id]))
    assert all(argv[:3] == ["ssh", "-F", "none"] for argv in called)


def test_an_engine_with_nothing_under_the_name_has_nothing(
    monkeypatch: pytest.MonkeyPatch, connection: Connection
) -> None:
    answers = [json.dumps(INFO | {"Containerd": {"Address": "/run/containerd/containerd.sock"}}), "none\nnone\n"]
    play(monkeypatch, lambda _argv: answers.pop(0))
    assert look(connection, "x:1") == make_far(free_bytes=None, folder="/var/lib/containerd")


def test_a_shell_that_prints_something_of_its_own_is_named(
    monkeypatch: pytest.MonkeyPatch, connection: Connection
) -> None:
    play(monkeypatch, lambda _argv: "Welcome!\n{}")
    with pytest.raises(HostError, match=r"got 'Welcome!\n\{\}', expected what docker answers .*~/\.bashrc"):
        look(connection, "x:1")


def test_without_the_containerd_store_images_lie_in_the_folder_of_the_engine(
    monkeypatch: pytest.MonkeyPatch, connection: Connection
) -> None:
    info = INFO | {"DriverStatus": None, "Containerd": {"Address": "/run/containerd/containerd.sock"}}
    answers = [json.dumps(info), "none\nnone\n"]
    called = play(monkeypatch, lambda _argv: answers.pop(0))
    assert look(connection, "x:1") == make_far(free_bytes=None, has_containerd_store=False)
    assert "/var/lib/docker" in called[1][-1]


# ---- what ssh and docker say of errors


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("ssh: Could not resolve hostname x", "there is no such name: look for a slip"),
        ("ssh: connect to host x port 22: Connection refused", "no sshd listens there"),
        ("ssh: connect to host x port 22: Connection timed out", "it does not answer: is it on"),
        ("ssh: connect to host x port 22: No route to host", "it does not answer: is it on"),
        ("ssh: connect to host x port 22: Network is unreachable", "it does not answer: is it on"),
        ("Host key verification failed.", "log in once by hand with ssh, and look at the key"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "find out why, then `ssh-keygen -R` it",
        ),
        ("x@y: Permission denied (publickey).", "it accepts none of your keys, and no password is asked for"),
        ("something new", "cannot be reached: something new; try `ssh` to it by hand"),
    ],
)
def test_why_a_machine_cannot_be_reached_is_told_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, connection: Connection, told: str, message: str
) -> None:
    def refuse(_argv: list[str]) -> str:
        raise fail(told, 255)

    play(monkeypatch, refuse)
    with pytest.raises(HostError) as caught:
        connection.open()
    assert message in str(caught.value)


def test_a_lack_of_ssh_itself_is_told(monkeypatch: pytest.MonkeyPatch, connection: Connection) -> None:
    def refuse(_argv: list[str]) -> str:
        raise ProcessError("ssh: not found on PATH")

    play(monkeypatch, refuse)
    with pytest.raises(HostError, match="cannot be reached: ssh: not found on PATH"):
        connection.open()


@pytest.mark.parametrize(
    ("told", "returncode", "message"),
    [
        ("sh: 1: docker: not found", 127, "there is no docker there: install it"),
        ("permission denied while trying to connect to the docker API", 1, "`sudo usermod -aG docker USER` there"),
        ("Cannot connect to the Docker daemon at unix:///x", 1, "no engine runs there: `sudo systemctl start docker`"),
        ("write /var/lib/x: no space left on device", 1, "its disk is full: `docker image prune` there"),
        ("mux_client_request_session: read from master failed", 255, "the connection is lost: mux_client_request"),
        ("something new", 1, "something new"),
    ],
)
def test_what_docker_there_says_is_told_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, connection: Connection, told: str, returncode: int, message: str
) -> None:
    def refuse(_argv: list[str]) -> str:
        raise fail(told, returncode)

    play(monkeypatch, refuse)
    with pytest.raises(HostError) as caught:
        look(connection, "x:1")
    assert message in str(caught.value)


def test_an_sshd_that_forbids_tunnels_is_named(monkeypatch: pytest.MonkeyPatch, connection: Connection) -> None:
    play(monkeypatch, lambda _argv: "no number")
    with pytest.raises(HostError, match=r"no tunnel back from it: .*AllowTcpForwarding yes"):
        connection.forward(1)
