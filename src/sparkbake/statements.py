"""Read what statements of an attestation manifest say: packages of a bill of materials, inputs of a provenance.

Whoever filled a registry need not keep to any format, so that what is not in its form is as if it were not there.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A statement of an attestation manifest.

    Attributes:
        kind: type of its predicate, as the manifest has it.
        body: the statement as it is.
    """

    kind: str
    body: Mapping[str, Any]


def body_of(said: Said | None) -> Mapping[str, Any]:
    """The predicate; empty where there is none."""
    predicate = said.body.get("predicate") if said else None
    return predicate if isinstance(predicate, dict) else {}


def objects(body: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    """What is listed under a key; nothing where that is no list of objects."""
    found = body.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def packages(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and version of each Python package."""
    for one in objects(document, "packages"):
        if re.match("SPDXRef-Python-", str(one.get("SPDXID"))):
            yield str(one.get("name")), str(one.get("versionInfo"))


def wheels(document: Mapping[str, Any]) -> dict[str, str]:
    """File to SHA-256 of each package that came as one."""
    found = {}
    for one in objects(document, "packages"):
        for checksum in objects(one, "checksums"):
            if one.get("packageFileName"):
                found[str(one["packageFileName"])] = str(checksum.get("checksumValue"))
    return found


def dependencies(said: Said | None) -> dict[str, str]:
    """Name to SHA-256 of what an image was built from."""
    definition = body_of(said).get("buildDefinition")
    some = objects(definition, "resolvedDependencies") if isinstance(definition, dict) else []
    return {str(one.get("name")): str((one.get("digest") or {}).get("sha256")) for one in some}
