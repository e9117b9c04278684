"""Claims about the report of the script that looks inside an image."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.builders import load_script

probe = load_script("probe")


def raising(error: BaseException) -> Callable[[], None]:
    def check() -> None:
        raise error

    return check


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("nvcc ended with 1"), "RuntimeError: nvcc ended with 1"),
        (OSError(2, "No such file"), "FileNotFoundError: [Errno 2] No such file"),
        (KeyError("CUDACXX"), "KeyError: 'CUDACXX'"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_an_error_is_kept_with_its_type(error: BaseException, told: str) -> None:
    verdict = probe.judge(raising(error))
    assert verdict["error"] == told
    assert "value" not in verdict
    assert verdict["seconds"] >= 0


def test_a_value_is_kept_as_it_is() -> None:
    verdict = probe.judge(lambda: {"version": "2.11.0"})
    assert verdict["value"] == {"version": "2.11.0"}
    assert "error" not in verdict


def report_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checks: dict[str, Callable[[], Any]]
) -> dict[str, dict[str, Any]]:
    monkeypatch.setattr(probe, "CHECKS", {"vllm_command": lambda: "0.20.2", **checks})
    probe.main()
    *before, last = capsys.readouterr().out.splitlines()
    assert before == []
    report: dict[str, dict[str, Any]] = json.loads(last)
    return report


def test_the_report_is_the_last_line_whatever_a_check_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check() -> str:
        print("INFO: hello\n{}")  # noqa: T201  (as an import may)
        sys.stdout.write("no line end")
        return "fine"

    report = report_of(monkeypatch, capsys, {"machine": check})
    assert report["machine"]["value"] == "fine"
    assert report["vllm_command"]["value"] == "0.20.2"


def test_a_check_that_fails_hides_no_other(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    checks = {"first": lambda: "1", "second": raising(SystemExit("gone")), "third": lambda: "3"}
    report = report_of(monkeypatch, capsys, checks)
    found = {name: one.get("value", one.get("error")) for name, one in report.items()}
    assert found == {"first": "1", "second": "SystemExit: gone", "third": "3", "vllm_command": "0.20.2"}


def test_the_slowest_check_may_fail_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(monkeypatch, capsys, {"vllm_command": raising(RuntimeError("no `vllm` on PATH"))})
    assert report["vllm_command"]["error"] == "RuntimeError: no `vllm` on PATH"


@pytest.mark.parametrize("name", ["distributions", "machine", "python", "vllm_command"])
def test_every_check_that_verify_reads_is_made(name: str) -> None:
    assert name in probe.CHECKS
