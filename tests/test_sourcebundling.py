"""Claims about `bundle` of compiled rows as a user calls it; tests/engine/test_source_offline.py makes a whole one."""

import json
from pathlib import Path

import pytest
from tests.builders import ROOT

from sparkbake.cli import main
from sparkbake.errors import LockError, UsageError
from sparkbake.project import open_project
from sparkbake.sourcebundle import wheels_of_plan
from sparkbake.sourcebundling import rounds


def bundle(*words: str) -> int:
    return main(["--root", str(ROOT), "bundle", *words])


def test_a_row_with_open_pins_is_refused_and_each_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert bundle("0.14.0rc2-t4", "--output", str(tmp_path / "bundle")) == LockError.exit_code
    told = capsys.readouterr().err
    assert "0.14.0rc2-t4: vllm: commit of v0.14.0rc2\n" in told
    assert "2.10.0-rc6-cu131: torch: commit of v2.10.0-rc6\n" in told
    assert not (tmp_path / "bundle").exists()


def test_a_dry_run_says_what_would_be_in_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert bundle("0.22.1-t5", "--dry-run", "--json", "--output", str(tmp_path / "bundle")) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"nccl", "nccl-tests", "torch", "torchvision", "torchaudio", "triton", "llvm", "vllm", "cutlass"} <= set(
        said["sources"]
    )
    assert [one.partition("@")[0].rpartition(":")[0] for one in said["images"]] == ["docker.io/nvidia/cuda"] * 2
    assert said["crates"] is True
    assert {"cargo-1.91", "rustc-1.91"} <= set(said["os_packages"]["rust"])
    assert said["wheels_bytes"] > 10**9
    assert bundle("0.14.1-t4", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "bundle of 0.14.1-t4" in told
    assert [line.split()[1:] for line in told.splitlines() if line.startswith("crates ")] == [["none"]]
    assert not (tmp_path / "bundle").exists()


def test_a_dry_run_of_a_row_with_open_pins_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle("0.14.0rc2-t4", "--dry-run") == 0
    assert "0.14.0rc2-t4: vllm: commit of v0.14.0rc2" in capsys.readouterr().out


def test_another_base_than_the_chip_s_images_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle("0.14.1-t4", "--base", "debian-13") == UsageError.exit_code
    assert (
        "--base: got 'debian-13', but compiled rows are built on CUDA's images; leave it out" in capsys.readouterr().err
    )


@pytest.mark.parametrize("tag", ["0.14.1-t4", "0.22.1-t5"])
def test_the_index_is_never_asked_for_two_versions_of_one_package_at_once(tag: str) -> None:
    """It is asked by resolving, and nothing resolves to both."""
    project = open_project(ROOT)
    wheels = wheels_of_plan(project.source_plan(project.select([tag])))
    found = rounds(wheels)
    assert sorted(one.file for some in found for one in some) == [one.file for one in wheels]
    for some in found:
        versions = {(one.name, one.version) for one in some}
        assert len(versions) == len({name for name, _version in versions})
