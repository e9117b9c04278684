"""Speak to a registry: what a tag names there, which blobs it has, and how it is given both.

Spec: https://github.com/opencontainers/distribution-spec v1.1.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, cast
from urllib.parse import urlencode, urljoin, urlsplit

from sparkbake.addresses import is_loopback
from sparkbake.blobs import Locate, open_blob
from sparkbake.errors import RegistryError
from sparkbake.exchange import Answer, Authorization, Body, Login, exchange
from sparkbake.lockfile import sha256_of
from sparkbake.watched import Watched

_WAITS_S = (1.0, 4.0)
# A registry reads and stores a large blob before it answers.
_UPLOAD_TIMEOUT_S = 600.0
_ACCEPTED = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.manifest.v1",
        "oci.image.index.v1",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
    )
)
NOT_FOUND, _UNAUTHORIZED, _FORBIDDEN = 404, 401, 403
_TOO_MANY, _SERVER_FAULT = 429, 500
_REDIRECTS = range(300, 400)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A manifest as a registry has it, byte for byte.

    Attributes:
        digest: of the bytes, 'sha256:' + 64 hex.
    """

    digest: str
    media_type: str
    body: bytes


class Repository:
    """One repository of a registry. What may pass is tried three times, a no is not.

    Args:
        host: that answers for the registry, with its port if need be.
        name: "scitrera/dgx-spark-vllm".
        shown: what messages call it: registry and name as image names have them.
        writes: whether anything is to be stored there; who only reads needs no more than that.
        say: tells the user of progress, and of what is tried again.
    """

    def __init__(
        self,
        host: str,
        name: str,
        *,
        shown: str,
        login: Login | None,
        say: Callable[[str], None],
        writes: bool = True,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base = f"{'http' if is_loopback(host) else 'https'}://{host}/v2/{name}/"
        self._shown = shown
        self._authorization = Authorization(login, f"repository:{name}:{'pull,push' if writes else 'pull'}", now)
        self._deed = "push to" if writes else "read"
        self._say = say
        self._now = now
        self._wait = wait

    def __str__(self) -> str:
        return self._shown

    def digest_of(self, tag: str) -> str | None:
        """What a tag names; None when there is no such tag.

        Raises:
            RegistryError: see `Repository`; this is true of all that follows.
        """
        answer = self._tried(
            lambda: self._ask("HEAD", f"manifests/{tag}", accept=_ACCEPTED), f"asking what {tag} names", NOT_FOUND
        )
        if answer.status == NOT_FOUND:
            return None
        said = answer.headers.get("docker-content-digest", "")
        # The header is optional, and what follows takes it for a digest; else the manifest itself says it.
        return said if re.fullmatch(r"sha256:[0-9a-f]{64}", said) else self.manifest(tag).digest

    def has_manifest(self, digest: str) -> bool:
        """Whether a manifest is there; one at which the registry only fails counts as absent, and can be stored anew.

        A registry whose disk was full may have kept the beginning of a file, and answers 500 ever after.
        """
        try:
            return self.digest_of(digest) is not None
        except RegistryError as err:
            if err.status is None or err.status < _SERVER_FAULT:
                raise
            self._say(
                f"{err}; it is stored anew: where that does not help, the registry keeps a damaged file of it, which "
                "only who runs the registry can remove"
            )
            return False

    def manifest(self, reference: str) -> Manifest:
        """A manifest by tag or digest.

        Raises:
            RegistryError: also when it is not there, or has another digest than was asked for.
        """
        answer = self._tried(
            lambda: self._ask("GET", f"manifests/{reference}", accept=_ACCEPTED), f"reading the manifest {reference}"
        )
        found = Manifest(
            digest=sha256_of(answer.body), media_type=answer.headers.get("content-type", ""), body=answer.body
        )
        if ":" in reference and found.digest != reference:
            raise RegistryError(f"{self}: gave a manifest with the digest {found.digest}, expected {reference}")
        return found

    def put_manifest(self, reference: str, manifest: Manifest, *, before: Callable[[], None] | None = None) -> None:
        """Store a manifest under a tag or its digest; the registry has all its blobs, or refuses it.

        Args:
            before: is called right before each attempt, and raises when it must not be made any more.
        """

        def attempt() -> Answer:
            if before:
                before()
            return self._ask("PUT", f"manifests/{reference}", body=manifest.body, content_type=manifest.media_type)

        self._tried(attempt, f"storing the manifest {reference}")

    def has_blob(self, digest: str) -> bool:
        answer = self._tried(
            # A registry may say where else a blob lies, which is to say that it is there.
            lambda: self._ask("HEAD", f"blobs/{digest}"),
            f"asking for blob {digest}",
            NOT_FOUND,
            *_REDIRECTS,
        )
        return answer.status != NOT_FOUND

    def blob_url(self, digest: str) -> str:
        return f"{self._base}blobs/{digest}"

    def blob(self, digest: str, *, name: str) -> bytes:
        """A small blob; it may lie elsewhere, where the registry's authorization is not told.

        Raises:
            RegistryError: also when it is not there, or has another digest.
        """

        def attempt() -> Answer:
            answer = self._ask("GET", f"blobs/{digest}")
            place = answer.headers.get("location")
            return self._ask("GET", place) if answer.status in _REDIRECTS and place else answer

        body = self._tried(attempt, f"reading {name} ({digest})").body
        if sha256_of(body) != digest:
            raise RegistryError(f"{self}: gave for {name} bytes with the digest {sha256_of(body)}, expected {digest}")
        return body

    def put_blob(self, digest: str, locate: Locate, *, size_bytes: int, name: str) -> int:
        """Send a blob that the registry may lack.

        Args:
            locate: the image that has it.
            size_bytes: of the blob.
            name: of the blob, for people: "layer 3 of 20".

        Returns:
            Bytes sent; 0 if the registry had it.
        """
        if self.has_blob(digest):
            return 0
        self._say(f"sending {name}, {size_bytes / 1e6:.1f} MB")
        self._tried(lambda: self._upload(digest, locate, size_bytes, name), f"sending {name} ({digest})")
        return size_bytes

    def check_writable(self) -> None:
        """See that something may be stored: an upload is begun, and given up."""
        begun = self._tried(lambda: self._ask("POST", "blobs/uploads/", body=b""), "asking to store something")
        if place := begun.headers.get("location"):
            self._ask("DELETE", place)

    def _upload(self, digest: str, locate: Locate, size_bytes: int, name: str) -> Answer:
        begun = self._ask("POST", "blobs/uploads/", body=b"")
        place = begun.headers.get("location")
        if begun.status >= _REDIRECTS.start or not place:
            return begun
        more = "&" if urlsplit(place).query else "?"

        def opened() -> IO[bytes]:
            blob = open_blob(locate, digest, name)
            return cast("IO[bytes]", Watched(cast("IO[bytes]", blob), size_bytes, name, self._say, self._now))

        address = f"{place}{more}{urlencode({'digest': digest})}"
        return self._ask("PUT", address, body=opened, size_bytes=size_bytes, content_type="application/octet-stream")

    # ---- asking

    def _ask(
        self,
        method: str,
        address: str,
        *,
        body: Body = None,
        size_bytes: int | None = None,
        accept: str | None = None,
        content_type: str | None = None,
    ) -> Answer:
        """Ask once, or twice if the registry wants an authorization that it was not given."""
        url = self._own(urljoin(self._base, address))
        named = {"Accept": accept, "Content-Type": content_type}
        headers = {key: value for key, value in named.items() if value}
        if size_bytes is not None:
            headers["Content-Length"] = str(size_bytes)
        timeout_s = {"timeout_s": _UPLOAD_TIMEOUT_S} if callable(body) else {}
        answer = exchange(method, url, {**headers, **self.authorized(url)}, body, **timeout_s)
        challenge = answer.headers.get("www-authenticate")
        if answer.status == _UNAUTHORIZED and challenge:
            self._authorization.answer_to(challenge)
            answer = exchange(method, url, {**headers, **self.authorized(url)}, body, **timeout_s)
        return answer

    def _own(self, url: str) -> str:
        """A registry behind a TLS proxy may call itself http; it is spoken to as before."""
        ours, parts = urlsplit(self._base), urlsplit(url)
        return parts._replace(scheme=ours.scheme).geturl() if parts.netloc == ours.netloc else url

    def authorized(self, url: str) -> dict[str, str]:
        """The header Authorization; for nobody but the registry itself."""
        if urlsplit(url).netloc != urlsplit(self._base).netloc:
            return {}
        header = self._authorization.header()
        return {"Authorization": header} if header else {}

    def _tried(self, attempt: Callable[[], Answer], deed: str, *expected: int) -> Answer:
        """Try until it goes well or nothing is gained by it.

        Args:
            deed: for messages.
            expected: statuses that are no error although they are 300 and above.
        """
        for wait_s in (*_WAITS_S, None):
            try:
                answer = attempt()
                if answer.status not in expected:
                    self._check(answer)
            except RegistryError as err:
                if wait_s is None or not err.passes:
                    tries = f" (tried {len(_WAITS_S) + 1} times)" if err.passes else ""
                    told = f"{self}: {deed}: {err}{tries}{_hint(err)}"
                    raise RegistryError(told, status=err.status) from err
                self._say(f"{self}: {deed}: {err}; trying again in {wait_s:.0f} s")
                self._wait(wait_s)
            else:
                return answer
        raise AssertionError  # the last turn returns or raises

    def _check(self, answer: Answer) -> None:
        status, registry = answer.status, self._shown.partition("/")[0]
        if status < _REDIRECTS.start:
            return
        told = f"the registry answered {status}{_told(answer.body)}"
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            user = self._authorization.user
            who = f"the login of '{user or 'the token'}' does not suffice" if user is not None else "no login is known"
            told += f"; {who}: run `docker login {registry}` as somebody who may {self._deed} {self}"
        raise RegistryError(told, passes=status == _TOO_MANY or status >= _SERVER_FAULT, status=status)


def _hint(err: RegistryError) -> str:
    return "; see that the registry is up and has room, then run it again: it goes on from there" if err.passes else ""


def _told(body: bytes) -> str:
    """What a registry says of an error, as far as it is in the form of the spec."""
    try:
        return "".join(f": {one['code']}: {_text(one)}" for one in json.loads(body)["errors"])
    except (ValueError, KeyError, TypeError):
        return ""


def _text(error: Mapping[str, object]) -> str:
    detail = error.get("detail")
    return f"{error.get('message')}" + (f" ({detail})" if isinstance(detail, str) else "")
