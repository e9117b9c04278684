"""Whether the server of this container answers, for Docker's HEALTHCHECK.

Docker counts no failure within the start period of a container, until the first success. So a server that came with its
container is not well until it answers; one that was started later, in a container that had been well without it, is
given the same time from its own start.
"""

import http
import http.client
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from spark.serve import DEFAULT_PORT, from_file, option_of

_TIMEOUT_S = 5
# What vLLM calls those of its processes that answer, where there are several. Engines and workers have such titles in
# scripts, too, which serve nothing.
_TITLE = b"VLLM::APIServer"
# As HEALTHCHECK says it of the container.
_START_PERIOD_S = 30 * 60
# Engines ask for the first time after this long, and then one that serves nothing yet is well.
_WITH_CONTAINER_S = 5
_ENTRYPOINT = b"/usr/lib/sparkbake"
_OURS = (_ENTRYPOINT, b"/bin/spark")


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this container.

    Attributes:
        folder: in /proc.
        began_s: seconds after the machine's start; None when it cannot be seen.
    """

    folder: Path
    words: tuple[bytes, ...]
    began_s: float | None


@dataclass(frozen=True, slots=True)
class Server:
    """A server of vLLM.

    Attributes:
        command: from `vllm serve` or the module on; empty when it hides it.
    """

    process: Process
    command: tuple[str, ...]


def health(
    environment: Mapping[str, str], *, processes: Path = Path("/proc"), now_s: float | None = None
) -> tuple[bool, str]:
    """Whether all is well here, and why: a container that serves nothing is well.

    Args:
        now_s: seconds after the machine's start; None takes them of the clock.
    """
    running = list(_processes(processes))
    if _waits_for_head(running):
        return False, "this worker waits for the head of its cluster"
    servers = [one for one in map(_server, running) if one]
    if not servers:
        # Asked before our `serve` has become vLLM: for Docker this must not be the container's first success.
        if any(map(_is_ours, running)):
            return False, "vllm has not started yet"
        return True, "nothing is served here"
    server = max(servers, key=lambda one: len(one.command))
    if "--headless" in server.command:
        return True, "this node answers nobody: --headless"
    is_well, why, is_loading = _ask(server, environment)
    age = _late(server.process, running, time.clock_gettime(time.CLOCK_BOOTTIME) if now_s is None else now_s)
    if is_loading and age is not None and age < _START_PERIOD_S:
        return True, f"{why}; started {age:.0f} s ago, later than its container: it may load for half an hour"
    return is_well, why


def _processes(root: Path) -> Iterator[Process]:
    for path in root.glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes()
        except OSError:  # it has ended
            continue
        yield Process(path.parent, tuple(text.rstrip(b"\0").split(b"\0")), _began(path.parent / "stat"))


def _began(path: Path) -> float | None:
    """When a process began: field 22 of its state, in ticks (proc_pid_stat(5)); its name, field 2, is in brackets."""
    try:
        return int(path.read_bytes().rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None


def _late(process: Process, running: Sequence[Process], now_s: float) -> float | None:
    """How old a process is that began later than its container; None for one that came with it."""
    first = next((one for one in running if one.folder.name == "1"), None)
    if process.began_s is None or first is None or first.began_s is None:
        return None
    # However long our `serve` took to start it.
    if _is_ours(first) or process.began_s - first.began_s < _WITH_CONTAINER_S:
        return None
    return now_s - process.began_s


def _waits_for_head(running: Sequence[Process]) -> bool:
    """Whether `ray-worker` runs here, but no node of Ray that it has started."""
    is_worker = any((_ENTRYPOINT, b"ray-worker") in _pairs(one.words) for one in running)
    return is_worker and not any(
        name.rpartition(b"/")[2] == b"ray" and word == b"start" for one in running for name, word in _pairs(one.words)
    )


def _is_ours(process: Process) -> bool:
    """Whether a process is our `serve`, or starts it."""
    return any(name.endswith(_OURS) and word == b"serve" for name, word in _pairs(process.words))


def _pairs(words: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(pairwise(words))


def _server(process: Process) -> Server | None:
    """The server that a process is; None when it is none."""
    for place, (name, word) in enumerate(_pairs(process.words)):
        is_command = name.rpartition(b"/")[2] == b"vllm" and word == b"serve"
        # python -m vllm.entrypoints.openai.api_server
        is_module = name == b"-m" and word.startswith(b"vllm.entrypoints.") and word.endswith(b"api_server")
        if is_command or is_module:
            return Server(process, tuple(one.decode(errors="replace") for one in process.words[place:]))
    return Server(process, ()) if process.words[0].startswith(_TITLE) else None


def _ask(server: Server, environment: Mapping[str, str]) -> tuple[bool, str, bool]:
    """Whether a server is well, why, and whether it only does not listen: as one that loads."""
    command, folder = server.command, server.process.folder / "cwd"
    # vLLM reads no such variables: they count where `serve` made a command of them that can no longer be seen.
    given = {} if command else environment
    path = option_of(command, "--uds") or from_file(command, "uds", folder)
    if path:
        return _answers(_Local(str(folder / path)), f"{path}: /health")
    port = option_of(command, "--port") or from_file(command, "port", folder) or given.get("PORT") or str(DEFAULT_PORT)
    if not port.isdecimal():
        return False, f"{port!r} is no port; see PORT and --port", False
    host = option_of(command, "--host") or from_file(command, "host", folder) or given.get("HOST") or ""
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104  (any address of this machine, this one too)
        host = "127.0.0.1"
    is_tls = bool(option_of(command, "--ssl-certfile") or from_file(command, "ssl-certfile", folder))
    return _answers_at(host, int(port), is_tls=is_tls)


class _Local(http.client.HTTPConnection):
    """HTTP over a socket that is a file."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _answers_at(host: str, port: int, *, is_tls: bool) -> tuple[bool, str, bool]:
    shown = f"[{host}]" if ":" in host else host
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    if is_tls:
        # It is this container that is asked, by an address that no certificate names.
        anyone = ssl.create_default_context()
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=anyone)
    return _answers(connection, f"{'https' if is_tls else 'http'}://{shown}:{port}/health")


def _answers(connection: http.client.HTTPConnection, url: str) -> tuple[bool, str, bool]:
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except http.client.HTTPException as err:
        return False, f"{url}: no answer of HTTP: {type(err).__name__}", False
    except (ConnectionRefusedError, FileNotFoundError) as err:
        return False, f"{url}: {err}", True
    except OSError as err:
        return False, f"{url}: {err}", False
    finally:
        connection.close()
    return status == http.HTTPStatus.OK, f"{url}: {status}", False
