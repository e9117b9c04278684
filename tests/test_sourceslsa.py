"""Claims about the provenance of compiled images: that every input is in it, and what each image was made from."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.compiledbuilder import COMMIT, FOUNDATION, MANIFEST, OTHER
from tests.compiledimages import DEV, RUNTIME, TAG, VLLM, image_of, make_compiled_checkout
from tests.saidbuilder import BUILT
from tests.test_slsa import HAND, PLAN_DIGEST, SLSA, dependencies
from tests.test_sourcebuild import begin

from sparkbake import sourcebuild
from sparkbake.bake import common_body
from sparkbake.buildx import BakeResult
from sparkbake.cli import main
from sparkbake.errors import BuildError
from sparkbake.labels import OCI
from sparkbake.lockfile import sha256_of
from sparkbake.looks import compiled_images, plan_digest_of
from sparkbake.project import Project
from sparkbake.provenance import provenance_path
from sparkbake.slsa import provenance_of
from sparkbake.sourceimage import CompiledImage
from sparkbake.sourcemodel import CompiledPatch
from sparkbake.sourceslsa import compiled_inputs

DIGESTS = {
    f"{name}-{tag}".replace(".", "_"): f"sha256:{64 * letter}"
    for name, tag, letter in ((DEV, FOUNDATION.name, "a"), (RUNTIME, FOUNDATION.name, "b"), (VLLM, TAG, "c"))
}
ON_DEV, ON_RUNTIME, OF_ROW = DIGESTS


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """For all tests of this module: nothing is written into it but by those that have their own."""
    return make_compiled_checkout(tmp_path_factory.mktemp("compiled"))


def made(image: CompiledImage) -> dict[str, Any]:
    inputs = compiled_inputs(image, PLAN_DIGEST, DIGESTS)
    return provenance_of(BUILT, common_body(image.target), inputs, builder=HAND)


@pytest.mark.parametrize("name", [DEV, RUNTIME, VLLM])
def test_it_has_the_fields_of_the_specification(project: Project, name: str) -> None:
    predicate = json.loads(json.dumps(made(image_of(project, name))))
    SLSA.validate(predicate)
    named = [one["name"] for one in predicate["buildDefinition"]["resolvedDependencies"] if "name" in one]
    assert len(named) == len(set(named))


def test_an_image_of_vllm_names_all_that_was_compiled_with_its_commit(project: Project) -> None:
    found = dependencies(made(image_of(project)))
    commits = {name: digest["gitCommit"] for name, digest in found.items() if "gitCommit" in digest}
    assert commits == {
        **dict.fromkeys(("nccl", "nccl-tests", "torch", "torchvision", "torchaudio", "triton", "cutlass"), COMMIT),
        "llvm": OTHER,
        "vllm": OTHER,
    }
    uris = [one.get("uri") for one in made(image_of(project))["buildDefinition"]["resolvedDependencies"]]
    assert {"git+https://example.com/torch@refs/tags/v2.10.0", "git+https://example.com/llvm"} <= set(uris)


def test_it_names_the_images_that_it_was_made_from_by_digest(project: Project) -> None:
    found = {name: dependencies(made(image_of(project, name))) for name in (DEV, RUNTIME, VLLM)}
    hashes = {name: digest.removeprefix("sha256:") for name, digest in DIGESTS.items()}
    assert {name: one for name, one in found[VLLM].items() if name in DIGESTS} == {
        ON_DEV: {"sha256": hashes[ON_DEV]},
        ON_RUNTIME: {"sha256": hashes[ON_RUNTIME]},
    }
    assert [name for name in found[RUNTIME] if name in DIGESTS] == [ON_DEV]
    assert not set(found[DEV]) & set(DIGESTS)


def test_it_has_plan_lock_base_wheels_and_patches_by_hash(project: Project) -> None:
    image = image_of(project)
    text = "--- a/x\n+++ b/x\n"
    patch = CompiledPatch(name="0001-x.patch", text=text, checks=())
    found = dependencies(made(replace(image, target=replace(image.target, patches=(patch,)))))
    assert found["plan"] == {"sha256": PLAN_DIGEST.removeprefix("sha256:")}
    lock = dict(image.target.labels)["dev.example.lock_digest"]
    assert found["lock"] == {"sha256": lock.removeprefix("sha256:")}
    assert found["base"] == {"sha256": MANIFEST.removeprefix("sha256:")}
    assert found["patches/0001-x.patch"] == {"sha256": sha256_of(text.encode()).removeprefix("sha256:")}
    built_with = [one for _component, some in image.target.build_requirements for one in some]
    wheels = {one.file: {"sha256": one.sha256} for one in (*image.wheels, *built_with, *image.target.installer)}
    assert {one.name for one in (*image.wheels, *built_with, *image.target.installer)} >= {"numpy", "cmake", "uv"}
    assert {file: found[file] for file in wheels} == wheels


# ---- what a build keeps


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str], Mapping[str, str]], Project]:
    """Run `build` with a BuildKit that gives some digests; what is there already is not asked of it."""
    project = make_compiled_checkout(tmp_path / "checkout")
    begin(monkeypatch, cached_bytes=0, free_bytes=10**13)

    def run(digests: Mapping[str, str], present: Mapping[str, str]) -> Project:
        places = {name: f"docker-image://registry.example/{name}@{digest}" for name, digest in present.items()}

        asked: list[str] = []

        def bake(*_args: Any, targets: Sequence[str], **_rest: Any) -> BakeResult:
            asked.extend(targets)
            given = {name: digests[name] for name in targets}
            return BakeResult(digests=given, executed=(), provenance=dict.fromkeys(targets, BUILT))

        monkeypatch.setattr(sourcebuild, "bake", bake)
        monkeypatch.setattr(sourcebuild, "default_builder", lambda: "default")
        monkeypatch.setattr(sourcebuild, "reusable", lambda _plan, _prefix, **_named: places)
        assert main(["--root", str(project.root), "build", TAG, "--no-verify"]) == 0
        assert sorted(asked) == sorted(set(DIGESTS) - set(present))
        return project

    return run


def test_a_build_keeps_it_of_what_it_built_and_a_foundation_that_was_there_has_its_own(
    build: Callable[[Mapping[str, str], Mapping[str, str]], Project],
) -> None:
    project = build(DIGESTS, {})
    before = {name: provenance_path(project, name).read_bytes() for name in DIGESTS}
    other = f"sha256:{64 * 'd'}"
    build({OF_ROW: other}, {name: DIGESTS[name] for name in (ON_DEV, ON_RUNTIME)})
    after = {name: provenance_path(project, name).read_bytes() for name in DIGESTS}
    assert [name for name in DIGESTS if after[name] != before[name]] == [OF_ROW]
    body = json.loads(after[OF_ROW])
    (image,) = (one for one in compiled_images(project, project.select([TAG])) if one.target.name == OF_ROW)
    assert (body["digest"], body["plan_digest"]) == (other, plan_digest_of(project, image))
    SLSA.validate(body["predicate"])
    found = dependencies(body["predicate"])
    for name in (ON_DEV, ON_RUNTIME):
        assert found[name] == {"sha256": DIGESTS[name].removeprefix("sha256:")}
    assert f"label:{OCI}version" in body["predicate"]["buildDefinition"]["externalParameters"]["request"]["args"]


def test_a_foundation_has_its_own_although_the_row_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next build finds it, and never builds it again."""
    project = make_compiled_checkout(tmp_path / "checkout")
    begin(monkeypatch, cached_bytes=0, free_bytes=10**13)

    def bake(*_args: Any, targets: Sequence[str], **_rest: Any) -> BakeResult:
        if OF_ROW in targets:
            raise BuildError("vLLM does not compile")
        return BakeResult(
            digests={name: DIGESTS[name] for name in targets}, executed=(), provenance=dict.fromkeys(targets, BUILT)
        )

    monkeypatch.setattr(sourcebuild, "bake", bake)
    monkeypatch.setattr(sourcebuild, "default_builder", lambda: "default")
    monkeypatch.setattr(sourcebuild, "reusable", lambda _plan, _prefix, **_named: {})
    assert main(["--root", str(project.root), "build", TAG, "--no-verify"]) != 0
    kept = {name for name in DIGESTS if provenance_path(project, name).exists()}
    assert kept == {ON_DEV, ON_RUNTIME}
