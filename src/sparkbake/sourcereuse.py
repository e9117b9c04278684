"""Know again a foundation that is there already: made from the same lock, by the same recipe, from the same parents."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from json import loads
from typing import Any

from sparkbake import process
from sparkbake.engine import local_image
from sparkbake.errors import ProcessError
from sparkbake.lockfile import canonical, sha256_of
from sparkbake.model import ContextFile
from sparkbake.sourcelabels import CONTEXT_DIGEST, LOCK_DIGEST
from sparkbake.sourcemodel import SourceTarget
from sparkbake.sourceresolve import SourcePlan
from sparkbake.tables import say

_ASK_TIMEOUT_S = 60
# Holds the labels: another wording of a description is no reason to compile anything anew.
_NOT_COUNTED = "manifest.json"


def sealed(plan: SourcePlan, files: Mapping[str, Sequence[ContextFile]], prefix: str) -> SourcePlan:
    """A plan whose targets say in a label what they are built from, beside their locks.

    A lock says nothing of recipes, patches, lists of architectures, or the archive snapshot: an image may have the same
    lock and be another.

    Args:
        files: target name to its build context.
        prefix: of the labels.
    """
    digests: dict[str, str] = {}
    for one in plan.targets:
        counted = [file for file in files[one.name] if str(file.path) != _NOT_COUNTED]
        body = {
            "context": {str(file.path): sha256_of(file.content.encode()) for file in counted},
            "apt_snapshot": one.apt_snapshot,
            "parents": {context: digests[name] for context, name in one.parents},
        }
        digests[one.name] = sha256_of(canonical(body))
    key = f"{prefix}.{CONTEXT_DIGEST}"
    targets = [replace(one, labels=tuple(sorted((*one.labels, (key, digests[one.name]))))) for one in plan.targets]
    return replace(plan, targets=tuple(targets))


def present(plan: SourcePlan, prefix: str, *, in_engine: bool) -> dict[str, str]:
    """Target name to the image that takes its place, of those that need not be built.

    One that is made from another takes its place only together with that: both have the same torch then.

    Args:
        plan: a sealed one.
        in_engine: whether the builder sees the engine's images; one in a container of its own does not.
    """
    found: dict[str, str] = {}
    for one in plan.targets:
        if one.name not in plan.reusable or any(name not in found for _context, name in one.parents):
            continue
        place = find(one, prefix, in_engine=in_engine)
        if place:
            say(f"{one.name}: is there already: {place}")
            found[one.name] = place
    return found


def find(target: SourceTarget, prefix: str, *, in_engine: bool = True) -> str | None:
    """An image that was made from the same, in the engine or the registry, as a context; None without one."""
    labels = dict(target.labels)
    wanted = {f"{prefix}.{name}": labels[f"{prefix}.{name}"] for name in (LOCK_DIGEST, CONTEXT_DIGEST)}
    image = local_image(target.reference) if in_engine else None
    if image and _has(dict(image.labels), wanted):
        return f"docker-image://{target.reference}@{image.digest}"
    digest = registry_digest(target, wanted)
    return f"docker-image://{target.reference}@{digest}" if digest else None


def registry_digest(target: SourceTarget, wanted: Mapping[str, str]) -> str | None:
    """Digest of what a registry has as a target's reference, if its labels say what is wanted; None otherwise."""
    try:
        told = process.run(
            ["docker", "buildx", "imagetools", "inspect", "--format", "{{json .}}", target.reference],
            timeout_s=_ASK_TIMEOUT_S,
        )
    except ProcessError:
        say(f"{target.reference}: not in the registry, or that does not answer; it is built")
        return None
    body = loads(told)
    if _has(_labels(body["image"], target.platform), wanted):
        return str(body["manifest"]["digest"])
    say(f"{target.reference}: what the registry has was made from something else; it is built")
    return None


def _has(labels: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def _labels(image: Mapping[str, Any], platform: str) -> Mapping[str, Any]:
    """The labels in what imagetools says of an image; of several platforms each stands under its name."""
    config = image.get(platform, image).get("config", {})
    return config.get("Labels") or {}
