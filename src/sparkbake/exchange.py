"""One HTTP exchange with a registry, and the authorization that it asks for.

Tokens: https://distribution.github.io/distribution/spec/auth/token/; logins are those of `docker login`.
"""

import base64
import http.client
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO
from urllib.parse import SplitResult, unquote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import docker.auth
import docker.errors

from sparkbake.addresses import is_loopback
from sparkbake.errors import RegistryError

CHUNK_BYTES = 1 << 20

_UNAUTHORIZED = 401
_OK = 200
_TIMEOUT_S = 60.0
# The spec allows 4 MiB for a manifest, and the largest that is read is a bill of materials; an answer need not end.
_MOST_BYTES = 64_000_000
_TOKEN_LASTS_S = 60.0  # where the answer does not say
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')

# Bytes, or what opens them anew for each attempt.
Body = bytes | Callable[[], IO[bytes]] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """What `docker login` has kept of a registry; a token that stands for both, where it gave one, has no user."""

    user: str
    secret: str


def login_of(registry: str) -> Login | None:
    """The login of a registry, from Docker's configuration or the credential helper that it names.

    Raises:
        RegistryError: the configuration or the helper is broken.
    """
    try:
        found = docker.auth.load_config().resolve_authconfig(registry) or {}
    except (docker.errors.DockerException, OSError) as err:
        raise RegistryError(
            f"{registry}: Docker's configuration does not give a login: {err}; run `docker login {registry}`"
        ) from err
    values = {key.lower(): str(value) for key, value in found.items() if value}
    if "identitytoken" in values:
        return Login(user="", secret=values["identitytoken"])
    if "username" in values and "password" in values:
        return Login(user=values["username"], secret=values["password"])
    return None


def exchange(method: str, url: str, headers: Mapping[str, str], body: Body, *, timeout_s: float = _TIMEOUT_S) -> Answer:
    """Send one request and read the answer; no redirect is followed.

    Args:
        headers: with Content-Length where the body is a file.
        timeout_s: seconds without anything happening.

    Raises:
        RegistryError: the connection cannot be made, or breaks off; this may pass. Or the address is none, or the
            answer is larger than anything that is asked for.
    """
    try:
        parts = urlsplit(url)
        connection = _connection(parts, timeout_s)
    except ValueError as err:
        raise RegistryError(f"{method}: got the address '{url[:200]}' from the registry, which is none: {err}") from err
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    try:
        try:
            connection.request(method, target, body=body() if callable(body) else body, headers=dict(headers))
        except (BrokenPipeError, ConnectionResetError):
            # Who refuses a body answers before all of it has come; raises again when there is no answer.
            answer = connection.getresponse()
        else:
            answer = connection.getresponse()
        lower = {name.lower(): value for name, value in answer.getheaders()}
        with answer:
            content = answer.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            most = f"{_MOST_BYTES / 1e6:.0f} MB"
            raise RegistryError(f"{parts.netloc}: {method}: answers more than {most}, expected less; is it a registry?")
        return Answer(status=answer.status, headers=lower, body=content)
    except (OSError, http.client.HTTPException) as err:
        raise RegistryError(f"{parts.netloc}: {method}: {_reason(err)}", passes=True) from err
    finally:
        connection.close()


@contextmanager
def opened(
    url: str, headers: Mapping[str, str], *, timeout_s: float = _TIMEOUT_S
) -> Iterator[http.client.HTTPResponse]:
    """Ask for something large, whose answer is read piece by piece while the block lasts; no redirect is followed.

    Raises:
        RegistryError: see `exchange`.
    """
    try:
        parts = urlsplit(url)
        connection = _connection(parts, timeout_s)
    except ValueError as err:
        raise RegistryError(f"GET: got the address '{url[:200]}' from the registry, which is none: {err}") from err
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=dict(headers))
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as err:
        connection.close()
        raise RegistryError(f"{parts.netloc}: GET: {_reason(err)}", passes=True) from err
    with closing(connection), answer:
        yield answer


def _connection(parts: SplitResult, timeout_s: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout_s, blocksize=CHUNK_BYTES)
    proxy = None if proxy_bypass(host) else getproxies().get("https")
    if proxy is None:
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, blocksize=CHUNK_BYTES)
    via = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    connection = http.client.HTTPSConnection(via.hostname or "", via.port, timeout=timeout_s, blocksize=CHUNK_BYTES)
    connection.set_tunnel(host, parts.port or 443, headers=_proxy_login(via))
    return connection


def _proxy_login(via: SplitResult) -> dict[str, str]:
    if via.username is None:
        return {}
    login = Login(user=unquote(via.username), secret=unquote(via.password or ""))
    return {"Proxy-Authorization": _basic(login)}


def _reason(err: BaseException) -> str:
    """In words; an exception of http.client may have an empty text."""
    return str(err) or type(err).__name__


class Authorization:
    """The value of the header Authorization for one repository, as its registry wants it.

    Args:
        scope: "repository:<name>:pull,push".
    """

    def __init__(self, login: Login | None, scope: str, now: Callable[[], float] = time.monotonic) -> None:
        self._login = login
        self._scope = scope
        self._now = now
        self._challenge = ""
        self._header: str | None = None
        self._until = 0.0

    @property
    def user(self) -> str | None:
        return self._login.user if self._login else None

    def header(self) -> str | None:
        """What to send; None before the registry has asked for anything.

        Raises:
            RegistryError: see `answer_to`.
        """
        if self._header and self._challenge and self._now() > self._until:
            self.answer_to(self._challenge)
        return self._header

    def answer_to(self, challenge: str) -> None:
        """Get what a registry asks for in the header WWW-Authenticate.

        Raises:
            RegistryError: no token is given.
        """
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic":
            self._header = _basic(self._login) if self._login else None
            return
        asked = dict(_CHALLENGE.findall(challenge))
        if scheme != "bearer" or not _is_safe(asked.get("realm", "")):
            raise RegistryError(
                f"a login is asked for as '{challenge}', expected Basic, or Bearer with an https address"
            )
        self._challenge = challenge
        token, lasts_s = self._token(asked["realm"], asked.get("service", ""))
        self._header = f"Bearer {token}"
        # Half of the time: a request may wait before it is looked at.
        self._until = self._now() + lasts_s / 2

    def _token(self, realm: str, service: str) -> tuple[str, float]:
        """A token, and for how many seconds it is good."""
        query = {"service": service, "scope": self._scope}
        if self._login and not self._login.user:
            form = {
                **query,
                "grant_type": "refresh_token",
                "client_id": "sparkbake",
                "refresh_token": self._login.secret,
            }
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = exchange("POST", realm, kind, urlencode(form).encode())
        else:
            headers = {"Authorization": _basic(self._login)} if self._login else {}
            answer = exchange("GET", f"{realm}?{urlencode(query)}", headers, None)
        if answer.status != _OK:
            remedy = "run `docker login` again" if answer.status == _UNAUTHORIZED else "try again later"
            raise RegistryError(
                f"{realm}: gives no token for {self._scope}: it answered {answer.status}; {remedy}",
                passes=answer.status >= 500,  # noqa: PLR2004  (a fault of the server)
            )
        try:
            body = json.loads(answer.body)
            token = body.get("token") or body["access_token"]
            return str(token), float(body.get("expires_in") or _TOKEN_LASTS_S)
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise RegistryError(f"{realm}: answered without a token: {err!r}; try again later") from err


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.user}:{login.secret}".encode()).decode()


def _is_safe(realm: str) -> bool:
    """Whether a password may be sent there."""
    parts = urlsplit(realm)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.netloc))
