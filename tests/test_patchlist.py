"""Claims about the command `patches`."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT

from sparkbake.errors import BuildError, UsageError
from sparkbake.patchlist import patches


def options(**named: Any) -> argparse.Namespace:
    given: dict[str, Any] = {"root": ROOT, "release": None, "json": False, "apply": None, "variant": None}
    return argparse.Namespace(**(given | named))


def test_a_release_is_listed_with_its_patches_and_why_it_needs_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert patches(options(release="0.15.0")) == 0
    said = capsys.readouterr().out
    assert "vllm 0.15.0\n  note: there is no sdist" in said
    assert "  fp8-moe: 0004-fp8-moe-triton.patch\n    FP8 MoE of compressed-tensors" in said
    assert "  fp8-linear: not needed\n    since 0.15.0" in said
    assert "  native-guard [variant 12.1]: not possible\n" in said


def test_all_releases_are_listed_and_those_nothing_is_claimed_of(capsys: pytest.CaptureFixture[str]) -> None:
    patches(options())
    said = capsys.readouterr().out
    assert said.startswith("vllm 0.13.0\n")
    assert "vllm 0.14.0rc2: nothing is claimed of it yet: the commit of its tag is not known" in said


def test_machines_get_the_same_with_hashes(capsys: pytest.CaptureFixture[str]) -> None:
    patches(options(release="0.14.1", json=True))
    (one,) = json.loads(capsys.readouterr().out)
    found = {outcome["topic"]: outcome for outcome in one["outcomes"]}
    assert found["fp8-moe"]["files"] == ["vllm/_custom_ops.py"]
    assert len(found["fp8-moe"]["sha256"]) == 64
    assert found["glm-mla"]["outcome"] == "not-possible"
    assert found["native-lists"]["variant"] == "12.1"


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"apply": Path("tree")}, "--apply needs the release whose sources the tree has"),
        ({"variant": "12.1"}, "--variant chooses what --apply applies; the list has all variants"),
        ({"release": "0.14.0rc2"}, "vllm 0.14.0rc2: nothing is claimed of it yet"),
    ],
)
def test_what_makes_no_sense_is_refused(named: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        patches(options(**named))


def test_a_tree_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"0002-marlin-lists\.patch: .* has no CMakeLists\.txt"):
        patches(options(release="0.22.1", apply=tmp_path))


@pytest.mark.usefixtures("real_processes")
def test_patches_are_applied_and_each_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with just what the context of the patch needs, far apart as it is there."""
    text = (ROOT / "patches/vllm/0002-marlin-lists.patch").read_text(encoding="utf-8")
    lines = [line[1:] for line in text.splitlines() if line[:1] in (" ", "-") and not line.startswith("---")]
    (tmp_path / "CMakeLists.txt").write_text("# first\n" + "\n".join(lines) + "\n# last\n", encoding="utf-8")
    assert patches(options(release="0.22.1", apply=tmp_path)) == 0
    said = capsys.readouterr().out
    assert said.startswith("0002-marlin-lists.patch: applied, and its effect is there\n1 patches, sha256:")
    assert (tmp_path / "CMakeLists.txt").read_text(encoding="utf-8").count("12.0f") == 3
