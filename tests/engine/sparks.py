"""Machines on this machine for tests: network namespaces, each with a Docker Engine of its own and an sshd."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WAIT_S = 40


@dataclass(frozen=True, kw_only=True)
class Spark:
    """A machine that ssh can reach, with an engine that is its own.

    Attributes:
        name: as ssh knows it.
        socket: of its engine.
    """

    name: str
    folder: Path
    socket: Path

    def docker(self, *words: str) -> str:
        """Ask its engine from here; fails where docker does."""
        argv = ["docker", "-H", f"unix://{self.socket}", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def names(self) -> set[str]:
        """All names of images, those by digest too."""
        shown = self.docker("image", "ls", "--digests", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}")
        return set(shown.split())

    def empty(self) -> None:
        """Remove all images, and what was pulled for them."""
        found = set(self.docker("image", "ls", "--quiet", "--no-trunc").split())
        if found:
            self.docker("image", "rm", "--force", *found)


@dataclass(frozen=True, kw_only=True)
class Sparks:
    """Some machines, and how to reach them.

    Attributes:
        environment: for a program that is to find them by ssh.
        ssh_config: may be added to.
    """

    folder: Path
    machines: Sequence[Spark]
    environment: dict[str, str]
    ssh_config: Path


@contextmanager
def sparks(folder: Path, stores: Sequence[bool]) -> Iterator[Sparks]:
    """Start at most four machines.

    Args:
        folder: short, since sockets lie below it.
        stores: of each machine, whether its engine has the containerd image store.
    """
    with ExitStack() as stack:
        _make_key(folder / "key")
        config = folder / "ssh_config"
        config.write_text("")
        started = [_start(folder, number, has_store, stack) for number, has_store in enumerate(stores)]
        for wait_for in started:
            wait_for()
        machines = [_spark(folder, number) for number in range(len(stores))]
        for number, one in enumerate(machines):
            _introduce(folder, one, number)
        (folder / "bin").mkdir()
        wrapper = folder / "bin" / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {shlex.quote(str(config))} "$@"\n')
        wrapper.chmod(0o755)
        environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        environment.pop("SSH_AUTH_SOCK", None)
        yield Sparks(folder=folder, machines=machines, environment=environment, ssh_config=config)


def _spark(folder: Path, number: int) -> Spark:
    place = folder / str(number)
    return Spark(name=f"spark{number}", folder=place, socket=place / "docker.sock")


def entry(folder: Path, name: str, address: str, port: int = 22, **more: str) -> str:
    """How ssh is told of a machine."""
    said = {
        "HostName": address,
        "Port": str(port),
        "User": "root",
        "IdentityFile": str(folder / "key"),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(folder / "known_hosts"),
        "StrictHostKeyChecking": "yes",
        **more,
    }
    return "".join([f"Host {name}\n", *(f"  {key} {value}\n" for key, value in said.items())])


def _introduce(folder: Path, spark: Spark, number: int) -> None:
    """Write down what ssh must know of a machine."""
    with (folder / "ssh_config").open("a") as file:
        file.write(entry(folder, spark.name, address(number)))
    key = (spark.folder / "host_key.pub").read_text().split()
    with (folder / "known_hosts").open("a") as file:
        file.write(f"{address(number)} {key[0]} {key[1]}\n")
        file.write(f"[{address(number)}]:23 {key[0]} {key[1]}\n")


def address(number: int) -> str:
    return f"{_net(number)}.2"


def _net(number: int) -> str:
    """Private addresses that nothing routes, .1 here and .2 there; others for each process that runs tests."""
    process = os.getpid()
    return f"10.{100 + process // 64 % 100}.{process % 64 * 4 + number}"


def _make_key(path: Path) -> None:
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))


def _start(folder: Path, number: int, has_store: bool, stack: ExitStack) -> Callable[[], None]:  # noqa: FBT001
    """Start a machine; what is returned waits until it is up."""
    spark = _spark(folder, number)
    spark.folder.mkdir()
    name = _namespace(number, stack)
    inside = ["nsenter", f"--net=/run/netns/{name}"]
    (spark.folder / "daemon.json").write_text(json.dumps({"features": {"containerd-snapshotter": has_store}}))
    argv = [*inside, "dockerd", "--config-file", str(spark.folder / "daemon.json"), "--host", f"unix://{spark.socket}"]
    argv += ["--data-root", str(spark.folder / "data"), "--exec-root", str(spark.folder / "exec")]
    argv += ["--pidfile", str(spark.folder / "pid"), "--bridge", "none", "--iptables=false", "--ip6tables=false"]
    _launch(argv, spark.folder / "dockerd.log", stack)
    _make_key(spark.folder / "host_key")
    start_sshd(spark, number, stack)

    def wait_for() -> None:
        _await(spark.socket.exists, f"dockerd; see {spark.folder}/dockerd.log")
        _await(lambda: _answers(spark), f"dockerd; see {spark.folder}/dockerd.log")

    return wait_for


def start_sshd(spark: Spark, number: int, stack: ExitStack, *, port: int = 22, **more: str) -> None:
    """Start an sshd of a machine.

    Args:
        more: keys of sshd_config.
    """
    said = {
        "Port": str(port),
        "ListenAddress": address(number),
        "HostKey": str(spark.folder / "host_key"),
        "AuthorizedKeysFile": str(spark.folder.parent / "key.pub"),
        "PermitRootLogin": "yes",
        "PasswordAuthentication": "no",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        # With this SHLVL bash leaves out ~/.bashrc, which may take longer than what is tried here.
        "SetEnv": f"DOCKER_HOST=unix://{spark.socket} SHLVL=2",
        **more,
    }
    Path("/run/sshd").mkdir(exist_ok=True)
    config = spark.folder / f"sshd_config{port}"
    config.write_text("".join(f"{key} {value}\n" for key, value in said.items()))
    inside = ["nsenter", f"--net=/run/netns/{_name(number)}"]
    _launch([*inside, "/usr/sbin/sshd", "-D", "-e", "-f", str(config)], spark.folder / "sshd.log", stack)
    _await(lambda: _listens(number, port), f"sshd; see {spark.folder}/sshd.log")


@contextmanager
def slow(number: int, rate: str) -> Iterator[None]:
    """Let little through to a machine for a while: "200mbit"."""
    _run("tc", "qdisc", "add", "dev", _veth(number), "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms")
    try:
        yield
    finally:
        _run("tc", "qdisc", "delete", "dev", _veth(number), "root")


def _veth(number: int) -> str:
    return f"spk{os.getpid() % 100000}{number}"


def _listens(number: int, port: int) -> bool:
    shown = subprocess.run(
        ["nsenter", f"--net=/run/netns/{_name(number)}", "ss", "-Hltn", f"sport = :{port}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return bool(shown.stdout.strip())


def _name(number: int) -> str:
    return f"sparkbake-{os.getpid()}-{number}"


def _namespace(number: int, stack: ExitStack) -> str:
    """A network namespace that sees this machine and nothing else."""
    name, here = _name(number), _veth(number)
    _run("ip", "netns", "add", name)
    stack.callback(_run, "ip", "netns", "delete", name)
    _run("ip", "link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", name)
    _run("ip", "address", "add", f"{_net(number)}.1/30", "dev", here)
    _run("ip", "link", "set", here, "up")
    for words in (("link", "set", "lo", "up"), ("address", "add", f"{address(number)}/30", "dev", "eth0")):
        _run("ip", "-n", name, *words)
    _run("ip", "-n", name, "link", "set", "eth0", "up")
    return name


def _launch(argv: Sequence[str], log: Path, stack: ExitStack) -> "subprocess.Popen[bytes]":
    with log.open("ab") as file:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    stack.callback(_end, process)
    return process


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(spark: Spark) -> bool:
    argv = ["docker", "-H", f"unix://{spark.socket}", "version"]
    return subprocess.run(argv, capture_output=True, check=False, timeout=20).returncode == 0


def _await(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _WAIT_S
    while not is_so():
        if time.monotonic() > until:
            raise RuntimeError(f"no {what}")
        time.sleep(0.1)


def _run(*argv: str) -> Any:
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
