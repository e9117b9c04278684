"""Claims about the provenance of an image: what SLSA asks for, from what BuildKit really said of a build."""

import copy
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from tests.builders import make_plan
from tests.saidbuilder import BUILT

from sparkbake.bake import target_body
from sparkbake.slsa import Builder, inputs_of, provenance_of

NAME = "spark-vllm-0_20_2-t4"
PLAN_DIGEST = "sha256:" + 64 * "7"
(TARGET,) = make_plan("0.20.2-t4").targets
HAND = Builder(id="https://example.com/project#built-by-hand")
CI = Builder(
    id="https://git.example/o/r/.w/publish.yml@refs/heads/main",
    invocation="https://git.example/o/r/actions/runs/7/attempts/1",
    repository="https://git.example/o/r@refs/heads/main",
    commit=40 * "c",
)

# The fields, their types, and what must be there: https://slsa.dev/spec/v1.0/provenance, and ResourceDescriptor of
# https://github.com/in-toto/attestation/blob/main/spec/v1/resource_descriptor.md.
URI = {"type": "string", "pattern": r"^[a-z][a-z0-9+.-]*:\S+$"}
TIME = {"type": "string", "format": "date-time", "pattern": "Z$"}
RESOURCE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "uri": URI,
        "digest": {"type": "object", "minProperties": 1, "additionalProperties": {"pattern": "^[0-9a-f]{40,64}$"}},
        "annotations": {"type": "object"},
    },
    "additionalProperties": False,
    "anyOf": [{"required": ["uri"]}, {"required": ["digest"]}],
}
DEFINITION = {
    "type": "object",
    "properties": {
        "buildType": URI,
        "externalParameters": {"type": "object", "minProperties": 1},
        "internalParameters": {"type": "object"},
        "resolvedDependencies": {"type": "array", "items": RESOURCE},
    },
    "required": ["buildType", "externalParameters"],
    "additionalProperties": False,
}
RUN = {
    "type": "object",
    "properties": {
        "builder": {"type": "object", "properties": {"id": URI}, "required": ["id"], "additionalProperties": False},
        "metadata": {
            "type": "object",
            "properties": {"invocationId": {"type": "string"}, "startedOn": TIME, "finishedOn": TIME},
            "additionalProperties": False,
        },
    },
    "required": ["builder"],
    "additionalProperties": False,
}
SLSA = Draft202012Validator(
    {
        "type": "object",
        "properties": {"buildDefinition": DEFINITION, "runDetails": RUN},
        "required": ["buildDefinition", "runDetails"],
        "additionalProperties": False,
    },
    format_checker=FormatChecker(),
)


def made(builder: Builder = HAND, built: dict[str, Any] = BUILT) -> dict[str, Any]:
    return provenance_of(built, target_body(TARGET), inputs_of(TARGET, PLAN_DIGEST), builder=builder)


def dependencies(predicate: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Name, or address of what has none, to digest."""
    return {
        one.get("name") or one["uri"]: one["digest"] for one in predicate["buildDefinition"]["resolvedDependencies"]
    }


@pytest.mark.parametrize("builder", [HAND, CI])
def test_it_has_the_fields_of_the_specification(builder: Builder) -> None:
    SLSA.validate(json.loads(json.dumps(made(builder))))


def test_that_schema_would_notice() -> None:
    for part in ("buildDefinition", "runDetails"):
        spoilt = copy.deepcopy(made())
        del spoilt[part][{"buildDefinition": "buildType", "runDetails": "builder"}[part]]
        assert not SLSA.is_valid(spoilt)
    spoilt = copy.deepcopy(made())
    spoilt["runDetails"]["builder"]["id"] = ""
    assert not SLSA.is_valid(spoilt)


def test_what_buildkit_says_stays() -> None:
    predicate = made()
    definition, run = predicate["buildDefinition"], predicate["runDetails"]
    assert definition["externalParameters"]["configSource"] == {"path": "Dockerfile"}
    assert definition["externalParameters"]["request"]["frontend"] == "dockerfile.v0"
    assert definition["externalParameters"]["request"]["secrets"] == [{"id": "ca", "optional": True}]
    assert definition["internalParameters"]["builderPlatform"] == "linux/amd64"
    assert len(definition["internalParameters"]["buildConfig"]["llbDefinition"]) == 6
    assert run["metadata"]["invocationId"] == BUILT["metadata"]["buildInvocationID"]
    assert run["metadata"]["startedOn"] == BUILT["metadata"]["buildStartedOn"] < run["metadata"]["finishedOn"]
    (material,) = BUILT["materials"]
    assert dependencies(predicate)[material["uri"]] == material["digest"]


def test_every_input_of_the_lock_is_there_by_hash() -> None:
    found = dependencies(made())
    wheels = (*TARGET.environment.wheels, *TARGET.installer)
    assert {one.file: found[one.file]["sha256"] for one in wheels} == {one.file: one.sha256 for one in wheels}
    assert found["plan"] == {"sha256": 64 * "7"}
    assert found["base"] == {"sha256": TARGET.base_digest.removeprefix("sha256:")}
    lock = dict(TARGET.labels)["dev.example.lock_digest"]
    assert found["lock"] == {"sha256": lock.removeprefix("sha256:")}
    hashes = [str(one["digest"]) for one in made()["buildDefinition"]["resolvedDependencies"]]
    assert len(hashes) == len(set(hashes))


def test_a_package_is_named_as_bills_of_materials_name_it() -> None:
    uris = [one.get("uri", "") for one in made()["buildDefinition"]["resolvedDependencies"]]
    torch = next(one for one in TARGET.environment.wheels if one.name == "torch")
    assert f"pkg:pypi/torch@{torch.version}?file_name={torch.file}" in uris


def test_no_password_and_no_address_of_a_proxy_is_in_it() -> None:
    """BuildKit has them twice: among the arguments, and with each step."""
    assert json.dumps(BUILT).count("geheim") == 2
    text = json.dumps(made())
    assert "geheim" not in text
    assert "PROXY" not in text.upper()
    assert set(made()["buildDefinition"]["externalParameters"]["request"]["args"]) == {
        "build-arg:FILE_EPOCH", "build-arg:SOURCE_DATE_EPOCH", "label:org.opencontainers.image.version", "target",
    }  # fmt: skip


def test_nothing_of_the_machine_is_in_it() -> None:
    assert "cpuStat" in json.dumps(BUILT)
    assert "cpuStat" not in json.dumps(made())


def test_a_workflow_says_which_run_and_which_commit() -> None:
    predicate = made(CI)
    assert predicate["runDetails"]["builder"] == {"id": CI.id}
    assert predicate["runDetails"]["metadata"]["invocationId"] == CI.invocation
    assert dependencies(predicate)["checkout"] == {"gitCommit": CI.commit}
    assert "checkout" not in dependencies(made(HAND))
