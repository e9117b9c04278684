"""Say what a compiled image was built from, for its provenance; `slsa` says it of images that come from wheels."""

from collections.abc import Iterator, Mapping
from typing import Any

from sparkbake.labels import OCI
from sparkbake.lockfile import sha256_of
from sparkbake.model import Wheel
from sparkbake.slsa import named, of_wheels, planned_inputs
from sparkbake.sourceimage import CompiledImage
from sparkbake.sourcemodel import GitSource


def compiled_inputs(image: CompiledImage, plan_digest: str, digests: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a compiled image is built from, with all that is in the images that it is made from.

    Args:
        plan_digest: see `looks.plan_digest_of`.
        digests: target name to the digest of its image, of those that it is made from. Of one that was in a registry
            it may be that of an index.
    """
    target, labels = image.target, dict(image.target.labels)
    return [
        *planned_inputs(target.tag, target.labels, plan_digest),
        named("base", labels[OCI + "base.digest"], labels[OCI + "base.name"]),
        *(named(name, digests[name], f"image, as the recipe's context {context}") for context, name in target.parents),
        *(_of_source(one) for one in image.sources),
        *(named(f"patches/{one.name}", sha256_of(one.text.encode()), "of vLLM") for one in target.patches),
        *of_wheels(_wheels(image)),
    ]


def _of_source(source: GitSource) -> dict[str, Any]:
    asked = f"@refs/tags/{source.tag}" if source.tag else ""
    return {
        "name": source.name,
        "uri": f"git+{source.repository}{asked}",
        "digest": {"gitCommit": source.commit},
    }


def _wheels(image: CompiledImage) -> Iterator[Wheel]:
    """What it has installed, and what builds needed."""
    yield from image.target.installer
    yield from image.wheels
    for _component, some in image.target.build_requirements:
        yield from some
