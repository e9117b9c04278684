"""Check what images run on: the machine, the GPU and its driver, compilers."""

from collections.abc import Iterator

from sparkbake.hostread import Gpu, driver_cuda, gpus, held, numbers, nvcc_release, settings
from sparkbake.hostvalues import NO_GPU, Check, Host, Needs, Trouble, fine, on_host, skipped

_SPARK = "aarch64"
_UPDATE = "sudo apt-get update && sudo apt-get dist-upgrade && sudo reboot"


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
        remedy="run them on the Spark: nox -s ship -- TAG SPARK, in the checkout that has the image",
    )


# ---- the GPU and its driver


def check_gpu(host: Host, needs: Needs) -> Iterator[Check]:
    """The GPU, and what depends on it."""
    listed = host.answers["gpus"]
    found = gpus(listed.text or "")
    if not found:
        yield _no_gpu(host, listed.why or "nvidia-smi lists none")
        for kind in ("driver", "compute-capability", "cuda", "gpu-memory"):
            yield skipped(kind, "driver" if kind in ("driver", "cuda") else "GPU", NO_GPU)
        return
    yield fine("gpu", "GPU", ", ".join(one.name for one in found))
    yield _driver(found[0], host, needs)
    yield _capability(found, needs)
    yield _cuda(host, needs)
    yield _held(host, needs)


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


def _driver(gpu: Gpu, host: Host, needs: Needs) -> Check:
    lowest = _lowest(needs)
    if numbers(gpu.driver) < numbers(lowest):
        return Check(
            id="driver",
            status="error",
            subject="driver",
            found=gpu.driver,
            expected=f"{lowest} or newer",
            why=f"older ones are not known to run CUDA {needs.cuda} on this chip",
            remedy=on_host(host, _UPDATE),
        )
    trouble = _trouble(gpu.driver, needs)
    if trouble is None:
        return fine("driver", "driver", f"{gpu.driver}, at least {lowest} is needed")
    own = _trouble(_full(needs), needs) == trouble
    because = f"; it is the series that CUDA {_minor(needs.cuda)} of this image came with" if own else ""
    return Check(
        id="driver",
        status="warning",
        subject="driver",
        found=gpu.driver,
        expected=f"{'a later' if own else 'another'} series than {trouble.series}",
        why=f"{_reports(trouble)}{because}",
        remedy="none is needed while servers run; if they hang at their start, see docs/doctor.md",
    )


def _trouble(driver: str, needs: Needs) -> Trouble | None:
    return next((one for one in needs.troubles if f"{driver}.".startswith(f"{one.series}.")), None)


def _reports(trouble: Trouble) -> str:
    return f"users report {trouble.what} with it ({trouble.source})"


def _full(needs: Needs) -> str:
    """The driver that CUDA of the image came with; empty when it is not known."""
    return dict(needs.drivers).get(_minor(needs.cuda), "")


def _minor(cuda: str) -> str:
    return ".".join(cuda.split(".")[:2])


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
    wanted = _minor(needs.cuda)
    if numbers(known) >= numbers(wanted):
        return fine("cuda", "driver", f"CUDA {known}, the image has {needs.cuda}")
    is_older_major = numbers(known)[:1] < numbers(wanted)[:1]
    full = _full(needs)
    trouble = _trouble(full, needs)
    newer, row = on_host(host, _UPDATE), f"take a row of CUDA {known}: nox -s list"
    return Check(
        id="cuda",
        status="error" if is_older_major else "warning",
        subject="driver",
        found=f"CUDA {known}",
        expected=f"CUDA {wanted} or newer{f': driver {full}' if full else ''}"
        + (f", but {_reports(trouble)}" if trouble else ""),
        why="programs of a newer major release do not start"
        if is_older_major
        else "they run, but PTX of a newer release is refused (cudaErrorUnsupportedPtxVersion)",
        remedy=f"{row}; or a driver of a later series than {trouble.series}: {newer}"
        if trouble
        else f"{newer}, or {row}",
    )


def _held(host: Host, needs: Needs) -> Check:
    """What processes hold on the GPU; on a GB10 that is the memory of the machine."""
    answer = host.answers["gpu-processes"]
    if answer.text is None:
        return skipped("gpu-memory", "GPU", answer.why)
    sizes = held(answer.text)
    if host.in_container and not sizes:
        because = "a container sees its own processes alone: nox -s doctor on the host"
        return skipped("gpu-memory", "GPU", because)
    processes = f"{len(sizes)} process{'es' if len(sizes) != 1 else ''}"
    hold = "hold" if len(sizes) != 1 else "holds"
    unsaid, total = sizes.count(None), sum(one or 0 for one in sizes)
    if sizes and unsaid == len(sizes):
        return skipped("gpu-memory", "GPU", f"nvidia-smi does not say how much {processes} {hold}")
    found = f"{processes} {hold} {total / 2**30:.1f} GiB" if sizes else "no process holds any"
    found += f", and of {unsaid} of them nvidia-smi does not say how much" if unsaid else ""
    if total < needs.held_bytes:
        return fine("gpu-memory", "GPU", found)
    return Check(
        id="gpu-memory",
        status="warning",
        subject="GPU",
        found=found,
        expected=f"less than {needs.held_bytes / 1e9:.0f} GB before a server starts",
        why="a server that waits for requests holds all that it took, and the next one gets only what is left",
        remedy=on_host(host, "nvidia-smi names them; docker ps, and docker stop NAME what need not wait")
        + "; two servers share: docs/troubleshooting.md",
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
    remove = "apt-get remove nvidia-cuda-toolkit"
    return Check(
        id="nvcc",
        status="warning",
        subject=path,
        found=f"CUDA {release}{shadowed}",
        expected=f"CUDA {major}",
        why="what is compiled here fails: nvcc fatal: Unsupported gpu architecture 'compute_121'; "
        "images bring their own",
        remedy=(f"in the Dockerfile of this image: {remove}" if host.in_container else f"sudo {remove}")
        + (f", or put {newer[0].removesuffix('/nvcc')} first in PATH" if newer else ""),
    )
