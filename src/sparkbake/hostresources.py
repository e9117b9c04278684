"""Check what a server takes of a host: disk, memory, swap, network, clock, tokens, caches, ports."""

from collections.abc import Iterator

from sparkbake.hostread import listening_ports, memory, settings
from sparkbake.hostvalues import Check, Folder, Host, Needs, Port, fine, skipped

_GIB = 2**30
# What vLLM, Triton and FlashInfer lock and rename in their caches goes wrong on these.
_REMOTE = ("nfs", "cifs", "smb", "fuse.sshfs", "9p")
_OTHERS_MAY_READ = 0o077
# Of the memory, for what vLLM's own processes take beside what it plans with.
_SPARED = 0.05
# Of all swap; less is what the system puts away on its own.
_MUCH_SWAP = 0.1


# ---- disk


def check_disk(host: Host, needs: Needs) -> Iterator[Check]:
    """Space for an image in the engine, and for models."""
    if host.images is None:
        yield skipped("disk-images", "the engine's folder", "no engine on this machine says where it is")
    else:
        yield _space(
            "disk-images",
            host.images,
            needs.image_bytes,
            status="error",
            why="a pull or a build ends with: no space left on device",
            remedy="docker system df; docker builder prune; docker image prune",
        )
    yield _space(
        "disk-models",
        host.models,
        needs.models_bytes,
        status="warning",
        why="models of 30 to 120 billion parameters take 20 to 120 GB each",
        remedy=f"du -sh {host.models.path}/hub/*, and remove what you do not serve (hf cache --help); "
        "or name another folder in HF_HOME",
    )


def _space(kind: str, folder: Folder, wanted: int, *, status: str, why: str, remedy: str) -> Check:
    if folder.free_bytes is None:
        return skipped(kind, folder.path, "its free space cannot be seen from here")
    free = f"{folder.free_bytes / 1e9:.0f} GB free"
    if folder.free_bytes >= wanted:
        return fine(kind, folder.path, free)
    return Check(
        id=kind,
        status="error" if status == "error" else "warning",
        subject=folder.path,
        found=free,
        expected=f"{wanted / 1e9:.0f} GB",
        why=why,
        remedy=remedy,
    )


# ---- memory


def check_memory(host: Host, needs: Needs) -> Iterator[Check]:
    """Memory and swap. On a GB10 the GPU has no memory of its own, and nvidia-smi shows none."""
    answer = host.answers["meminfo"]
    sizes = memory(answer.text or "")
    if not {"MemTotal", "MemAvailable", "MemFree"} <= set(sizes):
        why = answer.why or "/proc/meminfo does not say it"
        yield skipped("memory", "memory", why)
        yield skipped("swap", "swap", why)
        return
    yield _memory(sizes, needs)
    yield _swap(sizes)


def _memory(sizes: dict[str, int], needs: Needs) -> Check:
    total, available, free = (sizes[key] for key in ("MemTotal", "MemAvailable", "MemFree"))
    share = available / total
    found = (
        f"{available / _GIB:.1f} of {total / _GIB:.1f} GiB available ({share:.0%}), {free / _GIB:.1f} GiB of it unused"
    )
    if share >= needs.utilization:
        return fine("memory", "memory", found)
    return Check(
        id="memory",
        status="warning",
        subject="memory",
        found=found,
        expected=f"{needs.utilization:.0%}, which vLLM takes unless it is told otherwise",
        why="on a GB10 the GPU has no other; vLLM ends with: Free memory on device is less than desired GPU memory "
        "utilization",
        remedy="docker ps, and stop what you do not need, or give vLLM "
        f"--gpu-memory-utilization {max(share - _SPARED, 0):.2f}; "
        "files that were read lie in memory, too: sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'",
    )


def _swap(sizes: dict[str, int]) -> Check:
    total, free = sizes.get("SwapTotal", 0), sizes.get("SwapFree", 0)
    if not total:
        return fine("swap", "swap", "none")
    used = total - free
    found = f"{used / _GIB:.1f} of {total / _GIB:.1f} GiB in use"
    if used <= total * _MUCH_SWAP:
        return fine("swap", "swap", found)
    return Check(
        id="swap",
        status="warning",
        subject="swap",
        found=found,
        expected="next to none",
        why="memory was full before; a Spark that swaps while it serves crawls or freezes",
        remedy="stop what filled the memory, then empty it: sudo swapoff -a && sudo swapon -a",
    )


# ---- network


def check_rdma(host: Host, needs: Needs) -> Iterator[Check]:
    """The RDMA devices, each with its interface; they matter where a model is split over Sparks."""
    if not host.rdma:
        why = "this system knows no RDMA device; only several Sparks need one"
        yield skipped("roce", "RDMA devices", why)
        return
    if not any(one.state == "ACTIVE" for one in host.rdma):
        names = ", ".join(_named(one) for one in host.rdma)
        yield fine("roce", "RDMA devices", f"{names}: no link, as without a cable; only several Sparks need one")
        return
    yield from (_port(one, needs) for one in host.rdma)


def _named(port: Port) -> str:
    return f"{port.device}/{port.number} ({port.interface or 'no interface'})"


def _port(port: Port, needs: Needs) -> Check:
    found = f"{port.state}, {port.rate}, {port.layer}, MTU {'unknown' if port.mtu is None else port.mtu}"
    if port.state != "ACTIVE" or port.layer != "Ethernet":
        return fine("roce", _named(port), found)
    if not port.interface or port.mtu is None:
        return skipped("roce", _named(port), f"it has a link ({port.rate}), but its interface cannot be seen from here")
    if port.mtu >= needs.roce_mtu:
        return fine("roce", _named(port), found)
    return Check(
        id="roce",
        status="warning",
        subject=_named(port),
        found=found,
        expected=f"MTU {needs.roce_mtu}, the same at both ends",
        why="RDMA packets are cut to what fits into a frame: with 1500 to 1024 bytes",
        remedy=f"sudo ip link set dev {port.interface} mtu {needs.roce_mtu} (until it restarts; to keep it: netplan)",
    )


def check_ports(host: Host, needs: Needs) -> Iterator[Check]:
    """The ports that a server will listen on."""
    tables = [host.answers[key] for key in ("tcp", "tcp6")]
    said = [one.text for one in tables if one.text is not None]
    taken = frozenset[int]().union(*(listening_ports(one) for one in said))
    for port in needs.ports:
        if not said:
            yield skipped("port", str(port), tables[0].why)
        elif port not in taken:
            yield fine("port", str(port), "free")
        else:
            yield Check(
                id="port",
                status="error",
                subject=str(port),
                found="something listens on it",
                expected="free",
                why="with --network host the server ends with: address already in use",
                remedy=f"sudo ss -ltnp 'sport = :{port}' names it; stop it, or serve on another: --port",
            )


# ---- clock, token, cache


def check_time(host: Host, needs: Needs) -> Check:
    if host.clock < needs.clock_not_before:
        return Check(
            id="time",
            status="error",
            subject="clock",
            found=host.clock,
            expected=f"{needs.clock_not_before} or later",
            why="certificates of registries and of Hugging Face are refused: not yet valid",
            remedy="sudo timedatectl set-ntp true; without a network: sudo timedatectl set-time 'YYYY-MM-DD hh:mm'",
        )
    answer = host.answers["timedatectl"]
    synchronised = settings(answer.text or "").get("NTPSynchronized")
    if synchronised is None:
        return skipped("time", "clock", answer.why or "timedatectl does not say whether it is synchronised")
    if synchronised == "yes":
        return fine("time", "clock", f"{host.clock}, synchronised")
    return Check(
        id="time",
        status="warning",
        subject="clock",
        found=f"{host.clock}, not synchronised",
        expected="synchronised",
        why="a clock that drifts has certificates refused, and logs of several Sparks do not fit together",
        remedy="sudo timedatectl set-ntp true; timedatectl timesync-status",
    )


def check_token(host: Host) -> Check:
    """The token of Hugging Face: there, plausible, and nobody else's to read."""
    token = host.token
    if token is None:
        found, expected = "none", "HF_TOKEN, or the file that `hf auth login` writes"
        why, remedy = "gated models are refused (401); public ones need none", "hf auth login"
    elif not token.is_plausible:
        found, expected = "it does not begin with hf_", "a token"
        why, remedy = "it is refused: Invalid user token", "hf auth login, or export HF_TOKEN=hf_..."
    elif token.mode is not None and token.mode & _OTHERS_MAY_READ:
        found, expected = f"permissions {token.mode:o}", "600"
        why, remedy = "other users of this machine can read it", f"chmod 600 {token.place}"
    else:
        return fine("hf-token", token.place, "there")
    subject = token.place if token else "token of Hugging Face"
    return Check(
        id="hf-token", status="warning", subject=subject, found=found, expected=expected, why=why, remedy=remedy
    )


def check_cache(host: Host) -> Iterator[Check]:
    """Whether this user may write where models are kept, and whether that is a place for caches."""
    yield _permissions(host)
    kind = host.models.file_system
    if not kind:
        yield skipped("cache-file-system", host.models.path, "/proc/mounts does not say what it is on")
    elif not kind.startswith(_REMOTE):
        yield fine("cache-file-system", host.models.path, kind)
    else:
        yield Check(
            id="cache-file-system",
            status="warning",
            subject=host.models.path,
            found=kind,
            expected="a disk of this machine",
            why="models load slowly over it; compilers' caches on it (~/.cache/vllm, ~/.triton, ~/.cache/flashinfer) "
            "break when two machines share them",
            remedy="keep models there if you must, and all other caches on the machine's own disk: see docs/doctor.md",
        )


def _permissions(host: Host) -> Check:
    folder, user = host.models, host.user
    mend = f'sudo chown -R "$(id -u):$(id -g)" {folder.path}'
    why = "downloads end with: Permission denied"
    if not folder.is_there:
        found, status, remedy = "not there", "warning", f"mkdir -p {folder.path}"
        why = "docker run -v makes it, and then it belongs to root"
    elif not folder.is_writable:
        # On a host it stands in the way of downloads there; containers run as root unless told otherwise.
        status = "error" if host.in_container else "warning"
        found, remedy = f"not writable; it belongs to user {folder.owner}", mend
    elif folder.foreign:
        shown = ", ".join(folder.foreign[:3]) + (", ..." if len(folder.foreign) > 3 else "")  # noqa: PLR2004
        found, status, remedy = f"belongs to other users: {shown}", "warning", mend
        why = "a container that ran as root left them; downloads of this user end with: Permission denied"
    else:
        return fine("hf-cache", folder.path, f"writable by user {user}")
    return Check(
        id="hf-cache",
        status="error" if status == "error" else "warning",
        subject=folder.path,
        found=found,
        expected=f"a folder that user {user} may write",
        why=why,
        remedy=remedy,
    )
