"""The nodes of a Ray cluster: a head, and workers that join it, and join it anew when it comes back."""

import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import NoReturn

from spark.child import replace_by
from spark.network import settle, value_of
from spark.say import FAILED, SparkError, say, without_secrets

DEFAULT_PORT = 6379
PORT = "RAY_PORT"
WAIT = "RAY_WAIT_S"
_WAIT_S = 15
_LAST_PORT = 65535
_CONNECT_S = 3
_BETWEEN_S = 1
_NOT_IPV4 = (socket.EAI_ADDRFAMILY, socket.EAI_NODATA)
# A Ray that ends sooner than this was refused, and did not lose its head.
_SHORT_S = 20
_REFUSALS = 3
_HEALTH_S = 12
# What a head that answers at the last moment is granted, and so the most by which patience is exceeded.
_LEAST_HEALTH_S = 8
# On a Spark the GPU's memory is the host's: a model that fills it is no reason to kill the workers that hold it.
_MEMORY_MONITOR = "RAY_memory_monitor_refresh_ms"
# What a client of HTTP/2 says first: a fixed text, and a SETTINGS frame without settings.
_SETTINGS = b"\x04"
_FRAME_HEADER = 9
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"


def head(words: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Start the head of a cluster; it ends when the container does.

    Raises:
        SparkError: a variable is not what it should be, or there is no network.
    """
    port = read_port(environment.get(PORT, ""), PORT)
    settled = without_monitor(settle(None, environment))
    node = value_of(settled)
    command = head_command(node, port, words)
    say(f"a worker joins with: ray-worker {node}{'' if port == DEFAULT_PORT else f':{port}'}")
    say(shlex.join(without_secrets(command, settled)))
    replace_by(command, settled)


def head_command(node: str, port: int, words: Sequence[str]) -> list[str]:
    return ["ray", "start", "--head", "--block", f"--node-ip-address={node}", f"--port={port}", *words]


def worker(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Join a cluster, and join again whenever its head comes back; return the exit status.

    Raises:
        SparkError: no head answers in time, or it refuses this worker.
    """
    if not words or words[0].startswith("-"):
        raise SparkError("ray-worker: expected the head's address: ray-worker 192.168.100.10")
    host, port = read_address(words[0])
    patience = _patience(environment)
    reach(host, port, patience)
    settled = without_monitor(settle(_look_up(host), environment))
    return Worker(host, port, words[1:], settled).run()


def without_monitor(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Ray kills no worker for the memory that is in use, unless that is given."""
    if environment.get(_MEMORY_MONITOR):
        say(f"{_MEMORY_MONITOR}={environment[_MEMORY_MONITOR]} (it is given)")
        return dict(environment)
    say(f"{_MEMORY_MONITOR}=0 (GPU and host have one memory: Ray would kill workers when a model fills it)")
    return {**environment, _MEMORY_MONITOR: "0"}


def read_port(text: str, name: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not text.isdecimal() or not 0 < int(text) <= _LAST_PORT:
        raise SparkError(f"{name} is {text!r}, expected a port from 1 to {_LAST_PORT}")
    return int(text)


def read_address(text: str) -> tuple[str, int]:
    """Host and port of "192.168.100.10" or "spark-1:6379"."""
    host, colon, port = text.partition(":")
    if not host or (colon and not port):
        raise SparkError(f"ray-worker: {text!r}: expected ADDRESS or ADDRESS:PORT")
    return host, read_port(port, f"the port of {text}")


def _patience(environment: Mapping[str, str]) -> float:
    text = environment.get(WAIT, "")
    try:
        seconds = float(text or _WAIT_S)
    except ValueError:
        seconds = -1
    if not seconds >= 0:  # also when it is no number
        raise SparkError(f"{WAIT} is {text!r}, expected a number of seconds")
    return seconds


def reach(host: str, port: int, patience_s: float) -> None:
    """Wait until a head answers.

    Raises:
        SparkError: none did in time, or what answers is no head.
    """
    until = time.monotonic() + patience_s
    told = False
    while True:
        why = _closed(host, port)
        if not why:
            break
        if time.monotonic() >= until:
            raise SparkError(
                f"{why}; tried for {patience_s:.0f} s ({WAIT}). Is `ray-head` running there, with --network host or on "
                "a network that both share?",
                FAILED,
            )
        if not told:
            say(f"{why}; waiting for it")
            told = True
        time.sleep(_BETWEEN_S)
    if not _healthy(host, port, max(until, time.monotonic() + _LEAST_HEALTH_S)):
        raise SparkError(f"what listens at {host}:{port} is no head of a Ray cluster; see {PORT} of the head", FAILED)


def _look_up(host: str) -> str:
    """A host's address of IPv4, as that of a node has to be."""
    return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])


def _closed(host: str, port: int) -> str:
    """Why a port cannot be reached; empty when it can."""
    try:
        with socket.create_connection((_look_up(host), port), timeout=_CONNECT_S):
            return ""
    except (socket.gaierror, UnicodeError) as err:
        if getattr(err, "errno", None) in _NOT_IPV4:
            return f"{host} has no IPv4 address, as nodes need one"
        return f"no such host: {host}"
    except TimeoutError:
        return f"no answer from {host}:{port}"
    except OSError as err:
        return f"{host}:{port}: {err.strerror}"


def _healthy(host: str, port: int, until: float) -> bool:
    """Whether a head answers: it takes a moment after its port is open.

    Args:
        until: when the answer has to be there, on the monotonic clock.
    """
    for attempt in range(2):
        if attempt:
            time.sleep(_BETWEEN_S)
        # The port itself is asked last.
        left_s = until - time.monotonic() - _CONNECT_S
        if left_s <= 0:
            break
        try:
            done = subprocess.run(
                ["ray", "health-check", "--address", f"{host}:{port}"],
                capture_output=True, check=False, timeout=min(_HEALTH_S, left_s),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            # This program takes long to load where three others do, too; the port itself answers at once.
            if _speaks_http2(host, port):
                return True
            continue
        except FileNotFoundError as err:
            raise SparkError("ray: not found on PATH of this image", 127) from err
        if done.returncode == 0:
            return True
    return False


def _speaks_http2(host: str, port: int) -> bool:
    """Whether what listens speaks HTTP/2, as a head does: its first frame is SETTINGS (RFC 9113, 3.4 and 4.1)."""
    try:
        with socket.create_connection((_look_up(host), port), timeout=_CONNECT_S) as one, one.makefile("rb") as answer:
            one.sendall(_PREFACE)
            return answer.read(_FRAME_HEADER)[3:4] == _SETTINGS
    except OSError:
        return False


class Worker:
    """A worker that outlives its head: signals end it, a head that goes away does not."""

    def __init__(self, host: str, port: int, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self._where = (host, port)
        self._environment = environment
        node = value_of(environment)
        self._command = [
            "ray", "start", "--block", f"--address={host}:{port}", f"--node-ip-address={node}", *words
        ]  # fmt: skip
        self._ray: subprocess.Popen[bytes] | None = None
        self._signal = 0

    def run(self) -> int:
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(one, self._stop)
        refused = 0
        while True:
            say(shlex.join(without_secrets(self._command, self._environment)))
            began = time.monotonic()
            status = self._once()
            if self._signal:
                return status if status >= 0 else 128 - status
            if not status:
                return 0
            refused = refused + 1 if time.monotonic() - began < _SHORT_S else 0
            if refused == _REFUSALS:
                say(f"ray ended {refused} times within {_SHORT_S} s of its start; what it printed says why")
                return FAILED
            say(f"the cluster at {self._where[0]}:{self._where[1]} has gone (ray ended with {status})")
            self._wait()

    def _once(self) -> int:
        # What is left of the last time would hold its ports; without a leftover it says so, which is of no interest.
        subprocess.run(["ray", "stop", "--force"], capture_output=True, check=False, env=dict(self._environment))
        self._ray = subprocess.Popen(self._command, env=dict(self._environment))
        if self._signal:
            self._ray.terminate()
        return self._ray.wait()

    def _wait(self) -> None:
        """Wait until the head is back, however long that takes."""
        told = False
        while True:
            if not _closed(*self._where) and _healthy(*self._where, time.monotonic() + 2 * _HEALTH_S):
                return
            if not told:
                say("waiting for it to come back; stop this container to end that")
                told = True
            time.sleep(_BETWEEN_S)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number
        if self._ray is None:
            return
        if self._ray.poll() is None:
            self._ray.send_signal(signal.SIGTERM)
        else:
            # Whatever is waited for between two of them may take longer than an engine has patience.
            raise SystemExit(128 + number)
