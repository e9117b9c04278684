"""Turn what BuildKit says of a build into SLSA provenance, and add what the lock knows of its inputs.

Spec: https://slsa.dev/spec/v1.0/provenance. BuildKit writes v0.2 into bake's metadata; the keys go over as its
document on SLSA definitions maps them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkbake.bill import purl
from sparkbake.model import Pairs, Target, Wheel

# How BuildKit names what its builds are described by.
BUILD_TYPE = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"

# What BuildKit says of proxies, of a step and among the arguments: an address of one may hold a password.
_OF_PROXIES = re.compile(r"proxy_env|build-arg:\w*_proxy", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Builder:
    """Who let a build run.

    Attributes:
        id: an address; whoever trusts a build trusts what is behind it.
        invocation: address of this run of it; None where there is none.
        repository: of the checkout, "https://...@refs/heads/main"; None where it is not known for sure.
        commit: of the checkout, 40 hex digits; None likewise.
    """

    id: str
    invocation: str | None = None
    repository: str | None = None
    commit: str | None = None


def provenance_of(
    built: Mapping[str, Any], asked: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]], *, builder: Builder
) -> dict[str, Any]:
    """The predicate of a build.

    Args:
        built: what bake's metadata has under buildx.build.provenance.
        asked: what bake was told of the target; see `bake.target_body`.
        inputs: what the plan knows that it was built from; see `inputs_of`, of a compiled image `sourceslsa`.
    """
    metadata = built.get("metadata") or {}
    environment = (built.get("invocation") or {}).get("environment") or {}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": _external(built.get("invocation") or {}, asked),
            "internalParameters": {
                "builderPlatform": environment.get("platform"),
                "buildConfig": without_proxies(built.get("buildConfig")),
            },
            "resolvedDependencies": [*_materials(built), *_checkout(builder), *inputs],
        },
        "runDetails": {
            "builder": {"id": builder.id},
            "metadata": {
                "invocationId": builder.invocation or metadata.get("buildInvocationID"),
                "startedOn": metadata.get("buildStartedOn"),
                "finishedOn": metadata.get("buildFinishedOn"),
            },
        },
    }


def _external(invocation: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What whoever builds decides: of the arguments just those of the plan, and none that a machine adds (proxies)."""
    parameters = invocation.get("parameters") or {}
    names = ((kind, name) for kind, key in (("build-arg", "args"), ("label", "labels")) for name in asked[key])
    planned = {f"{kind}:{name}" for kind, name in names} | {"target"}
    given = parameters.get("args") or {}
    return {
        "configSource": {"path": (invocation.get("configSource") or {}).get("entryPoint")},
        "request": {
            "frontend": parameters.get("frontend"),
            "args": {name: value for name, value in given.items() if name in planned},
            "secrets": parameters.get("secrets") or [],
            "locals": parameters.get("locals") or [],
        },
    }


def without_proxies(value: object) -> object:
    """What BuildKit says, as JSON has it, without what it says of proxies."""
    if isinstance(value, Mapping):
        return {key: without_proxies(one) for key, one in value.items() if not _OF_PROXIES.fullmatch(key)}
    return [without_proxies(one) for one in value] if isinstance(value, list) else value


# ---- what it was built from


def _materials(built: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What BuildKit itself fetched."""
    return [{"uri": one["uri"], "digest": one["digest"]} for one in built.get("materials") or []]


def inputs_of(target: Target, plan_digest: str) -> list[dict[str, Any]]:
    """What a target that is installed from wheels is built from.

    Args:
        plan_digest: see `manifest.plan_digest`.
    """
    return [
        *planned_inputs(target.tag, target.labels, plan_digest),
        named("base", target.base_digest, target.base.name),
        *of_wheels((*target.installer, *target.environment.wheels)),
    ]


def planned_inputs(tag: str, labels: Pairs, plan_digest: str) -> list[dict[str, Any]]:
    """Plan and lock, as the images of either strategy have them."""
    lock = next(value for key, value in labels if key.endswith(".lock_digest"))
    return [
        named("plan", plan_digest, "all that this project decides of the image: Dockerfile, locked files, labels"),
        named("lock", lock, f"of {tag}, its keys sorted and without white space"),
    ]


def named(name: str, digest: str, of: str) -> dict[str, Any]:
    """An input that has a name here and no address.

    Args:
        digest: 'sha256:' + 64 hex.
        of: what it is, for people.
    """
    return {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}, "annotations": {"of": of}}


def _checkout(builder: Builder) -> list[dict[str, Any]]:
    if builder.repository is None or builder.commit is None:
        return []
    return [{"name": "checkout", "uri": f"git+{builder.repository}", "digest": {"gitCommit": builder.commit}}]


def of_wheels(wheels: Iterable[Wheel]) -> list[dict[str, Any]]:
    """All that may be fetched by hash; each file once."""
    found = {one.sha256: one for one in wheels}
    return [_of_wheel(one) for one in sorted(found.values(), key=lambda one: (one.name, one.file))]


def _of_wheel(wheel: Wheel) -> dict[str, Any]:
    uri = purl("pypi", wheel.name, wheel.version, file_name=wheel.file)
    return {"name": wheel.file, "uri": uri, "digest": {"sha256": wheel.sha256}}
