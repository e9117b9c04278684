"""Serve one image to one engine: the reading half of a registry, on a port of this machine alone.

Spec: https://github.com/opencontainers/distribution-spec v1.1, "Pull"; ranges: RFC 9110, section 14.
"""

import io
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from sparkbake.blobs import CHUNK_BYTES, Locate, Place, find_blob, read_json_blob
from sparkbake.loopback import LOOPBACK, LoopbackServer, serving

_PATH = re.compile(r"/v2/(?P<name>[^?]+)/(?P<kind>manifests|blobs)/(?P<digest>sha256:[0-9a-f]{64})")
# What is asked for to go on with a blob that broke off; other ranges are answered with the whole.
_REST = re.compile(r"bytes=(\d+)-")
# The first byte of a connection that is to be TLS: RFC 8446, section 5.1.
_TLS_HANDSHAKE = b"\x16"
# Of a manifest that does not say.
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_BLOB_TYPE = "application/octet-stream"


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """All that is served: the blobs of one image.

    Attributes:
        name: of the repository, "namespace/image".
        manifests: digest to media type, of the manifest (or the index with its manifests).
        blobs: digests of config and layers, each with its size in bytes.
    """

    name: str
    manifests: Mapping[str, str]
    blobs: Mapping[str, int]
    locate: Locate


def content_of(name: str, digest: str, locate: Locate, where: str) -> Content:
    """Everything that a manifest leads to, by way of an index too, as far as it is there.

    Args:
        where: the image, for messages.

    Raises:
        ImageError: a manifest is missing or damaged.
    """
    manifests: dict[str, str] = {}
    blobs: dict[str, int] = {}
    waiting = [digest]
    while waiting:
        one = waiting.pop()
        body = read_json_blob(locate, one, where)
        manifests[one] = str(body.get("mediaType") or (_INDEX_TYPE if "manifests" in body else _MANIFEST_TYPE))
        # An archive of one platform lacks those of the others.
        waiting += [each["digest"] for each in body.get("manifests") or () if find_blob(locate, each["digest"])]
        parts = [body["config"], *body["layers"]] if "config" in body else []
        blobs |= {each["digest"]: int(each["size"]) for each in parts}
    return Content(name=name, manifests=manifests, blobs=blobs, locate=locate)


@dataclass(kw_only=True, slots=True)
class Served:
    """What one engine has got so far.

    Attributes:
        port: on 127.0.0.1.
        sent_bytes: of manifests and blobs, without headers.
        asked: digests of the blobs that it asked for.
    """

    port: int
    sent_bytes: int = 0
    asked: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, digest: str, sent_bytes: int) -> None:
        with self._lock:
            self.sent_bytes += sent_bytes
            self.asked.add(digest)


class _Server(LoopbackServer):
    def __init__(self, content: Content) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.content = content
        self.served = Served(port=self.server_address[1])


@contextmanager
def serve(content: Content) -> Iterator[Served]:
    """Serve an image on a free port of 127.0.0.1 until the end of the block."""
    server = _Server(content)
    with serving(server):
        yield server.served


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Seconds that a connection may be silent; an engine keeps some open without a need.
    timeout = 600
    rfile: io.BufferedReader
    server: _Server

    def handle_one_request(self) -> None:
        """An engine tries TLS first; told in plain HTTP that there is none, it goes on without, as it does on 127.x."""
        if self.rfile.peek(1)[:1] == _TLS_HANDSHAKE:
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.close_connection = True
            return
        super().handle_one_request()

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing of single requests: an engine first tries TLS, which looks like an error."""

    def _answer(self, *, with_body: bool) -> None:
        if self.path in ("/v2", "/v2/"):
            self._head(HTTPStatus.OK, {"Content-Length": "0"})
            return
        content = self.server.content
        match = _PATH.fullmatch(self.path)
        name, kind, digest = match.groups() if match else ("", "", "")
        digest = digest if name == content.name else ""
        is_manifest = kind == "manifests" and digest in content.manifests
        place = (
            find_blob(content.locate, digest) if is_manifest or (kind == "blobs" and digest in content.blobs) else None
        )
        if place is None:
            self._head(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return
        start = self._start(place.size_bytes)
        headers = {
            "Content-Type": content.manifests[digest] if is_manifest else _BLOB_TYPE,
            "Content-Length": str(place.size_bytes - start),
            "Docker-Content-Digest": digest,
            "Accept-Ranges": "bytes",
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{place.size_bytes - 1}/{place.size_bytes}"
        self._head(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK, headers)
        if with_body:
            self._send(place, start, digest)

    def _start(self, size_bytes: int) -> int:
        """Where to begin: 0, unless the rest of a blob is asked for."""
        match = _REST.fullmatch(self.headers.get("Range", ""))
        return int(match[1]) if match and int(match[1]) < size_bytes else 0

    def _head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()

    def _send(self, place: Place, start: int, digest: str) -> None:
        self.wfile.flush()
        at, end = place.offset + start, place.offset + place.size_bytes
        with place.path.open("rb") as file:
            while at < end:
                try:
                    sent = self.connection.sendfile(file, at, min(CHUNK_BYTES, end - at))
                except OSError:
                    # The tunnel has gone; the engine at its other end says why its pull failed.
                    self.close_connection = True
                    return
                at += sent
                self.server.served.add(digest, sent)
