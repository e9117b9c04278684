"""Claims about the command `kernels` that need no CMake: what is asked for, what is missing, what is printed."""

import argparse
import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT

from sparkbake import kernelrun, process
from sparkbake.cmakerun import follow, is_build_file
from sparkbake.errors import LockError, PreflightError, ProcessError, SparkbakeError, UsageError
from sparkbake.kernelrun import as_json, asked, kernels, page_releases
from sparkbake.kernels import Computed
from sparkbake.patches import Selection
from sparkbake.project import open_project

WHEELS_ONLY = 'lock-version = "1.0"\n[[packages]]\nname = "vllm"\nversion = "0.15.0"\n'
FILES = {"CMakeLists.txt": "# nothing\n"}


def options(
    *tags: str, arch: str | None = "12.0f", cuda: str | None = None, variant: str | None = None
) -> argparse.Namespace:
    return argparse.Namespace(
        root=ROOT, tags=list(tags), arch=arch, cuda=cuda, json=False, write=False, as_released=False, variant=variant
    )


def fail(output: str) -> Callable[..., str]:
    def run(*_arguments: object, **_named: object) -> str:
        raise ProcessError(f"cmake: exit status 1\n{output}", returncode=1, output=output)

    return run


# ---- what is asked for


def test_a_row_has_the_cuda_version_of_its_foundation() -> None:
    assert asked(open_project(ROOT), ["0.20.2-t4", "0.20.2-t5"], cuda=None) == {"0.20.2": "13.0.2"}


def test_a_version_of_vllm_is_known_without_a_row() -> None:
    found = asked(open_project(ROOT), ["0.23.0", "0.20.2"], cuda=None)
    assert found == {"0.23.0": "13.0", "0.20.2": "13.0.2"}


def test_another_cuda_version_can_be_asked_for() -> None:
    assert asked(open_project(ROOT), ["0.20.2-*"], cuda="12.9") == {"0.20.2": "12.9"}


def test_every_row_is_meant_when_none_is_named() -> None:
    project = open_project(ROOT)
    assert set(asked(project, [], cuda=None)) == {row.release.vllm for row in project.rows}


@pytest.mark.parametrize("tag", ["0.20.2-t9", "nightly", "*-t9"])
def test_an_unknown_tag_is_refused(tag: str) -> None:
    with pytest.raises(UsageError, match=r"no such tag|matches no tag"):
        kernels(options(tag))


@pytest.mark.parametrize("cuda", ["13", "13.x", "", "13.0.0.0", "13.0;-DX=1"])
def test_what_is_no_cuda_version_is_refused(cuda: str) -> None:
    with pytest.raises(UsageError, match=rf"^--cuda: got '{re.escape(cuda)}', expected a version such as 13\.0"):
        kernels(options("0.20.2-t4", cuda=cuda))


def test_what_is_no_architecture_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(UsageError, match=r"^--arch: got '12\.0x', expected"):
        kernels(options("0.20.2-t4", arch="12.0x"))


# ---- variants

Seen = list[tuple[list[str], str, str | None]]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Releases, architecture and variant of every computation; nothing is computed."""
    seen: Seen = []

    def compute(
        _project: object, releases: Mapping[str, str], _series: object, *, arch: str, **named: Any
    ) -> dict[str, Computed]:
        seen.append((list(releases), arch, named["variant"]))
        return {}

    monkeypatch.setattr(kernelrun, "compute", compute)
    return seen


def test_a_variant_is_computed_for_its_own_architecture(computed: Seen) -> None:
    assert kernels(options("0.14.1-*", arch=None)) == 0
    assert kernels(options("0.14.1-*", arch=None, variant="12.1")) == 0
    assert kernels(options("0.14.1-*", arch="12.1f", variant="12.1")) == 0
    assert computed == [
        (["0.14.1"], "12.0f", None),
        (["0.14.1"], "12.1a", "12.1"),
        (["0.14.1"], "12.1f", "12.1"),
    ]


def test_without_a_tag_every_row_is_meant_that_has_the_variant(computed: Seen) -> None:
    assert kernels(options(arch=None, variant="12.1")) == 0
    ((releases, _arch, _variant),) = computed
    assert releases == ["0.13.0", "0.14.0", "0.14.1", "0.16.0", "0.17.0", "0.18.1", "0.19.1", "0.22.1"]


@pytest.mark.parametrize("arch", [None, "12.1a"])
def test_a_variant_that_there_is_none_of_is_refused(arch: str | None) -> None:
    with pytest.raises(UsageError, match=r"^--variant: got '12\.2', expected one of 12\.1$"):
        kernels(options(arch=arch, variant="12.2"))


def test_a_row_without_the_variant_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"^vllm 0\.15\.1: no variant '12\.1' of it: native-lists: the sources"):
        kernels(options("0.15.1-t4", arch=None, variant="12.1"))


# ---- what is missing


def test_a_release_without_source_distribution_is_an_error_after_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SPARKBAKE_CACHE", str(tmp_path))
    monkeypatch.setattr(process, "run", lambda *_arguments, **_named: WHEELS_ONLY)
    why = "vllm 0.15.0: not computed: there is no sdist; what is said of CMakeLists.txt follows from 0.14.1 and 0.16.0"
    with pytest.raises(LockError, match=f"^{re.escape(why)}"):
        kernels(options("0.15.0"))
    assert capsys.readouterr().out.startswith(why)


def test_a_release_that_nothing_is_claimed_of_is_an_error_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """The package index does not know it; it is not asked."""
    why = "vllm 0.14.0rc2: not computed: the commit of its tag is not known, and the package index does not have it"
    with pytest.raises(LockError, match=f"^{re.escape(why)}$"):
        kernels(options("0.14.0rc2-t4"))
    assert capsys.readouterr().out == f"{why}\n\n"


def test_without_cmake_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreflightError, match=r"^cmake: not found on PATH; .* 3\.26 or newer: `uv tool install cmake`"):
        follow(ROOT, "0.32.0", FILES, arch="12.0f", cuda="13.0")


@pytest.mark.parametrize(
    ("output", "kind", "message"),
    [
        (
            "CMake Error at CMakeLists.txt:1:\n  CMake 3.26 or higher is required.  You are running version 3.25.1\n",
            PreflightError,
            r"^cmake: got 3\.25\.1, vLLM 0\.32\.0 wants 3\.26 or newer: `uv tool install cmake`, first on PATH",
        ),
        (
            "CMake Error at CMakeLists.txt:230 (message):\n  No supported CUDA architectures\n",
            ProcessError,
            r"(?s)^vllm 0\.32\.0: its build files end with an error for TORCH_CUDA_ARCH_LIST=12\.0f:.*No supported",
        ),
    ],
)
def test_what_cmake_refuses_is_named(
    output: str, kind: type[SparkbakeError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "/bin/cmake")
    monkeypatch.setattr(process, "run", fail(output))
    with pytest.raises(kind, match=message):
        follow(ROOT, "0.32.0", FILES, arch="12.0f", cuda="13.0")


def test_cmake_runs_the_driver_in_the_folder_of_the_build_files(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def run(argv: Sequence[object], *, timeout_s: float, cwd: Path) -> str:
        assert timeout_s
        assert (cwd / "CMakeLists.txt").read_text(encoding="utf-8") == "# nothing\n"
        seen.extend(str(one) for one in argv)
        (trace,) = (word.partition("=")[2] for word in seen if word.startswith("--trace-redirect="))
        Path(trace).write_text('{"version": {"major": 1, "minor": 2}}\n', encoding="utf-8")
        return ""

    monkeypatch.setattr(shutil, "which", lambda _name: "/bin/cmake")
    monkeypatch.setattr(process, "run", run)
    with pytest.raises(LockError, match=r"^vllm 0\.32\.0: its CMakeLists.txt could not be followed: 0 lists"):
        follow(ROOT, "0.32.0", FILES, arch="12.0f", cuda="13.0")
    assert seen[-1] == str(ROOT / "tools" / "kernels" / "driver.cmake")
    assert Path(seen[-1]).is_file()
    assert "-DGENCODE=-gencode arch=compute_120f,code=sm_120f" in seen
    assert "-DCUDA_COMPILER=13.0" in seen


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("CMakeLists.txt", True),
        ("cmake/external_projects/qutlass.cmake", True),
        ("cmake/hipify.py", False),
        ("csrc/CMakeLists.txt", False),
    ],
)
def test_only_build_files_are_read(path: str, wanted: bool) -> None:  # noqa: FBT001  (as pytest gives it)
    assert is_build_file(path) is wanted


# ---- what is printed


class FakeCMake:
    """Plays CMake: writes the trace of build files with one list for 12.x."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, archs: Sequence[str]) -> None:
        self.archs = archs
        monkeypatch.setattr(shutil, "which", lambda _name: "/bin/cmake")
        monkeypatch.setattr(process, "run", self.run)

    def run(self, argv: Sequence[object], *, timeout_s: float, cwd: Path) -> str:
        assert timeout_s
        (trace,) = [str(one).partition("=")[2] for one in argv if str(one).startswith("--trace-redirect=")]
        records: list[object] = [{"version": {"major": 1, "minor": 2}}]
        for i, (variable, archs) in enumerate((("CUDA_ARCHS", ["12.0f"]), ("FP4_ARCHS", self.archs))):
            line = {"file": f"{cwd}/CMakeLists.txt", "line": i + 1}
            inner = {"file": f"{cwd}/cmake/utils.cmake", "line": 1}
            records += [
                {**line, "cmd": "cuda_archs_loose_intersection", "args": [variable, "9.0a;12.0f", "12.0f"]},
                {**inner, "cmd": "set", "args": [variable, *archs, "PARENT_SCOPE"]},
            ]
        sources_ = ["SRCS", "a.cu;g_*.cu", "CUDA_ARCHS", "12.0f"]
        records += [
            {"file": f"{cwd}/CMakeLists.txt", "line": 3, "cmd": "set_gencode_flags_for_srcs", "args": sources_},
        ]
        Path(trace).write_text("".join(f"{json.dumps(one)}\n" for one in records), encoding="utf-8")
        return ""


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache with a small source distribution, so that the package index is not asked."""
    folder = tmp_path / "sources"
    folder.mkdir()
    content = b'# intersects CUDA_ARCHS\n# intersects FP4_ARCHS\nset_gencode(CUDA_ARCHS "${CUDA_ARCHS}")\n'
    with tarfile.open(folder / "vllm-0.32.0.tar.gz", mode="w:gz") as archive:
        entry = tarfile.TarInfo("vllm-0.32.0/CMakeLists.txt")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    sha256 = hashlib.sha256((folder / "vllm-0.32.0.tar.gz").read_bytes()).hexdigest()
    (folder / "vllm-0.32.0.tar.gz.sha256").write_text(f"{sha256}  vllm-0.32.0.tar.gz\n", encoding="utf-8")
    monkeypatch.setenv("SPARKBAKE_CACHE", str(tmp_path))


@pytest.mark.usefixtures("cached")
def test_a_release_of_which_the_chip_gets_all_is_exit_status_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeCMake(monkeypatch, archs=["12.0f"])
    assert kernels(options("0.32.0")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "vllm 0.32.0: kernels for TORCH_CUDA_ARCH_LIST=12.0f, CUDA 13.0.3"
    assert lines[1].split() == ["family", "for", "sources", "upstream's", "list", "place"]
    assert lines[2].split() == ["CUDA_ARCHS", "12.0f", "1", "and", "generated", "9.0a;12.0f", "CMakeLists.txt:1"]
    assert lines[3].split() == ["FP4", "12.0f", "-", "9.0a;12.0f", "CMakeLists.txt:2"]


@pytest.mark.usefixtures("cached")
def test_a_variant_is_only_of_releases_that_have_been_looked_at() -> None:
    with pytest.raises(UsageError, match=r"vllm 0\.32\.0"):
        kernels(options("0.32.0", variant="12.1"))


def test_a_variant_as_released_is_none() -> None:
    given = {**vars(options("0.14.1-t4", variant="12.1")), "as_released": True}
    with pytest.raises(UsageError, match=r"^--as-released: a variant is its patches; name its architecture with"):
        kernels(argparse.Namespace(**given))


@pytest.mark.parametrize(
    ("tag", "as_released", "said"),
    [
        ("0.14.1-t4", False, "with our patches: 0002-marlin-lists.patch, 0003-"),
        ("0.14.1-t4", True, "as released"),
        ("0.32.0-t5", False, "as released"),
    ],
)
def test_what_is_compiled_is_computed_with_its_patches(
    tag: str,
    as_released: bool,  # noqa: FBT001  (as pytest gives it)
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = FILES["CMakeLists.txt"] + '# intersects FP4_ARCHS\nset_gencode(CUDA_ARCHS "${CUDA_ARCHS}")\n'
    seen: list[str] = []

    def patch(_sdist: object, selection: Selection) -> dict[str, str]:
        seen.extend(one.name for one in selection.patches)
        return {"CMakeLists.txt": text}

    FakeCMake(monkeypatch, archs=["12.0f"])
    monkeypatch.setattr(kernelrun, "is_kept", lambda *_: True)
    monkeypatch.setattr(kernelrun, "fetch_sdist", lambda *_: Path("vllm.tar.gz"))
    monkeypatch.setattr(kernelrun, "read_members", lambda *_: {"CMakeLists.txt": text})
    monkeypatch.setattr(kernelrun, "patched_files", patch)
    assert kernels(argparse.Namespace(**{**vars(options(tag)), "as_released": as_released})) == 0
    assert ("0002-marlin-lists.patch" in seen) is said.startswith("with")
    assert f"\n{said}" in capsys.readouterr().out


@pytest.mark.usefixtures("cached")
def test_kernels_that_the_chip_would_not_get_are_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeCMake(monkeypatch, archs=[])
    assert kernels(options("0.32.0")) == 1
    out = capsys.readouterr().out
    assert "1 findings" in out
    assert re.search(r"kernels-missing +error +vllm 0\.32\.0: FP4 \(CMakeLists\.txt:2\) +nothing for", out)


@pytest.mark.usefixtures("cached")
def test_the_json_has_each_release_with_families_and_findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeCMake(monkeypatch, archs=[])
    assert kernels(argparse.Namespace(**{**vars(options("0.32.0")), "json": True})) == 1
    found = json.loads(capsys.readouterr().out)
    (release,) = found["releases"]
    assert found["schema"] == 1
    assert (release["vllm"], release["computed"], release["arch"], release["cuda"]) == (
        "0.32.0", True, "12.0f", "13.0.3",
    )  # fmt: skip
    assert [one["archs"] for one in release["families"]] == [["12.0f"], []]
    assert [one["id"] for one in release["findings"]] == ["kernels-missing"]


def test_the_json_names_a_release_that_was_not_computed() -> None:
    assert as_json({"0.15.0": "there is no sdist"}, {})["releases"] == [
        {"vllm": "0.15.0", "computed": False, "because": "there is no sdist", "findings": []}
    ]


# ---- the page


@pytest.mark.parametrize(
    "more", [{"arch": "12.1a"}, {"variant": "12.1"}, {"tags": ["0.32.0-t5"]}, {"cuda": "13.0"}, {"as_released": True}]
)
def test_what_the_page_is_about_is_not_for_the_command_line_to_say(more: dict[str, object]) -> None:
    given = {**vars(options(arch=None)), "write": True, **more}
    with pytest.raises(UsageError, match=r"^--write: the page says itself what it is about; leave everything else out"):
        kernels(argparse.Namespace(**given))


def test_the_page_says_which_releases_it_is_about() -> None:
    text = "# x\n<!-- GENERATED by `nox -s kernels -- --write` for 0.13.0 0.32.0; do not edit -->\n"
    assert page_releases(text) == ("0.13.0", "0.32.0")


def test_a_page_without_releases_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^docs/kernels\.md: has no line 'GENERATED by `nox -s kernels -- --write`"):
        page_releases("# x\n")


def test_the_real_page_has_every_release_of_the_matrix() -> None:
    text = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    releases = {row.release.vllm for row in open_project(ROOT).rows}
    assert releases <= set(page_releases(text))
    tables = text.partition("<!-- kernels -->")[2].partition("<!-- end of kernels -->")[0]
    assert set(re.findall(r"(?m)^\| ([0-9][^ ]*) \|", tables)) == set(page_releases(text))
    unknown = dict(re.findall(r"(?m)^\| ([^ ]+) \| - \| - \| - \| not computed: (.+) \|$", tables))
    assert set(unknown) == {"0.14.0rc2", "0.15.0", "0.15.1"}
    assert all(unknown.values())
