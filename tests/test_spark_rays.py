"""Claims about the nodes of a Ray cluster: whom a worker joins, how long it waits, and what it does when that one goes.

In the place of ray stands a program that notes what it is asked, and answers as the test wants; sockets are real.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from types import SimpleNamespace

import pytest
from tests.runtimebuilder import free_port, listening, stand_in

from spark import rays
from spark.rays import Worker, head_command, reach, read_address, read_port, worker
from spark.say import SparkError

pytestmark = pytest.mark.usefixtures("loopback", "real_processes")

ENVIRONMENT = {"VLLM_HOST_IP": "192.168.100.11", "X": "y"}
HERE = "127.0.0.1"


class Ray:
    """The program in the place of ray.

    Attributes:
        notes: what it was asked, a line each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._notes = folder, folder / "notes"
        self.answers()

    def answers(self, *, health: str = "exit 0", start: str = "exit 0", stop: str = "exit 0") -> None:
        """Lines of sh for each of its commands; $n says for the how-manieth time one is asked."""
        script = (
            f'echo "$@" >> {self._notes}\n'
            f'n=$(grep -c "^$1" {self._notes})\n'
            f"case $1 in\nhealth-check) {health} ;;\nstart) {start} ;;\nstop) {stop} ;;\nesac\n"
        )
        stand_in(self._folder, "ray", script)

    @property
    def notes(self) -> list[str]:
        return self._notes.read_text(encoding="utf-8").splitlines() if self._notes.exists() else []


@pytest.fixture
def ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ray:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(rays, "_BETWEEN_S", 0.01)
    return Ray(tmp_path)


@pytest.fixture
def port() -> Iterator[int]:
    """Of a head."""
    with listening() as one:
        yield one


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """A worker sets handlers, which nobody needs afterwards."""
    some = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(one) for one in some]
    yield
    for one, handler in zip(some, before, strict=True):
        signal.signal(one, handler)


def run(port: int, *words: str) -> int:
    environment = {**ENVIRONMENT, "PATH": os.environ["PATH"]}
    try:
        return Worker(HERE, port, words, environment).run()
    except SystemExit as ended:
        return int(str(ended.code))


def refusal(*words: str, **environment: str) -> str:
    with pytest.raises(SparkError) as caught:
        worker(words, environment)
    return str(caught.value)


# ---- addresses and variables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.168.100.10", ("192.168.100.10", 6379)),
        ("192.168.100.10:7000", ("192.168.100.10", 7000)),
        ("spark-1.local:1", ("spark-1.local", 1)),
    ],
)
def test_an_address_is_read(text: str, expected: tuple[str, int]) -> None:
    assert read_address(text) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "ray-worker: expected the head's address: ray-worker 192.168.100.10"),
        (("--num-gpus=1",), "ray-worker: expected the head's address: ray-worker 192.168.100.10"),
        ((":6379",), "ray-worker: ':6379': expected ADDRESS or ADDRESS:PORT"),
        (("spark-1:",), "ray-worker: 'spark-1:': expected ADDRESS or ADDRESS:PORT"),
        (("spark-1:x",), "the port of spark-1:x is 'x', expected a port from 1 to 65535"),
        (("spark-1:0",), "the port of spark-1:0 is '0', expected a port from 1 to 65535"),
        (("spark-1:65536",), "the port of spark-1:65536 is '65536', expected a port from 1 to 65535"),
        (("spark-1:²",), "the port of spark-1:² is '²', expected a port from 1 to 65535"),
        (("[::1]:6379",), "the port of [::1]:6379 is ':1]:6379', expected a port from 1 to 65535"),
    ],
)
def test_an_address_that_is_none_is_refused(words: tuple[str, ...], message: str) -> None:
    assert refusal(*words) == message


@pytest.mark.parametrize("text", ["-1", "soon", "nan", "1m"])
def test_a_patience_that_is_none_is_refused(text: str) -> None:
    assert refusal(HERE, RAY_WAIT_S=text) == f"RAY_WAIT_S is {text!r}, expected a number of seconds"


def test_the_port_of_the_head_may_be_set() -> None:
    assert (read_port("", "RAY_PORT"), read_port("7000", "RAY_PORT")) == (6379, 7000)
    with pytest.raises(SparkError, match=r"^RAY_PORT is 'x', expected a port from 1 to 65535$"):
        read_port("x", "RAY_PORT")


def test_the_command_of_the_head() -> None:
    assert head_command("10.0.0.5", 7000, ["--num-gpus=1"]) == [
        "ray", "start", "--head", "--block", "--node-ip-address=10.0.0.5", "--port=7000", "--num-gpus=1",
    ]  # fmt: skip


# ---- reaching a head


def test_a_head_that_answers_is_reached_at_once(ray: Ray, port: int) -> None:
    reach(HERE, port, 0)
    assert ray.notes == [f"health-check --address {HERE}:{port}"]


def test_where_nothing_listens_it_ends_when_its_patience_does(ray: Ray, capsys: pytest.CaptureFixture[str]) -> None:
    port, began = free_port(), time.monotonic()
    with pytest.raises(SparkError) as caught:
        reach(HERE, port, 0.1)
    assert 0.1 <= time.monotonic() - began < 5
    assert caught.value.status == 1
    assert str(caught.value) == (
        f"{HERE}:{port}: Connection refused; tried for 0 s (RAY_WAIT_S). Is `ray-head` running there, with --network "
        "host or on a network that both share?"
    )
    assert capsys.readouterr().err == f"spark: {HERE}:{port}: Connection refused; waiting for it\n"
    assert ray.notes == []


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("host", ["no-such-host", "..", 70 * "a"])
def test_a_host_that_nobody_knows_is_told(host: str) -> None:
    with pytest.raises(SparkError) as caught:
        reach(host, 6379, 0)
    assert str(caught.value).startswith(f"no such host: {host}; tried for 0 s (RAY_WAIT_S). ")


def test_a_host_that_never_answers_is_told(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full drops what comes, as a firewall does."""
    monkeypatch.setattr(rays, "_CONNECT_S", 0.05)
    with socket() as full, socket() as first:
        full.bind((HERE, 0))
        full.listen(0)
        port = full.getsockname()[1]
        first.connect((HERE, port))
        with pytest.raises(SparkError, match=rf"^no answer from {HERE}:{port}; tried for 0 s "):
            reach(HERE, port, 0)
    assert ray.notes == []


def test_a_head_that_starts_late_is_waited_for(
    ray: Ray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    # The first look comes too early; between it and the next one a head starts.
    with socket() as late:

        def start(_seconds: float) -> None:
            if late.getsockname()[1] == 0:
                late.bind((HERE, port))
                late.listen()

        monkeypatch.setattr(rays, "time", SimpleNamespace(monotonic=time.monotonic, sleep=start))
        reach(HERE, port, 60)
    assert capsys.readouterr().err == f"spark: {HERE}:{port}: Connection refused; waiting for it\n"
    assert ray.notes == [f"health-check --address {HERE}:{port}"]


def test_what_is_no_head_is_told_after_a_second_look(ray: Ray, port: int) -> None:
    ray.answers(health="exit 1")
    with pytest.raises(SparkError) as caught:
        reach(HERE, port, 60)
    message = f"what listens at {HERE}:{port} is no head of a Ray cluster; see RAY_PORT of the head"
    assert (str(caught.value), caught.value.status) == (message, 1)
    assert ray.notes == 2 * [f"health-check --address {HERE}:{port}"]


def test_a_head_that_needs_a_moment_is_reached(ray: Ray, port: int) -> None:
    ray.answers(health="[ $n = 2 ]")
    reach(HERE, port, 0)
    assert len(ray.notes) == 2


def test_what_never_answers_is_no_head(ray: Ray, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rays, "_HEALTH_S", 0.05)
    ray.answers(health="exec sleep 60")
    with pytest.raises(SparkError, match=r" is no head of a Ray cluster; "):
        reach(HERE, port, 0)


@pytest.mark.parametrize("patience", [0.3, 0.0])
def test_one_deadline_holds_for_all_that_a_mute_listener_is_asked(
    ray: Ray, port: int, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """What takes connections and says nothing costs no more than patience, and the least that a late head gets."""
    for name, seconds in (("_HEALTH_S", 60), ("_CONNECT_S", 0.1), ("_LEAST_HEALTH_S", 0.2)):
        monkeypatch.setattr(rays, name, seconds)
    ray.answers(health="exec sleep 60")
    began = time.monotonic()
    with pytest.raises(SparkError, match=r" is no head of a Ray cluster; "):
        reach(HERE, port, patience)
    assert time.monotonic() - began < 2
    assert ray.notes == [f"health-check --address {HERE}:{port}"]


def test_a_wrong_address_is_told_within_half_a_minute() -> None:
    """A port that opens as patience ends, and is mute, costs the most: 4 s are left for the start of a container."""
    assert rays._WAIT_S + rays._CONNECT_S + rays._LEAST_HEALTH_S <= 26


@pytest.mark.usefixtures("ray")
def test_a_host_without_an_address_of_ipv4_is_told() -> None:
    with pytest.raises(SparkError, match=r"^::1 has no IPv4 address, as nodes need one; tried for 0 s "):
        reach("::1", 6379, 0)


# ---- Ray's memory monitor


def test_ray_kills_no_worker_for_memory_that_the_gpu_shares(capsys: pytest.CaptureFixture[str]) -> None:
    name = "RAY_memory_monitor_refresh_ms"
    assert rays.without_monitor({"X": "y"}) == {"X": "y", name: "0"}
    assert rays.without_monitor({name: "250"}) == {name: "250"}
    assert capsys.readouterr().err == (
        f"spark: {name}=0 (GPU and host have one memory: Ray would kill workers when a model fills it)\n"
        f"spark: {name}=250 (it is given)\n"
    )


def test_an_image_without_ray_says_so(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SparkError, match=r"^ray: not found on PATH of this image$") as caught:
        reach(HERE, port, 0)
    assert caught.value.status == 127


# ---- the life of a worker


def start_of(port: int, *words: str) -> list[str]:
    command = ["start", "--block", f"--address={HERE}:{port}", "--node-ip-address=192.168.100.11", *words]
    return ["stop --force", " ".join(command)]


def test_a_worker_that_ends_well_ends(ray: Ray, port: int, capfd: pytest.CaptureFixture[str]) -> None:
    ray.answers(start='echo "X=$X"')
    assert run(port, "--num-gpus=1", "--redis-password=geheim") == 0
    assert ray.notes == start_of(port, "--num-gpus=1", "--redis-password=geheim")
    said = capfd.readouterr()
    assert said.out == "X=y\n"
    assert said.err == f"spark: ray {start_of(port)[1]} --num-gpus=1 '--redis-password=***'\n"


def test_a_worker_whose_head_goes_joins_again_when_it_is_back(
    ray: Ray, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rays, "_SHORT_S", 0)
    # It is away for the first two looks, and again after the second life.
    ray.answers(start="[ $n = 3 ] || exit 15", health="[ $n -gt 2 ]")
    assert run(port) == 0
    health = f"health-check --address {HERE}:{port}"
    life = start_of(port)
    assert ray.notes == [*life, health, health, health, *life, health, *life]
    assert capsys.readouterr().err.splitlines()[1:4] == [
        f"spark: the cluster at {HERE}:{port} has gone (ray ended with 15)",
        "spark: waiting for it to come back; stop this container to end that",
        f"spark: ray {life[1]}",
    ]


def test_a_worker_that_is_refused_three_times_at_once_gives_up(
    ray: Ray, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.answers(start="exit 1")
    assert run(port) == 1
    assert [one.partition(" ")[0] for one in ray.notes].count("start") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "spark: ray ended 3 times within 20 s of its start; what it printed says why"


def test_a_long_life_between_makes_refusals_count_anew(ray: Ray, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third life is long, as the clock has it; then three short ones end it."""
    monkeypatch.setattr(rays, "_SHORT_S", 5)

    def clock() -> float:
        """By how many lives have begun."""
        return (0, 1, 2, 90, 91, 92, 93)[[one.partition(" ")[0] for one in ray.notes].count("start")]

    monkeypatch.setattr(rays, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    ray.answers(start="exit 1")
    assert run(port) == 1
    assert [one.partition(" ")[0] for one in ray.notes].count("start") == 6


@pytest.mark.parametrize(("name", "code"), [("TERM", 7), ("INT", 7), ("HUP", 7)])
def test_a_signal_ends_ray_and_the_worker_ends_as_it_did(ray: Ray, port: int, name: str, code: int) -> None:
    ray.answers(start=f"trap 'exit {code}' TERM; kill -{name} $PPID; while :; do sleep 0.02; done")
    assert run(port) == code
    assert ray.notes == start_of(port)


def test_a_ray_that_the_signal_ends_is_told_as_shells_do(ray: Ray, port: int) -> None:
    ray.answers(start="kill -TERM $PPID; exec sleep 60")
    assert run(port) == 143


def test_a_signal_while_the_first_ray_is_about_to_start_ends_it(ray: Ray, port: int) -> None:
    ray.answers(stop="kill -TERM $PPID", start="exec sleep 60")
    assert run(port) == 143


def test_a_signal_while_a_head_is_waited_for_ends_the_worker_at_once(ray: Ray, port: int) -> None:
    """However long the answer to the question under way would take."""
    ray.answers(start="exit 1", health="kill -TERM $PPID; exec sleep 60")
    began = time.monotonic()
    assert run(port) == 143
    assert time.monotonic() - began < rays._HEALTH_S
    assert ray.notes == [*start_of(port), f"health-check --address {HERE}:{port}"]
