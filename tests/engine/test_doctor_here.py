"""The doctor on the machine that the tests run on, as a user starts it: whole, with nothing faked."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.docscommands import ROOT, RUN_HERE
from tests.hostbuilder import KINDS

pytestmark = pytest.mark.engine

HAS_GPU = shutil.which("nvidia-smi") is not None


def run_doctor(home: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT / "src"), **variables}
    command = [sys.executable, "-m", "sparkbake.cli", "--root", str(ROOT), "doctor", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def checks_in(done: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, Any]]:
    """Id to the check; of several with one id the first."""
    found: dict[str, dict[str, Any]] = {}
    for one in json.loads(done.stdout)["checks"]:
        found.setdefault(one["id"], one)
    return found


@pytest.mark.parametrize("command", RUN_HERE)
def test_a_command_of_the_guides_does_here_what_they_say(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)[3:]
    done = run_doctor(tmp_path, *(words[1:] if words else []))
    assert done.stderr == ""
    assert re.search(RUN_HERE[command], done.stdout, re.MULTILINE), done.stdout
    if not HAS_GPU:
        assert done.returncode == 1


def test_the_answer_has_every_check_and_the_keys_that_the_guide_promises(tmp_path: Path) -> None:
    done = run_doctor(tmp_path, "--json")
    said = json.loads(done.stdout)
    assert set(said) == {"schema", "count", "checks", "needs", "host"}
    assert list(dict.fromkeys(one["id"] for one in said["checks"])) == KINDS
    for one in said["checks"]:
        assert set(one) == {"id", "status", "subject", "found", "expected", "why", "remedy"}
        assert bool(one["remedy"]) == (one["status"] in ("error", "warning")), one
    statuses = [one["status"] for one in said["checks"]]
    assert said["count"] == {each: statuses.count(each) for each in ("error", "warning", "not checked", "ok")}
    assert done.returncode == int("error" in statuses)


def test_it_finds_what_is_here(tmp_path: Path) -> None:
    """Held against what this machine says itself, another way."""
    found = checks_in(run_doctor(tmp_path, "--json"))
    server = ["docker", "version", "--format", "{{.Server.Version}}"]
    version = subprocess.run(server, capture_output=True, text=True, check=True).stdout.strip()
    assert (found["docker"]["status"], found["docker"]["found"]) == ("ok", version)
    assert found["system"]["status"] == ("ok" if os.uname().machine == "aarch64" else "warning")
    free = shutil.disk_usage("/dev/shm").free
    assert found["shm"]["status"] == ("ok" if free >= 4 * 10**9 else "warning")
    assert found["hf-token"]["found"] == "none"
    if not HAS_GPU:
        assert found["gpu"]["status"] == "error"
        assert {found[one]["found"] for one in ("driver", "cuda", "container-gpu")} == {"because no NVIDIA GPU answers"}


def test_an_engine_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    done = run_doctor(tmp_path, "--json", DOCKER_HOST=f"unix://{tmp_path}/docker.sock")
    found = checks_in(done)["docker"]
    if found["status"] == "not checked":
        assert found["found"] == "because this is a container, and no engine answers in it"
    else:
        assert found["found"].startswith("Cannot connect to the Docker daemon")
        assert done.returncode == 1


def test_a_token_is_found_and_never_printed(tmp_path: Path) -> None:
    token = "hf_" + "s3cret" * 5
    for words in ((), ("--json",)):
        done = run_doctor(tmp_path, *words, HF_TOKEN=token)
        assert "HF_TOKEN" in done.stdout
        assert token not in done.stdout + done.stderr


def test_a_port_that_something_listens_on_is_an_error(tmp_path: Path) -> None:

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = checks_in(run_doctor(tmp_path, "--port", str(port), "--json"))["port"]
    assert (found["status"], found["subject"]) == ("error", str(port))
