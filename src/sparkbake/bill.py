"""The value behind both bills of materials of an image, and the package URLs that name what is in it.

`sbom` makes it; `cyclonedx` and `spdx` write it down.
"""

import json
from dataclasses import dataclass

from sparkbake.errors import ImageError
from sparkbake.model import Pairs, Wheel

# https://github.com/package-url/purl-spec, "Character encoding"; "/" stays, as in its examples of qualifiers.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_~:/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Licence:
    """What a package says of its licence.

    Attributes:
        expression: of SPDX, "MIT OR Apache-2.0"; None of anything else that it says.
        name: the expression, or in a few words what it says.
        text: the whole licence, where that stands in place of its name.
    """

    expression: str | None
    name: str
    text: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a package was built from: a commit of a git repository, or a source package of the distribution.

    Attributes:
        version: of a source package; the commit, 7 to 40 hex digits.
        repository: address of the git repository; None of a source package.
    """

    name: str
    version: str
    repository: str | None
    purl: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """A patch that a component was built with.

    Attributes:
        component: name of the package.
        file: "0001-slug.patch".
        sha256: 64 hex digits.
    """

    component: str
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A package in an image.

    Attributes:
        purl: https://github.com/package-url/purl-spec; no two of an image are equal.
        wheel: the file that was installed, and its hash; None of a package of the operating system, and of what is
            compiled.
        maintainer: "Name <address>", of a package of the operating system.
        trimmed: what of it the image lacks, files or cubins, in words; None when it has all.
    """

    purl: str
    name: str
    version: str
    wheel: Wheel | None
    licence: Licence | None
    summary: str | None
    maintainer: str | None
    origin: Origin | None
    patches: tuple[Patch, ...]
    trimmed: str | None

    @property
    def is_compiled(self) -> bool:
        return self.wheel is None and self.origin is not None and self.origin.repository is not None

    @property
    def is_os(self) -> bool:
        return self.wheel is None and not self.is_compiled


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """What /etc/os-release says: https://www.freedesktop.org/software/systemd/man/latest/os-release.html.

    Attributes:
        id: "debian".
        name: "Debian GNU/Linux".
        version: "13"; None of one without releases.
    """

    id: str
    name: str
    version: str | None

    @property
    def release(self) -> str:
        """As package URLs have it: "debian-13"."""
        return f"{self.id}-{self.version}" if self.version else self.id


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """All of an image.

    Attributes:
        reference: `<registry>/<namespace>/<image>:<tag>`.
        digest: of the manifest, 'sha256:' + 64 hex.
        created: UTC, "2026-10-25T12:34:56Z"; no clock's, but that of the lock.
        address: of the project, without a "/" at its end.
        components: by purl.
    """

    reference: str
    digest: str
    created: str
    address: str
    purl: str
    labels: Pairs
    licence: Licence | None
    distribution: Distribution
    components: tuple[Component, ...]


# ---- package URLs


def purl(kind: str, name: str, version: str, **qualifiers: str) -> str:
    """A package URL: https://github.com/package-url/purl-spec.

    Args:
        kind: "pypi".
        name: with its namespace, if any: "debian/libc6".

    >>> purl("deb", "debian/g++", "4:14.2.0-1", arch="arm64")
    'pkg:deb/debian/g%2B%2B@4:14.2.0-1?arch=arm64'
    """
    query = "&".join(f"{key}={_percent(value)}" for key, value in sorted(qualifiers.items()))
    return f"pkg:{kind}/{_percent(name)}@{_percent(version)}" + (f"?{query}" if query else "")


def image_purl(reference: str, digest: str, architecture: str) -> str:
    """The package URL of an image in a registry: of type oci, its version is the digest."""
    repository, _, tag = reference.partition("@")[0].rpartition(":")
    if "/" in tag or not repository:
        raise ImageError(f"got the reference {reference!r}, expected registry/name:tag")
    name = repository.rpartition("/")[2].lower()
    return purl("oci", name, digest, arch=architecture, repository_url=repository, tag=tag)


def _percent(text: str) -> str:
    return "".join(chr(one) if one in _PLAIN else f"%{one:02X}" for one in text.encode())


# ---- files


def json_text(value: object) -> str:
    """JSON of which equal values have equal bytes; a key whose value is None or an empty list is left out."""
    return json.dumps(_present(value), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _present(value: object) -> object:
    if isinstance(value, dict):
        return {key: _present(one) for key, one in value.items() if one is not None and one != []}
    if isinstance(value, list):
        return [_present(one) for one in value]
    return value
