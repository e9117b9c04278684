"""A registry in memory, for tests without a network; tests/engine has a real one."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.ocibuilder import digest_of

from sparkbake.errors import RegistryError
from sparkbake.exchange import Answer

NAME = "sparks/spark-vllm"
PLACE = "registry.example:5000/sparks/spark-vllm"


class Memory:
    """A registry in memory: what it has, and what was asked of it.

    Attributes:
        name: of the repository, of which there is one.
        failures: (method, part of the address) to what answers instead, once each.
    """

    def __init__(self, name: str = NAME) -> None:
        self.name = name
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.failures: dict[tuple[str, str], list[Answer | RegistryError]] = {}
        self.hook: Callable[[str, str], None] = lambda _method, _path: None

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: Any, **_rest: Any) -> Answer:
        parts = urlsplit(url)
        assert (parts.scheme, parts.netloc) == ("https", "api.registry.example")
        self.asked.append((method, parts.path))
        self.hook(method, parts.path)
        for (which, place), failures in self.failures.items():
            if which == method and place in parts.path and failures:
                failure = failures.pop(0)
                if isinstance(failure, RegistryError):
                    raise failure
                return failure
        return self.answer(method, parts.path, parts.query, body)

    def answer(self, method: str, path: str, query: str, body: Any) -> Answer:
        kind, _slash, name = path.removeprefix(f"/v2/{self.name}/").partition("/")
        if method == "POST":
            return Answer(status=202, headers={"location": f"{path}1?_state=x"}, body=b"")
        if method == "PUT" and kind == "blobs":
            content, digest = body().read(-1), parse_qs(query)["digest"][0]
            assert digest_of(content) == digest
            self.blobs[digest] = content
        elif method == "PUT":
            manifest = json.loads(body)
            assert all(one["digest"] in self.blobs for one in manifest.get("layers", ()))
            assert all(one["digest"] in self.manifests for one in manifest.get("manifests", ()))
            self.manifests |= {name: body, digest_of(body): body}
        else:
            found = (self.blobs if kind == "blobs" else self.manifests).get(name)
            headers = {"content-type": "application/json"}
            headers |= {"docker-content-digest": digest_of(found)} if found and kind == "manifests" else {}
            return Answer(status=200 if found else 404, headers=headers, body=found or b"")
        return Answer(status=201, headers={}, body=b"")

    def wrote(self) -> list[str]:
        """What was written, in order: the last part of each address."""
        return [path.rpartition("/")[2] for method, path in self.asked if method == "PUT"]


def refused(status: int, told: bytes = b"") -> Answer:
    return Answer(status=status, headers={}, body=told)
