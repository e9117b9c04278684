"""Claims about the command `doctor`: what it may be asked, what it prints, and how it ends."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT
from tests.hostbuilder import load_host, make_needs

from sparkbake import doctoring
from sparkbake.doctor import diagnose
from sparkbake.doctoring import doctor, needs_for, print_checks
from sparkbake.errors import UsageError
from sparkbake.hostvalues import Host
from sparkbake.project import open_project


def options(**changes: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"root": ROOT, "tag": None, "json": False, "ports": None, "model_dir": None, **changes})


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the host was asked; it answers as tests/data/hosts/spark does."""
    seen: dict[str, Any] = {}

    def gather(**named: Any) -> Host:
        seen.update(named)
        return load_host("spark")

    monkeypatch.setattr(doctoring, "gather", gather)
    return seen


def test_a_good_host_ends_with_0_and_a_table_of_all_checks(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(options()) == 0
    said = lines(capsys)
    assert said[:3] == [
        "this host, for any row (nox -s doctor -- TAG: for one)",
        "check about status found",
        "system machine ok Ubuntu 24.04.3 LTS, DGX OS 7.2.3, aarch64",
    ]
    assert said[-1] == "24 checks: 0 errors, 0 warnings, 0 not checked, 24 ok"


def test_a_row_is_named_and_its_image_asked_for_the_gpu(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    doctor(options(tag="0.32.0-t5"))
    assert asked["image"] == "docker.io/scitrera/dgx-spark-vllm:0.32.0-t5"
    assert not asked["candidates"]
    assert lines(capsys)[0] == "this host, for 0.32.0-t5"


def test_without_a_row_any_image_of_ours_is_asked_the_newest_first(asked: dict[str, Any]) -> None:
    doctor(options())
    assert asked["image"] == ""
    assert asked["candidates"][0] == "docker.io/scitrera/dgx-spark-vllm:0.32.0-t5"
    assert len(asked["candidates"]) == len(open_project(ROOT).rows)


def test_models_are_looked_for_where_they_are_said_to_be(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    doctor(options())
    assert asked["models"] == tmp_path
    doctor(options(model_dir=Path("/models")))
    assert asked["models"] == Path("/models")


def test_json_is_one_object_with_the_same_checks(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(options(json=True, ports=[22])) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == 1
    assert said["checks"][-1]["subject"] == "22"
    assert said["count"] == {"error": 1, "not checked": 0, "ok": 23, "warning": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag": "0.20.2-*"}, r"0\.20\.2-\*: it means 2 rows, expected one; `nox -s list` shows them"),
        ({"tag": "9.9.9-t9"}, r"9\.9\.9-t9"),
        ({"ports": [0]}, "--port 0: no port, expected one from 1 to 65535"),
        ({"ports": [65536]}, "--port 65536: no port, expected one from 1 to 65535"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        doctor(options(**changes))
    assert not asked


def test_without_a_row_the_newest_cuda_of_all_rows_counts() -> None:
    project = open_project(ROOT)
    first = project.select(["0.20.2-t4"])[0]
    assert (needs_for(project, first, (1,)).cuda, needs_for(project, None, (1,)).cuda) == ("13.0.2", "13.0.3")


def test_errors_come_before_warnings_each_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    print_checks(diagnose(load_host("spark-neglected"), make_needs()), "0.32.0-t5")
    said = lines(capsys)
    titles = [line.partition(":")[0] for line in said if line.startswith(("error: ", "warning: "))]
    assert titles == sorted(titles)
    at = said.index("warning: nvcc (/usr/bin/nvcc)")
    assert said[at + 1 : at + 5] == [
        "found CUDA 12.0, which hides /usr/local/cuda/bin/nvcc",
        "expected CUDA 13",
        "why what is compiled here fails: nvcc fatal: Unsupported gpu architecture 'compute_121'; "
        "images bring their own",
        "what to do sudo apt-get remove nvidia-cuda-toolkit, or put /usr/local/cuda/bin first in PATH",
    ]
