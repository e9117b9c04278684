"""Claims about how a registry is spoken to: whose login is taken, where a password goes, when a token is renewed."""

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from sparkbake import exchange
from sparkbake.addresses import is_loopback
from sparkbake.errors import RegistryError
from sparkbake.exchange import Answer, Authorization, Login, login_of

BASIC = "Basic " + base64.b64encode(b"me:secret").decode()
CHALLENGE = 'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:x:pull"'
SCOPE = "repository:sparks/x:pull,push"
ME = Login(user="me", secret="secret")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_the_login_is_that_of_docker(config: Path) -> None:
    logins = {"registry.example:5000": auth("me:se:cret"), "https://index.docker.io/v1/": auth("hub:x")}
    config.write_text(json.dumps({"auths": {**logins, "token.example": {"identitytoken": "abc"}}}))
    assert login_of("registry.example:5000") == Login(user="me", secret="se:cret")
    assert login_of("docker.io") == Login(user="hub", secret="x")
    assert login_of("token.example") == Login(user="", secret="abc")
    assert login_of("other.example") is None


def test_without_a_configuration_there_is_no_login(config: Path) -> None:
    assert login_of("registry.example") is None


def test_a_damaged_configuration_is_told(config: Path) -> None:
    config.write_text(json.dumps({"auths": {"registry.example": "me"}}))
    with pytest.raises(RegistryError, match=r"registry.example: Docker's configuration .*run `docker login registry"):
        login_of("registry.example")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.9.9.9:5000", True), ("localhost:5000", True), ("[::1]:5000", True),
        ("registry.example", False), ("10.0.0.1:5000", False), ("localhost.example", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_spoken_to_without_tls(host: str, expected: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is expected


# ---- one exchange


@pytest.fixture
def peer(loopback: None) -> Iterator[Callable[[bytes], tuple[int, list[bytes]]]]:
    """A server of one connection: its port, and what it is sent before it answers."""
    with ExitStack() as stack:

        def serve(answer: bytes) -> tuple[int, list[bytes]]:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            seen: list[bytes] = []

            def work() -> None:
                with listening.accept()[0] as connection, suppress(OSError):
                    seen.append(connection.recv(1 << 16))
                    connection.sendall(answer)

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            return listening.getsockname()[1], seen

        yield serve


Peer = Callable[[bytes], tuple[int, list[bytes]]]


def test_an_answer_without_an_end_is_not_kept(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_MOST_BYTES", 1_000_000)
    port, _seen = peer(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1_500_000))
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:\d+: GET: answers more than 1 MB, expected less") as caught:
        exchange.exchange("GET", f"http://127.0.0.1:{port}/v2/", {}, None)
    assert not caught.value.passes


def test_a_proxy_gets_its_password_and_nobody_else_sees_it(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    port, seen = peer(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    monkeypatch.setenv("https_proxy", f"http://me:ge%3Aheim@127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(RegistryError, match=r"registry\.example: GET: .*407") as caught:
        exchange.exchange("GET", "https://registry.example/v2/", {}, None)
    assert seen[0].startswith(b"CONNECT registry.example:443 ")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:ge:heim") in seen[0]
    assert "heim" not in str(caught.value)


@pytest.mark.parametrize("address", ["https://registry.example:port/v2/", "https://[registry.example/v2/"])
def test_an_address_that_is_none_is_told(address: str) -> None:
    with pytest.raises(RegistryError, match=r"GET: got the address 'https://.*' from the registry, which is none"):
        exchange.exchange("GET", address, {}, None)


class Tokens:
    """Gives tokens; stands in for the network."""

    def __init__(self, status: int = 200, body: Any = None) -> None:
        self.status, self.body = status, body
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: Any) -> Answer:
        self.asked.append((method, url, dict(headers), body))
        told = {"token": f"t{len(self.asked)}", "expires_in": 100} if self.body is None else self.body
        return Answer(
            status=self.status, headers={}, body=told if isinstance(told, bytes) else json.dumps(told).encode()
        )


def authorization(
    monkeypatch: pytest.MonkeyPatch, tokens: Tokens, login: Login | None, clock: list[float]
) -> Authorization:
    monkeypatch.setattr(exchange, "exchange", tokens)
    return Authorization(login, SCOPE, now=lambda: clock[0])


def test_nothing_is_sent_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    one = authorization(monkeypatch, Tokens(), ME, [0.0])
    assert one.header() is None
    one.answer_to('Basic realm="x"')
    assert one.header() == BASIC


def test_a_token_is_asked_for_by_name_and_password_and_renewed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, clock = Tokens(), [0.0]
    one = authorization(monkeypatch, tokens, ME, clock)
    one.answer_to(CHALLENGE)
    query = "service=registry.example&scope=repository%3Asparks%2Fx%3Apull%2Cpush"
    assert tokens.asked == [("GET", f"https://auth.example/token?{query}", {"Authorization": BASIC}, None)]
    clock[0] = 50.0
    assert one.header() == "Bearer t1"
    clock[0] = 50.1
    assert one.header() == "Bearer t2"


def test_who_is_nobody_or_has_a_token_asks_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(body={"access_token": "a"})
    nobody = authorization(monkeypatch, tokens, None, [0.0])
    nobody.answer_to(CHALLENGE)
    assert nobody.header() == "Bearer a"
    assert tokens.asked[0][2] == {}
    authorization(monkeypatch, tokens, Login(user="", secret="kept"), [0.0]).answer_to(CHALLENGE)
    method, url, _headers, body = tokens.asked[1]
    assert (method, url) == ("POST", "https://auth.example/token")
    assert b"grant_type=refresh_token&client_id=sparkbake&refresh_token=kept" in body


@pytest.mark.parametrize(
    ("challenge", "tokens", "message", "passes"),
    [
        ("Negotiate", Tokens(), "a login is asked for as 'Negotiate', expected Basic, or Bearer", False),
        ('Bearer realm="http://auth.example/token"', Tokens(), "or Bearer with an https address", False),
        (CHALLENGE, Tokens(401), "it answered 401; run `docker login` again", False),
        (CHALLENGE, Tokens(503), "it answered 503; try again later", True),
        (CHALLENGE, Tokens(body=b"<html>"), "answered without a token", False),
        (CHALLENGE, Tokens(body={}), "answered without a token", False),
    ],
)
def test_where_no_token_is_given(
    monkeypatch: pytest.MonkeyPatch,
    challenge: str,
    tokens: Tokens,
    message: str,
    passes: bool,  # noqa: FBT001
) -> None:
    one = authorization(monkeypatch, tokens, ME, [0.0])
    with pytest.raises(RegistryError, match=message) as caught:
        one.answer_to(challenge)
    assert caught.value.passes is passes
    assert "secret" not in str(caught.value)
