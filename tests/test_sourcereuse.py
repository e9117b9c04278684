"""Claims about foundations that are there already: which are taken, and which are built anew."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest
from tests.compiledbuilder import make_foundation_lock
from tests.test_sourceresolve import make_plan, target

from sparkbake import process, sourcereuse
from sparkbake.errors import ProcessError
from sparkbake.model import ContextFile, LocalImage
from sparkbake.sourcelock import digest_of
from sparkbake.sourceresolve import SourcePlan
from sparkbake.sourcereuse import find, present, sealed

PREFIX = "dev.example"
LOCK, CONTEXT = f"{PREFIX}.lock_digest", f"{PREFIX}.context_digest"


def seal(plan: SourcePlan, changed: str = "", *, path: str = "Dockerfile") -> SourcePlan:
    """A sealed plan; of the target whose name contains `changed` one file has other content."""
    files = {}
    for one in plan.targets:
        texts = {"Dockerfile": "FROM scratch\n", "manifest.json": "{}\n"}
        texts |= {path: "another\n"} if changed and changed in one.name else {}
        files[one.name] = [ContextFile(path=PurePosixPath(name), content=text) for name, text in texts.items()]
    return sealed(plan, files, PREFIX)


PLAN = seal(make_plan())
DEV = target(PLAN, "pytorch-dev")
WANTED = digest_of(make_foundation_lock())
BUILT_FROM = dict(DEV.labels)[CONTEXT]


def context_digests(plan: SourcePlan) -> list[str]:
    return [dict(one.labels)[CONTEXT] for one in plan.targets]


# ---- what an image is built from


def test_what_an_image_is_built_from_is_a_label_beside_its_lock() -> None:
    assert all(len(one) == len("sha256:") + 64 for one in context_digests(PLAN))
    assert dict(DEV.labels)[LOCK] == WANTED
    assert DEV.labels == tuple(sorted(DEV.labels))
    assert context_digests(seal(make_plan())) == context_digests(PLAN)


def test_another_recipe_is_another_image_and_so_is_all_that_is_made_from_it() -> None:
    before, after = context_digests(PLAN), context_digests(seal(make_plan(), "pytorch-dev"))
    assert all(old != new for old, new in zip(before, after, strict=True))
    after = context_digests(seal(make_plan(), "vllm"))
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False]


def test_another_archive_snapshot_is_another_image() -> None:
    plan = make_plan()
    other = replace(plan, targets=tuple(replace(one, apt_snapshot="20270101T000000Z") for one in plan.targets))
    assert context_digests(seal(other))[0] != BUILT_FROM


def test_another_wording_of_a_label_is_not() -> None:
    assert context_digests(seal(make_plan(), "pytorch-dev", path="manifest.json")) == context_digests(PLAN)


# ---- what is reused


def has(monkeypatch: pytest.MonkeyPatch, local: LocalImage | None, registry: dict[str, Any] | None) -> list[list[str]]:
    """What engine and registry have; what the registry was asked."""
    asked: list[list[str]] = []

    def run(argv: Sequence[str], **_named: object) -> str:
        asked.append(list(argv))
        if registry is None:
            raise ProcessError("docker buildx imagetools: not found")
        return json.dumps(registry)

    monkeypatch.setattr(sourcereuse, "local_image", lambda _reference: local)
    monkeypatch.setattr(process, "run", run)
    return asked


def image(lock: str, context: str = BUILT_FROM) -> LocalImage:
    labels = ((LOCK, lock), (CONTEXT, context))
    return LocalImage(digest="sha256:" + 64 * "6", labels=labels, architecture="arm64", size_bytes=1)


def test_a_base_of_the_same_lock_in_the_engine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = has(monkeypatch, image(WANTED), None)
    assert find(DEV, PREFIX) == f"docker-image://{DEV.reference}@sha256:{64 * '6'}"
    assert asked == []


@pytest.mark.parametrize("of_one_platform", [True, False])
def test_a_base_of_the_same_lock_in_the_registry_is_taken(
    monkeypatch: pytest.MonkeyPatch,
    of_one_platform: bool,  # noqa: FBT001
) -> None:
    config = {"config": {"Labels": {LOCK: WANTED, CONTEXT: BUILT_FROM}}}
    told = config if of_one_platform else {"linux/arm64": config}
    body = {"manifest": {"digest": "sha256:" + 64 * "7"}, "image": told}
    has(monkeypatch, image("sha256:other"), body)
    assert find(DEV, PREFIX) == f"docker-image://{DEV.reference}@sha256:{64 * '7'}"


def test_a_base_of_another_lock_is_built_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {
        "manifest": {"digest": "sha256:" + 64 * "7"},
        "image": {"config": {"Labels": {LOCK: WANTED, CONTEXT: "sha256:other"}}},
    }
    has(monkeypatch, image("sha256:other"), body)
    assert find(DEV, PREFIX) is None
    has(monkeypatch, None, {"manifest": {"digest": "sha256:" + 64 * "7"}, "image": {"config": {}}})
    assert find(DEV, PREFIX) is None
    assert "what the registry has was made from something else; it is built" in capsys.readouterr().err


def test_a_base_of_the_same_lock_by_another_recipe_is_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, image(WANTED, "sha256:other"), None)
    assert find(DEV, PREFIX) is None


def test_a_builder_in_a_container_of_its_own_takes_only_what_a_registry_has(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, image(WANTED), None)
    assert find(DEV, PREFIX, in_engine=False) is None


def test_one_that_is_made_from_another_is_taken_together_with_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else torch would be compiled anew for vLLM, and the image had the one of before."""
    there = {one.reference: dict(one.labels) for one in PLAN.targets}

    def local(reference: str) -> LocalImage | None:
        labels = there.get(reference)
        return replace(image(WANTED), labels=tuple(labels.items())) if labels else None

    has(monkeypatch, None, None)
    monkeypatch.setattr(sourcereuse, "local_image", local)
    assert list(present(PLAN, PREFIX, in_engine=True)) == list(PLAN.reusable)
    del there[DEV.reference]
    assert present(PLAN, PREFIX, in_engine=True) == {}


def test_a_registry_that_does_not_answer_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    has(monkeypatch, None, None)
    assert find(DEV, PREFIX) is None
    assert f"{DEV.reference}: not in the registry, or that does not answer; it is built" in capsys.readouterr().err
