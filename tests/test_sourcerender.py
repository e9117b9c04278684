"""Claims about the build contexts of the source strategy: what is in them, and what their Dockerfiles never do."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from tests.builders import RECIPES, ROOT, make_wheel
from tests.imagebuilder import target_of
from tests.sourcebuilder import (
    FETCHED,
    HOST,
    SETS,
    TUNED,
    VERSIONS,
    make_patch,
    make_source,
    make_source_target,
    runtime_of,
)

from sparkbake.errors import UsageError
from sparkbake.model import Plan
from sparkbake.project import Project
from sparkbake.sourcedata import Setting
from sparkbake.sourcemodel import SourceTarget
from sparkbake.sourcerender import OPEN, check_commits, checkouts, render_source

RECIPE_NAMES = tuple(SETS)
RUST: dict[str, Any] = {"rust": True, "patches": (), "differing": ()}


def rusty(recipe: str) -> SourceTarget:
    return make_source_target(recipe, **(RUST if recipe == "vllm-source" else {}))


def render(target: SourceTarget) -> dict[str, str]:
    return {str(one.path): one.content for one in render_source(target, RECIPES, runtime_of(target))}


def instructions(target: SourceTarget, word: str) -> list[str]:
    """Instructions of a Dockerfile, each on one line."""
    text = render(target)["Dockerfile"].replace("\\\n", "")
    return [line for line in text.splitlines() if line.startswith(f"{word} ")]


def mounted(target: SourceTarget) -> set[str]:
    """Files and folders of the context that some step sees."""
    steps = instructions(target, "RUN")
    own = [one for step in steps for one in re.findall(r"--mount=type=bind,source=(\S+?),", step)]
    return set(own)


# ---- the context


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_every_file_of_a_context_is_used_and_every_used_file_is_there(recipe: str) -> None:
    """Folders of patches and of what images have by themselves are mounted whole; what Rust needs has a test below."""
    target = make_source_target(recipe)
    there = {
        path if "/" not in path or path.startswith("requirements/") else path.partition("/")[0]
        for path in render(target)
    }
    for_rust = {"fetch-crates.sh", "apt-packages.sh"} if recipe == "vllm-source" else set()
    assert mounted(target) == there - {"Dockerfile"} - for_rust


def test_the_same_target_gives_the_same_bytes_and_another_another_digest() -> None:
    target = make_source_target("vllm-source")
    assert render_source(target, RECIPES) == render_source(target, RECIPES)
    other = replace(target, patches=(make_patch(added="another"),))
    digests = [json.loads(render(one)["manifest.json"])["plan_digest"] for one in (target, other)]
    assert digests[0] != digests[1]


def test_requirements_stand_with_their_hashes_and_siblings_differ_in_one_file_alone() -> None:
    wheels = (make_wheel("ray"), make_wheel("transformers", "4.57.6"))
    newer = (make_wheel("ray"), make_wheel("transformers", "5.0.0"))
    old, new = (render(make_source_target("vllm-source", environment=one)) for one in (wheels, newer))
    assert old["environment.txt"] == f"ray==1.0 --hash=sha256:{wheels[0].sha256}\n"
    assert new["differing.txt"] == f"transformers==5.0.0 --hash=sha256:{newer[1].sha256}\n"
    assert {path for path in old if old[path] != new[path]} == {"differing.txt", "manifest.json"}


def test_what_cmake_is_handed_comes_with_what_the_release_must_name() -> None:
    found = json.loads(render(make_source_target("vllm-source"))["fetches.json"])
    assert [one["variable"] for one in found] == [
        "VLLM_CUTLASS_SRC_DIR",
        "VLLM_FLASH_ATTN_SRC_DIR",
        "TRITON_KERNELS_SRC_DIR",
    ]
    assert found[0] == {
        "variable": "VLLM_CUTLASS_SRC_DIR",
        "repository": "https://git.example/cutlass.git",
        "tag": None,
        "commit": 40 * "0",
    }
    assert "fetches.json" not in render(make_source_target("pytorch-dev"))


def test_the_image_has_the_settings_of_its_release_with_the_reason() -> None:
    plain = render(make_source_target("vllm-source"))["Dockerfile"]
    setting = Setting(name="VLLM_DISABLED_KERNELS", value="A,B", versions=">=0.14", reason="they fail on a Spark")
    text = render(make_source_target("vllm-source", settings=(setting,)))["Dockerfile"]
    added = "# they fail on a Spark.\nENV VLLM_DISABLED_KERNELS=A,B\n"
    assert text.replace(added, "") == plain
    assert text.index(added) > text.index("FROM runtime AS image")


def test_patches_come_with_their_effects() -> None:
    files = render(make_source_target("vllm-source"))
    (entry,) = json.loads(files["effects.json"])
    assert entry["name"] == "0001-marlin-lists.patch"
    assert entry["checks"] == [{"count": 1, "file": "CMakeLists.txt", "text": 'set(MARLIN_ARCHS "8.0+PTX;12.0f")'}]
    assert files["patches/0001-marlin-lists.patch"] == make_patch().text


def test_the_manifest_says_which_commits_patches_and_configs() -> None:
    said = json.loads(render(make_source_target("vllm-source"))["manifest.json"])
    assert [one["name"] for one in said["sources"]] == ["llvm", "triton", "vllm", *FETCHED]
    assert said["sources"][2]["tag"] == "v0.14.1"
    assert [one["name"] for one in said["patches"]] == ["0001-marlin-lists.patch"]
    assert said["moe_configs"] == [TUNED]
    assert said["parents"] == {"dev": "pytorch-dev-1", "runtime": "pytorch-1"}


def test_what_is_rendered_without_a_commit_is_refused_by_its_build_and_named_with_what_to_do() -> None:
    target = make_source_target("vllm-source")
    sources = tuple(replace(one, commit=None) if one.name == "vllm" else one for one in target.sources)
    unknown = replace(target, sources=sources)
    files = render(unknown)
    assert f"--repository {HOST}/vllm.git \\\n        --commit {OPEN} --tag v0.14.1 " in files["Dockerfile"]
    assert json.loads(files["manifest.json"])["sources"][2]["commit"] is None
    script = ROOT / "recipes/scripts/checkout.py"
    argv = [sys.executable, str(script), "--repository", f"{HOST}/vllm.git", "--commit", OPEN, "--epoch", "1", "/none"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert f"{HOST}/vllm.git: got commit '{OPEN}', expected 40 hex digits" in done.stderr
    check_commits(target)
    with pytest.raises(UsageError) as raised:
        check_commits(unknown)
    assert str(raised.value) == (
        "vllm-source-1: the commit of vllm (https://git.example/vllm.git, asked for as v0.14.1) is not known; "
        "run `nox -s build -- 0.14.1-t4`, which says what to do"
    )


def test_two_sources_of_one_name_must_be_the_same() -> None:
    target = make_source_target("vllm-source")
    (first, *_rest) = target.fetches
    other = replace(first, source=make_source("vllm", 40 * "1"))
    with pytest.raises(
        UsageError, match=f"two sources are called vllm: {40 * '0'} and {40 * '1'}; give one another name"
    ):
        render(replace(target, fetches=(other,)))
    again = replace(target, fetches=(first, replace(first, variable="AGAIN_SRC_DIR", folder="include")))
    assert [one.name for one in checkouts(again)].count("cutlass") == 1
    assert "AGAIN_SRC_DIR=/src/cutlass/include" in render(again)["Dockerfile"]


# ---- the Dockerfile


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_only_what_must_fetch_has_a_network(recipe: str) -> None:
    """Packages by hash, operating system packages by snapshot, sources by commit, crates by Cargo.lock."""
    fetching = re.compile(r"apt-packages\.sh|packages\.py --installer|checkout\.py|--requirements|fetch-crates\.sh")
    for step in instructions(rusty(recipe), "RUN"):
        command = re.sub(r"--mount=\S+", "", step)
        alone = "--network=none" in step or command.strip() == "RUN rm -r /out"
        assert alone or fetching.search(command), step
        assert not (alone and fetching.search(command)), step


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_every_image_that_is_fetched_has_a_digest(recipe: str) -> None:
    stages = {line.split()[3] for line in instructions(make_source_target(recipe), "FROM")}
    for line in instructions(make_source_target(recipe), "FROM"):
        assert line.split()[1] in stages | {"scratch"} or re.search(r"@sha256:[0-9a-f]{64}$", line.split()[1])


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_what_is_mounted_into_an_image_lies_below_dev(recipe: str) -> None:
    """A mount point anywhere else would leave a folder in the layer; stages that no image is made of may."""
    text = render(make_source_target(recipe))["Dockerfile"].replace("\\\n", "")
    image = text.partition(" AS image\n")[2]
    targets = re.findall(r"--mount=\S*?target=([^\s,]+)", image)
    assert targets
    assert all(one.startswith("/dev/sparkbake/") for one in targets)


def test_every_source_has_a_stage_of_its_own_with_commit_and_tag() -> None:
    for recipe in ("pytorch-dev", "vllm-source"):
        target = make_source_target(recipe)
        steps = [step for step in instructions(target, "RUN") if "checkout.py --repository" in step]
        found = {shlex.split(step)[-1]: step for step in steps}
        assert list(found) == [f"/src/{one.name}" for one in checkouts(target)]
        for one in checkouts(target):
            assert f"--repository {one.repository}" in found[f"/src/{one.name}"]
            assert f"--commit {one.commit}" in found[f"/src/{one.name}"]
            assert ("--submodules" in found[f"/src/{one.name}"]) == one.submodules
            assert (f"--tag {one.tag}" in found[f"/src/{one.name}"]) == (one.tag is not None)


def test_every_fetched_source_is_handed_over_and_mounted() -> None:
    text = render(make_source_target("vllm-source"))["Dockerfile"]
    assert "TRITON_KERNELS_SRC_DIR=/src/triton-kernels/python/triton_kernels/triton_kernels\n" in text
    for name in FETCHED:
        assert f"from={name}-source,source=/src/{name},target=/src/{name},rw" in text
    assert 'TORCH_CUDA_ARCH_LIST="12.0f"' in text


def test_rust_is_asked_for_where_vllm_has_it() -> None:
    text = render(make_source_target("vllm-source", **RUST))["Dockerfile"]
    without = render(make_source_target("vllm-source"))["Dockerfile"]
    assert "fetch-crates.sh /src/vllm/rust" in text
    assert "fetch-crates.sh" in mounted(rusty("vllm-source"))
    assert "GIB_PER_JOB=4 RUST=1" in text
    assert "--mount=type=secret,id=cargo," in text
    assert "from=crates,source=/src/crates,target=/src/crates,rw" in text
    assert "crates" not in without
    assert "RUST=1" not in without


def test_what_rust_is_compiled_with_is_installed_before_it_is_used() -> None:
    """The image that vLLM is compiled in has none: most releases need none."""
    packages = ("cargo-1.91", "rustc-1.91")
    text = render(make_source_target("vllm-source", build_os_packages=packages, **RUST))["Dockerfile"]
    stage = text.partition("FROM tools AS rust\n")[2].partition("\nFROM ")[0]
    assert "apt-packages.sh cargo-1.91 rustc-1.91\n" in stage
    assert {"FROM rust AS crates", "FROM rust AS vllm-builder"} <= set(text.splitlines())
    assert "FROM tools AS vllm-builder" in render(make_source_target("vllm-source"))["Dockerfile"].splitlines()


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_where_packages_of_the_operating_system_come_from_is_a_secret(recipe: str) -> None:
    """What is a secret changes no step, no digest of the context and no label."""
    steps = [step for step in instructions(rusty(recipe), "RUN") if "apt-packages.sh" in step]
    assert steps
    assert all("--mount=type=secret,id=apt,target=/dev/sparkbake/apt " in step for step in steps)


def test_a_further_source_becomes_a_wheel_of_its_own() -> None:
    target = make_source_target("vllm-source", versions=(*VERSIONS.items(), ("transformers", "5.0.0")))
    more = replace(target, sources=(*target.sources, make_source("transformers")))
    text = render(more)["Dockerfile"]
    assert "build-wheel.sh transformers 5.0.0 /src/transformers" in text
    assert "from=transformers,source=/out/wheels,target=/dev/sparkbake/wheels/transformers" in text


def test_without_patches_nothing_of_them_is_mounted() -> None:
    target = make_source_target("vllm-source", **RUST)
    assert not {"patches", "differing.txt"} & mounted(target)


def settings(dockerfile: str) -> list[str]:
    """What an image starts with and where its caches are: its last instructions, from the first of the caches on."""
    text = dockerfile[dockerfile.index("XDG_CACHE_HOME=") :]
    return [line.strip() for line in text.splitlines() if "NVIDIA_" not in line and "LANG=" not in line]


def test_an_image_starts_and_keeps_caches_as_those_that_are_installed_from_wheels(project: Project) -> None:
    (wheels,) = project.contexts(Plan(targets=(target_of(project),))).values()
    theirs = next(one.content for one in wheels if one.path.name == "Dockerfile")
    ours = render(make_source_target("vllm-source"))["Dockerfile"]
    assert settings(ours) == [line.removesuffix(" \\") if "MOE" in line.upper() else line for line in settings(theirs)]
    assert settings(ours)[-2:] == ['ENTRYPOINT ["/usr/local/bin/spark"]', 'CMD ["/bin/bash"]']


@pytest.mark.parametrize("recipe", ["pytorch-dev", "pytorch"])
def test_a_foundation_has_none_of_it(recipe: str) -> None:
    text = render(make_source_target(recipe))["Dockerfile"]
    assert "ENTRYPOINT []" in text
    assert "/cache" not in text.partition(" AS image\n")[2].replace("/dev/sparkbake/uv-cache", "")


def test_without_an_llvm_there_is_no_stage_for_it() -> None:
    """Then build-triton.sh ends the build and says which it needs."""
    target = make_source_target("vllm-source")
    text = render(replace(target, sources=target.sources[1:]))["Dockerfile"]
    assert "llvm" not in text
