"""Write a plan down as a file for `docker buildx bake`.

https://docs.docker.com/build/bake/reference/
"""

import json
from collections.abc import Mapping
from typing import Any

from sparkbake.model import Plan, Target

# zstd: with gzip the export took three quarters of a whole build. force-compression: the layers of the base, too.
# No rewrite-timestamp: it packs every layer a second time; the recipes set all file times themselves.
_EXPORT = "oci-mediatypes=true,compression=zstd,compression-level=3,force-compression=true"


def bake_file(plan: Plan, outputs: Mapping[str, str], bases: Mapping[str, str]) -> str:
    """The bake file of a plan, as JSON.

    Args:
        outputs: target name to its output, as `docker buildx build --output` takes it, without compression settings.
        bases: base name to the context that takes its place ("oci-layout://DIR@sha256:..."); a base that is not in
            it comes from the registry, as the Dockerfile says.
    """
    body = {
        "group": {"default": {"targets": [one.name for one in plan.targets]}},
        "target": {one.name: _target(one, outputs[one.name], bases.get(one.base.name)) for one in plan.targets},
    }
    return escape(json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False)) + "\n"


def _target(target: Target, output: str, base: str | None) -> dict[str, Any]:
    labels = dict(target.labels)
    body: dict[str, Any] = {
        "context": f"build/{target.name}",
        "dockerfile": "Dockerfile",
        "target": "image",
        "platforms": [target.platform],
        "tags": [target.reference],
        "args": {
            "SOURCE_DATE_EPOCH": str(target.source_date_epoch),
            "APT_SNAPSHOT": target.apt_snapshot or "",
            "PYTHON_PLATFORM": python_platform(target),
        },
        "labels": labels,
        "annotations": [f"manifest:{key}={value}" for key, value in target.labels if key.startswith("org.")],
        "output": [f"{output},{_EXPORT}"],
        # Attestations hold times and are added where an image is published.
        "attest": ["type=provenance,disabled=true", "type=sbom,disabled=true"],
    }
    if base is not None:
        body["contexts"] = {"base": base, "builder-base": base}
    return body


def python_platform(target: Target) -> str:
    """The target as uv names it, "aarch64-manylinux_2_39"."""
    machine = {"linux/arm64": "aarch64", "linux/amd64": "x86_64"}[target.platform]
    return f"{machine}-{target.base.manylinux}"


def escape(text: str) -> str:
    """Keep bake from expanding `${...}` and `%{...}`, which it does inside JSON strings too."""
    return text.replace("${", "$${").replace("%{", "%%{")
