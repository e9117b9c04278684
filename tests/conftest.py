"""Options and guards of all tests: no process, no socket, and no engine unless a test says that it needs one."""

import signal
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

from tests.imagebuilder import Layers, config_of, make_checkout, make_layers, target_of, with_member, write_image  # noqa: E402
from tests.memoryregistry import Memory  # noqa: E402
from tests.ocibuilder import make_file, pack  # noqa: E402
from tests.verified import BACKDOOR, Result, Verify, look  # noqa: E402

from sparkbake import registry  # noqa: E402
from sparkbake.project import Project  # noqa: E402

# Deterministic, so that the default run says the same for the same sources, and leaves no files behind.
settings.register_profile("sparkbake", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("sparkbake")

# A shell starts jobs in the background with these ignored, nohup with the last, and they and all they start keep it so:
# no test that sends one would end.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

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
    is_loopback = "loopback" in request.fixturenames
    for name in ("connect", "connect_ex", "bind"):
        refusal = _refusal("open a socket")
        guard = _only_loopback(getattr(socket.socket, name), refusal) if is_loopback else refusal
        monkeypatch.setattr(socket.socket, name, guard)
    monkeypatch.setattr(socket, "getaddrinfo", _numeric if is_loopback else _refusal("look up a host"))
    if "real_processes" in request.fixturenames:
        return
    for module in [one for name, one in sys.modules.items() if name.startswith(("sparkbake.", "spark."))]:
        if getattr(module, "subprocess", None) is subprocess:
            monkeypatch.setattr(module, "subprocess", _NoProcesses())


@pytest.fixture
def real_processes() -> None:
    """For the tests of the door to processes itself: let it start programs of this machine."""


@pytest.fixture
def loopback() -> None:
    """For the tests of what listens and connects: sockets of this machine alone, and no names of hosts."""


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


# ---- a small checkout, and the images of it that `verify` looks into


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def layers(project: Project) -> Layers:
    return make_layers(project)


@pytest.fixture
def verify(project: Project, tmp_path: Path) -> Verify:
    """Write an image and look into it; see `verified.look`."""

    def verified(made: Layers, *, of: Project = project, **more: Any) -> Result:
        return look(of, tmp_path / "image", made, **more)

    return verified


@pytest.fixture(scope="module")
def clean(project: Project, layers: Layers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean image, as a layout."""
    return write_image(tmp_path_factory.mktemp("clean") / "image", layers, config_of(target_of(project)))


@pytest.fixture(scope="module")
def tampered(project: Project, layers: Layers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a file of nobody, as an archive."""
    folder = tmp_path_factory.mktemp("tampered")
    made = with_member(layers, make_file(BACKDOOR, b"#!/bin/sh\n"))
    return pack(write_image(folder / "image", made, config_of(target_of(project))), folder / "image.tar")


# ---- the guard


def _refusal(deed: str) -> Any:
    def refuse(*_arguments: object, **_named: object) -> NoReturn:
        pytest.fail(f"this test would {deed}; fake process.run or process.stream, or mark it `engine` or `network`")

    return refuse


_HERE = ("127.0.0.1", "::1", "0.0.0.0")  # noqa: S104


def _only_loopback(real: Any, refusal: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        # A path is a socket that is a file.
        return real(self, address) if isinstance(address, str) or address[0] in _HERE else refusal()

    return guarded


_LOOK_UP = socket.getaddrinfo


def _numeric(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:  # noqa: A002, PLR0917
    """What a machine without a resolver finds."""
    return _LOOK_UP(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)


class _NoProcesses:
    """Stands in for the module subprocess: all of it but what starts processes."""

    run = Popen = call = check_call = check_output = staticmethod(_refusal("start a process"))

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Memory:
    """A registry in memory, in the place of what speaks to one."""
    made = Memory()
    monkeypatch.setattr(registry, "exchange", made)
    monkeypatch.setattr(registry, "_WAITS_S", (0.0, 0.0))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return made
