"""Serve something over HTTP to this machine alone, for as long as a block lasts."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

# Docker Engines speak to it without TLS; a tunnel makes it one of another machine.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a path holds: bytes, or a file as it is."""

    media_type: str
    body: bytes | Path


class LoopbackServer(ThreadingHTTPServer):
    """A server with a thread for each connection."""

    # A connection that a client keeps open must not keep this program from ending.
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_arguments: object) -> None:
        """Print no traceback of a connection that broke: the client at its other end says what it lacks."""


@contextmanager
def serving(server: LoopbackServer) -> Iterator[None]:
    """Let a server answer until the end of the block, and give its port back."""
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def listen(port: int, answer: Callable[[str], Answer | None]) -> LoopbackServer:
    """A server of what lies at paths, at a port if that is free, else at any.

    Args:
        answer: what a path holds; None when nothing lies there.

    Raises:
        OSError: there is no port.
    """
    handler = _handler(answer)
    try:
        return LoopbackServer((LOOPBACK, port), handler)
    except OSError:
        # Another build may have it.
        return LoopbackServer((LOOPBACK, 0), handler)


def _handler(answer: Callable[[str], Answer | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = answer(self.path)
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", found.media_type)
            self.send_header("Content-Length", str(_size(found.body)))
            self.end_headers()
            if isinstance(found.body, bytes):
                self.wfile.write(found.body)
                return
            with found.body.open("rb") as file:
                shutil.copyfileobj(file, self.wfile)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing: BuildKit shows what its steps fetch."""

    return Handler


def _size(body: bytes | Path) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size
