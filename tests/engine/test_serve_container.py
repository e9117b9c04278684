"""`serve` from start to end in a real container, with a stand-in for vllm, and as the GPU a device that is none.

What the entrypoint, the health check and the engine do is real.
"""

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.network]

STAND_IN = ROOT / "tests/engine/vllm_stand_in.py"
WAIT_S = 60
SECRETS = ("geheim-key", "geheim-token", "geheim-json")


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


class Container:
    """A container that serves."""

    def __init__(self, image: str, *words: str, options: tuple[str, ...] = ()) -> None:
        self.name = f"sparkbake-{uuid.uuid4().hex[:8]}"
        docker(
            "run", "--detach", "--name", self.name, "--network", "none", "--device", "/dev/null:/dev/nvidiactl",
            "--volume", f"{STAND_IN}:/opt/venv/bin/vllm:ro", "--env", "STAND_IN=/tmp",
            "--health-interval", "1s", "--health-start-interval", "1s", *options, image, *words,
        )  # fmt: skip

    @property
    def state(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(docker("inspect", self.name))[0]["State"]
        return body

    @property
    def log(self) -> str:
        return docker("logs", self.name)

    def tell(self, what: str) -> None:
        docker("exec", self.name, "touch", f"/tmp/{what}")

    def until(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What the engine says of it, when that is so; or at the end of all patience."""
        end = time.monotonic() + WAIT_S
        while not is_so(state := self.state) and time.monotonic() < end:
            time.sleep(0.2)
        return state

    def becomes(self, status: str) -> str:
        """Wait for a state of health, and return the answer that made it."""
        state = self.until(lambda one: one["Health"]["Status"] == status)
        assert state["Health"]["Status"] == status, (state, self.log)
        return str(state["Health"]["Log"][-1]["Output"]).strip()


@pytest.fixture
def serving(ray_image: str) -> Iterator[Callable[..., Container]]:
    """Start containers, which are removed in the end."""
    made: list[Container] = []

    def start(*words: str, options: tuple[str, ...] = ()) -> Container:
        made.append(Container(ray_image, *words, options=options))
        return made[-1]

    yield start
    for one in made:
        subprocess.run(["docker", "rm", "--force", "--volumes", one.name], capture_output=True, check=False)


def test_a_server_lives_from_loading_to_its_own_exit_status(serving: Callable[..., Container]) -> None:
    """As any user, with a read-only root."""
    extra = """--api-ke geheim-key --headers '{"Authorization": "Bearer geheim-json"}'"""
    variables = ("MODEL=a/b", "PORT=8123", "HF_TOKEN=geheim-token", f"VLLM_EXTRA_ARGS={extra}")
    options = [word for one in variables for word in ("--env", one)]
    one = serving("serve", options=(*options, "--user", "1000:1000", "--read-only", "--tmpfs", "/tmp"))
    state = one.until(lambda now: len(now["Health"]["Log"]) > 3)
    assert state["Health"]["Status"] == "starting", (state, one.log)
    assert "http://127.0.0.1:8123/health: [Errno 111] Connection refused" in state["Health"]["Log"][-1]["Output"]
    one.tell("loaded")
    assert one.becomes("healthy") == "http://127.0.0.1:8123/health: 200"
    one.tell("sick")
    assert one.becomes("unhealthy") == "http://127.0.0.1:8123/health: 503"
    began = time.monotonic()
    docker("stop", "--timeout", "30", one.name)
    assert time.monotonic() - began < 20
    assert one.state["ExitCode"] == 7
    log = one.log
    assert "stand-in: HOME=/tmp USER=spark uid=1000\n" in log
    assert "stand-in: bye\n" in log
    shown = """vllm serve a/b --port 8123 --api-ke '***' --headers '{"Authorization": "***"}'"""
    assert f"spark: {shown}\n" in log
    assert not [secret for secret in SECRETS if secret in log]


def test_a_server_that_loads_ends_when_the_container_is_stopped(serving: Callable[..., Container]) -> None:
    one = serving("serve", "m", "--port", "8000")
    one.until(lambda _now: "stand-in: HOME" in one.log)
    docker("stop", "--timeout", "30", one.name)
    assert one.state["ExitCode"] == 7


def test_a_server_that_is_started_in_an_older_container_may_load_there(serving: Callable[..., Container]) -> None:
    one = serving("sleep", "600", options=("--init",))
    assert one.becomes("healthy") == "nothing is served here"
    time.sleep(6)  # after which it no longer counts as one that came with its container
    docker("exec", "--detach", one.name, "spark", "serve", "m", "--port", "8000")
    state = one.until(lambda now: "it may load for half an hour" in now["Health"]["Log"][-1]["Output"])
    assert "it may load for half an hour" in state["Health"]["Log"][-1]["Output"], state
    assert state["Health"]["Status"] == "healthy"
    one.tell("loaded")
    one.until(lambda now: "/health: 200" in now["Health"]["Log"][-1]["Output"])
    one.tell("sick")
    assert one.becomes("unhealthy") == "http://127.0.0.1:8000/health: 503"


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("MODEL=--port", "serve: MODEL is '--port', expected a name such as Qwen/Qwen3-1.7B, or a folder"),
        ("KV_CACHE_DTYPE=fp9", "serve: KV_CACHE_DTYPE is 'fp9', expected one of auto, bfloat16, "),
        ("TENSOR_PARALLEL_SIZE=7", "serve: a model over 7 GPUs, and 1 here; over several Sparks add "),
    ],
)
def test_what_cannot_work_is_refused_before_vllm_starts(
    serving: Callable[..., Container], variable: str, said: str
) -> None:
    one = serving(
        "serve", options=("--env", "MODEL=m", "--env", variable, "--device", "/dev/null:/dev/nvidia0"),
    )  # fmt: skip
    state = one.until(lambda now: now["Status"] == "exited")
    assert state["ExitCode"] == 2
    assert f"spark: error: {said}" in one.log
    assert "stand-in" not in one.log


def test_the_stand_in_is_a_program() -> None:
    assert Path(STAND_IN).stat().st_mode & 0o111
