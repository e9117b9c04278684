"""What an image of ours does by itself, in real containers: exit statuses, signals, users, caches, health."""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docscommands import dry_runs

pytestmark = [pytest.mark.engine, pytest.mark.network]


def run(image: str, *words: str, options: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    argv = ["docker", "run", "--rm", "--network", "none", *options, image, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)


def inspect(name: str) -> dict[str, Any]:
    done = subprocess.run(["docker", "inspect", name], capture_output=True, text=True, check=True)
    body: dict[str, Any] = json.loads(done.stdout)[0]
    return body


@pytest.fixture
def name() -> Iterator[str]:
    """Of a container, or a volume, which is removed in the end."""
    made = f"sparkbake-{uuid.uuid4().hex[:8]}"
    yield made
    subprocess.run(["docker", "rm", "--force", "--volumes", made], capture_output=True, check=False)
    subprocess.run(["docker", "volume", "rm", made], capture_output=True, check=False)


def start(image: str, name: str, *words: str, options: tuple[str, ...] = ()) -> None:
    argv = ["docker", "run", "--detach", "--name", name, "--network", "none", *options, image, *words]
    subprocess.run(argv, capture_output=True, check=True)


SERVE = [
    ({}, ["m"], 0, "vllm serve m"),
    (
        {
            "MODEL": "Qwen/Qwen3-1.7B", "PORT": "8888", "HOST": "127.0.0.1", "TENSOR_PARALLEL_SIZE": "2",
            "MAX_MODEL_LEN": "64k", "GPU_MEMORY_UTIL": "0.7", "MAX_NUM_SEQS": "8", "KV_CACHE_DTYPE": "fp8",
            "SERVED_MODEL_NAME": "qwen", "VLLM_EXTRA_ARGS": "--x '{\"a\": 1}' --enforce-eager",
        },
        [], 0,
        "vllm serve Qwen/Qwen3-1.7B --host 127.0.0.1 --port 8888 --tensor-parallel-size 2 --max-model-len 64k "
        "--gpu-memory-utilization 0.7 --max-num-seqs 8 --kv-cache-dtype fp8 --served-model-name qwen "
        "--x '{\"a\": 1}' --enforce-eager",
    ),
    ({"HF_TOKEN": "geheim"}, ["m", "--hf-token", "geheim", "--api-key", "k"], 0,
     "vllm serve m --hf-token '***' --api-key '***'"),
    ({}, [], 2, "spark: error: serve: no model; expected -e MODEL=Qwen/Qwen3-1.7B, or: serve Qwen/Qwen3-1.7B"),
    ({"MODEL": "a"}, ["b"], 2, "spark: error: serve: MODEL is a, and the command says b; say one of them"),
    ({"PORT": "99999"}, ["m"], 2, "spark: error: serve: PORT is '99999', expected a port from 1 to 65535"),
    ({"PORT": "80"}, ["m", "--port", "81"], 2,
     "spark: error: serve: PORT is set, and --port is given, too; say it once"),
    ({}, ["/models/x"], 2,
     "spark: error: serve: /models/x is not in this container; mount it: -v /path/on/host:/models/x:ro"),
]  # fmt: skip


@pytest.mark.parametrize(("variables", "words", "status", "expected"), SERVE)
def test_a_dry_run_of_serve(
    ray_image: str, variables: dict[str, str], words: list[str], status: int, expected: str
) -> None:
    options = tuple(word for key, value in variables.items() for word in ("--env", f"{key}={value}"))
    done = run(ray_image, "serve", "--dry-run", *words, options=options)
    assert (done.returncode, (done.stderr or done.stdout).rstrip("\n")) == (status, expected)


@pytest.mark.parametrize(("given", "variables", "words", "printed"), dry_runs())
def test_each_row_of_the_guide_s_table_is_what_a_container_prints(
    ray_image: str, given: str, variables: dict[str, str], words: list[str], printed: str
) -> None:
    options = tuple(word for key, value in variables.items() for word in ("--env", f"{key}={value}"))
    done = run(ray_image, "serve", "--dry-run", *words, options=options)
    is_error = printed.startswith("error: ")
    expected = (2, "", f"spark: {printed}\n") if is_error else (0, f"{printed}\n", "")
    assert (done.returncode, done.stdout, done.stderr) == expected, given


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "exit 7"], 7, ""),
        (["no-such-program"], 127, "no-such-program: not found"),
        (["/etc/passwd"], 126, "Permission denied"),
        (["-x"], 2, "spark: -x: expected a command before it: serve MODEL -x ..., "),
        (["serve", "m"], 2, "spark: error: serve: no GPU in this container; start it with --gpus all; "),
        (["cluster"], 1, "spark: error: this container has no network but its own; "),
        (["ray-worker"], 2, "spark: error: ray-worker: expected the head's address: ray-worker 192.168.100.10"),
    ],
)
def test_a_container_ends_as_its_command_does(ray_image: str, words: list[str], status: int, said: str) -> None:
    done = run(ray_image, *words)
    assert done.returncode == status, done.stderr
    assert said in done.stderr


def test_without_a_gpu_the_self_test_ends_with_json_that_says_so(ray_image: str) -> None:
    """This image has no torch, either."""
    done = run(ray_image, "selftest")
    body = json.loads(done.stdout)
    assert (done.returncode, body["ok"], body["image"]) == (1, False, ray_image)
    assert {one["ok"] for one in body["checks"].values()} == {False}
    assert "nvidia-smi" in body["checks"]["driver"]["error"]


def test_without_a_gpu_the_doctor_names_it_and_what_to_do(ray_image: str) -> None:
    done = run(ray_image, "doctor", "--json")
    checks = {one["id"]: one for one in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert checks["gpu"]["status"] == "error"
    assert "--gpus all" in checks["gpu"]["remedy"]


def test_info_says_what_is_here_and_what_is_not(ray_image: str) -> None:
    body = json.loads(run(ray_image, "info", "--json").stdout)
    assert body["image"] == ray_image
    assert body["versions"]["vllm"] == "1.17.0"
    assert body["machine"]["gpus"] == []
    assert body["machine"]["no_gpu_because"] == "no nvidia-smi here; start the container with --gpus all"


def test_what_serves_nothing_is_healthy(ray_image: str, name: str) -> None:
    assert inspect(ray_image)["Config"]["Healthcheck"] == {
        "Test": ["CMD", "/usr/local/bin/spark", "health"],
        "Interval": 30 * 10**9,
        "Timeout": 10 * 10**9,
        "StartPeriod": 1800 * 10**9,
        "Retries": 3,
    }
    # Sooner than in half a minute.
    start(ray_image, name, "sleep", "600", options=("--health-interval", "2s"))
    until = time.monotonic() + 60
    while (health := inspect(name)["State"]["Health"])["Status"] == "starting" and time.monotonic() < until:
        time.sleep(0.5)
    assert health["Status"] == "healthy"
    assert health["Log"][-1]["Output"] == "nothing is served here\n"


def test_another_user_with_a_read_only_root_writes_to_a_volume_alone(ray_image: str, name: str) -> None:
    options = ("--user", "1000:1000", "--read-only", "--tmpfs", "/tmp", "--volume", f"{name}:/cache")
    script = "touch /cache/kept && spark info --json && ! touch /workspace/x 2>/dev/null"
    done = run(ray_image, "sh", "-c", script, options=options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["caches"] == {
        "folder": "/cache", "state": "writable", "kept": "yes, a volume", "holds": ["kept"]
    }  # fmt: skip
    done = run(ray_image, "selftest", options=options)
    assert "spark: HOME=/tmp (" in done.stderr
    assert json.loads(done.stdout)["ok"] is False


def test_the_usual_mount_of_models_is_where_they_are_looked_for(ray_image: str, tmp_path: Path) -> None:
    options = ("--volume", f"{tmp_path}:/root/.cache/huggingface")
    done = run(ray_image, "sh", "-c", "echo here > $XDG_CACHE_HOME/huggingface/model", options=options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model").read_text() == "here\n"


@pytest.mark.parametrize("words", [("sleep", "600"), ("sh", "-c", "sleep 600")])
def test_what_handles_no_signal_ends_at_once_with_init(ray_image: str, name: str, words: tuple[str, ...]) -> None:
    """As process 1 it would never get it: `--init` is the remedy of engines."""
    start(ray_image, name, *words, options=("--init",))
    subprocess.run(["docker", "stop", "--timeout", "8", name], capture_output=True, check=True)
    assert inspect(name)["State"]["ExitCode"] == 143


def test_a_command_that_handles_the_signal_of_a_stop_gets_it(ray_image: str, name: str) -> None:
    start(ray_image, name, "bash", "-c", "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    until = time.monotonic() + 60
    while "ready" not in (logs := _logs(name)) and time.monotonic() < until:
        time.sleep(0.1)
    assert "ready" in logs
    subprocess.run(["docker", "stop", "--timeout", "20", name], capture_output=True, check=True)
    assert (inspect(name)["State"]["ExitCode"], _logs(name)) == (5, "ready\nbye\n")


def _logs(name: str) -> str:
    return subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True).stdout
