"""Claims about what an image says of itself: the plan it was built from, and a digest of all of it."""

import json
from dataclasses import replace

from tests.builders import make_plan

from sparkbake.manifest import manifest_json, plan_digest
from sparkbake.model import Target

CONTEXT = {"Dockerfile": "FROM scratch\n", "layers.json": "{}\n"}


def make_target() -> Target:
    (target,) = make_plan("0.20.2-t4").targets
    return target


def test_a_manifest_has_what_the_image_is_made_of() -> None:
    target = make_target()
    body = json.loads(manifest_json(target, CONTEXT))
    assert body["schema"] == 1
    assert body["labels"] == dict(target.labels)
    assert body["layers"] == {one.name: [wheel.name for wheel in one.wheels] for one in target.layers}
    assert body["trims"] == [{"package": "torch", "paths": ["torch/lib/*.a"], "cubins": False}]
    assert (body["patches"], body["moe_configs"]) == ([], [])


def test_the_wording_of_a_reason_changes_no_image() -> None:
    target = make_target()
    reworded = replace(target, trims=tuple(replace(one, reason="other words") for one in target.trims))
    assert manifest_json(reworded, CONTEXT) == manifest_json(target, CONTEXT)


def test_the_plan_digest_is_of_all_that_decides_an_image() -> None:
    target = make_target()
    same = plan_digest(target, CONTEXT)
    assert plan_digest(target, dict(reversed(CONTEXT.items()))) == same
    assert plan_digest(target, {**CONTEXT, "Dockerfile": "FROM other\n"}) != same
    assert plan_digest(replace(target, source_date_epoch=1), CONTEXT) != same
    assert plan_digest(replace(target, labels=(("a", "b"),)), CONTEXT) != same


def test_the_digest_in_a_manifest_covers_the_rest_of_it() -> None:
    target = make_target()
    body = json.loads(manifest_json(target, CONTEXT))
    digest = body.pop("plan_digest")
    rest = json.dumps(body, indent=1, sort_keys=True) + "\n"
    assert digest == plan_digest(target, {**CONTEXT, "manifest.json": rest})
    assert digest != plan_digest(target, CONTEXT)
