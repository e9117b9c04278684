"""Claims about what is served to this machine alone."""

import http.client
import socket
from http.server import BaseHTTPRequestHandler

import pytest

from sparkbake.loopback import LOOPBACK, LoopbackServer, serving


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        if self.path == "/broken":
            raise ConnectionResetError
        self.wfile.write(b"hello")

    def log_message(self, *_arguments: object) -> None:
        """Not in tests."""


@pytest.mark.usefixtures("loopback")
def test_it_answers_for_as_long_as_the_block_lasts() -> None:
    server = LoopbackServer((LOOPBACK, 0), Handler)
    port = server.server_address[1]
    with serving(server):
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, port), timeout=5)


@pytest.mark.usefixtures("loopback")
def test_a_connection_that_breaks_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    server = LoopbackServer((LOOPBACK, 0), Handler)
    with serving(server):
        connection = http.client.HTTPConnection(LOOPBACK, server.server_address[1], timeout=5)
        connection.request("GET", "/broken")
        with pytest.raises(http.client.IncompleteRead):
            connection.getresponse().read()
        connection.close()
    assert capsys.readouterr() == ("", "")
