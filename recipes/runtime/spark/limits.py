"""Refuse a model that the vLLM of this image cannot run, with the reason that its build wrote down.

Left to vLLM it would end minutes later, with a message about an architecture.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spark.say import SparkError
from spark.serve import from_file, option_of

NEEDS = Path(__file__).resolve().parents[1] / "needs.json"


def check_model(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Refuse the model of a `vllm serve` by its config.json, or by its name where it is not here yet.

    What the build wrote down has `limits` where there are any: of each model `model` (a name as people say it),
    `architectures`, `model_types` and `reason`.

    Raises:
        SparkError: the model is one of these.
    """
    limits = json.loads(NEEDS.read_text(encoding="utf-8")).get("limits", [])
    model = next((one for one in command[2:3] if not one.startswith("-")), "") or from_file(command, "model") or ""
    if not limits or not model:
        return
    configs = list(_configs(model, option_of(command, "--revision"), environment))
    for limit in limits:
        if any(_is_of(config, limit) for config in configs) or (not configs and _is_named(model, limit["model"])):
            raise SparkError(f"serve: {model}: {limit['model']} cannot run, since {limit['reason']}")


def _is_of(config: Mapping[str, Any], limit: Mapping[str, Any]) -> bool:
    architectures = config.get("architectures") or ()
    return config.get("model_type") in limit["model_types"] or any(
        one in limit["architectures"] for one in architectures
    )


def _is_named(model: str, name: str) -> bool:
    """Whether a model is called so, as quantised copies of others are, too: "someone/GLM-4.7-Flash-NVFP4"."""
    return name.casefold() in model.rstrip("/").rpartition("/")[2].casefold()


def _configs(model: str, revision: str | None, environment: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """What config.json says of a model in a folder, or of those of its snapshots in the cache that may be meant."""
    from sparkbake.hostfacts import huggingface_home  # noqa: PLC0415  (only where an image has limits)

    place = environment.get("HF_HUB_CACHE")
    hub = Path(place) if place else huggingface_home(environment) / "hub"
    snapshots = hub / f"models--{model.replace('/', '--')}" / "snapshots"
    found = [Path(model) / "config.json", *sorted(snapshots.glob("*/config.json"))]
    if revision and any(one.parent.name == revision for one in found):
        found = [one for one in found if one.parent.name == revision]
    for path in found:
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(config, dict):
            yield config
