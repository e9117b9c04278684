"""Claims about Docker's question whether a container is well, with real servers and real processes."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import AF_UNIX, socket
from socketserver import TCPServer
from threading import Thread

import pytest
from tests.builders import ROOT
from tests.runtimebuilder import free_port, stand_in

from spark import commands, health

pytestmark = pytest.mark.usefixtures("loopback", "real_processes")

NOTHING = (True, "nothing is served here")


class Server(HTTPServer):
    """A server that answers all questions with one status; it looks up no names."""

    def __init__(self, status: int) -> None:
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            server: Server

            def do_GET(self) -> None:
                self.server.asked.append(self.path)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_words: object) -> None:
                return

        super().__init__(("127.0.0.1", 0), Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


@contextmanager
def serving(status: int = 200, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server(status) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def processes(root: Path, *commands: Sequence[str] | bytes) -> Path:
    """A folder as /proc, with a process for each command line; bytes are one as it stands there."""
    for number, command in enumerate(commands, start=1):
        text = command if isinstance(command, bytes) else "".join(f"{one}\0" for one in command).encode()
        (root / str(number)).mkdir(parents=True)
        (root / str(number) / "cmdline").write_bytes(text)
    (root / "self").mkdir()
    (root / "self/cmdline").write_bytes(b"vllm\0serve\0--port\x001\0")
    return root


def found(root: Path, *commands: Sequence[str] | bytes, **environment: str) -> tuple[bool, str]:
    return health.health(environment, processes=processes(root, *commands))


# ---- answers


def test_a_server_that_answers_is_well(tmp_path: Path) -> None:
    with serving() as server:
        url = f"http://127.0.0.1:{server.server_port}/health"
        assert found(tmp_path, ["vllm", "serve", "m", "--port", str(server.server_port)]) == (True, f"{url}: 200")
        assert server.asked == ["/health"]


def test_a_server_that_says_that_it_is_not_well_is_not(tmp_path: Path) -> None:
    with serving(503) as server:
        url = f"http://127.0.0.1:{server.server_port}/health"
        assert found(tmp_path, ["vllm", "serve", "m", f"--port={server.server_port}"]) == (False, f"{url}: 503")


def test_a_server_that_does_not_listen_is_not_well(tmp_path: Path) -> None:
    port = free_port()
    well, why = found(tmp_path, ["vllm", "serve", "m", "--port", str(port)])
    assert (well, why) == (False, f"http://127.0.0.1:{port}/health: [Errno 111] Connection refused")


def test_a_server_that_speaks_something_else_is_not_well(tmp_path: Path) -> None:
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()

        def answer() -> None:
            peer, _address = one.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"-ERR unknown command\r\n")

        thread = Thread(target=answer)
        thread.start()
        port = one.getsockname()[1]
        well, why = found(tmp_path, ["vllm", "serve", "m", "--port", str(port)])
        thread.join()
    assert (well, why) == (False, f"http://127.0.0.1:{port}/health: no answer of HTTP: BadStatusLine")


def test_a_server_that_never_answers_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_TIMEOUT_S", 0.05)
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        well, why = found(tmp_path, ["vllm", "serve", "m", "--port", str(port)])
    assert (well, why) == (False, f"http://127.0.0.1:{port}/health: timed out")


def test_a_proxy_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with serving() as server:
        assert found(tmp_path, ["vllm", "serve", "m", "--port", str(server.server_port)])[0]


def test_a_server_with_a_certificate_of_its_own_is_asked_all_the_same(tmp_path: Path) -> None:
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch"]
    argv += ["-subj", "/CN=spark.example", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with serving(context=context) as server:
        command = ["vllm", "serve", "m", "--port", str(server.server_port), "--ssl-certfile", "cert.pem"]
        well, why = found(tmp_path, command)
    assert (well, why) == (True, f"https://127.0.0.1:{server.server_port}/health: 200")


# ---- where to ask


@pytest.mark.parametrize(
    ("words", "environment", "url"),
    [
        ((), {}, "http://127.0.0.1:8000"),
        (("--port", "1"), {}, "http://127.0.0.1:1"),
        (("--host", "0.0.0.0"), {}, "http://127.0.0.1:8000"),  # noqa: S104
        (("--host", "::"), {}, "http://127.0.0.1:8000"),
        (("--host", "::1", "--port", "1"), {}, "http://::1:1"),
        (("--host=127.0.0.2", "--port", "1"), {}, "http://127.0.0.2:1"),
        (("--ssl-certfile", "x", "--port", "1"), {}, "https://127.0.0.1:1"),
        # vLLM itself reads no variables.
        ((), {"PORT": "9000", "HOST": "127.0.0.9"}, "http://127.0.0.1:8000"),
    ],
)
def test_the_command_says_where_to_ask(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    environment: dict[str, str],
    url: str,
) -> None:
    asked: list[str] = []

    def answers(host: str, port: int, *, is_tls: bool) -> tuple[bool, str, bool]:
        asked.append(f"{'https' if is_tls else 'http'}://{host}:{port}")
        return True, "", False

    monkeypatch.setattr(health, "_answers_at", answers)
    assert found(tmp_path, ["/opt/venv/bin/python", "/opt/venv/bin/vllm", "serve", "m", *words], **environment)[0]
    assert asked == [url]


def test_an_address_of_ipv6_is_shown_as_addresses_are(tmp_path: Path) -> None:
    well, why = found(tmp_path, ["vllm", "serve", "m", "--host", "::1", "--port", str(free_port())])
    assert (well, why.partition("]")[0]) == (False, "http://[::1")


def test_a_port_that_is_none_is_told(tmp_path: Path) -> None:
    well, why = found(tmp_path, ["vllm", "serve", "m", "--port", "x"])
    assert (well, why) == (False, "'x' is no port; see PORT and --port")


def test_a_server_that_hides_its_command_is_asked_where_variables_say(tmp_path: Path) -> None:
    with serving() as server:
        port = str(server.server_port)
        title = b"VLLM::APIServer\0\0\0"
        assert found(tmp_path, title, PORT=port, HOST="127.0.0.1") == (True, f"http://127.0.0.1:{port}/health: 200")


def test_of_several_processes_the_one_that_says_most_counts(tmp_path: Path) -> None:
    with serving() as server:
        commands = (b"VLLM::EngineCore\0", ["vllm", "serve", "m", "--port", str(server.server_port)], b"")
        assert found(tmp_path, *commands, PORT="1")[0]


def test_a_node_that_answers_nobody_is_well(tmp_path: Path) -> None:
    command = ["vllm", "serve", "m", "--headless"]
    assert found(tmp_path, command) == (True, "this node answers nobody: --headless")


def test_the_module_that_vllm_serve_is_made_of_is_a_server_too(tmp_path: Path) -> None:
    with serving() as server:
        command = ["python3", "-m", "vllm.entrypoints.openai.api_server", "--port", str(server.server_port)]
        url = f"http://127.0.0.1:{server.server_port}/health"
        assert found(tmp_path, command, b"VLLM::EngineCore\0") == (True, f"{url}: 200")


def test_a_server_that_listens_at_a_file_is_asked_there(tmp_path: Path) -> None:
    """The path is one of the server's own folder."""
    root = processes(tmp_path / "proc", ["vllm", "serve", "m", "--uds", "vllm.sock"])
    (root / "1/cwd").symlink_to(tmp_path)
    assert health.health({}, processes=root) == (False, "vllm.sock: /health: [Errno 2] No such file or directory")
    with at_a_file(tmp_path / "vllm.sock", 200):
        assert health.health({}, processes=root) == (True, "vllm.sock: /health: 200")
    (tmp_path / "vllm.sock").unlink()
    with at_a_file(tmp_path / "vllm.sock", 503):
        assert health.health({}, processes=root) == (False, "vllm.sock: /health: 503")


@contextmanager
def at_a_file(path: Path, status: int) -> Iterator[None]:
    """Something that answers one question at a socket that is a file."""
    with socket(AF_UNIX) as one:
        one.bind(str(path))
        one.listen()

        def answer() -> None:
            peer, _address = one.accept()
            with peer:
                assert peer.recv(1000).startswith(b"GET /health HTTP/1.1\r\n")
                peer.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

        thread = Thread(target=answer)
        thread.start()
        yield
        thread.join()


def test_a_file_of_options_says_where_to_ask_and_the_command_goes_before_it(tmp_path: Path) -> None:
    with serving() as server:
        (tmp_path / "x.yaml").write_text(f"model: m\nport: {server.server_port}  # ours\n", encoding="utf-8")
        root = processes(tmp_path / "proc", ["vllm", "serve", "--config", "x.yaml"])
        (root / "1/cwd").symlink_to(tmp_path)
        url = f"http://127.0.0.1:{server.server_port}/health"
        assert health.health({}, processes=root) == (True, f"{url}: 200")
        command = ["vllm", "serve", "--config", str(tmp_path / "x.yaml"), "--port", "1"]
        assert not found(tmp_path / "other", command)[0]


# ---- while it loads

# Seconds after the start of the machine.
CONTAINER, DAY = 1000, 86_400


def loading(
    root: Path, *began: float, now: float, port: int | None = None, first: Sequence[str] = ("bash",)
) -> tuple[bool, str]:
    """Process 1 and a server that does not listen yet, with when they began; what is said of them."""
    processes(root, first, ["vllm", "serve", "m", "--port", str(port or free_port())])
    for number, seconds in enumerate(began, start=1):
        ticks = round(seconds * os.sysconf("SC_CLK_TCK"))
        # The name of a process may have spaces and brackets.
        (root / str(number) / "stat").write_text(f"{number} (a) b) S {' '.join(18 * ['0'])} {ticks} 0 0\n")
    return health.health({}, processes=root, now_s=now)


@pytest.mark.parametrize("began", [CONTAINER, CONTAINER + 4])
def test_a_server_that_came_with_its_container_is_not_well_until_it_answers(tmp_path: Path, began: float) -> None:
    """Docker counts that for nothing for half an hour, and then it says so."""
    well, why = loading(tmp_path, CONTAINER, began, now=CONTAINER + 60)
    assert (well, why.rpartition(": ")[2]) == (False, "[Errno 111] Connection refused")


def test_a_server_that_was_started_later_gets_the_same_time_from_its_own_start(tmp_path: Path) -> None:
    well, why = loading(tmp_path / "a", CONTAINER, CONTAINER + DAY, now=CONTAINER + DAY + 1799)
    assert well
    assert why.endswith(
        ": [Errno 111] Connection refused; started 1799 s ago, later than its container: it may load for half an hour"
    )
    assert not loading(tmp_path / "b", CONTAINER, CONTAINER + DAY, now=CONTAINER + DAY + 1801)[0]


def test_a_server_that_our_own_serve_started_came_with_the_container_however_slowly(tmp_path: Path) -> None:
    """As process 1, or below the one of `--init`."""
    ours = ["/usr/bin/python3", "-I", "-S", "-B", "/usr/lib/sparkbake", "serve", "m"]
    for name, first in (("a", ours), ("b", ["/sbin/docker-init", "--", "/usr/local/bin/spark", "serve", "m"])):
        assert not loading(tmp_path / name, CONTAINER, CONTAINER + 20, now=CONTAINER + 60, first=first)[0]


def test_a_late_server_that_says_that_it_is_not_well_is_not(tmp_path: Path) -> None:
    """Only one that does not listen may be loading."""
    with serving(503) as server:
        well, why = loading(tmp_path, CONTAINER, CONTAINER + DAY, now=CONTAINER + DAY + 60, port=server.server_port)
    assert (well, why.rpartition(" ")[2]) == (False, "503")


def test_a_server_whose_age_cannot_be_seen_gets_no_time(tmp_path: Path) -> None:
    assert not loading(tmp_path, CONTAINER, now=CONTAINER + 60)[0]


def test_the_time_is_that_of_the_image_s_health_check() -> None:
    text = (ROOT / "recipes/_macros.j2").read_text(encoding="utf-8")
    assert f"--start-period={health._START_PERIOD_S // 60}m " in text


@pytest.mark.parametrize("words", [["/bin/sh", "/usr/local/bin/spark"], ["/usr/bin/python3", "/usr/lib/sparkbake"]])
def test_a_container_whose_vllm_has_not_started_yet_is_not_well(tmp_path: Path, words: list[str]) -> None:
    """A first success would end Docker's start period."""
    assert found(tmp_path / "a", [*words, "serve", "m"]) == (False, "vllm has not started yet")
    assert found(tmp_path / "b", [*words, "info"]) == NOTHING
    assert found(tmp_path / "c", [*words, "serve", "m"], ["vllm", "serve", "m"])[1].startswith("http://")


# ---- a node of a cluster

WORKER = ["/usr/bin/python3", "-I", "-S", "-B", "/usr/lib/sparkbake", "ray-worker", "10.0.0.5"]
NODE = ["/opt/venv/bin/python", "/opt/venv/bin/ray", "start", "--block", "--address=10.0.0.5:6379"]


def test_a_worker_that_waits_for_its_head_is_not_well(tmp_path: Path) -> None:
    waits = (False, "this worker waits for the head of its cluster")
    assert found(tmp_path / "a", WORKER, WORKER) == waits
    assert found(tmp_path / "b", WORKER, ["ray", "stop", "--force"]) == waits
    assert found(tmp_path / "c", WORKER, NODE) == NOTHING
    assert found(tmp_path / "d", NODE) == NOTHING
    assert found(tmp_path / "e", ["bash", "-c", "spark", "ray-worker"]) == NOTHING


# ---- what is running


@pytest.mark.parametrize(
    "command",
    [
        ["bash"],
        ["bash", "-c", "vllm serve m"],
        ["vllm", "bench", "serve"],
        ["vllm"],
        ["serve", "vllm"],
        ["ray", "start", "--head"],
        ["python3", "-m", "vllm.entrypoints.cli.main", "bench", "serve"],
        ["python3", "offline.py"],
        b"VLLM::EngineCore\0\0",
        b"VLLM::Worker_TP0\0",
        b"",
    ],
)
def test_a_container_that_serves_nothing_is_well(tmp_path: Path, command: Sequence[str] | bytes) -> None:
    assert found(tmp_path, command) == NOTHING


def test_a_process_that_has_ended_is_none(tmp_path: Path) -> None:
    (tmp_path / "77/cmdline").mkdir(parents=True)  # what cannot be read, as that of a process that is gone
    assert found(tmp_path) == NOTHING


@contextmanager
def running(folder: Path, *words: str) -> Iterator[None]:
    """A real process whose command line is `python vllm serve ...`."""
    path = stand_in(folder, "vllm", "")
    path.write_text("import sys\nprint('ready', flush=True)\nsys.stdin.read()\n", encoding="utf-8")
    argv = [sys.executable, "-I", "-S", str(path), "serve", *words]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.kill()


def test_a_real_server_is_found_among_the_processes_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More words than any other server here has: the longest command counts."""
    with serving() as server, running(tmp_path, "a model", "--port", str(server.server_port), *(99 * ["--x"])):
        assert commands.main(["health"]) == 0
        assert capsys.readouterr().out == f"http://127.0.0.1:{server.server_port}/health: 200\n"
    # This one is younger than the first process of this machine: it may still load.
    with running(tmp_path, "m", "--port", str(server.server_port), *(99 * ["--x"])):
        assert commands.main(["health"]) == 0
        assert "Connection refused; started " in capsys.readouterr().out


def test_the_question_takes_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["health", "--port", "1"]) == 2
    assert capsys.readouterr().err == "spark: error: health: --port 1: expected nothing\n"
