"""Serve something over HTTP to this machine alone, for as long as a block lasts."""

import gzip
import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import IO

# Docker Engines speak to it without TLS; a tunnel makes it one of another machine.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What was asked for.

    Attributes:
        path: with its query.
        headers: by their names in lower case.
        body: None of a GET.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What is given for it: bytes, a file as it is, or an open file from its start, which is closed then."""

    media_type: str
    body: bytes | Path | IO[bytes]


Answering = Callable[[Request], Answer | None]


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


def listen(port: int, answer: Answering) -> LoopbackServer:
    """A server at a port if that is free, else at any.

    Args:
        answer: gives None when there is nothing for a request.

    Raises:
        OSError: there is no port.
    """
    handler = _handler(answer)
    try:
        return LoopbackServer((LOOPBACK, port), handler)
    except OSError:
        # Another build may have it.
        return LoopbackServer((LOOPBACK, 0), handler)


def _handler(answer: Answering) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)

        def _answer(self, body: bytes | None) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            found = answer(Request(path=self.path, headers=headers, body=body))
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            opened = io.BytesIO(found.body) if isinstance(found.body, bytes) else found.body
            with opened.open("rb") if isinstance(opened, Path) else opened as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(0)
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", found.media_type)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                shutil.copyfileobj(file, self.wfile)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing: BuildKit shows what its steps fetch."""

    return Handler
