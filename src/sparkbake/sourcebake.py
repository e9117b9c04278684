"""Write a plan of compiled images down as a file for `docker buildx bake`; `bake` does so for the wheels strategy."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkbake.bake import common_body, escape, export_of
from sparkbake.sourcemodel import SourceTarget
from sparkbake.sourceresolve import SourcePlan

# Which named context of a recipe takes the place of which image.
_BEGINS_WITH: Mapping[str, tuple[tuple[str, str], ...]] = {
    "pytorch-dev": (("cuda-devel", "cuda_devel"),),
    "pytorch": (("cuda-runtime", "cuda_runtime"),),
}


def source_bake_file(
    plan: SourcePlan,
    outputs: Mapping[str, str],
    present: Mapping[str, str],
    *,
    images: Mapping[str, str],
    compression: str = "zstd",
    network: str | None = None,
    caches: Mapping[str, Mapping[str, list[str]]] | None = None,
    wheels: Mapping[str, Path] | None = None,
) -> str:
    """The bake file of a plan, as JSON; targets that are there already are not in it.

    Args:
        outputs: target name to its output, as `docker buildx build --output` takes it, without compression settings.
        present: name of a target that need not be built to the image that takes its place, by digest:
            "docker-image://registry.example/name@sha256:...".
        images: "host/name:tag" of an image that a build begins with to the context that takes its place.
        compression: of all layers, as `bake_file` has it.
        network: of the steps that fetch, "host"; None for BuildKit's own. Those that compile have none, as they say.
        caches: target name to what `buildcache.cache_bodies` says of it.
        wheels: name of a target to the folder that gets what was compiled for it.
    """
    export = export_of(compression)
    made = {one.name: source_body(one, present, images) for one in plan.targets if one.name not in present}
    more = {"network": network} if network else {}
    bodies = {
        name: {**one, **more, **(caches or {}).get(name, {}), "output": [f"{outputs[name]},{export}"]}
        for name, one in made.items()
    }
    bodies |= {f"wheels-{name}": _wheels_body(bodies[name], folder) for name, folder in (wheels or {}).items()}
    body = {"group": {"default": {"targets": list(bodies)}}, "target": bodies}
    return escape(json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False)) + "\n"


def _wheels_body(body: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Of a target what bake is told to give its wheels: the same steps, and no image. The image writes the cache."""
    kept = {key: value for key, value in body.items() if key not in ("tags", "labels", "annotations", "cache-to")}
    return {**kept, "target": "wheels", "output": [f"type=local,dest={folder}"]}


def source_body(target: SourceTarget, present: Mapping[str, str], images: Mapping[str, str]) -> dict[str, Any]:
    """What bake is told of a target, all but its output; see `source_bake_file`."""
    contexts = {context: present.get(name, f"target:{name}") for context, name in target.parents}
    for context, reference in _BEGINS_WITH.get(target.recipe, ()):
        asked = str(getattr(target, reference)).partition("@")[0]
        if asked in images:
            contexts[context] = images[asked]
    return {**common_body(target), **({"contexts": contexts} if contexts else {})}
