"""Claims about rendering and building compiled rows: what is refused, what is written, what it needs."""

import json
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT

from sparkbake import cacheasking, preflight, ready, sourcebuild
from sparkbake.buildx import BakeOptions, BakeResult
from sparkbake.cli import main
from sparkbake.engine import EngineState
from sparkbake.errors import LockError, PreflightError, RegistryError, UsageError
from sparkbake.mirrors import Mirrors
from sparkbake.project import Project, open_project
from sparkbake.registry import Repository
from sparkbake.sourcesecrets import compile_secrets


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "matrix.yaml", tmp_path)
    shutil.copy(ROOT / "doctor.yaml", tmp_path)
    for name in ("locks", "moe_configs", "recipes", "patches"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


# ---- what is refused


def test_a_row_with_open_pins_is_not_built_and_each_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "build", "0.14.0rc2-t4"]) == LockError.exit_code
    told = capsys.readouterr().err
    assert "0.14.0rc2-t4: vllm: commit of v0.14.0rc2\n" in told
    assert "2.10.0-rc6-cu131: torch: commit of v2.10.0-rc6\n" in told
    assert "run `nox -s lock -- 0.14.0rc2-t4` where the repositories and the registry can be reached" in told


def test_the_list_shows_open_pins_sources_and_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "list", "--json", "0.14.0rc2-t4", "0.13.0-t5", "0.14.0-*"]) == 0
    rows = {one["tag"]: one for one in json.loads(capsys.readouterr().out)}
    assert "vllm: commit of v0.14.0rc2" in rows["0.14.0rc2-t4"]["open_pins"]
    assert rows["0.14.0rc2-t4"]["locked"] == "open"
    torch = rows["0.13.0-t5"]["sources"]["torch"]
    assert torch["differs"] is True
    assert torch["commit"].startswith("d38164a5")
    assert torch["wheel_built_from"].startswith("5811a8d7")
    # Published from a commit that is not the tag's: the wheel is the tag's.
    assert rows["0.14.0-t4"]["sources"]["vllm"]["differs"] is True
    assert "not the one of the tag" in rows["0.14.0-t4"]["note"]
    assert rows["0.14.0-t5"]["sources"]["vllm"]["differs"] is False
    assert "from a fork" in rows["0.14.0-t5"]["note"]
    assert rows["0.14.0-t5"]["limits"] == [
        "GLM-4.7-Flash cannot run, since this release has no such model; 0.15.0 with transformers 5 has it"
    ]


def test_the_table_counts_open_pins(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "list", "0.14.0rc2-t4"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[-3:] == ["locked", "open", "pins"]
    assert line.split()[-2] == "open"
    assert int(line.split()[-1]) >= 4


# ---- what is written


def test_render_writes_three_contexts_and_the_bake_file(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(checkout), "render", "0.14.1-t4"]) == 0
    names = ["dgx-spark-pytorch-dev-2_10_0-cu131", "dgx-spark-pytorch-2_10_0-cu131", "dgx-spark-vllm-0_14_1-t4"]
    written = [checkout.resolve() / "build" / name / "Dockerfile" for name in names]
    assert capsys.readouterr().out.splitlines() == [
        *map(str, written),
        str(checkout.resolve() / "build" / "docker-bake.json"),
    ]
    assert all(one.is_file() for one in written)
    patches = sorted(one.name for one in (checkout / "build" / names[2] / "patches").iterdir())
    assert patches == ["0002-marlin-lists.patch", "0003-fp8-linear-torch.patch", "0004-fp8-moe-triton.patch"]
    body = json.loads((checkout / "build" / "docker-bake.json").read_text(encoding="utf-8"))
    assert body["target"][names[2]]["contexts"] == {"dev": f"target:{names[0]}", "runtime": f"target:{names[1]}"}


def test_a_build_says_what_cannot_work_and_what_is_otherwise_than_it_was_published(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--root", str(ROOT), "build", "0.14.0-t5", "--dry-run"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith(
        "0.14.0-t5: note: GLM-4.7-Flash cannot run, since this release has no such model; 0.15.0 with "
        "transformers 5 has it"
    )
    assert "published from a fork that adds GLM-4.7-Flash" in told[1]


def test_a_dry_run_says_what_is_compiled_and_what_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "build", "0.22.1-t5", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "deepgemm" in told
    assert "unless one of the same lock and recipe is in the engine or the registry" in told
    assert main(["--root", str(ROOT), "build", "0.22.1-t5", "--dry-run", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [one["reusable"] for one in body["targets"]] == [True, True, False]


def test_a_dry_run_tells_which_wheels_were_built_from_another_commit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "build", "0.13.0-t4", "--dry-run"]) == 0
    (torch, _of_runtime) = [
        line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("torch ") and "v2.9.1" in line
    ]
    assert torch[2].startswith("d38164a5")
    assert torch[3].startswith("5811a8d7")
    assert main(["--root", str(ROOT), "build", "0.13.0-t4", "--dry-run", "--json"]) == 0
    sources = json.loads(capsys.readouterr().out)["targets"][0]["sources"]
    assert sources["torch"]["wheel_built_from"] == torch[3]
    assert sources["nccl"]["wheel_built_from"] is None


# ---- variants


def test_a_variant_is_rendered_beside_the_usual_build(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(checkout), "render", "0.14.1-t4"]) == 0
    usual = capsys.readouterr().out.splitlines()
    assert main(["--root", str(checkout), "render", "0.14.1-t4", "--variant", "12.1"]) == 0
    *foundations, own, bake = capsys.readouterr().out.splitlines()
    assert foundations == usual[:2]
    assert own == usual[2].replace("-0_14_1-t4/", "-0_14_1-t4-sm121/")
    assert 'TORCH_CUDA_ARCH_LIST="12.0f"' in Path(usual[2]).read_text(encoding="utf-8")
    assert 'TORCH_CUDA_ARCH_LIST="12.1a"' in Path(own).read_text(encoding="utf-8")
    patches = sorted(one.name for one in (Path(own).parent / "patches").iterdir())
    assert patches[-3:] == ["0006-native-lists.patch", "0008-native-guard-v013.patch", "0011-native-marlin-v013.patch"]
    effects = json.loads((Path(own).parent / "effects.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in effects] == patches
    tags = [one["tags"] for one in json.loads(Path(bake).read_text(encoding="utf-8"))["target"].values()]
    assert tags[-1] == ["docker.io/scitrera/dgx-spark-vllm:0.14.1-t4-sm121"]
    said = json.loads((Path(own).parent / "manifest.json").read_text(encoding="utf-8"))
    assert said["reference"] == tags[-1][0]
    assert said["labels"]["dev.scitrera.variant"] == "12.1"
    assert said["labels"]["dev.scitrera.patches"].split(",") == patches


def test_a_dry_run_says_what_a_variant_is(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--root", str(ROOT), "build", "0.22.1-t5", "--variant", "12.1", "--dry-run"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "docker.io/scitrera/dgx-spark-vllm:0.22.1-t5-sm121 (linux/arm64)" in told
    assert [line.split() for line in told.splitlines() if line.startswith(("variant ", "vLLM for", "patches "))] == [
        ["variant", "12.1"],
        ["vLLM", "for", "12.1a"],
        ["patches", "0002-marlin-lists.patch,", "0007-native-lists-v022.patch"],
    ]
    assert main([*words, "--json"]) == 0
    targets = json.loads(capsys.readouterr().out)["targets"]
    assert [one["variant"] for one in targets] == [None, None, "12.1"]
    assert targets[2]["labels"]["dev.scitrera.vllm_arch_list"] == "12.1a"
    assert targets[2]["patches"] == ["0002-marlin-lists.patch", "0007-native-lists-v022.patch"]


def test_the_builds_of_a_row_and_of_its_variant_are_told_apart(checkout: Path) -> None:
    project = open_project(checkout)
    plans = [
        sourcebuild._sealed(project, project.source_plan(project.select(["0.14.1-t4"]), one)) for one in (None, "12.1")
    ]
    assert len({sourcebuild._begun_path(project, one) for one in plans}) == len(plans)
    assert len({sourcebuild._built_from(project, one) for one in plans}) == len(plans)
    assert plans[0].targets[:2] == plans[1].targets[:2]


@pytest.mark.parametrize("command", ["build", "render"])
@pytest.mark.parametrize(
    ("tag", "variant", "message"),
    [
        ("0.14.1-t4", "13.0", "--variant: got '13.0', expected one of 12.1\n"),
        ("0.15.0-t4", "12.1", "native-lists: the sources cannot be had to prove it on; leave --variant out"),
        ("0.14.0rc2-t4", "12.1", "vllm 0.14.0rc2: nothing is claimed of it yet: the commit of its tag is not known"),
        ("0.32.0-t5", "12.1", "--variant: is for rows that are compiled, and these are installed from wheels; leave"),
        ("0.14.1-t4-sm121", None, "`nox -s build -- 0.14.1-t4 --variant 12.1` makes it\n"),
    ],
)
def test_a_variant_that_cannot_be_is_refused_with_the_reason(
    command: str, tag: str, variant: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [] if variant is None else ["--variant", variant]
    assert main(["--root", str(ROOT), command, tag, *more]) == UsageError.exit_code
    assert message in capsys.readouterr().err


def test_the_list_says_which_rows_have_a_variant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "list", "0.14.1-t4", "0.15.0-t4", "0.20.2-t4", "--json"]) == 0
    rows = {one["tag"]: one["variants"] for one in json.loads(capsys.readouterr().out)}
    assert rows["0.14.1-t4"] == [
        {"name": "12.1", "tag": "0.14.1-t4-sm121", "arch_list": "12.1a", "refused": None},
    ]
    (refused,) = rows["0.15.0-t4"]
    assert refused["refused"].endswith("native-lists: the sources cannot be had to prove it on")
    assert rows["0.20.2-t4"] == []
    assert main(["--root", str(ROOT), "list", "0.14.1-t4", "0.15.0-t4"]) == 0
    head, has, has_not = capsys.readouterr().out.splitlines()
    place = head.index("variants")
    assert (has[place:].split()[0], has_not[place : place + 8].strip()) == ("12.1", "")


# ---- secrets


def test_jobs_and_mirrors_are_secrets_and_gone_afterwards() -> None:
    mirrors = Mirrors(
        git=(("https://example.com/", "https://mirror.example/"),),
        crates="sparse+https://user:word@crates.example/",
        apt="https://snapshot.example/ubuntu",
    )
    with compile_secrets(mirrors, 4) as secrets:
        assert secrets["jobs"].read_text(encoding="utf-8") == "4"
        assert secrets["apt"].read_text(encoding="utf-8") == "https://snapshot.example/ubuntu"
        assert "insteadOf = https://example.com/" in secrets["gitconfig"].read_text(encoding="utf-8")
        assert tomllib.loads(secrets["cargo"].read_text(encoding="utf-8"))["source"] == {
            "crates-io": {"replace-with": "mirror"},
            "mirror": {"registry": "sparse+https://user:word@crates.example/"},
        }
        for name in ("gitconfig", "cargo"):
            assert secrets[name].stat().st_mode & 0o777 == 0o600
    assert not secrets["jobs"].exists()


def test_mirrors_that_no_step_can_ask_are_told_before_anything_is_built(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(checkout)
    known = replace(project.source_plan(project.select(["0.14.1-t4"])), open_pins=())
    monkeypatch.setattr(Project, "source_plan", lambda _project, _rows, _variant: known)
    (checkout / "m.yaml").write_text('schema: "1"\ngit: {"https://github.com/": "ssh://h/"}\n', encoding="utf-8")
    words = ["--root", str(checkout), "build", "0.14.1-t4", "--mirrors", str(checkout / "m.yaml")]
    assert main(words) == UsageError.exit_code
    assert "--mirrors: git: got 'ssh://h/', which takes a key of ssh" in capsys.readouterr().err
    assert not (checkout / "build").exists()


def test_without_mirrors_nothing_is_said_of_them() -> None:
    with compile_secrets(Mirrors(), None) as secrets:
        assert not {"gitconfig", "cargo", "apt"} & set(secrets)


@pytest.mark.parametrize(
    ("reference", "context"),
    [
        ("mirror.example/cuda@sha256:1", "docker-image://mirror.example/cuda@sha256:1"),
        ("oci-layout:/x@sha256:1", "oci-layout:///x@sha256:1"),
    ],
)
def test_a_mirrored_image_is_a_context(reference: str, context: str) -> None:
    assert sourcebuild.as_context(reference) == context


# ---- what is built on what


@pytest.mark.parametrize("builder", [None, "other"])
def test_a_row_is_built_on_images_that_the_next_build_finds_and_not_on_targets(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, builder: str | None
) -> None:
    """Else the cache of a row would be of no use to the next build, which takes the images for its foundation."""
    begin(monkeypatch, cached_bytes=0, free_bytes=10**12)
    project = open_project(checkout)
    known = replace(project.source_plan(project.select(["0.14.1-t4"])), open_pins=())
    monkeypatch.setattr(Project, "source_plan", lambda _project, _rows, _variant: known)
    asked: list[dict[str, dict[str, str]]] = []

    def bake(
        file: Path, _metadata: Path, _options: BakeOptions, *, targets: Sequence[str], **_more: object
    ) -> BakeResult:
        bodies = json.loads(file.read_text(encoding="utf-8"))["target"]
        assert list(bodies) == sorted(targets)
        asked.append({name: one.get("contexts", {}) for name, one in bodies.items()})
        return BakeResult(digests={one: f"sha256:{one}" for one in targets}, executed=tuple(targets))

    monkeypatch.setattr(sourcebuild, "bake", bake)
    monkeypatch.setattr(sourcebuild, "default_builder", lambda: "default")
    more = ["--builder", builder] if builder else []
    assert main(["--root", str(checkout), "build", "0.14.1-t4", "--no-verify", *more]) == 0
    dev, runtime, row = (one.name for one in known.targets)
    references = {one.name: one.reference for one in known.targets}
    if builder:
        # It has no images of the engine's, so that all is one build.
        assert [sorted(one) for one in asked] == [sorted((dev, runtime, row))]
        assert asked[0][row] == {"dev": f"target:{dev}", "runtime": f"target:{runtime}"}
        return
    assert [sorted(one) for one in asked] == [sorted((dev, runtime)), [row]]
    assert asked[0][runtime] == {"dev": f"target:{dev}"}
    images = {context: f"docker-image://{references[one]}@sha256:{one}" for context, one in known.targets[-1].parents}
    assert asked[1][row] == images


# ---- wheels


def test_wheels_are_a_build_of_their_own_of_the_same_steps_and_no_image(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(monkeypatch, cached_bytes=0, free_bytes=10**12)
    project = open_project(checkout)
    known = replace(project.source_plan(project.select(["0.14.1-t4"])), open_pins=())
    monkeypatch.setattr(Project, "source_plan", lambda _project, _rows, _variant: known)
    asked: list[tuple[dict[str, Any], BakeOptions]] = []

    def bake(
        file: Path, _metadata: Path, options: BakeOptions, *, targets: Sequence[str], **_more: object
    ) -> BakeResult:
        asked.append((json.loads(file.read_text(encoding="utf-8"))["target"], options))
        return BakeResult(digests={one: f"sha256:{one}" for one in targets}, executed=tuple(targets))

    monkeypatch.setattr(sourcebuild, "bake", bake)
    monkeypatch.setattr(sourcebuild, "default_builder", lambda: "default")
    words = ["--root", str(checkout), "build", "0.14.1-t4", "--no-verify", "--wheels", str(checkout / "wheels")]
    assert main(words) == 0
    assert "wheels/0.14.1-t4: 0 wheels" in capsys.readouterr().err
    (foundations, before), (bodies, options) = asked
    assert (len(foundations), before.writable) == (2, ())
    assert options.writable == (checkout / "wheels",)
    row = known.targets[-1].name
    image, wheels = bodies.pop(row), bodies.pop(f"wheels-{row}")
    assert bodies == {}
    assert (wheels.pop("target"), wheels.pop("output")) == ("wheels", [f"type=local,dest={checkout}/wheels/0.14.1-t4"])
    assert wheels == {key: image[key] for key in wheels}
    assert set(image) - set(wheels) == {"target", "output", "tags", "labels", "annotations"}
    (checkout / "wheels" / "0.14.1-t4").mkdir()
    (checkout / "wheels" / "0.14.1-t4" / "old.whl").touch()
    assert main(words) == UsageError.exit_code
    assert "wheels/0.14.1-t4 is not empty, expected a folder for these alone" in capsys.readouterr().err


# ---- caches in a registry


def test_what_was_compiled_is_kept_when_its_cache_could_not_be(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row is compiled all the same, and the end says what was not written."""
    place = "registry.example/sparks/build-cache"
    begin(monkeypatch, cached_bytes=0, free_bytes=10**12)
    project = open_project(checkout)
    known = replace(project.source_plan(project.select(["0.14.1-t4"])), open_pins=())
    monkeypatch.setattr(Project, "source_plan", lambda _project, _rows, _variant: known)
    monkeypatch.setattr(cacheasking, "_readable", lambda _project, own, _others: set(own))
    monkeypatch.setattr(Repository, "check_writable", lambda _repository: None)
    monkeypatch.setenv("DOCKER_CONFIG", str(checkout))
    asked: list[dict[str, Any]] = []

    def bake(
        file: Path, _metadata: Path, _options: BakeOptions, *, targets: Sequence[str], **_more: object
    ) -> BakeResult:
        asked.append(json.loads(file.read_text(encoding="utf-8"))["target"])
        unwritten = ("connection refused",) if len(asked) == 1 else ()
        return BakeResult(
            digests={one: f"sha256:{one}" for one in targets}, executed=tuple(targets), unwritten=unwritten
        )

    monkeypatch.setattr(sourcebuild, "bake", bake)
    monkeypatch.setattr(sourcebuild, "default_builder", lambda: "default")
    words = ["--root", str(checkout), "build", "0.14.1-t4", "--no-verify", "--cache-from", place, "--cache-to", place]
    assert main(words) == RegistryError.exit_code
    assert "1 not written: connection refused; what was built is in the engine" in capsys.readouterr().err
    assert [len(one) for one in asked] == [2, 1]
    for name, body in [pair for one in asked for pair in one.items()]:
        (read,), (kept,) = body["cache-from"], body["cache-to"]
        assert read.startswith(f"type=registry,ref={place}:cache-{name}-")
        assert kept.startswith(f"{read},mode=max,")


# ---- what it needs


def begin(monkeypatch: pytest.MonkeyPatch, *, cached_bytes: int, free_bytes: int) -> None:
    """A machine that can build but for its disk, and knows none of the images."""
    state = EngineState(
        version="28.5.2", architecture="arm64", has_containerd_store=True, data_folder="/", cached_bytes=cached_bytes
    )
    monkeypatch.setattr(sourcebuild, "engine_state", lambda: state)
    monkeypatch.setattr(sourcebuild, "reusable", lambda _plan, _prefix, **_named: {})
    monkeypatch.setattr(ready, "buildx_version", lambda: "v0.29.1")
    monkeypatch.setattr(preflight, "free_bytes", lambda _folder: free_bytes)


def test_a_disk_that_is_too_small_is_told_before_anything_is_compiled(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(monkeypatch, cached_bytes=10**12, free_bytes=10 * 10**9)
    project = open_project(checkout)
    known = replace(project.source_plan(project.select(["0.14.1-t4"])), open_pins=())
    monkeypatch.setattr(Project, "source_plan", lambda _project, _rows, _variant: known)
    assert main(["--root", str(checkout), "build", "0.14.1-t4"]) == PreflightError.exit_code
    told = capsys.readouterr().err
    assert "/ has 10.0 GB free: expected" in told
    assert not (checkout / "build").exists()
