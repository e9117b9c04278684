"""Check what gives a container its GPU: the engine, its toolkit, and whether a container really gets it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sparkbake.hostread import gpus
from sparkbake.hostvalues import NO_GPU, Check, Host, fine, on_host, skipped

_NO_IMAGE = ("No such image", "Unable to find image")
# Of the socket; docker says "permission denied" of a configuration that it may not read, too, and goes on.
_DENIED = "permission denied while trying to connect"
_TOOLKIT = (
    "sudo apt-get install -y nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && "
    "sudo systemctl restart docker"
)


def check_docker(host: Host) -> Iterator[Check]:
    """The engine, its toolkit, and whether a container really gets the GPU."""
    answer = host.answers["docker"]
    if answer.text is None:
        yield from _no_docker(host, answer.why)
        return
    info: dict[str, Any] = json.loads(answer.text)
    yield fine("docker", "Docker Engine", str(info["ServerVersion"]))
    if not gpus(host.answers["gpus"].text or ""):
        yield skipped("container-toolkit", "NVIDIA Container Toolkit", NO_GPU)
        yield skipped("container-gpu", "a container", NO_GPU)
        return
    yield _toolkit(host, info)
    yield _container(host)


def _no_docker(host: Host, why: str) -> Iterator[Check]:
    if host.in_container:
        because = "this is a container, and no engine answers in it"
        yield skipped("docker", "Docker Engine", because)
    else:
        because = "no Docker Engine answers"
        denied = _DENIED in why.lower()
        yield Check(
            id="docker",
            status="error",
            subject="Docker Engine",
            found=why,
            expected="docker info answers",
            why="images are pulled, built and run by it",
            remedy='sudo usermod -aG docker "$USER", then log in anew'
            if denied
            else "sudo systemctl start docker; where none is installed: ./quickstart setup",
        )
    yield skipped("container-toolkit", "NVIDIA Container Toolkit", because)
    yield skipped("container-gpu", "a container", because)


def _toolkit(host: Host, info: Mapping[str, Any]) -> Check:
    version = (host.answers["nvidia-ctk"].text or "").partition("\n")[0].rpartition(" ")[2]
    ways = ["the runtime nvidia"] if "nvidia" in info["Runtimes"] else []
    ways += ["CDI"] if any(one.startswith("nvidia.com/gpu=") for one in info["Devices"]) else []
    if ways:
        return fine("container-toolkit", "NVIDIA Container Toolkit", f"{version or 'there'}, by {' and '.join(ways)}")
    return Check(
        id="container-toolkit",
        # Without a runtime, --gpus works where the engine finds the toolkit's hook.
        status="warning" if version else "error",
        subject="NVIDIA Container Toolkit",
        found=f"{version}, but the engine knows neither its runtime nor its devices"
        if version
        else host.answers["nvidia-ctk"].why or "nothing",
        expected="the engine has the runtime nvidia, or its CDI devices",
        why="docker run --gpus all: could not select device driver, or: No CUDA GPUs are available",
        remedy=on_host(host, _TOOLKIT),
    )


def _container(host: Host) -> Check:
    if not host.image:
        because = "the engine has no image of ours: docker pull one, or build it, and ask again"
        return skipped("container-gpu", "a container", because)
    answer = host.answers["container-gpu"]
    listed = (answer.text or "").strip().splitlines()
    if any(line.startswith("GPU ") for line in listed):
        return fine("container-gpu", host.image, listed[0])
    if any(words in answer.why for words in _NO_IMAGE):
        return skipped("container-gpu", host.image, "the engine does not have this image")
    return Check(
        id="container-gpu",
        status="error",
        subject=host.image,
        found=answer.why or (listed[-1] if listed else "nvidia-smi printed nothing"),
        expected="nvidia-smi lists the GPU inside",
        why="the server would say: No CUDA GPUs are available",
        remedy=on_host(host, f"sudo systemctl restart docker; if it stays so: {_TOOLKIT}"),
    )
