"""Claims about the plan of compiled rows: three targets, true labels, and a bake file that joins them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version
from tests.builders import LOCKS, RECIPES, ROOT, real_matrix
from tests.compiledbuilder import (
    COMMIT,
    FOUNDATION,
    INDEX,
    OTHER,
    T4,
    T5,
    make_compiled,
    make_foundation_lock,
    make_source_lock,
)

from sparkbake.buildcache import TargetCache
from sparkbake.errors import LockError, UsageError
from sparkbake.matrix import rows
from sparkbake.mirrors import Mirrors
from sparkbake.model import Row, Strategy
from sparkbake.patches import Release, Series, Topic, Waiver
from sparkbake.project import open_project
from sparkbake.series import load_series
from sparkbake.sourcebake import source_bake_file
from sparkbake.sourcebuild import check_open_pins
from sparkbake.sourcelock import digest_of, load_foundation_lock, load_source_lock
from sparkbake.sourcemodel import SourceTarget
from sparkbake.sourcepins import sources_of
from sparkbake.sourceplan import plan_body
from sparkbake.sourcerender import OPEN, render_source
from sparkbake.sourceresolve import SourceLocks, SourcePlan, compiled_patches, resolve_source
from sparkbake.sourcesecrets import git_config

GOLDEN = ROOT / "tests" / "golden-source"
NO_PATCHES = Series(
    component="vllm",
    topics=(),
    releases=(Release(version="0.14.0", source="sdist", note=None),),
    pending=(),
    patches=(),
    waivers=(),
    spared=(),
)


# In what a target of a variant is otherwise.
OF_A_VARIANT = ("name", "tag", "reference", "variant", "vllm_arch_list", "patches", "labels")
# Of a variant that upstream has done all for.
SUPPORTED = replace(
    NO_PATCHES,
    topics=(Topic(name="native", title="for 12.1 itself", variant="12.1"),),
    waivers=(Waiver(topic="native", kind="not-needed", releases=">=0.14", because="it is so", evidence="read"),),
)


def make_plan(*chosen: Row, series: Series = NO_PATCHES, variant: str | None = None) -> SourcePlan:
    locks = {one.tag: make_source_lock(one) for one in (T4, T5)}
    return resolve_source(
        make_compiled(),
        chosen or (T4,),
        SourceLocks(
            foundations={FOUNDATION.name: make_foundation_lock()},
            rows=locks,
            siblings=locks,
            apt_snapshot="20260916T000000Z",
        ),
        series,
        variant=variant,
    )


def target(plan: SourcePlan, recipe: str) -> SourceTarget:
    return next(one for one in plan.targets if one.recipe == recipe)


def test_a_row_is_three_targets_parents_first() -> None:
    plan = make_plan()
    assert [(one.name, one.recipe, one.reference) for one in plan.targets] == [
        (
            "spark-pytorch-dev-2_10_0-cu131",
            "pytorch-dev",
            "registry.example:5000/sparks/spark-pytorch-dev:2.10.0-cu131",
        ),
        ("spark-pytorch-2_10_0-cu131", "pytorch", "registry.example:5000/sparks/spark-pytorch:2.10.0-cu131"),
        ("spark-vllm-0_14_0-t4", "vllm-source", "registry.example:5000/sparks/spark-vllm:0.14.0-t4"),
    ]
    assert plan.reusable == tuple(one.name for one in plan.targets[:2])
    assert [dict(one.parents) for one in plan.targets] == [
        {},
        {"dev": plan.targets[0].name},
        {"dev": plan.targets[0].name, "runtime": plan.targets[1].name},
    ]


def test_the_rows_of_one_foundation_share_its_targets() -> None:
    assert [one.tag for one in make_plan(T4, T5).targets] == ["2.10.0-cu131", "2.10.0-cu131", "0.14.0-t4", "0.14.0-t5"]


def test_a_foundation_has_no_triton_and_no_environment() -> None:
    dev = target(make_plan(), "pytorch-dev")
    assert [name for name, _version in dev.versions] == ["nccl", "torchvision", "torchaudio", "cuda", "torch"]
    assert dev.environment is None
    assert [one.name for one in dev.sources] == ["nccl", "nccl-tests", "torch", "torchvision", "torchaudio"]
    assert [one.submodules for one in dev.sources] == [False, False, True, False, False]
    assert [name for name, _wheels in dev.build_requirements] == ["tools", "torch", "runtime"]
    assert [name for name, _wheels in target(make_plan(), "pytorch").build_requirements] == ["runtime"]


def test_what_cmake_would_fetch_is_handed_over() -> None:
    (fetch,) = target(make_plan(), "vllm-source").fetches
    assert (fetch.variable, fetch.folder, fetch.source.name) == ("VLLM_CUTLASS_SRC_DIR", "include", "cutlass")
    assert (fetch.source.tag, fetch.source.commit) == ("v4.2.1", COMMIT)


def test_a_row_has_its_own_sources() -> None:
    four, five = target(make_plan(T4), "vllm-source"), target(make_plan(T5), "vllm-source")
    assert four.source("vllm").commit == OTHER
    assert [one.name for one in five.sources] == ["llvm", "triton", "vllm", "transformers"]
    assert five.source("transformers").commit == COMMIT


def described(plan: SourcePlan) -> dict[str, object]:
    return plan_body(plan, {one.name: TargetCache() for one in plan.targets})


def test_a_row_has_the_settings_of_its_release_and_a_foundation_none() -> None:
    plan = make_plan()
    assert [(one.name, one.value) for one in target(plan, "vllm-source").settings] == [("VLLM_OLD", "1")]
    assert target(plan, "pytorch").settings == ()
    bodies = described(plan)["targets"]
    assert isinstance(bodies, list)
    assert [one["settings"] for one in bodies] == [{}, {}, {"VLLM_OLD": "1"}]


@pytest.mark.parametrize("tag", [one.tag for one in rows(real_matrix()) if one.release.strategy is Strategy.SOURCE])
def test_fp8_linear_of_real_rows_takes_torch_by_a_patch_or_by_a_setting_and_never_by_both(tag: str) -> None:
    """0.14.0rc2 has neither, since nothing is claimed of it yet; no build takes it."""
    project = open_project(ROOT)
    vllm = project.source_plan(project.select([tag])).targets[-1]
    patched = "0003-fp8-linear-torch.patch" in [one.name for one in vllm.patches]
    settings = {one.name: one.value for one in vllm.settings}
    kernels = "FlashInferFP8ScaledMMLinearKernel,CutlassFP8ScaledMMLinearKernel"
    old = Version(tag.rpartition("-")[0]) < Version("0.15")
    assert patched == (old and "rc" not in tag)
    assert settings == ({} if old else {"VLLM_DISABLED_KERNELS": kernels})


def test_rust_brings_its_packages_only_where_vllm_needs_it() -> None:
    one = target(make_plan(), "vllm-source")
    assert not one.rust
    assert one.build_os_packages == ("git", "make")
    assert one.existing_torch == "use_existing_torch.py"


@pytest.mark.parametrize("recipe", ["pytorch-dev", "pytorch", "vllm-source"])
def test_every_image_has_the_libraries_that_torch_is_linked_to(recipe: str) -> None:
    assert "libblas3" in target(make_plan(), recipe).os_packages


def test_what_real_rows_are_compiled_with_is_there_when_they_run() -> None:
    """Of what is compiled with, the libraries that are linked to: those with a package for development."""
    sources = sources_of(real_matrix())
    libraries = {
        "libjpeg-turbo8-dev": "libjpeg-turbo8",
        "libopenblas-dev": "libopenblas0",
        "libpng-dev": "libpng16-16t64",
        "libwebp-dev": "libwebp7",
    }
    assert {one for one in sources.build_os_packages if one.startswith("lib")} == set(libraries)
    assert set(sources.runtime_os_packages) == set(libraries.values())


def test_images_begin_with_cuda_by_digest() -> None:
    dev = target(make_plan(), "pytorch-dev")
    assert dev.cuda_devel == "registry.example/cuda:13.1.0-devel@sha256:" + 64 * "1"
    assert dev.apt_snapshot == "20260916T000000Z"


def test_the_labels_tell_versions_commits_and_what_was_compiled_for() -> None:
    labels = dict(target(make_plan(), "vllm-source").labels)
    expected = {
        "dev.example.vllm_version": "0.14.0",
        "dev.example.nccl_version": "2.29.2-1",
        "dev.example.vllm_commit": OTHER,
        "dev.example.torch_commit": COMMIT,
        "dev.example.torch_wheel_commit": OTHER,
        "dev.example.flashmla_commit": None,
        "dev.example.nccl_tests_commit": None,
        "dev.example.vllm_arch_list": "12.0f",
        "dev.example.torch_arch_list": "12.1a",
        "dev.example.nccl_gencode": "-gencode=arch=compute_121,code=sm_121",
        "dev.example.patches": "none",
        "dev.example.overrides": "torch",
        "dev.example.note": "from another commit than the tag's",
        "dev.example.foundation": "2.10.0-cu131",
        "dev.example.lock_digest": digest_of(make_source_lock()),
        "dev.example.foundation_lock_digest": digest_of(make_foundation_lock()),
        "org.opencontainers.image.revision": OTHER,
        "org.opencontainers.image.base.name": "registry.example/cuda:13.1.0-runtime",
        # Its manifest is an open pin.
        "org.opencontainers.image.base.digest": None,
    }
    assert {name: labels.get(name) for name in expected} == expected


def test_the_labels_of_a_foundation_tell_its_lock() -> None:
    labels = dict(target(make_plan(), "pytorch-dev").labels)
    assert labels["dev.example.lock_digest"] == digest_of(make_foundation_lock())
    assert labels["dev.example.torch_version"] == "2.10.0"
    assert "dev.example.triton_version" not in labels
    assert labels["org.opencontainers.image.base.digest"] == "sha256:" + 64 * "2"


def test_all_open_pins_are_named_with_what_to_do() -> None:
    with pytest.raises(LockError) as caught:
        check_open_pins(make_plan())
    assert str(caught.value) == (
        "0.14.0-t4: what follows is not known, and nothing is built from what may change:\n"
        "  2.10.0-cu131: registry.example/cuda:13.1.0-runtime: manifest digest\n"
        "  2.10.0-cu131: nccl-tests: commit of v2.19.6\n"
        "run `nox -s lock -- 0.14.0-t4` where the repositories and the registry can be reached, or write it into "
        "matrix.yaml"
    )
    assert caught.value.state == "open"
    check_open_pins(replace(make_plan(), open_pins=()))


def test_what_lock_cannot_fill_is_told_with_where_it_stands_and_where_it_belongs() -> None:
    project = open_project(ROOT)
    plan = project.source_plan(project.select(["0.15.0-t4"]))
    (open_one,) = (one for one in plan.open_pins if one.startswith("0.15.0-t4: "))
    assert open_one == "0.15.0-t4: flashmla: commit of what this release fetches"
    with pytest.raises(LockError) as caught:
        check_open_pins(replace(plan, open_pins=(open_one,)))
    assert str(caught.value) == (
        "0.15.0-t4: what follows is not known, and nothing is built from what may change:\n"
        f"  {open_one}; no tag leads to it, so that `lock` cannot fill it: it is the GIT_TAG beside FLASH_MLA_SRC_DIR "
        "in the CMake files of vLLM at f176443446f659dbab5315e056e605d8984fd976; write it into matrix.yaml, "
        "source.repositories.flashmla.at, for 0.15.0"
    )


def test_a_release_whose_patches_are_not_known_is_not_built_though_its_lock_is_whole() -> None:
    """As `lock` leaves it where the repositories answer: what keeps it from being built then is the series alone."""
    pending = replace(NO_PATCHES, releases=(), pending=(("0.14.0", "nobody tried it"),))
    plan = make_plan(series=pending)
    expected = "0.14.0-t4: patches: nothing is claimed of this release yet: nobody tried it"
    assert plan.open_pins == (*make_plan().open_pins, expected)
    with pytest.raises(LockError) as caught:
        check_open_pins(replace(plan, open_pins=(expected,)))
    assert str(caught.value) == (
        "0.14.0-t4: what follows is not known, and nothing is built from what may change:\n"
        f"  {expected}; try the patches on its sources and move it from `pending` to `releases` in "
        "patches/vllm/series.yaml"
    )
    with pytest.raises(LockError, match=r"(?m)^for the others run `nox -s lock -- 0\.14\.0-t4` where"):
        check_open_pins(plan)


def test_the_real_candidate_is_not_built_without_patches_once_its_commits_are_known() -> None:
    project = open_project(ROOT)
    (row,) = project.select(["0.14.0rc2-t4"])
    series, lock = project.series(), load_source_lock(LOCKS, project.matrix, row)
    filled = replace(lock, pins=tuple(replace(one, commit=one.commit or COMMIT) for one in lock.pins))
    foundation = load_foundation_lock(LOCKS, project.matrix, row.foundation)
    images = tuple(replace(one, index=one.index or INDEX, manifest=one.manifest or INDEX) for one in foundation.images)
    pins = tuple(replace(one, commit=one.commit or COMMIT) for one in foundation.pins)
    locks = SourceLocks(
        foundations={foundation.name: replace(foundation, pins=pins, images=(images[0], images[1]))},
        rows={row.tag: filled},
        siblings={},
        apt_snapshot="20260916T000000Z",
    )
    plan = resolve_source(project.matrix, [row], locks, series)
    (left,) = plan.open_pins
    assert left.startswith("0.14.0rc2-t4: patches: nothing is claimed of this release yet: ")
    assert left.removeprefix("0.14.0rc2-t4: ") in project.open_pins(row)
    with pytest.raises(LockError, match="nothing is claimed of this release yet"):
        check_open_pins(plan)


def test_nothing_is_patched_in_a_release_that_nothing_is_claimed_of() -> None:
    series = load_series(ROOT / "patches" / "vllm")
    assert compiled_patches(series, "0.14.0rc2") == ()
    names = [one.name for one in compiled_patches(series, "0.14.1")]
    assert names == ["0002-marlin-lists.patch", "0003-fp8-linear-torch.patch", "0004-fp8-moe-triton.patch"]


# ---- a variant


def test_a_variant_is_an_image_of_its_own_on_the_same_foundations() -> None:
    usual, plan = make_plan(), make_plan(series=SUPPORTED, variant="12.1")
    assert plan.targets[:-1] == usual.targets[:-1]
    assert plan.reusable == usual.reusable
    vllm = plan.targets[-1]
    assert (vllm.name, vllm.tag, vllm.row, vllm.variant) == (
        "spark-vllm-0_14_0-t4-sm121",
        "0.14.0-t4-sm121",
        "0.14.0-t4",
        "12.1",
    )
    assert vllm.reference == "registry.example:5000/sparks/spark-vllm:0.14.0-t4-sm121"
    assert (vllm.torch_arch_list, vllm.vllm_arch_list) == ("12.1a", "12.1a")
    same = replace(vllm, **{name: getattr(usual.targets[-1], name) for name in OF_A_VARIANT})
    assert same == usual.targets[-1]


def test_where_upstream_supports_it_a_variant_has_no_patch() -> None:
    vllm = make_plan(series=SUPPORTED, variant="12.1").targets[-1]
    assert vllm.patches == ()
    assert dict(vllm.labels)["dev.example.patches"] == "none"


def test_the_labels_tell_a_variant() -> None:
    usual, labels = (
        dict(target(make_plan(series=SUPPORTED, variant=one), "vllm-source").labels) for one in (None, "12.1")
    )
    assert {name: labels[name] for name in labels if labels[name] != usual.get(name)} == {
        "dev.example.variant": "12.1",
        "dev.example.vllm_arch_list": "12.1a",
        "org.opencontainers.image.ref.name": "0.14.0-t4-sm121",
        "org.opencontainers.image.version": "0.14.0-t4-sm121",
    }
    assert set(usual) < set(labels), "the usual one has no label of a variant"


def test_what_is_open_of_a_variant_is_told_as_of_its_row() -> None:
    with pytest.raises(LockError) as caught:
        check_open_pins(make_plan(series=SUPPORTED, variant="12.1"))
    assert str(caught.value).startswith("0.14.0-t4: what follows is not known")
    assert "run `nox -s lock -- 0.14.0-t4` where" in str(caught.value)


def test_a_variant_of_some_rows_alone_is_none() -> None:
    """All or nothing: what was asked for is not built in part."""
    series = replace(SUPPORTED, releases=())
    with pytest.raises(UsageError, match=r"^vllm 0\.14\.0: no patch was tried on it"):
        make_plan(T4, T5, series=series, variant="12.1")


def test_a_variant_has_its_patches_after_those_of_every_build() -> None:
    series = load_series(ROOT / "patches" / "vllm")
    usual, native = (compiled_patches(series, "0.14.1", one) for one in (None, "12.1"))
    assert native[: len(usual)] == usual
    assert [one.name for one in native[len(usual) :]] == [
        "0006-native-lists.patch",
        "0008-native-guard-v013.patch",
        "0011-native-marlin-v013.patch",
    ]
    assert all(one.checks for one in native)


@pytest.mark.parametrize("version", ["0.14.0rc2", "0.15.0"])
def test_a_release_without_the_variant_has_no_patches_of_it(version: str) -> None:
    """What a build of every day leaves unpatched is not left so here: it would have none of these kernels."""
    with pytest.raises(UsageError, match=rf"^vllm {version}: "):
        compiled_patches(load_series(ROOT / "patches" / "vllm"), version, "12.1")


# ---- the bake file


def bake(
    plan: SourcePlan, present: dict[str, str] | None = None, images: dict[str, str] | None = None
) -> dict[str, object]:
    outputs = {one.name: "type=image" for one in plan.targets}
    body: dict[str, object] = json.loads(source_bake_file(plan, outputs, present or {}, images=images or {}))
    return body


def test_the_bake_file_joins_targets_by_named_contexts() -> None:
    body = bake(make_plan())
    assert body["group"] == {"default": {"targets": [one.name for one in make_plan().targets]}}
    bodies = body["target"]
    assert isinstance(bodies, dict)
    vllm = bodies["spark-vllm-0_14_0-t4"]
    assert vllm["contexts"] == {
        "dev": "target:spark-pytorch-dev-2_10_0-cu131",
        "runtime": "target:spark-pytorch-2_10_0-cu131",
    }
    assert vllm["args"]["SOURCE_DATE_EPOCH"] == "1700000001"
    assert vllm["tags"] == ["registry.example:5000/sparks/spark-vllm:0.14.0-t4"]
    assert "contexts" not in bodies["spark-pytorch-dev-2_10_0-cu131"]


def test_a_base_that_is_there_is_not_built_again() -> None:
    plan = make_plan()
    present = dict.fromkeys(plan.reusable, f"docker-image://x@sha256:{64 * '7'}")
    bodies = bake(plan, present)["target"]
    assert isinstance(bodies, dict)
    assert list(bodies) == ["spark-vllm-0_14_0-t4"]
    assert set(bodies["spark-vllm-0_14_0-t4"]["contexts"].values()) == {f"docker-image://x@sha256:{64 * '7'}"}


def test_cudas_images_come_from_a_mirror_where_one_is_named() -> None:
    place = "docker-image://mirror.example/cuda@sha256:" + 64 * "1"
    bodies = bake(make_plan(), images={"registry.example/cuda:13.1.0-devel": place})["target"]
    assert isinstance(bodies, dict)
    assert bodies["spark-pytorch-dev-2_10_0-cu131"]["contexts"] == {"cuda-devel": place}
    assert bodies["spark-pytorch-2_10_0-cu131"]["contexts"] == {"dev": "target:spark-pytorch-dev-2_10_0-cu131"}


def test_steps_have_the_network_of_this_machine_only_when_asked() -> None:
    plan = make_plan()
    outputs = {one.name: "type=image" for one in plan.targets}
    usual, on_host = (
        json.loads(source_bake_file(plan, outputs, {}, images={}, network=one))["target"] for one in (None, "host")
    )
    assert on_host == {name: {**body, "network": "host"} for name, body in usual.items()}
    assert all("network" not in body for body in usual.values())


def test_git_is_sent_to_mirrors() -> None:
    mirrors = Mirrors(git=(("https://example.com/", "https://mirror.example/git/"),))
    assert git_config(mirrors) == '[url "https://mirror.example/git/"]\n\tinsteadOf = https://example.com/\n'
    assert mirrors.git_url("https://example.com/vllm") == "https://mirror.example/git/vllm"
    assert mirrors.git_url("https://other.example/vllm") == "https://other.example/vllm"


def test_the_plan_for_machines_says_what_may_be_reused() -> None:
    targets = described(make_plan())["targets"]
    assert isinstance(targets, list)
    assert [one["reusable"] for one in targets] == [True, True, False]
    assert targets[2]["sources"]["vllm"] == {"tag": "v0.14.0", "commit": OTHER, "wheel_built_from": None}


# ---- the real rows


def compiled_rows() -> list[Row]:
    """All compiled rows of the matrix; what of them is not known yet has a mark in its place."""
    return [one for one in open_project(ROOT).rows if one.release.strategy is Strategy.SOURCE]


# Rows that are compiled in another way, too: with patches of each kind, and with one list alone.
VARIANTS = (("0.14.1-t4", "12.1"), ("0.22.1-t5", "12.1"))


def variant_plan(tag: str, variant: str) -> SourcePlan:
    project = open_project(ROOT)
    return project.source_plan(project.select([tag]), variant)


def test_the_real_rows_render_to_the_golden_files(update_golden: bool) -> None:  # noqa: FBT001
    """A diff here is the diff of real Dockerfiles: read it, then run this with `--update-golden`."""
    plan = open_project(ROOT).source_plan(compiled_rows())
    variants = [variant_plan(*one) for one in VARIANTS]
    rendered = {
        "docker-bake.json": source_bake_file(plan, {one.name: "type=image" for one in plan.targets}, {}, images={})
    }
    for one in (*plan.targets, *(some.targets[-1] for some in variants)):
        files = {str(file.path): file.content for file in render_source(one, RECIPES)}
        rendered[f"{one.name}/Dockerfile"] = files["Dockerfile"]
    if update_golden:
        for old in set(_golden()) - set(rendered):
            (GOLDEN / old).unlink()
        for path, text in rendered.items():
            (GOLDEN / path).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / path).write_text(text, encoding="utf-8")
    golden = _golden()
    assert sorted(golden) == sorted(rendered)
    for path, text in rendered.items():
        assert text == golden[path], f"tests/golden-source/{path} differs; look at the diff, then use --update-golden"


def _golden() -> dict[str, str]:
    files = [one for one in GOLDEN.rglob("*") if one.is_file()]
    return {str(one.relative_to(GOLDEN)): one.read_text(encoding="utf-8") for one in files}


@pytest.mark.parametrize(("tag", "variant"), VARIANTS)
def test_the_dockerfile_of_a_variant_differs_in_the_architecture_and_in_how_to_render_it(
    tag: str, variant: str
) -> None:
    """Patches are files of the context: all stages before vLLM's own are those of the usual build."""
    name = f"dgx-spark-vllm-{tag}".replace(".", "_")
    usual, own = ((GOLDEN / one / "Dockerfile").read_text(encoding="utf-8") for one in (name, f"{name}-sm121"))
    differing = [(old, new) for old, new in zip(usual.splitlines(), own.splitlines(), strict=True) if old != new]
    assert differing == [
        (
            f"# GENERATED by `nox -s render -- {tag}` from recipes/vllm-source.Dockerfile.j2; do not edit.",
            f"# GENERATED by `nox -s render -- {tag} --variant {variant}` from recipes/vllm-source.Dockerfile.j2; "
            "do not edit.",
        ),
        (
            'ENV TORCH_CUDA_ARCH_LIST="12.0f" \\',
            'ENV TORCH_CUDA_ARCH_LIST="12.1a" \\',
        ),
    ]


def test_every_compiled_row_and_foundation_of_the_matrix_has_its_golden_files() -> None:
    names = {path.partition("/")[0] for path in _golden()}
    for row in compiled_rows():
        assert f"dgx-spark-vllm-{row.tag}".replace(".", "_") in names
        for image in ("pytorch-dev", "pytorch"):
            assert f"dgx-spark-{image}-{row.foundation.name}".replace(".", "_") in names


def test_the_vllm_of_a_golden_dockerfile_is_the_one_of_the_lock(tmp_path: Path) -> None:
    plan = open_project(ROOT).source_plan(compiled_rows())
    for one in plan.targets:
        sources = (*one.sources, *(fetch.source for fetch in one.fetches))
        commits = {f"--commit {source.commit or OPEN} " for source in sources}
        files = {str(file.path): file.content for file in render_source(one, RECIPES)}
        if one.recipe == "vllm-source":
            assert all(commit in files["Dockerfile"] for commit in commits), one.name
