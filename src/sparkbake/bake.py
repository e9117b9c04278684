"""Write a plan down as a file for `docker buildx bake`.

https://docs.docker.com/build/bake/reference/
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from sparkbake.model import Pairs, Plan, Target

# force-compression: the layers of the base, too. No rewrite-timestamp: it packs every layer a second time; the recipes
# set all file times themselves. What each way costs: benchmarks/export_cost.py.
_EXPORT = "oci-mediatypes=true,compression={},force-compression=true"
# Stages of the recipes that named contexts take the place of.
_BASE_STAGES = ("base", "builder-base")
COMPRESSIONS: Mapping[str, str] = {"zstd": "zstd,compression-level=3", "gzip": "gzip,compression-level=6"}

# The time of every file in every layer of ours, in all rows: with that of the row, releases would share no layer.
# After 1980 in every time zone, since zip files begin there and users pack files of the image into wheels.
FILE_EPOCH = 499162500  # 1985-10-26 08:15 UTC, as npm has it in its packages for the same reason


def bake_file(
    plan: Plan,
    outputs: Mapping[str, str],
    bases: Mapping[str, str],
    *,
    compression: str = "zstd",
    network: str | None = None,
) -> str:
    """The bake file of a plan, as JSON.

    Args:
        outputs: target name to its output, as `docker buildx build --output` takes it, without compression settings.
        bases: base name to the context that takes its place ("oci-layout://DIR@sha256:..."); a base that is not in
            it comes from the registry, as the Dockerfile says.
        compression: of all layers, a key of COMPRESSIONS.
        network: of the steps, "host"; None for BuildKit's own.
    """
    export = export_of(compression)
    body = {
        "group": {"default": {"targets": [one.name for one in plan.targets]}},
        "target": {
            one.name: {
                **target_body(one),
                "output": [f"{outputs[one.name]},{export}"],
                **({"contexts": dict.fromkeys(_BASE_STAGES, bases[one.base.name])} if one.base.name in bases else {}),
                **({"network": network} if network else {}),
            }
            for one in plan.targets
        },
    }
    return escape(json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False)) + "\n"


def export_of(compression: str) -> str:
    """Settings of every output.

    Args:
        compression: of all layers, a key of COMPRESSIONS.
    """
    return _EXPORT.format(COMPRESSIONS[compression])


class Buildable(Protocol):
    """What targets of both strategies have for bake."""

    @property
    def name(self) -> str: ...
    @property
    def platform(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def source_date_epoch(self) -> int: ...
    @property
    def apt_snapshot(self) -> str | None: ...
    @property
    def labels(self) -> Pairs: ...


def common_body(target: Buildable) -> dict[str, Any]:
    """What bake is told of a target of either strategy, wherever it is built: all but its output and its contexts."""
    return {
        "context": f"build/{target.name}",
        "dockerfile": "Dockerfile",
        "target": "image",
        "platforms": [target.platform],
        "tags": [target.reference],
        "args": {
            # BuildKit's own: what "created" says in the config and its history.
            "SOURCE_DATE_EPOCH": str(target.source_date_epoch),
            "FILE_EPOCH": str(FILE_EPOCH),
            "APT_SNAPSHOT": target.apt_snapshot or "",
        },
        "labels": dict(target.labels),
        "annotations": [f"manifest:{key}={value}" for key, value in target.labels if key.startswith("org.")],
        # Attestations hold times and are added where an image is published.
        "attest": ["type=provenance,disabled=true", "type=sbom,disabled=true"],
    }


def target_body(target: Target) -> dict[str, Any]:
    """What bake is told of a target that is installed from wheels; what takes the place of its base is not in it."""
    body = common_body(target)
    return {**body, "args": {**body["args"], "PYTHON_PLATFORM": python_platform(target)}}


def python_platform(target: Target) -> str:
    """The target as uv names it, "aarch64-manylinux_2_39"."""
    machine = {"linux/arm64": "aarch64", "linux/amd64": "x86_64"}[target.platform]
    return f"{machine}-{target.base.manylinux}"


def escape(text: str) -> str:
    """Keep bake from expanding `${...}` and `%{...}`, which it does inside JSON strings too."""
    return text.replace("${", "$${").replace("%{", "%%{")
