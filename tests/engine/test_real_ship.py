"""Shipping to real engines behind real sshds: what moves, what is named, and what is left when it goes wrong."""

import http.client
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT
from tests.engine.sparks import Spark, Sparks, address, entry, slow, sparks, start_sshd
from tests.imagebuilder import make_checkout
from tests.ocibuilder import MadeLayer, add_image, blob_path, copied, digest_of, make_file, pack, write_index

from sparkbake.blobs import folder
from sparkbake.project import Project
from sparkbake.shipserver import content_of, serve

pytestmark = pytest.mark.engine

T4, T5, LATER = "0.20.2-t4", "0.20.2-t5", "0.32.0-t5"
SHARED_BYTES, OWN_BYTES = 6_000_000, 1_000_000
BIG_BYTES = 5_000_000
# Manifest, config, and what tar adds.
FEW_BYTES = 20_000
OURS = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
OTHER = {"amd64": "arm64", "arm64": "amd64"}[OURS]
# The machine that is shipped from; nobody reaches it by ssh.
HERE = 2


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A checkout, an engine that has its images, and machines to ship them to.

    Attributes:
        digests: tag to digest.
    """

    project: Project
    folder: Path
    sparks: Sparks
    digests: dict[str, str]

    def reference(self, tag: str) -> str:
        row = self.project.select([tag])
        return self.project.plan(row, self.project.matrix.bases[0]).targets[0].reference

    def load(self, tag: str, *layers: MadeLayer, architecture: str = OURS) -> str:
        """Give the engine an image of a row; its digest."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        described = add_image(place, layers, architecture=architecture)
        named = {"io.containerd.image.name": self.reference(tag), "org.opencontainers.image.ref.name": tag}
        write_index(place, [{**described, "annotations": named}])
        archive = pack(place, place.with_suffix(".tar"))
        here = self.sparks.machines[HERE]
        here.docker("image", "load", "--input", str(archive))
        found = here.docker("image", "inspect", "--format", "{{.Id}}", self.reference(tag)).strip()
        assert found == described["digest"]
        self.digests[tag] = found
        return found

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "sparkbake.cli", "--root", str(self.project.root), "ship", *words]

    def ship(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.argv(*words), env=self.environment(), capture_output=True, text=True, check=False, timeout=120
        )

    def environment(self) -> dict[str, str]:
        here = f"unix://{self.sparks.machines[HERE].socket}"
        more = {"PYTHONPATH": str(ROOT / "src"), "DOCKER_HOST": here, "TMPDIR": str(self.temporary)}
        return {**self.sparks.environment, **more}

    @property
    def temporary(self) -> Path:
        """The folder for what is made for a while; sockets of ssh are there."""
        return self.sparks.folder / "t"


def layer(seed: str, size_bytes: int) -> MadeLayer:
    """A layer that no compressor makes smaller."""
    content = random.Random(seed).randbytes(size_bytes)  # noqa: S311  (no secret)
    return copied(seed, [make_file(f"opt/{seed}", content)])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    # Paths of sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="sparks-"))
    project = make_checkout(tmp_path_factory.mktemp("ship") / "checkout")
    try:
        with sparks(folder, (True, False, True)) as found:
            (folder / "t").mkdir()
            made = Checkout(project=project, folder=tmp_path_factory.mktemp("images"), sparks=found, digests={})
            made.load(T4, layer("shared", SHARED_BYTES), layer("t4", OWN_BYTES))
            made.load(T5, layer("shared", SHARED_BYTES), layer("t5", OWN_BYTES))
            yield made
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def spark(checkout: Checkout) -> Spark:
    """A machine with the containerd image store, without images."""
    checkout.sparks.machines[0].empty()
    return checkout.sparks.machines[0]


@pytest.fixture
def classic(checkout: Checkout) -> Spark:
    """A machine without it, without images."""
    checkout.sparks.machines[1].empty()
    return checkout.sparks.machines[1]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def results(done: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, Any]]:
    assert done.stdout, done.stderr
    return {one["host"]: one for one in json.loads(done.stdout)["hosts"]}


# ---- what a good run does


def test_all_machines_get_just_this_image_and_no_other_name(checkout: Checkout, spark: Spark, classic: Spark) -> None:
    done = checkout.ship(T4, spark.name, classic.name, "--json")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert (body["reference"], body["digest"]) == (checkout.reference(T4), checkout.digests[T4])
    for one in body["hosts"]:
        assert (one["state"], one["error"], one["replaced"]) == ("shipped", "", None)
        assert SHARED_BYTES + OWN_BYTES < one["moved_bytes"] < SHARED_BYTES + OWN_BYTES + FEW_BYTES
    config = json.loads(spark.docker("image", "inspect", checkout.reference(T4)))[0]
    assert config["Id"] == checkout.digests[T4]
    assert [one.partition("@")[0] for one in spark.names()] == [checkout.reference(T4).removeprefix("docker.io/")]
    assert [one.partition("@")[0] for one in classic.names()] == [checkout.reference(T4).removeprefix("docker.io/")]
    assert not list(checkout.project.build.glob("ship-*"))


def test_a_sibling_moves_only_what_differs(checkout: Checkout, spark: Spark, classic: Spark) -> None:
    assert checkout.ship(T4, spark.name, classic.name).returncode == 0
    found = results(checkout.ship(T5, spark.name, classic.name, "--json"))
    for one in found.values():
        assert one["layers"] == [{"layer": "t5", "bytes": pytest.approx(OWN_BYTES, abs=FEW_BYTES)}]
        assert OWN_BYTES < one["moved_bytes"] < OWN_BYTES + FEW_BYTES


def test_shipping_again_saves_and_moves_nothing(checkout: Checkout, spark: Spark, classic: Spark) -> None:
    assert checkout.ship(T4, spark.name, classic.name).returncode == 0
    done = checkout.ship(T4, spark.name, classic.name)
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [spark.name, "has", "it", "0.0", "0.0"] in lines
    assert [classic.name, "has", "it", "0.0", "0.0"] in lines
    again = checkout.ship(T4, spark.name)
    assert "saving" not in again.stderr


def test_another_image_under_the_name_is_replaced_and_named(checkout: Checkout, spark: Spark) -> None:
    old = checkout.load(LATER, layer("old", 1000))
    assert checkout.ship(LATER, spark.name).returncode == 0
    new = checkout.load(LATER, layer("new", 1000))
    found = results(checkout.ship(LATER, spark.name, "--json"))[spark.name]
    assert (found["state"], found["replaced"]) == ("shipped", old)
    assert spark.docker("image", "inspect", "--format", "{{.Id}}", checkout.reference(LATER)).strip() == new


def test_a_dry_run_says_what_is_lacking_and_moves_nothing(checkout: Checkout, spark: Spark) -> None:
    assert checkout.ship(T4, spark.name).returncode == 0
    before = spark.names()
    done = checkout.ship(T5, spark.name, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"{spark.name} seems to lack" in done.stdout
    assert ["t5", "1.0"] in [line.split() for line in done.stdout.splitlines()]
    assert ["shared", "6.0"] not in [line.split() for line in done.stdout.splitlines()]
    assert spark.names() == before


# ---- what breaks off


def test_an_interrupted_run_leaves_no_name_and_the_next_goes_on(checkout: Checkout, spark: Spark) -> None:
    big = [layer(f"big{number}", BIG_BYTES) for number in range(8)]
    digest = checkout.load(LATER, *big)
    before = large_blobs(spark)
    with (
        slow(0, "100mbit"),
        subprocess.Popen(
            checkout.argv(LATER, spark.name), env=checkout.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        try:
            await_large_blob(spark, before)
            began = len(masters(checkout))
        finally:
            process.send_signal(signal.SIGINT)
            _out, rest = process.communicate(timeout=30)
            print(rest.decode())  # noqa: T201  (shown when it fails)
    assert process.returncode == 130
    assert began == 1
    assert b"interrupted: nothing got its name that is not complete" in rest
    assert not [one for one in spark.names() if one.startswith(checkout.reference(LATER))]
    assert not list(checkout.project.build.glob("ship-*"))
    assert masters(checkout) == []
    found = results(checkout.ship(LATER, spark.name, "--json"))[spark.name]
    assert found["state"] == "shipped"
    assert spark.docker("image", "inspect", "--format", "{{.Id}}", checkout.reference(LATER)).strip() == digest
    assert all("127.0.0.1" not in one for one in spark.names())
    assert found["moved_bytes"] < 7 * BIG_BYTES + 8 * FEW_BYTES


def test_a_connection_that_is_lost_is_told_and_the_next_run_finishes_the_job(checkout: Checkout, spark: Spark) -> None:
    digest = checkout.load(LATER, *[layer(f"lost{number}", BIG_BYTES) for number in range(8)])
    before = large_blobs(spark)
    with (
        slow(0, "100mbit"),
        subprocess.Popen(
            checkout.argv(LATER, spark.name), env=checkout.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        try:
            await_large_blob(spark, before)
            (master,) = masters(checkout)
            os.kill(master, signal.SIGTERM)
        finally:
            _out, rest = process.communicate(timeout=60)
            print(rest.decode())  # noqa: T201  (shown when it fails)
    assert process.returncode == 1
    assert f"{spark.name}: the connection is lost: ".encode() in rest
    assert results(checkout.ship(LATER, spark.name, "--json"))[spark.name]["state"] == "shipped"
    assert spark.docker("image", "inspect", "--format", "{{.Id}}", checkout.reference(LATER)).strip() == digest
    assert all("127.0.0.1" not in one for one in spark.names())


def large_blobs(spark: Spark) -> set[str]:
    """Digests of the blobs of some size that an engine with the containerd image store has whole."""
    store = spark.folder / "data/containerd/daemon/io.containerd.content.v1.content/blobs/sha256"
    return {one.name for one in store.glob("*") if one.stat().st_size >= BIG_BYTES}


def await_large_blob(spark: Spark, before: set[str]) -> None:
    """Wait until it has one more."""
    until = time.monotonic() + 40
    while not large_blobs(spark) - before:
        assert time.monotonic() < until, "nothing arrives"
        time.sleep(0.01)


def masters(checkout: Checkout) -> list[int]:
    """Connections of ssh that are there, by the folder of their sockets."""
    shown = subprocess.run(["ps", "axwwo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in shown.splitlines() if f" -M -S {checkout.temporary}/" in line]


# ---- machines that do not take it


def test_one_machine_that_cannot_does_not_keep_the_others_from_it(
    checkout: Checkout, spark: Spark, stack: ExitStack
) -> None:
    """Each says what is wrong and what to do; the one that can has the image."""
    folder = checkout.sparks.folder
    start_sshd(spark, 0, stack, port=23, SetEnv="PATH=/nowhere")
    start_sshd(spark, 0, stack, port=24, AllowTcpForwarding="no")
    start_sshd(spark, 0, stack, port=25, SetEnv="DOCKER_HOST=unix:///nowhere/docker.sock")
    (folder / "strangers").write_text("")
    ssh_key = folder / "another-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(ssh_key)], check=True)
    here, lax = address(0), {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR"}
    with checkout.sparks.ssh_config.open("a") as file:
        file.write(entry(folder, "no-docker", here, 23, **lax))
        file.write(entry(folder, "no-tunnel", here, 24, **lax))
        file.write(entry(folder, "no-engine", here, 25, **lax))
        file.write(entry(folder, "nobody-listens", here, 26))
        file.write(entry(folder, "unknown-key", here, UserKnownHostsFile=str(folder / "strangers")))
        file.write(entry(folder, "not-my-key", here, IdentityFile=str(ssh_key)))
    expected = {
        "no-docker": "there is no docker there: install it",
        "no-tunnel": "sshd_config there must say `AllowTcpForwarding yes`",
        "no-engine": "no engine runs there: `sudo systemctl start docker`",
        "nobody-listens": "Connection refused; no sshd listens there",
        "unknown-key": "its host key is not known: log in once by hand",
        "not-my-key": "it accepts none of your keys",
    }
    done = checkout.ship(T4, *expected, spark.name, "--json", "--parallel", "7")
    assert done.returncode == 1
    found = results(done)
    assert {name: one["state"] for name, one in found.items()} == {
        **dict.fromkeys(expected, "failed"),
        spark.name: "shipped",
    }
    for name, text in expected.items():
        assert text in found[name]["error"]
        assert f"{name}: {found[name]['error']}" in done.stderr
    assert masters(checkout) == []


def test_an_image_for_other_machines_is_refused(checkout: Checkout, spark: Spark) -> None:
    checkout.load(LATER, layer("foreign", 1000), architecture=OTHER)
    found = results(checkout.ship(LATER, spark.name, "--json"))[spark.name]
    assert found["state"] == "failed"
    assert found["error"] == f"it is {OURS}, the image is for {OTHER}: ship to machines of that kind"
    assert spark.names() == set()


# ---- what is served


def test_blobs_are_served_whole_or_from_where_they_broke_off(tmp_path: Path) -> None:
    layers = [layer("a", 3_000_000)]
    digest = add_image(tmp_path, layers)["digest"]
    content = content_of("sparks/x", digest, folder(tmp_path), "x")
    (blob,) = (one for one, size in content.blobs.items() if size > 1_000_000)
    data = blob_path(tmp_path, blob).read_bytes()
    with serve(content) as served:
        assert ask(served.port, "GET", "/v2/") == (200, {}, b"")
        status, headers, body = ask(served.port, "GET", f"/v2/sparks/x/blobs/{blob}")
        assert (status, body, headers["docker-content-digest"]) == (200, data, blob)
        assert served.sent_bytes == len(data)
        status, headers, body = ask(served.port, "GET", f"/v2/sparks/x/blobs/{blob}", Range="bytes=1000-")
        assert (status, body) == (206, data[1000:])
        assert headers["content-range"] == f"bytes 1000-{len(data) - 1}/{len(data)}"
        assert ask(served.port, "HEAD", f"/v2/sparks/x/blobs/{blob}")[::2] == (200, b"")
        status, headers, body = ask(served.port, "GET", f"/v2/sparks/x/manifests/{digest}")
        assert (status, headers["content-type"]) == (200, "application/vnd.oci.image.manifest.v1+json")
        assert digest_of(body) == digest
        for path in (
            "/v2/sparks/x/manifests/latest",
            f"/v2/sparks/y/blobs/{blob}",
            f"/v2/sparks/x/blobs/{digest}",
            f"/v2/sparks/x/manifests/{blob}",
            "/v2/sparks/x/blobs/sha256:" + "0" * 64,
            "/v2/sparks/x/blobs/../../../etc/passwd",
            "/etc/passwd",
        ):
            assert ask(served.port, "GET", path)[0] == 404, path
        assert ask(served.port, "PUT", f"/v2/sparks/x/blobs/{blob}")[0] == 501
    with pytest.raises(ConnectionRefusedError):
        ask(served.port, "GET", "/v2/")


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        kept = {"docker-content-digest", "content-range", "content-type"}
        lower = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, {name: value for name, value in lower.items() if name in kept}, answer.read()
    finally:
        connection.close()
