"""Claims about the inputs of a build that come from a bundle: what is looked at before, and what is said."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.builders import make_plan
from tests.bundlebuilder import INSTALLER

from sparkbake import bundlefiles
from sparkbake.bundle import Bundle, BundledFile, bundle_json, locked_digest, wheel_path, wheels_of
from sparkbake.bundlefiles import Meter, require_inputs
from sparkbake.errors import BundleError
from sparkbake.model import Plan

TARGET = replace(make_plan("0.20.2-t4").targets[0], installer=INSTALLER)
PLAN = Plan(targets=(TARGET,))
OTHER = replace(make_plan("0.20.2-t5").targets[0], installer=INSTALLER)


def write(folder: Path, *, architectures: Sequence[str] = ("amd64", "arm64"), tag: str = TARGET.tag) -> list[Path]:
    """A bundle of the plan, as far as the manifest goes; its wheels have the right size and are empty of sense."""
    files = {wheel_path(one): one for one in wheels_of(TARGET)}
    made = Bundle(
        tag=tag,
        base=TARGET.base.name,
        lock_digest=locked_digest(TARGET),
        base_digest="sha256:" + 64 * "d",
        architectures=tuple(architectures),
        files=tuple(
            BundledFile(path=path, sha256=one.sha256, size_bytes=one.size_bytes) for path, one in files.items()
        ),
    )
    (folder / "wheels").mkdir(parents=True)
    (folder / "bundle.json").write_text(bundle_json(made))
    for path, one in files.items():
        (folder / path).write_bytes(bytes(one.size_bytes))
    return [folder / path for path in files]


def faults(folder: Path, plan: Plan = PLAN) -> tuple[str, ...]:
    with pytest.raises(BundleError) as caught:
        require_inputs(folder, plan, lambda _text: None)
    return caught.value.faults


def test_every_spoilt_wheel_is_named_and_how_to_mend_it(tmp_path: Path) -> None:
    first, second, third, *_rest = write(tmp_path)
    first.unlink()
    second.write_bytes(b"short")
    found = faults(tmp_path)
    assert found[0] == f"{first}: missing, expected 1000 bytes"
    assert found[1] == f"{second}: has 5 bytes, expected 1000"
    assert found[2].startswith(f"{third}: changed: its hash is 541b3e9daa09, expected ")
    assert found[-1] == (
        "copy the bundle anew, or mend it where there is a network: "
        f"nox -s bundle -- 0.20.2-t4 --base debian-13 --output {tmp_path}"
    )


def test_the_bundle_of_another_row_is_told_before_anything_is_read(tmp_path: Path) -> None:
    write(tmp_path, tag="0.32.0-t5")
    (found,) = faults(tmp_path)
    assert found.startswith(f"{tmp_path}: is of 0.32.0-t5 on debian-13, expected 0.20.2-t4 on debian-13; make it anew")


def test_several_rows_need_more_than_one_bundle_has(tmp_path: Path) -> None:
    write(tmp_path)
    (found,) = faults(tmp_path, Plan(targets=(TARGET, OTHER)))
    assert "expected 0.20.2-t5" in found


def test_a_base_for_other_machines_alone_is_told(tmp_path: Path) -> None:
    write(tmp_path, architectures=["riscv64"])
    machine = os.uname().machine
    assert faults(tmp_path) == (
        f"{tmp_path}: has its base for riscv64, and this machine is {machine}; make the bundle on a machine like this "
        "one",
    )


def test_a_folder_that_is_no_bundle_is_told(tmp_path: Path) -> None:
    (found,) = faults(tmp_path)
    assert found.startswith(f"{tmp_path / 'bundle.json'}: cannot be read: ")
    (tmp_path / "bundle.json").write_text(json.dumps({}))
    assert faults(tmp_path)[0].startswith(f"{tmp_path / 'bundle.json'}: not the manifest of a bundle: ")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"{tmp_path}: cannot be read: .*; copy the bundle anew"):
        bundlefiles.hash_of(tmp_path, Meter("x", 1, lambda _text: None))


def test_a_long_work_says_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clock = iter([0.0, 1.0, 6.0, 6.0, 7.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    meter = Meter("x: checking", 4 * 10**9, said.append)
    meter.add(10**9)
    meter.add(10**9)
    meter.add(10**9)
    assert said == ["x: checking: 2.00 of 4.00 GB"]
