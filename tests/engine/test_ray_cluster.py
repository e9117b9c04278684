"""Four containers on a network of their own become a Ray cluster, and become one again after each of them has died.

Nothing here has RDMA or a GPU; what is tried is the entrypoint, its decisions, and Ray.
"""

import json
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.network]

# Small, since this is one machine.
RAY = ("--num-cpus=1", "--object-store-memory=100000000")
FORMED_S, REJOINED_S = 120, 240
# What an engine grants between SIGTERM and SIGKILL; and the seconds within which a wrong address is told.
GRACE_S, TOLD_S = 10, 30


def docker(*words: str, timeout_s: float = 120) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=timeout_s)


def must(*words: str) -> str:
    done = docker(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Containers of one network; all have the same prefix."""

    image: str
    prefix: str

    def name(self, node: str) -> str:
        return f"{self.prefix}-{node}"

    def start(self, node: str, *words: str) -> None:
        # A worker whose head is gone waits a minute for it before it ends; ten seconds will do here.
        options = ["--shm-size", "256m", "--env", "RAY_gcs_rpc_server_reconnect_timeout_s=10"]
        must("run", "--detach", "--name", self.name(node), "--network", self.prefix, *options, self.image, *words, *RAY)

    def log(self, node: str) -> str:
        done = docker("logs", self.name(node))
        return done.stdout + done.stderr

    def address(self, node: str) -> str:
        found = json.loads(must("inspect", self.name(node)))[0]["NetworkSettings"]["Networks"]
        return str(found[self.prefix]["IPAddress"])

    def nodes(self) -> int:
        """How many nodes the head says are alive; 0 while it does not answer."""
        done = docker("exec", self.name("head"), "ray", "status")
        return len(re.findall(r"^ *1 node_", done.stdout.partition("Pending:")[0], re.MULTILINE))

    def wait_for(self, count: int, *, within_s: float) -> None:
        until = time.monotonic() + within_s
        while (found := self.nodes()) != count:
            logs = "\n".join(self.log(node)[-1500:] for node in ("head", *WORKERS))
            assert time.monotonic() < until, f"{found} nodes after {within_s} s, expected {count}:\n{logs}"
            time.sleep(1)

    def clear(self) -> None:
        names = must("ps", "--all", "--quiet", "--filter", f"name=^{self.prefix}").split()
        if names:
            docker("rm", "--force", "--volumes", *names)
        docker("network", "rm", self.prefix)


WORKERS = ("w1", "w2", "w3")


@pytest.fixture(scope="module")
def cluster(ray_image: str) -> Iterator[Cluster]:
    made = Cluster(image=ray_image, prefix=f"sparkbake-{uuid.uuid4().hex[:8]}")
    # --internal: no way out, as between two Sparks.
    must("network", "create", "--internal", made.prefix)
    try:
        made.start("head", "ray-head", "--include-dashboard=false")
        for node in WORKERS:
            made.start(node, "ray-worker", made.name("head"))
        made.wait_for(4, within_s=FORMED_S)
        yield made
    finally:
        made.clear()


def test_four_containers_form_a_cluster_of_four(cluster: Cluster) -> None:
    script = "import json, ray; ray.init(address='auto', log_to_driver=False); print(json.dumps(ray.nodes()))"
    done = docker("exec", cluster.name("head"), "python3", "-c", script)
    assert done.returncode == 0, done.stderr
    nodes = json.loads(done.stdout.splitlines()[-1])
    alive = {one["NodeManagerAddress"] for one in nodes if one["Alive"]}
    assert alive == {cluster.address(node) for node in ("head", *WORKERS)}


def test_each_decision_is_printed(cluster: Cluster) -> None:
    for node in ("head", "w1"):
        address = cluster.address(node)
        why = "the only network there is" if node == "head" else "the way to the other node"
        said = [
            f"spark: VLLM_HOST_IP={address} ({why})",
            f"spark: NCCL_SOCKET_IFNAME==eth0 (it has {address})",
            f"spark: GLOO_SOCKET_IFNAME=eth0 (it has {address})",
            f"spark: UCX_NET_DEVICES=eth0 (it has {address})",
            "spark: no active RDMA port here: NCCL talks TCP",
        ]
        assert "\n".join(said) in cluster.log(node)
    assert f"spark: a worker joins with: ray-worker {cluster.address('head')}\n" in cluster.log("head")


def test_cluster_prints_what_a_shell_may_read_and_runs_a_command_with_it(cluster: Cluster) -> None:
    head, address = cluster.name("head"), cluster.address("head")
    done = docker("exec", head, "spark", "cluster")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"export VLLM_HOST_IP={address}",
        "export NCCL_SOCKET_IFNAME==eth0",
        "export GLOO_SOCKET_IFNAME=eth0",
        "export UCX_NET_DEVICES=eth0",
    ]
    assert must("exec", head, "spark", "cluster", "sh", "-c", "echo $VLLM_HOST_IP").splitlines() == [address]
    assert must("exec", head, "ray", "--version").startswith("ray, version ")


def test_what_answers_is_told_apart_though_the_program_that_asks_is_slow(cluster: Cluster) -> None:
    must("exec", "--detach", cluster.name("head"), "python3", "-m", "http.server", "8099")
    script = (
        "import socket, sys, time; sys.path.insert(0, '/usr/lib/sparkbake'); from spark.rays import _speaks_http2\n"
        "mute = socket.create_server(('127.0.0.1', 8098))\n"
        "time.sleep(2)\n"
        "print([_speaks_http2(h, p) for h, p in ((sys.argv[1], 6379), (sys.argv[1], 8099), ('127.0.0.1', 8098))])"
    )
    words = ("exec", cluster.name("head"), "/usr/bin/python3", "-B", "-c", script, cluster.address("head"))
    assert must(*words) == "[True, False, False]"


@pytest.mark.parametrize(
    ("where", "patience", "message"),
    [
        (
            "{net}.250",
            "",
            r"(no answer from {net}\.250:6379|{net}\.250:6379: No route to host); tried for 15 s \(RAY_W",
        ),
        ("{head}:7777", "3", r"{head}:7777: Connection refused; tried for 3 s \(RAY_WAIT_S\)\. Is `ray-head` running "),
        ("no-such-host", "3", r"no such host: no-such-host; tried for 3 s"),
        ("{head}:8099", "", r"what listens at {head}:8099 is no head of a Ray cluster; see RAY_PORT of the head"),
    ],
    ids=["nothing there", "closed port", "no such host", "something else"],
)
def test_a_wrong_address_is_told_within_half_a_minute(
    cluster: Cluster, where: str, patience: str, message: str
) -> None:
    must("exec", "--detach", cluster.name("head"), "python3", "-m", "http.server", "8099")
    head = cluster.address("head")
    places = {"net": head.rpartition(".")[0], "head": head}
    container = must(
        "run", "--detach", "--name", cluster.name("lost"), "--network", cluster.prefix,
        "--env", f"RAY_WAIT_S={patience}", cluster.image, "ray-worker", where.format(**places),
    )  # fmt: skip
    try:
        status = must("wait", container)
        done = docker("logs", container)
        state = json.loads(must("inspect", container))[0]["State"]
    finally:
        docker("rm", "--force", container)
    assert status == "1"
    pattern = "spark: error: " + message.format(**{key: re.escape(value) for key, value in places.items()})
    assert re.search(pattern, done.stderr), done.stderr
    began, ended = (datetime.fromisoformat(state[key]) for key in ("StartedAt", "FinishedAt"))
    assert (ended - began).total_seconds() < TOLD_S


def test_a_worker_that_was_killed_joins_again_when_it_is_started(cluster: Cluster) -> None:
    must("kill", cluster.name("w2"))
    cluster.wait_for(3, within_s=FORMED_S)
    must("start", cluster.name("w2"))
    cluster.wait_for(4, within_s=FORMED_S)


def test_workers_join_a_head_that_was_started_anew(cluster: Cluster) -> None:
    must("restart", cluster.name("head"))
    cluster.wait_for(4, within_s=REJOINED_S)
    for node in WORKERS:
        assert f"spark: the cluster at {cluster.name('head')}:6379 has gone (ray ended with " in cluster.log(node)


@pytest.mark.parametrize("node", ["w3", "head"])
def test_a_node_ends_when_it_is_told_to(cluster: Cluster, node: str) -> None:
    """Last: with Ray's own status, which is 1; killed by the engine it would be 137."""
    began = time.monotonic()
    must("stop", "--timeout", str(GRACE_S), cluster.name(node))
    assert time.monotonic() - began < GRACE_S
    assert json.loads(must("inspect", cluster.name(node)))[0]["State"]["ExitCode"] == 1
