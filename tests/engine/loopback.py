"""Registries on this machine for tests: docker-registry itself, a proxy that counts and breaks off, and tokens."""

import base64
import contextlib
import http.client
import json
import os
import resource
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

USER, PASSWORD = "somebody", "secret"
# Of that password; docker-registry takes bcrypt alone.
_HTPASSWD = f"{USER}:$2b$05$h6zZNETmCB8GX.lDujvg7evUdsdDHQe2ZAzhL6EB9WMdZ/VeaJQja\n"
_MANIFEST, _INDEX = (f"application/vnd.oci.image.{kind}.v1+json" for kind in ("manifest", "index"))


@dataclass(frozen=True, kw_only=True)
class Server:
    """A registry that runs, or what stands in front of one.

    Attributes:
        host: "127.0.0.1:<port>".
    """

    host: str

    @property
    def port(self) -> int:
        return int(self.host.rpartition(":")[2])

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=20)
        kind = _INDEX if b'"manifests"' in (body or b"") else _MANIFEST
        headers = {"Accept": f"{_MANIFEST}, {_INDEX}"} if body is None else {"Content-Type": kind}
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        finally:
            connection.close()

    def tags(self, name: str) -> set[str]:
        """All tags of a repository; none when it is not there."""
        status, body = self.ask("GET", f"/v2/{name}/tags/list")
        return set(json.loads(body)["tags"] or ()) if status == 200 else set()

    def manifest(self, name: str, reference: str) -> bytes | None:
        """A manifest or an index, by tag or digest."""
        status, body = self.ask("GET", f"/v2/{name}/manifests/{reference}")
        return body if status == 200 else None


def make_keys(folder: Path, password: str = "") -> tuple[str, str]:
    """A pair of keys of cosign's; the paths of the private and the public one."""
    argv = ["cosign", "generate-key-pair"]
    subprocess.run(argv, cwd=folder, env={**os.environ, "COSIGN_PASSWORD": password}, check=True, capture_output=True)
    return str(folder / "cosign.key"), str(folder / "cosign.pub")


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of its own, in memory, at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size_bytes}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, capture_output=True)


def fill(folder: Path) -> Path:
    """Take all room that a file system has left; the file that has it."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):  # no space left: as it should be
        while file.write(bytes(1 << 16)):
            pass
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def registry(
    folder: Path, *, with_login: bool = False, most_file_bytes: int | None = None, port: int | None = None
) -> Iterator[Server]:
    """Debian's docker-registry, its files in a folder.

    Args:
        most_file_bytes: no file may be larger; that is how a full disk looks to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(host=f"127.0.0.1:{port or free_port()}")
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": server.host},
    }
    if with_login:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(yaml.safe_dump(config).replace("'0.1'", "0.1"))

    def limit() -> None:
        if most_file_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))

    argv = ["docker-registry", "serve", str(folder / "config.yml")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, preexec_fn=limit)  # noqa: PLW1509  (no threads yet)
    try:
        _await(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)


def _await(server: Server, process: "subprocess.Popen[bytes]") -> None:
    for _turn in range(100):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            server.ask("GET", "/v2/")
            return
        time.sleep(0.1)
    raise RuntimeError(f"docker-registry does not answer at {server.host}; its log is beside its config.yml")


@dataclass(kw_only=True)
class Proxy:
    """What goes between a client and a registry.

    Attributes:
        server: itself.
        breaks: how many more times it breaks a connection off once that has carried `break_at` bytes to the registry.
        pause_s: how long it waits for each piece of up to 64 KiB on its way to the registry.
        hook: is called with each piece on its way to the registry, before that gets it.
        sent_bytes: that went to the registry.
    """

    server: Server
    breaks: int = 0
    break_at: int = 1 << 20
    pause_s: float = 0.0
    hook: Callable[[bytes], None] = lambda _piece: None
    sent_bytes: int = 0
    seen: list[bytes] = field(default_factory=list)

    def requests(self, *methods: str) -> list[bytes]:
        """The first lines of requests with one of these methods."""
        return [one for one in self.seen if one.partition(b" ")[0].decode() in methods]

    def carry(self, client: socket.socket, behind: Server) -> None:
        """Carry bytes both ways until one side has enough."""
        carried = 0
        with client, socket.create_connection(("127.0.0.1", behind.port), timeout=30) as upstream:
            pair = {client: upstream, upstream: client}
            while True:
                for source in select.select(list(pair), [], [], 60)[0]:
                    piece = source.recv(1 << 16)
                    if source is client:
                        self._note(piece)
                        carried += len(piece)
                        if self.breaks and carried > self.break_at:
                            self.breaks -= 1
                            return
                    if not piece:
                        return
                    pair[source].sendall(piece)

    def _note(self, piece: bytes) -> None:
        self.sent_bytes += len(piece)
        if piece.startswith((b"GET ", b"HEAD ", b"PUT ", b"POST ")):
            self.seen.append(piece.partition(b"\r\n")[0])
        self.hook(piece)
        time.sleep(self.pause_s)


@contextlib.contextmanager
def proxy(behind: Server) -> Iterator[Proxy]:
    """Stand in front of a registry."""
    listening = socket.create_server(("127.0.0.1", 0))
    made = Proxy(server=Server(host=f"127.0.0.1:{listening.getsockname()[1]}"))

    def carry(client: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the side that broke off was not asked to be polite
            made.carry(client, behind)

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed: the test is over
            while True:
                threading.Thread(target=carry, args=[listening.accept()[0]], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield made
    finally:
        listening.close()


@contextlib.contextmanager
def token_registry(behind: Server, *, lasts_s: int = 300) -> Iterator[tuple[Server, list[str]]]:
    """A registry that wants tokens, as Docker Hub does; the scopes it was asked for."""
    scopes: list[str] = []
    basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            given, me = self.headers.get("Authorization"), self.headers["Host"]
            if self.path.startswith("/token?"):
                scopes.append(self.path.partition("?")[2])
                told = json.dumps({"token": f"t{len(scopes)}", "expires_in": lasts_s}).encode()
                self.answer(200 if given == basic else 401, told, {})
            elif given != f"Bearer t{len(scopes)}":
                challenge = f'Bearer realm="http://{me}/token",service="test",scope="repository:x:pull"'
                self.answer(401, b"", {"WWW-Authenticate": challenge})
            else:
                kept = {name: value for name, value in self.headers.items() if name != "Authorization"}
                with contextlib.closing(http.client.HTTPConnection(behind.host, timeout=30)) as connection:
                    connection.request(self.command, self.path, body=body, headers=kept)
                    answer = connection.getresponse()
                    headers = {name: value for name, value in answer.getheaders() if name != "Content-Length"}
                    self.answer(answer.status, answer.read(), headers)

        do_GET = do_HEAD = do_PUT = do_POST = handle_any  # noqa: N815  (the names that http.server calls)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Server(host=f"127.0.0.1:{server.server_address[1]}"), scopes
    finally:
        server.shutdown()
        server.server_close()


def docker_config(folder: Path, host: str, password: str = PASSWORD) -> dict[str, str]:
    """What makes Docker's configuration one with a login, as `docker login` writes it: variables."""
    folder.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return {"DOCKER_CONFIG": str(folder), "DOCKER_HOST": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")}
