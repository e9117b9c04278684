"""Options and guards of all tests: no process, no socket, and no engine unless a test says that it needs one."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

# Here, where sockets are free: as it is imported, urllib3 binds one to learn whether there is IPv6.
import docker  # noqa: F401
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
# However pytest is started, `tests.builders` is found.
sys.path.insert(0, str(ROOT))

# Deterministic, so that the default run says the same for the same sources, and leaves no files behind.
settings.register_profile("sparkbake", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("sparkbake")

LENT = {"engine": "--run-engine", "network": "--run-network"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-engine", action="store_true", help="run the tests that need a Docker Engine, too")
    parser.addoption("--run-network", action="store_true", help="run the tests that read the package index, too")
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/ anew; read the diff afterwards")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs more than a default run has; asked for, it runs, and fails where a tool is missing."""
    missing = {mark for mark, option in LENT.items() if not config.getoption(option)}
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in missing)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def no_outside_world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that starts a process or opens a connection by mistake fails, and says how to mend it."""
    if any(request.node.get_closest_marker(mark) for mark in LENT):
        return
    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, _refusal("open a socket"))
    monkeypatch.setattr(socket, "getaddrinfo", _refusal("look up a host"))
    if "real_processes" in request.fixturenames:
        return
    guard = _NoProcesses()
    for module in [one for name, one in sys.modules.items() if name.startswith("sparkbake.")]:
        if getattr(module, "subprocess", None) is subprocess:
            monkeypatch.setattr(module, "subprocess", guard)


@pytest.fixture
def real_processes() -> None:
    """For the tests of the door to processes itself: let it start programs of this machine."""


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


def _refusal(deed: str) -> Any:
    def refuse(*_arguments: object, **_named: object) -> NoReturn:
        pytest.fail(f"this test would {deed}; fake process.run or process.stream, or mark it `engine` or `network`")

    return refuse


class _NoProcesses:
    """Stands in for the module subprocess: all of it but what starts processes."""

    run = Popen = call = check_call = check_output = staticmethod(_refusal("start a process"))

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)
