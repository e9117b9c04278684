"""Claims about how the self-test judges and reports, with stand-ins for the checks, which only a GPU can run."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
from tests.builders import load_script
from tests.runtimebuilder import stand_in

Check = Callable[[], dict[str, Any]]


@pytest.fixture(scope="module")
def selftest() -> ModuleType:
    return load_script("selftest_main", "runtime/selftest/__main__.py")


def good() -> dict[str, Any]:
    os.write(1, b"a library says something\n")
    return {"version": "1.0"}


def wrong() -> NoReturn:
    raise RuntimeError("relative error 0.5, expected 0.01 at most")


def is_killed() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def leaves() -> NoReturn:
    sys.exit(0)


def never_ends() -> NoReturn:
    while True:
        time.sleep(60)


# ---- one check


def test_a_check_that_passes_says_what_it_found(selftest: ModuleType) -> None:
    found = selftest.attempt(good)
    assert found == {"ok": True, "version": "1.0", "seconds": found["seconds"]}
    assert isinstance(found["seconds"], float)


@pytest.mark.parametrize(
    ("check", "error"),
    [
        (wrong, "RuntimeError: relative error 0.5, expected 0.01 at most"),
        (is_killed, "its process was ended by SIGKILL"),
        (leaves, "its process ended by itself"),
    ],
)
def test_a_check_that_fails_says_how_and_ends_nothing_else(selftest: ModuleType, check: Check, error: str) -> None:
    found = selftest.attempt(check)
    assert (found["ok"], found["error"]) == (False, error)


def test_a_check_that_never_ends_is_ended(selftest: ModuleType) -> None:
    found = selftest.attempt(never_ends, 1)
    assert (found["ok"], found["error"]) == (False, "no end after 1 s")
    assert 1 <= found["seconds"] < 30


def test_a_component_that_is_not_there_is_told(selftest: ModuleType) -> None:
    """There is no torch where this runs."""
    assert selftest.attempt(selftest.matmul_bf16)["error"] == "ModuleNotFoundError: No module named 'torch'"


def test_a_long_error_is_cut(selftest: ModuleType) -> None:
    def fails() -> NoReturn:
        raise ValueError(99_999 * "x")

    assert len(selftest.attempt(fails)["error"]) == 2000


def test_a_check_gets_its_alarm_and_the_report_none(selftest: ModuleType) -> None:
    selftest.attempt(good)
    assert signal.alarm(0) == 0


# ---- the report


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    selftest: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run the self-test with other checks; exit status, standard output, standard error."""
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"reference": "dev/image:1", "plan_digest": "sha256:ab"}), encoding="utf-8")
    monkeypatch.setattr(selftest, "MANIFEST", manifest)
    saved = os.dup(1)

    def main(checks: tuple[Check, ...], *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(selftest, "CHECKS", checks)
        monkeypatch.setattr(sys, "argv", ["selftest", *words])
        status = selftest.main()
        sys.stdout.flush()
        os.dup2(saved, 1)
        out, err = capfd.readouterr()
        return status, out, err

    yield main
    os.dup2(saved, 1)
    os.close(saved)


def test_the_report_is_json_and_nothing_else(run: Run) -> None:
    status, out, err = run((good,))
    found = json.loads(out)
    assert status == 0
    assert found == {
        "schema": 1,
        "image": "dev/image:1",
        "plan_digest": "sha256:ab",
        "time": found["time"],
        "ok": True,
        "checks": {"good": {"ok": True, "version": "1.0", "seconds": found["checks"]["good"]["seconds"]}},
    }
    assert found["time"].endswith("+00:00")
    assert "spark: selftest: good\n" in err


def test_one_that_fails_hides_no_other(run: Run) -> None:
    status, out, err = run((is_killed, good, wrong))
    assert status == 1
    found = json.loads(out)
    assert found["ok"] is False
    assert [(name, one["ok"]) for name, one in found["checks"].items()] == [
        ("is_killed", False), ("good", True), ("wrong", False),
    ]  # fmt: skip
    assert err.endswith(
        "spark: selftest: is_killed: its process was ended by SIGKILL\n"
        "spark: selftest: wrong: RuntimeError: relative error 0.5, expected 0.01 at most\n"
    )


def test_the_report_is_written_to_a_file(run: Run, tmp_path: Path) -> None:
    status, out, _err = run((good,), "--output", str(tmp_path / "report.json"))
    assert (status, out) == (0, "")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["ok"] is True


def test_a_report_takes_the_place_of_an_older_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(9999 * "x", encoding="utf-8")
    run((good,), "--output", str(tmp_path / "report.json"))
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["ok"] is True


@pytest.mark.parametrize("name", ["nowhere/report.json", "folder", "pipe"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(run: Run, tmp_path: Path, name: str) -> None:
    """The last is one that permissions allow to be written: a pipe that nobody reads."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit) as ended:
        run((never_ends,), "--output", str(tmp_path / name))
    assert ended.value.code == 2


# ---- the driver


@pytest.fixture
def driver(selftest: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """What the check says of a machine whose nvidia-smi names this driver."""
    needs = {"cuda": "13.0.3", "least_driver": "580.95.05", "drivers": [["12.9", "575.57.08"], ["13.0", "580.65.06"]]}
    (tmp_path / "needs.json").write_text(json.dumps(needs), encoding="utf-8")
    monkeypatch.setattr(selftest, "NEEDS", tmp_path / "needs.json")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def asked(version: str) -> dict[str, Any]:
        stand_in(tmp_path, "nvidia-smi", f"echo '{version}'\n")
        found: dict[str, Any] = selftest.attempt(selftest.driver)
        return found

    return asked


@pytest.mark.usefixtures("real_processes")
@pytest.mark.parametrize("version", ["580.95.05", "580.126.09", "590.44.01"])
def test_a_driver_that_will_do_passes(driver: Callable[[str], dict[str, Any]], version: str) -> None:
    found = driver(version)
    assert (found["ok"], found["version"], found["at_least"]) == (True, version, "580.95.05")


@pytest.mark.usefixtures("real_processes")
@pytest.mark.parametrize("version", ["580.95.04", "580.9", "575.57.08", "unknown", ""])
def test_a_driver_that_is_too_old_does_not(driver: Callable[[str], dict[str, Any]], version: str) -> None:
    found = driver(version)
    assert (found["ok"], found["error"]) == (False, f"RuntimeError: driver {version!r}, expected 580.95.05 or newer")


def test_the_checks_are_those_that_only_a_gpu_can_make(selftest: ModuleType) -> None:
    assert [one.__name__ for one in selftest.CHECKS] == [
        "device", "driver", "matmul_bf16", "matmul_fp8", "nccl", "triton_kernel", "flashinfer_call",
    ]  # fmt: skip
