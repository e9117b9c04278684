"""The digests that images have, as files beside the locks: recorded of images that were verified, compared ever after.

A digest is decided by the inputs (the build context, the arguments and labels bake is given, how layers are packed)
and by the tools that run in the build; so each record says what the inputs were and which engine built it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sparkbake.errors import LockError

_SCHEMA = 1
_KEYS = {"digest", "config", "plan_digest", "engine", "compressed_bytes", "layers"}
_LAYER_KEYS = {"name", "digest", "compressed_bytes"}
# Not in records of before they were kept, which stay true.
_LATER_KEYS, _LATER_LAYER_KEYS = {"trimmed_bytes"}, {"disk_bytes"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedLayer:
    """A layer of a recorded image; "base", "system", or what the recipes call it.

    Attributes:
        disk_bytes: of the files in it; None in a record of before that was kept.
    """

    name: str
    digest: str
    compressed_bytes: int
    disk_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What the image of a row on one base is.

    Attributes:
        digest: of its manifest, 'sha256:' + 64 hex.
        config: digest of its config, which names all contents whatever version of an engine compresses the layers.
        plan_digest: of all that was built from; see `manifest.plan_digest`.
        engine: that built it, "28.5.2".
        trimmed_bytes: of the files that its packages lack; None in a record of before that was kept.
    """

    digest: str
    config: str
    plan_digest: str
    engine: str
    layers: tuple[RecordedLayer, ...]
    trimmed_bytes: int | None = None

    @property
    def compressed_bytes(self) -> int:
        return sum(one.compressed_bytes for one in self.layers)

    @property
    def disk_bytes(self) -> int | None:
        """Of the files of all layers; None when it is not known of one."""
        known = [one.disk_bytes for one in self.layers if one.disk_bytes is not None]
        return sum(known) if len(known) == len(self.layers) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What came out of a build: as in `Expected`.

    Attributes:
        config: None where it is not known.
        engine: its version; of another builder something that no engine has as its version.
    """

    digest: str
    config: str | None
    plan_digest: str
    engine: str


class Standing(StrEnum):
    """How an image that was built stands to its record."""

    AS_RECORDED = "as recorded"
    REPACKED = "the recorded contents, compressed to other bytes"
    DIFFERENT = "not as recorded"
    OUTDATED = "recorded of other inputs"
    UNKNOWN = "not recorded"


def standing(built: Built, expected: Expected | None) -> Standing:
    """Hold what was built against what was recorded.

    One engine must give one digest; another version of it, or another builder, may compress the same contents to other
    bytes.
    """
    if expected is None:
        return Standing.UNKNOWN
    if expected.plan_digest != built.plan_digest:
        return Standing.OUTDATED
    if expected.digest == built.digest:
        return Standing.AS_RECORDED
    is_repacked = built.config == expected.config and built.engine != expected.engine
    return Standing.REPACKED if is_repacked else Standing.DIFFERENT


def record_path(locks: Path, tag: str) -> Path:
    return locks / "digests" / f"{tag}.json"


def load_expected(locks: Path, tag: str) -> dict[str, Expected]:
    """Base name to what the image of a row on it is; empty when nothing is recorded.

    Raises:
        LockError: the file is damaged.
    """
    path = record_path(locks, tag)
    if not path.exists():
        return {}
    remedy = f"restore it with git, or remove it and run `nox -s build -- {tag} --record`"
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")), tag)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise LockError(f"{path}: not a record of {tag}: {err}; {remedy}") from err


def _parse(body: Mapping[str, Any], tag: str) -> dict[str, Expected]:
    if (body["schema"], body["tag"]) != (_SCHEMA, tag):
        raise ValueError(f"is of schema {body['schema']!r} and tag {body['tag']!r}")
    return {base: _expected(one) for base, one in body["bases"].items()}


def _expected(body: Mapping[str, Any]) -> Expected:
    if set(body) - _LATER_KEYS != _KEYS or any(set(one) - _LATER_LAYER_KEYS != _LAYER_KEYS for one in body["layers"]):
        raise ValueError(f"keys are {sorted(body)}, expected {sorted(_KEYS)}")
    layers = tuple(
        RecordedLayer(
            name=str(one["name"]),
            digest=str(one["digest"]),
            compressed_bytes=int(one["compressed_bytes"]),
            disk_bytes=int(one["disk_bytes"]) if "disk_bytes" in one else None,
        )
        for one in body["layers"]
    )
    found = Expected(
        digest=str(body["digest"]),
        config=str(body["config"]),
        plan_digest=str(body["plan_digest"]),
        engine=str(body["engine"]),
        layers=layers,
        trimmed_bytes=int(body["trimmed_bytes"]) if "trimmed_bytes" in body else None,
    )
    if found.compressed_bytes != body["compressed_bytes"]:
        raise ValueError(f"its layers have {found.compressed_bytes} bytes, not {body['compressed_bytes']}")
    return found


def record_json(tag: str, bases: Mapping[str, Expected]) -> str:
    """The file of a row's records: JSON, one layer a line."""
    blocks = [f"    {json.dumps(base)}: {_block(one)}" for base, one in sorted(bases.items())]
    inner = ",\n".join(blocks)
    return f'{{\n  "schema": {_SCHEMA},\n  "tag": {json.dumps(tag)},\n  "bases": {{\n{inner}\n  }}\n}}\n'


def _block(one: Expected) -> str:
    facts = {
        "digest": one.digest,
        "config": one.config,
        "plan_digest": one.plan_digest,
        "engine": one.engine,
        "compressed_bytes": one.compressed_bytes,
        **({} if one.trimmed_bytes is None else {"trimmed_bytes": one.trimmed_bytes}),
    }
    lines = [f"      {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items()]
    listed = ",\n".join(f"        {json.dumps(_layer_json(layer))}" for layer in one.layers)
    return "{\n" + ",\n".join(lines) + f',\n      "layers": [\n{listed}\n      ]\n    }}'


def _layer_json(layer: RecordedLayer) -> dict[str, str | int]:
    later: dict[str, int] = {} if layer.disk_bytes is None else {"disk_bytes": layer.disk_bytes}
    return {"name": layer.name, "digest": layer.digest, "compressed_bytes": layer.compressed_bytes, **later}
