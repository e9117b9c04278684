"""Claims about the scripts that compile and install inside builds: jobs, patches, packages, guards."""

import argparse
import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from tests.builders import ROOT, load_script

jobs, patch, packages, guard, fetched = (
    load_script(name) for name in ("jobs", "patch", "packages", "guard", "fetched")
)
GIB = 2**30


def error_of(capsys: pytest.CaptureFixture[str], act: Callable[[], object]) -> str:
    with pytest.raises(SystemExit) as ended:
        act()
    return str(ended.value.code) if isinstance(ended.value.code, str) else capsys.readouterr().err


# ---- jobs


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str]]:
    """A machine with 8 cores and 20 GiB free; gives what the script prints for the step, and for people."""
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\nMemAvailable:   20971520 kB\n", encoding="utf-8")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(8)))
    monkeypatch.delenv("BUILD_JOBS", raising=False)

    def say(gib: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
        places = [f"--{one}={tmp_path / one}" for one in ("meminfo", "cgroup", "asked")]
        monkeypatch.setattr("sys.argv", ["jobs.py", "--gib-per-job", gib, *places])
        jobs.main()
        said = capsys.readouterr()
        return said.out.strip(), said.err.strip()

    return say


@pytest.mark.parametrize(("gib", "expected"), [("1", "8"), ("4", "3"), ("8", "1"), ("64", "1")])
def test_as_many_jobs_as_cores_and_memory_allow(
    machine: Callable[..., tuple[str, str]], capsys: pytest.CaptureFixture[str], gib: str, expected: str
) -> None:
    why = f"8 cores, 20.0 GiB free, 8 of them kept, {gib} a job"
    assert machine(gib, capsys) == (expected, f"jobs: {expected} ({why})")


def test_a_container_s_limit_counts_where_it_is_less(
    machine: Callable[..., tuple[str, str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "cgroup/memory.max").write_text(f"{18 * GIB}\n", encoding="utf-8")
    (tmp_path / "cgroup/memory.current").write_text(f"{2 * GIB}\n", encoding="utf-8")
    assert machine("4", capsys) == ("2", "jobs: 2 (8 cores, 16.0 GiB free, 8 of them kept, 4 a job)")
    (tmp_path / "cgroup/memory.max").write_text("max\n", encoding="utf-8")
    assert machine("4", capsys)[0] == "3"


# What a step that compiles does, between two lines that say when.
STEP = """exec 9>>"$1"
python3 "$2" --gib-per-job 1 --turn 9 >/dev/null
echo "begin $3" >>"$4"; sleep 0.3; echo "end $3" >>"$4"
"""


def test_steps_beside_each_other_compile_one_after_another(tmp_path: Path) -> None:
    """Each would take all of the memory that is free."""
    script, log = ROOT / "recipes/scripts/jobs.py", tmp_path / "log"
    steps = [
        subprocess.Popen(
            ["bash", "-c", STEP, "step", tmp_path / "turn", script, name, log], stderr=subprocess.PIPE, text=True
        )
        for name in ("llvm", "vllm", "torch")
    ]
    said = "".join(one.communicate(timeout=60)[1] for one in steps)
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in lines] == ["begin", "end"] * len(steps)
    assert all(begun.split()[1] == ended.split()[1] for begun, ended in zip(lines[::2], lines[1::2], strict=True))
    assert "jobs: another step compiles; waiting for it to end" in said


def test_every_step_that_asks_for_jobs_waits_for_its_turn() -> None:
    """All lock the same file, in the cache that every compile step has."""
    asking = [one for one in (ROOT / "recipes/scripts").glob("*.sh") if "jobs.py" in one.read_text(encoding="utf-8")]
    assert len(asking) >= 3
    for one in asking:
        text = one.read_text(encoding="utf-8")
        assert text.index("exec 9>>/root/.cache/ccache/sparkbake-turn\n") < text.index("--turn 9)\n"), one.name
        assert text.count("jobs.py --") == text.count("--turn 9)"), one.name


def test_who_asks_for_a_number_gets_it_and_the_secret_goes_first(
    machine: Callable[..., tuple[str, str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BUILD_JOBS", "12")
    assert machine("4", capsys) == ("12", "jobs: 12 (as asked for)")
    (tmp_path / "asked").write_text("3\n", encoding="utf-8")
    assert machine("4", capsys)[0] == "3"


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_number_of_jobs_that_is_none(
    machine: Callable[..., tuple[str, str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
) -> None:
    monkeypatch.setenv("BUILD_JOBS", text)
    said = error_of(capsys, lambda: machine("4", capsys))
    assert said == f"jobs: error: BUILD_JOBS: got '{text}', expected a number from 1 to 9999"


def test_a_kernel_that_does_not_tell_its_memory(
    machine: Callable[..., tuple[str, str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\n", encoding="utf-8")
    said = error_of(capsys, lambda: machine("4", capsys))
    assert "has no MemAvailable; say how many jobs there may be: BUILD_JOBS" in said


# ---- patches

TEXT = "--- a/list.txt\n+++ b/list.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "patches").mkdir()
    (tmp_path / "tree/list.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    return tmp_path / "tree"


def run_patches(tree: Path, monkeypatch: pytest.MonkeyPatch, *asked: tuple[str, str, str], count: int = 1) -> None:
    """Apply patches, each a name, its text and what is to be in list.txt afterwards."""
    for name, text, _added in asked:
        (tree.parent / "patches" / name).write_text(text, encoding="utf-8")
    effects = [
        {"name": name, "checks": [{"file": "list.txt", "text": added, "count": count}]} for name, _text, added in asked
    ]
    (tree.parent / "effects.json").write_text(json.dumps(effects), encoding="utf-8")
    argv = ["patch.py", "--patches", str(tree.parent / "patches"), "--effects", str(tree.parent / "effects.json")]
    monkeypatch.setattr("sys.argv", [*argv, str(tree)])
    patch.main()


def test_patches_apply_in_their_order(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second = TEXT.replace("-two\n+2", "-2\n+2 zwei")
    run_patches(tree, monkeypatch, ("1.patch", TEXT, "2"), ("2.patch", second, "zwei"))
    assert (tree / "list.txt").read_text(encoding="utf-8") == "one\n2 zwei\nthree\n"
    assert capsys.readouterr().out == (
        "patch: 1.patch: applied, with its 1 effects\npatch: 2.patch: applied, with its 1 effects\n"
    )


def test_a_patch_without_exact_context_changes_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "list.txt").write_text("one\ntwo\nTHREE\n", encoding="utf-8")
    said = error_of(capsys, lambda: run_patches(tree, monkeypatch, ("1.patch", TEXT, "2")))
    assert said.startswith(f"patch: error: 1.patch does not apply to {tree}; nothing was changed:\n")
    assert (tree / "list.txt").read_text(encoding="utf-8") == "one\ntwo\nTHREE\n"


def test_a_patch_whose_effect_is_there_already(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = error_of(capsys, lambda: run_patches(tree, monkeypatch, ("1.patch", TEXT, "one")))
    assert f"1.patch: {tree} has its effect already; is it patched, or another release?" in said


def test_a_patch_without_its_effect(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = error_of(capsys, lambda: run_patches(tree, monkeypatch, ("1.patch", TEXT, "2"), count=2))
    assert f"1.patch applied to {tree} without its effect: list.txt has '2' 1 times, expected 2" in said


def test_a_tree_without_the_file_of_a_patch(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "list.txt").rename(tree / "other.txt")
    said = error_of(capsys, lambda: run_patches(tree, monkeypatch, ("1.patch", TEXT, "2")))
    assert f"{tree} has no list.txt; is it the release that the patch is for?" in said


# ---- packages and guards


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "venv/lib/python3.12/site-packages"
    found.mkdir(parents=True)
    monkeypatch.setattr(guard, "SITE", found)
    monkeypatch.setattr(guard, "RECORD", tmp_path / "share/torch.json")
    return found


def install(site: Path, name: str, version: str = "2.10.0", text: str = "ours\n") -> Path:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (site / name).mkdir(exist_ok=True)
    (site / name / "__init__.py").write_text(text, encoding="utf-8")
    (info / "RECORD").write_text(f"{name}/__init__.py,,\n{info.name}/RECORD,,\n", encoding="utf-8")
    return info


def record(site: Path, said: object, **expected: str) -> None:
    """Record the torch of an environment whose Python says something of it."""
    python = site.parent / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n", encoding="utf-8")
    python.chmod(0o755)
    setattr(guard, "PYTHON", python)  # noqa: B010
    versions = {"torch": "2.10.0", "torchvision": "0.25.0", "torchaudio": "2.10.0", **expected}
    given = argparse.Namespace(cuda="13.1.0", nccl="2.29.2-1")
    guard.record_torch({name: versions[name] for name in guard.OURS}, given)


SAID = {"version": "2.10.0", "cuda": "13.1", "nccl": "2.29.2", "cudnn": 91501, "lapack": True}


def install_all(site: Path) -> None:
    for name, version in (("torch", "2.10.0"), ("torchvision", "0.25.0"), ("torchaudio", "2.10.0")):
        install(site, name, version)


def test_a_torch_that_stays_passes_and_bytecode_does_not_count(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_all(site)
    record(site, SAID)
    (site / "torch/__pycache__").mkdir()
    (site / "torch/__pycache__/__init__.cpython-312.pyc").write_bytes(b"x")
    guard.check_torch("installing environment.txt")
    assert "after installing environment.txt: torch is still the one compiled here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"cuda": None, "nccl": None}, "torch 2.10.0 is a build for the CPU alone; CUDA 13.1.0 was to be compiled in"),
        ({"cuda": "12.9"}, "torch 2.10.0 is built for CUDA 12.9, expected 13.1.0"),
        ({"nccl": "2.28.9"}, "torch 2.10.0 uses NCCL 2.28.9, expected 2.29.2-1"),
        ({"cudnn": None}, "torch 2.10.0 is compiled without cuDNN; was its package there"),
        ({"lapack": False}, "torch 2.10.0 is compiled without LAPACK: no BLAS with it was found; name a package"),
    ],
)
def test_a_torch_that_is_another_build(
    site: Path, capsys: pytest.CaptureFixture[str], said: dict[str, str | bool | None], message: str
) -> None:
    install_all(site)
    assert message in error_of(capsys, lambda: record(site, {**SAID, **said}))
    assert not guard.RECORD.exists()


def test_a_torch_of_another_version_and_one_that_is_not_there(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"expected one torch in {site}, found none" in error_of(capsys, lambda: record(site, SAID))
    install_all(site)
    said = error_of(capsys, lambda: record(site, SAID, torchvision="0.26.0"))
    assert "torchvision is 0.25.0, expected 0.26.0" in said


def test_a_torch_that_does_not_import(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_all(site)
    setattr(guard, "PYTHON", Path("/bin/false"))  # noqa: B010
    given = argparse.Namespace(cuda="13.1.0", nccl="2.29.2-1")
    versions = {"torch": "2.10.0", "torchvision": "0.25.0", "torchaudio": "2.10.0"}
    assert "torch does not import: " in error_of(capsys, lambda: guard.record_torch(versions, given))


@pytest.fixture
def image(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision has its library for images, in an environment whose torch is an empty module."""
    (site / "torch.py").touch()
    (site / "torchvision").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setattr(guard, "PYTHON", Path(sys.executable))
    return site / "torchvision/image.so"


def test_a_torchvision_that_can_read_images(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (loadable,) = (one.origin for one in [importlib.util.find_spec("_json")] if one and one.origin)
    shutil.copy(loadable, image)
    guard.guard_images()
    assert capsys.readouterr().out == f"guard: {image} loads\n"


def test_a_torchvision_that_cannot_read_images(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file or directory" in error_of(capsys, guard.guard_images)
    image.write_text("none", encoding="utf-8")
    said = error_of(capsys, guard.guard_images)
    assert f"{image} does not load: " in said
    assert said.endswith("name the packages that have its libraries in the matrix, under source.runtime_os_packages\n")


def test_a_torch_that_something_replaced(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_all(site)
    record(site, SAID)
    (site / "torch/__init__.py").write_text("theirs\n", encoding="utf-8")
    said = error_of(capsys, lambda: guard.check_torch("installing environment.txt"))
    assert "after installing environment.txt, torch 2.10.0 is not the torch 2.10.0 that was compiled here" in said
    install(site, "torch", "2.10.0+cpu")
    assert "expected one torch in" in error_of(capsys, lambda: guard.check_torch("installing environment.txt"))


@pytest.mark.parametrize(
    ("version", "expected"), [("2.10.0-rc6", "2.10.0rc6"), ("2.10.0+cu131", "2.10.0"), ("0.25.0rc4", "0.25.0rc4")]
)
def test_versions_are_compared_as_python_writes_them(version: str, expected: str) -> None:
    assert guard.plain(version) == expected


@pytest.fixture
def nccl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An NCCL, in a tree that stands for the image's."""
    home = tmp_path / "image/opt/nccl"
    (home / "lib").mkdir(parents=True)
    (home / "include").mkdir()
    (home / "lib/libnccl.so.2.29.2").write_bytes(b"elf")
    (home / "lib/libnccl.so.2").symlink_to("libnccl.so.2.29.2")
    text = "#define NCCL_MAJOR 2\n#define NCCL_MINOR 29\n#define NCCL_PATCH 2\n"
    (home / "include/nccl.h").write_text(text, encoding="utf-8")
    monkeypatch.setattr(guard, "NCCL", home)
    monkeypatch.setattr(guard, "nccl_files", lambda walk=guard.nccl_files: walk(tmp_path / "image"))
    monkeypatch.setattr(guard, "loaded_from", lambda: [f"{home}/lib/libnccl.so.2"])
    return home


def test_one_nccl_is_one_nccl(nccl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nccl.parent / "libnccl-net.so").write_bytes(b"a plug-in")
    guard.guard_nccl("2.29.2-1")
    assert f"one NCCL, 2.29.2-1: {nccl}/lib/libnccl.so.2.29.2" in capsys.readouterr().out


@pytest.mark.parametrize("other", ["usr/lib/libnccl.so.2.28.9", "opt/nccl/lib/libnccl_static.a", "v/nccl/libnccl.so.2"])
def test_a_second_nccl_is_named_with_its_place(nccl: Path, capsys: pytest.CaptureFixture[str], other: str) -> None:
    place = nccl.parents[1] / other
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    place.write_bytes(b"elf")
    said = error_of(capsys, lambda: guard.guard_nccl("2.29.2-1"))
    assert f"expected one NCCL, {nccl}/lib/libnccl.so.2.29.2; found {place}, too: remove what brings it" in said


def test_an_nccl_of_another_version(nccl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = error_of(capsys, lambda: guard.guard_nccl("2.30.7-1"))
    assert f"expected one NCCL, {nccl}/lib/libnccl.so.2.30.7; found {nccl}/lib/libnccl.so.2.29.2" in said
    (nccl / "lib/libnccl.so.2.29.2").unlink()
    assert "libnccl.so.2.29.2 is not there; NCCL 2.29.2-1 was asked for" in error_of(
        capsys, lambda: guard.guard_nccl("2.29.2-1")
    )


def test_headers_of_another_nccl_and_a_loader_that_would_take_another(
    nccl: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "loaded_from", list)
    said = error_of(capsys, lambda: guard.guard_nccl("2.29.2-1"))
    assert f"a program would load libnccl.so.2 from nowhere, expected {nccl}/lib alone" in said
    header = nccl / "include/nccl.h"
    header.write_text(header.read_text(encoding="utf-8").replace("29", "28"), encoding="utf-8")
    said = error_of(capsys, lambda: guard.guard_nccl("2.29.2-1"))
    assert "nccl.h is of NCCL 2.28.2, expected 2.29.2" in said


def test_what_this_build_compiles_never_comes_from_the_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "environment.txt"
    file.write_text("ray==2.50.0 --hash=sha256:1\ntorch==2.10.0 --hash=sha256:2\n", encoding="utf-8")
    said = error_of(capsys, lambda: packages.install_hashed(Path("uv"), file))
    assert said == (
        "packages: error: environment.txt names torch, which this build compiles; take it out and lock again\n"
    )


def test_a_folder_without_wheels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = error_of(capsys, lambda: packages.install_wheels(Path("uv"), tmp_path))
    assert said == f"packages: error: {tmp_path} has no wheel\n"


def test_what_ends_badly_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(capsys, lambda: packages.run("false")) == "packages: error: false ended with 1\n"


def test_a_trace_of_the_installer_goes_with_its_line(site: Path) -> None:
    info = install(site, "six", "1.0")
    (info / "uv_cache.json").write_text("{}", encoding="utf-8")
    with (info / "RECORD").open("a", encoding="utf-8") as file:
        file.write(f"{info.name}/uv_cache.json,sha256=x,2\n")
    packages.forget(info / "uv_cache.json")
    assert not (info / "uv_cache.json").exists()
    rows = list(csv.reader((info / "RECORD").read_text(encoding="utf-8").splitlines()))
    assert rows == [["six/__init__.py", "", ""], [f"{info.name}/RECORD", "", ""]]


def test_the_index_and_certificates_that_were_given_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "CA", tmp_path / "ca.pem")
    monkeypatch.setattr(packages, "INDEX", tmp_path / "index")
    assert packages.outside() == {"UV_HTTP_TIMEOUT": "300"}
    (tmp_path / "ca.pem").write_text("PEM", encoding="utf-8")
    (tmp_path / "index").write_text("https://u:p@index.example/simple\n", encoding="utf-8")
    found = packages.outside()
    assert found["SSL_CERT_FILE"] == found["PIP_CERT"] == str(tmp_path / "ca.pem")
    assert found["UV_DEFAULT_INDEX"] == found["PIP_INDEX_URL"] == "https://u:p@index.example/simple"


@pytest.mark.parametrize("script", [jobs, patch, packages, guard, fetched])
def test_a_script_says_what_it_is_for(script: ModuleType) -> None:
    assert re.match(r"Runs inside a build: ", script.__doc__ or "")


# ---- what vLLM's CMake is handed, and vLLM's requirements

CMAKE = """\
set(CUTLASS_REVISION "v4.2.1")
if(DEFINED ENV{VLLM_CUTLASS_SRC_DIR})
  FetchContent_Declare(cutlass SOURCE_DIR $ENV{VLLM_CUTLASS_SRC_DIR})
else()
  FetchContent_Declare(
    cutlass
    GIT_REPOSITORY https://git.example/NVIDIA/cutlass.git
    # Please keep this in sync with CUTLASS_REVISION; a GIT_TAG v0 in a comment is none.
    GIT_TAG ${CUTLASS_REVISION}
    GIT_PROGRESS TRUE)
endif()
"""
CUTLASS = {
    "variable": "VLLM_CUTLASS_SRC_DIR",
    "repository": "https://git.example/nvidia/cutlass",
    "tag": "v4.2.1",
    "commit": 40 * "1",
}


def test_what_a_variable_takes_the_place_of_is_read_from_each_file(tmp_path: Path) -> None:
    (tmp_path / "cmake/external_projects").mkdir(parents=True)
    (tmp_path / "CMakeLists.txt").write_text(CMAKE, encoding="utf-8")
    text = 'set(A_TAG "1")\nset(A_TAG "2")\nif(DEFINED ENV{A_SRC_DIR})\nF(a GIT_REPOSITORY x/a GIT_TAG "${A_TAG}")\n'
    (tmp_path / "cmake/external_projects/a.cmake").write_text(text, encoding="utf-8")
    assert fetched.declared(tmp_path) == {
        "VLLM_CUTLASS_SRC_DIR": [("https://git.example/NVIDIA/cutlass.git", "v4.2.1")],
        "A_SRC_DIR": [("x/a", "1"), ("x/a", "2")],
    }
    assert fetched.declared_in("F(a GIT_REPOSITORY x/a GIT_TAG 1)\n") == [("", [("x/a", "1")])]


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, None),
        ({"tag": None, "commit": "v4.2.1"}, None),
        ({"tag": None}, "but this release names https://git.example/NVIDIA/cutlass.git at v4.2.1; correct the matrix"),
        ({"repository": "https://git.example/fork/cutlass"}, "got https://git.example/fork/cutlass at v4.2.1, but"),
        ({"variable": "GONE_SRC_DIR"}, "GONE_SRC_DIR: is handed over, but this release fetches nothing in its place"),
    ],
)
def test_what_is_handed_over_is_what_the_release_names(changed: dict[str, str | None], fault: str | None) -> None:
    found = dict(fetched.declared_in(CMAKE))
    faults = fetched.faults_of({**CUTLASS, **changed}, found)
    assert faults == [] if fault is None else fault in faults[0]


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[[], "subprocess.CompletedProcess[str]"]:
    """Runs prepare-vllm.sh on a tree without patches; what is below /dev/sparkbake in a build is in a folder here."""
    tree, tools = tmp_path / "vllm", tmp_path / "tools"
    (tree / "requirements").mkdir(parents=True)
    (tools / "patches").mkdir(parents=True)
    (tree / "pyproject.toml").write_text('requires = [\n    "cmake",\n]\n', encoding="utf-8")
    (tree / "requirements/cuda.txt").write_text("numba == 0.61.2\n", encoding="utf-8")
    (tree / "use_existing_torch.py").write_text("", encoding="utf-8")
    (tree / "CMakeLists.txt").write_text(CMAKE, encoding="utf-8")
    (tools / "effects.json").write_text("[]", encoding="utf-8")
    (tools / "fetches.json").write_text(json.dumps([CUTLASS]), encoding="utf-8")
    scripts = ROOT / "recipes/scripts"
    for name in ("fetched.py", "patch.py"):
        (tools / name).write_text((scripts / name).read_text(encoding="utf-8"), encoding="utf-8")
    text = (scripts / "prepare-vllm.sh").read_text(encoding="utf-8").replace("/dev/sparkbake", str(tools))
    (tools / "prepare-vllm.sh").write_text(text, encoding="utf-8")

    def run() -> "subprocess.CompletedProcess[str]":
        argv = ["bash", str(tools / "prepare-vllm.sh"), str(tree), "use_existing_torch.py"]
        environment = {**os.environ, "FILE_EPOCH": "499162500", "LC_ALL": "C.UTF-8"}
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=30)

    return run


def test_a_tree_that_asks_for_no_torch_passes(prepare: Callable[[], "subprocess.CompletedProcess[str]"]) -> None:
    done = prepare()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "fetched: 1 sources are what this release would fetch\nprepare-vllm: nothing asks for a torch any more\n"
    )


def test_another_commit_than_the_release_names_ends_the_build(
    prepare: Callable[[], "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    (tmp_path / "tools/fetches.json").write_text(json.dumps([{**CUTLASS, "tag": "v4.2.0"}]), encoding="utf-8")
    done = prepare()
    assert done.returncode == 1
    assert done.stderr == (
        "fetched: error: VLLM_CUTLASS_SRC_DIR: got https://git.example/nvidia/cutlass at v4.2.0, but this release "
        "names https://git.example/NVIDIA/cutlass.git at v4.2.1; correct the matrix\n"
    )


@pytest.mark.parametrize("line", ["torch==2.9.0", "torchvision >= 0.24", "torchaudio~=2.9"])
def test_a_requirement_of_torch_that_upstream_s_script_left(
    prepare: Callable[[], "subprocess.CompletedProcess[str]"], tmp_path: Path, line: str
) -> None:
    (tmp_path / "vllm/requirements/cuda.txt").write_text(f"{line}\n", encoding="utf-8")
    done = prepare()
    assert done.returncode == 1
    assert "use_existing_torch.py left these, which would replace torch:\n" in done.stderr
    assert line in done.stderr


def test_requirements_that_cannot_be_searched_do_not_count_as_none(
    prepare: Callable[[], "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    (tmp_path / "vllm/requirements/cuda.txt").unlink()
    (tmp_path / "vllm/requirements").rmdir()
    done = prepare()
    assert done.returncode == 1
    assert f"pyproject.toml and requirements/ of {tmp_path}/vllm cannot be searched" in done.stderr


def test_a_script_of_upstream_s_that_moved(
    prepare: Callable[[], "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    (tmp_path / "vllm/use_existing_torch.py").unlink()
    assert "vLLM has no use_existing_torch.py; it moves between releases: correct its path" in prepare().stderr


def test_every_ccache_tells_compilers_apart_by_their_content() -> None:
    """By their times it would not: all files of our images have one."""
    scripts = sorted((ROOT / "recipes/scripts").glob("*.sh"))
    using = [one for one in scripts if "CCACHE_DIR=" in one.read_text(encoding="utf-8")]
    assert [one.name for one in using] == ["build-llvm.sh", "build-nccl.sh", "build-wheel.sh"]
    assert all("CCACHE_COMPILERCHECK=content" in one.read_text(encoding="utf-8") for one in using)
