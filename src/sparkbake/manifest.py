"""What an image says of itself in usr/share/sparkbake/manifest.json: the plan it was built from.

The layer that has it also has files.json, in which recipes/scripts/layout.py lists the files that no package carries.
"""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from sparkbake.bake import COMPRESSIONS, target_body
from sparkbake.lockfile import canonical, sha256_of
from sparkbake.model import Target

SCHEMA = 1
MANIFEST = "usr/share/sparkbake/manifest.json"
FILES = "usr/share/sparkbake/files.json"
_MOE_CONFIGS = "runtime/usr/share/sparkbake/moe_configs"


def manifest_json(target: Target, context: Mapping[str, str]) -> str:
    """The manifest of an image, as JSON.

    Args:
        context: path to content, of all else that is in the build context.
    """
    body = _body(target, context)
    digest = plan_digest(target, {**context, "manifest.json": _text(body)})
    return _text({**body, "plan_digest": digest})


def plan_digest(target: Target, context: Mapping[str, str]) -> str:
    """Digest of all that an image is built from and that this project decides, 'sha256:' + 64 hex."""
    digests = {path: sha256_of(content.encode()) for path, content in context.items()}
    return sha256_of(canonical({"context": digests, "bake": target_body(target), "packed": COMPRESSIONS["zstd"]}))


def _body(target: Target, context: Mapping[str, str]) -> dict[str, Any]:
    """All but the digest; without reasons, since wording is not what an image is built from."""
    return {
        "schema": SCHEMA,
        "reference": target.reference,
        "platform": target.platform,
        "labels": dict(target.labels),
        "layers": {one.name: [wheel.name for wheel in one.wheels] for one in target.layers},
        "trims": [{"package": one.package, "paths": list(one.paths), "cubins": one.cubins} for one in target.trims],
        # No row of the wheels strategy changes a source.
        "patches": [],
        "moe_configs": sorted(PurePosixPath(path).name for path in context if path.startswith(f"{_MOE_CONFIGS}/")),
    }


def _text(body: Mapping[str, Any]) -> str:
    return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
