"""Check what gives a container its GPU: the machine, the GPU and its driver, compilers, the engine, its toolkit."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sparkbake.hostread import Gpu, driver_cuda, gpus, numbers, nvcc_release, settings
from sparkbake.hostvalues import Check, Host, Needs, fine, skipped

_SPARK = "aarch64"
_NO_GPU = "no NVIDIA GPU answers"
_UPDATE = "sudo apt-get update && sudo apt-get dist-upgrade && sudo reboot"
_NO_IMAGE = ("No such image", "Unable to find image")
_TOOLKIT = (
    "sudo apt-get install -y nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && "
    "sudo systemctl restart docker"
)


def check_system(host: Host) -> Check:
    release = settings(host.answers["os-release"].text or "").get("PRETTY_NAME", "an unknown system")
    dgx = settings(host.answers["dgx-release"].text or "").get("DGX_SWBUILD_VERSION")
    found = f"{release}{f', DGX OS {dgx}' if dgx else ''}, {host.machine}{', a container' if host.in_container else ''}"
    if host.machine == _SPARK:
        return fine("system", "machine", found)
    return Check(
        id="system",
        status="warning",
        subject="machine",
        found=found,
        expected=_SPARK,
        why="the images are for arm64; here they can be built and looked at, not served from",
        remedy="run them on the Spark: docker save IMAGE | ssh SPARK docker load",
    )


# ---- the GPU and its driver


def check_gpu(host: Host, needs: Needs) -> Iterator[Check]:
    """The GPU, and what depends on it."""
    listed = host.answers["gpus"]
    found = gpus(listed.text or "")
    if not found:
        yield _no_gpu(host, listed.why or "nvidia-smi lists none")
        for kind, subject in (("driver", "driver"), ("compute-capability", "GPU"), ("cuda", "driver")):
            yield skipped(kind, subject, _NO_GPU)
        return
    yield fine("gpu", "GPU", ", ".join(one.name for one in found))
    yield _driver(found[0], needs)
    yield _capability(found, needs)
    yield _cuda(host, needs)


def _no_gpu(host: Host, why: str) -> Check:
    if host.in_container:
        remedy = "start the container with --gpus all; then run `nox -s doctor` on the host"
    elif host.machine == _SPARK:
        remedy = f"{_UPDATE}; if it stays so: sudo dmesg | grep -i nvrm"
    else:
        remedy = "none here, unless the machine has an NVIDIA GPU: then install its driver"
    return Check(
        id="gpu",
        status="error",
        subject="GPU",
        found=f"no NVIDIA GPU here: {why}",
        expected="nvidia-smi lists one",
        why="vLLM serves from nothing else",
        remedy=remedy,
    )


def _driver(gpu: Gpu, needs: Needs) -> Check:
    lowest = _lowest(needs)
    if numbers(gpu.driver) < numbers(lowest):
        return Check(
            id="driver",
            status="error",
            subject="driver",
            found=gpu.driver,
            expected=f"{lowest} or newer",
            why=f"older ones are not known to run CUDA {needs.cuda} on this chip",
            remedy=_UPDATE,
        )
    for one in needs.troubles:
        if gpu.driver == one.series or gpu.driver.startswith(f"{one.series}."):
            return Check(
                id="driver",
                status="warning",
                subject="driver",
                found=gpu.driver,
                expected=f"another series than {one.series}",
                why=f"users report {one.what} with it ({one.source})",
                remedy="none is needed while servers run; if they hang at their start, see docs/doctor.md",
            )
    return fine("driver", "driver", f"{gpu.driver}, at least {lowest} is needed")


def _lowest(needs: Needs) -> str:
    """The lowest driver that will do: the chip's own, and the first one of the major release of CUDA."""
    major = numbers(needs.cuda)[:1]
    first = [driver for cuda, driver in needs.drivers if numbers(cuda)[:1] == major][:1]
    return max([needs.least_driver, *first], key=numbers)


def _capability(found: tuple[Gpu, ...], needs: Needs) -> Check:
    said = ", ".join(f"{one.name}: {one.compute_capability}" for one in found)
    if all(one.compute_capability == needs.compute_capability for one in found):
        return fine("compute-capability", "GPU", needs.compute_capability)
    return Check(
        id="compute-capability",
        status="error",
        subject="GPU",
        found=said,
        expected=needs.compute_capability,
        why="the kernels in these images are compiled for that chip; another runs some of them or none",
        remedy="serve on a DGX Spark (GB10); `nox -s inventory -- TAG` lists what code an image has",
    )


def _cuda(host: Host, needs: Needs) -> Check:
    """CUDA of the driver against that of the image. Within a major release any minor one runs, PTX excepted.

    https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
    """
    header = host.answers["nvidia-smi"]
    known = driver_cuda(header.text or "")
    if known is None:
        return skipped("cuda", "driver", header.why or "nvidia-smi does not say which CUDA the driver knows")
    wanted = ".".join(needs.cuda.split(".")[:2])
    if numbers(known) >= numbers(wanted):
        return fine("cuda", "driver", f"CUDA {known}, the image has {needs.cuda}")
    is_older_major = numbers(known)[:1] < numbers(wanted)[:1]
    full = dict(needs.drivers).get(wanted)
    return Check(
        id="cuda",
        status="error" if is_older_major else "warning",
        subject="driver",
        found=f"CUDA {known}",
        expected=f"CUDA {wanted} or newer{f': driver {full}' if full else ''}",
        why="programs of a newer major release do not start"
        if is_older_major
        else "they run, but PTX of a newer release is refused (cudaErrorUnsupportedPtxVersion)",
        remedy=f"{_UPDATE}, or take a row of CUDA {known}: nox -s list",
    )


# ---- compilers


def check_nvcc(host: Host, needs: Needs) -> Check:
    """The CUDA compiler that a shell here starts; images bring their own."""
    if not host.nvccs:
        return fine("nvcc", "nvcc", "none here; images bring their own")
    path, answer = next(iter(host.nvccs.items()))
    release = nvcc_release(answer.text or "")
    if release is None:
        return skipped("nvcc", path, answer.why or "it does not say its release")
    major = numbers(needs.cuda)[0]
    if numbers(release)[0] >= major:
        return fine("nvcc", path, f"CUDA {release}")
    newer = [
        other
        for other, said in host.nvccs.items()
        if (numbers(nvcc_release(said.text or "") or "") or (0,))[0] >= major
    ]
    shadowed = f", which hides {newer[0]}" if newer else ""
    return Check(
        id="nvcc",
        status="warning",
        subject=path,
        found=f"CUDA {release}{shadowed}",
        expected=f"CUDA {major}",
        why="what is compiled on the host fails: nvcc fatal: Unsupported gpu architecture 'compute_121'; "
        "images bring their own",
        remedy="sudo apt-get remove nvidia-cuda-toolkit"
        + (f", or put {newer[0].removesuffix('/nvcc')} first in PATH" if newer else ""),
    )


# ---- the engine


def check_docker(host: Host) -> Iterator[Check]:
    """The engine, its toolkit, and whether a container really gets the GPU."""
    answer = host.answers["docker"]
    if answer.text is None:
        yield from _no_docker(host, answer.why)
        return
    info: dict[str, Any] = json.loads(answer.text)
    yield fine("docker", "Docker Engine", str(info["ServerVersion"]))
    if not gpus(host.answers["gpus"].text or ""):
        yield skipped("container-toolkit", "NVIDIA Container Toolkit", _NO_GPU)
        yield skipped("container-gpu", "a container", _NO_GPU)
        return
    yield _toolkit(host, info)
    yield _container(host)


def _no_docker(host: Host, why: str) -> Iterator[Check]:
    if host.in_container:
        because = "this is a container, and no engine answers in it"
        yield skipped("docker", "Docker Engine", because)
    else:
        because = "no Docker Engine answers"
        denied = "permission denied" in why.lower()
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
        remedy=_TOOLKIT,
    )


def _container(host: Host) -> Check:
    if not host.image:
        because = "no image was named: nox -s doctor -- TAG, of an image that the engine has"
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
        remedy=f"sudo systemctl restart docker; if it stays so: {_TOOLKIT}",
    )
