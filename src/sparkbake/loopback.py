"""Serve something over HTTP to this machine alone, for as long as a block lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from threading import Thread

# Docker Engines speak to it without TLS; a tunnel makes it one of another machine.
LOOPBACK = "127.0.0.1"


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
