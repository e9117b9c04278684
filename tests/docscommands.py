"""The commands that the guides name, each with what is done about it: run in a test, or not, and why."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "getting-started.md", "running.md", "cluster.md", "building-on-it.md", "doctor.md", "troubleshooting.md",
)  # fmt: skip
IMAGE, BEFORE = "scitrera/dgx-spark-vllm:0.32.0-t5", "scitrera/dgx-spark-vllm:0.31.0-t5"

# Run in tests/engine/test_guides.py, with a small image in the place of the real one and without a GPU.
# Command to the exit status that it has there, and what it prints.
RUN: dict[str, tuple[int, str]] = {
    f"docker run --rm --gpus all {IMAGE} info": (0, r"^ +transformers +5\.2\.0$"),
    "docker run --rm --gpus all --ipc host --network host -v spark-cache:/cache "
    f"-v ~/.cache/huggingface:/cache/huggingface {IMAGE} doctor": (1, r"found +no NVIDIA GPU here: "),
    f"docker run --rm --gpus all {IMAGE} selftest > selftest.json": (1, r'"ok": false'),
    "docker run --rm -e MODEL=Qwen/Qwen3-1.7B -e GPU_MEMORY_UTIL=0.7 -e MAX_MODEL_LEN=16k "
    + IMAGE
    + " serve --dry-run": (
        0,
        r"^vllm serve Qwen/Qwen3-1\.7B --max-model-len 16k --gpu-memory-utilization 0\.7$",
    ),
    "docker run --gpus all --ipc host --network host -v spark-cache:/cache "
    f"-v ~/.cache/huggingface:/cache/huggingface -e MODEL=Qwen/Qwen3-1.7B {IMAGE} serve": (
        2,
        r"^spark: error: serve: no GPU in this container; start it with --gpus all",
    ),
    f"docker run --rm -v spark-cache:/cache {IMAGE} info": (0, r"^ +kept +yes, a volume$"),
    f"docker run --rm --user 1000:1000 --read-only --tmpfs /tmp -v spark-cache:/cache {IMAGE} info": (
        0,
        r"^ +state +writable$",
    ),
}

_NO_MODEL = "needs a GPU and a model"
_NO_VOCABULARY = "no network to that address"
_SERVER = "docker run --detach --name"
_OPTIONS = "--gpus all --ipc host --network host -v spark-cache:/cache -v ~/.cache/huggingface:/cache/huggingface"
_NO_RDMA = "needs two Sparks; test_ray_cluster.py does it without RDMA and GPU"
_BUILDS = "builds for an hour; the job e2e does it"
_NODE = (
    "docker run --detach --name spark-node --restart unless-stopped --gpus all --network host --device /dev/infiniband "
    "--ulimit memlock=-1 --cap-add IPC_LOCK --shm-size 16g -v spark-cache:/cache "
    f"-v ~/.cache/huggingface:/cache/huggingface {IMAGE}"
)
# Run in tests/engine/test_doctor_here.py, on the machine itself: what follows "doctor" there, and what is printed. The
# status is 1 where there is no GPU.
RUN_HERE: dict[str, str] = {
    "nox -s doctor": r"^this host, for any row",
    "nox -s doctor -- 0.32.0-t5": r"^this host, for 0\.32\.0-t5$",
    "nox -s doctor -- --port 8000 --port 8001 --model-dir /models": r"^port +8001 ",
    "nox -s doctor -- --json": r'^  "schema": 1$',
}
# Run in tests/engine/test_building_on_it.py, with a small image and a package made for it: status, and what is printed.
RUN_ON_OURS: dict[str, tuple[int, str]] = {
    "docker build --platform linux/arm64 --tag my-vllm .": (0, r"naming to \S*my-vllm"),
    "docker run --rm --gpus all my-vllm selftest": (1, r'"ok": false'),
}
# Run in tests/engine/test_upgrade.py, with a registry on this machine and small images: what each prints.
RUN_WITH_REGISTRY: dict[str, str] = {
    f"docker pull {IMAGE}": r"Status: Downloaded newer image",
    f"docker inspect {IMAGE} --format '{{{{index .RepoDigests 0}}}}' | tee spark-image.txt": r"@sha256:[0-9a-f]{64}$",
    f"docker inspect {BEFORE} --format '{{{{index .RepoDigests 0}}}}' | tee spark-image-before.txt": (
        r"@sha256:[0-9a-f]{64}$"
    ),
    "docker rm --force vllm": r"^vllm$",
    'docker run --rm "$(cat spark-image-before.txt)" info': r"^ +MAX_JOBS +before$",
}
NOT_RUN: dict[str, str] = {
    "git clone https://github.com/scitrera/cuda-containers": "no network to GitHub; this checkout is one",
    "cd cuda-containers": "this checkout is one",
    "./quickstart doctor": "installs nox; tests/engine/test_doctor_here.py runs what that starts",
    "./quickstart build 0.32.0-t5": _BUILDS,
    "docker run --detach --name vllm --restart unless-stopped --gpus all --ipc host --network host "
    "-v spark-cache:/cache -v ~/.cache/huggingface:/cache/huggingface -e MODEL=Qwen/Qwen3-1.7B "
    f"-e GPU_MEMORY_UTIL=0.7 -e MAX_MODEL_LEN=16k {IMAGE} serve": _NO_MODEL,
    "docker logs --follow vllm": _NO_MODEL,
    "curl -s http://localhost:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{\"model\": "
    '"Qwen/Qwen3-1.7B", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 50}\'': _NO_MODEL,
    "docker stop vllm": _NO_MODEL,
    "rdma link": _NO_RDMA,
    "ip -br -4 address": _NO_RDMA,
    "ping -c 3 192.168.100.11": _NO_RDMA,
    f"{_NODE} ray-head": _NO_RDMA,
    "docker logs spark-node": _NO_RDMA,
    f"{_NODE} ray-worker 192.168.100.10": _NO_RDMA,
    "docker exec spark-node ray status": _NO_RDMA,
    "docker exec -e MODEL=Qwen/Qwen3-32B -e TENSOR_PARALLEL_SIZE=2 "
    "-e VLLM_EXTRA_ARGS='--distributed-executor-backend ray' spark-node spark serve": _NO_MODEL,
    f"{_SERVER} large {_OPTIONS} -e PORT=8356 -e GPU_MEMORY_UTIL=0.6 {IMAGE} serve openai/gpt-oss-120b": _NO_MODEL,
    "until docker inspect large --format '{{.State.Health.Status}}' | grep -qx healthy; do sleep 10; done": _NO_MODEL,
    f"{_SERVER} small {_OPTIONS} -e PORT=8355 -e GPU_MEMORY_UTIL=0.25 {IMAGE} serve openai/gpt-oss-20b": _NO_MODEL,
    "mkdir -p ~/.cache/tiktoken-files": _NO_VOCABULARY,
    "curl -f --output-dir ~/.cache/tiktoken-files --remote-name-all "
    "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken "
    "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken": _NO_VOCABULARY,
}
# What some test runs, and what none does.
KNOWN = (RUN, RUN_HERE, RUN_WITH_REGISTRY, RUN_ON_OURS, NOT_RUN)


def commands(page: str) -> list[str]:
    """The commands of a page, each on one line: what stands in its blocks for a shell, without comments.

    A comment after a command is set off by more than one space.
    """
    found: list[str] = []
    for block in re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        lines = [re.sub(r"\s{2,}# .*$", "", line) for line in block.replace("\\\n", " ").splitlines()]
        found += [" ".join(line.split()) for line in lines if line.strip() and not line.startswith("#")]
    return found


def all_commands() -> list[tuple[str, str]]:
    """Page and command of all guides."""
    return [(page, one) for page in PAGES for one in commands((ROOT / "docs" / page).read_text(encoding="utf-8"))]


def dry_runs() -> list[tuple[str, dict[str, str], list[str], str]]:
    """The rows of the table of running.md: as given there, variables, words after `serve`, and what is printed."""
    text = (ROOT / "docs/running.md").read_text(encoding="utf-8").partition("| given | printed |\n|---|---|\n")[2]
    found = []
    for line in text.partition("\n\n")[0].splitlines():
        given, printed = (one.strip() for one in line.strip("| ").split(" | "))
        words = shlex.split(" ".join(re.findall(r"`([^`]+)`", given)))
        place = words.index("serve") if "serve" in words else len(words)
        variables = dict(one.split("=", 1) for one in words[:place])
        found.append((given, variables, words[place + 1 :], printed.strip("`")))
    return found
