"""Check what a server takes of a host: disk, memory, swap, clock, tokens, caches."""

from collections.abc import Iterator
from typing import Literal

from sparkbake.hostread import memory, settings
from sparkbake.hostvalues import Check, Folder, Host, Needs, fine, on_host, skipped

_GIB = 2**30
# What vLLM, Triton and FlashInfer lock and rename in their caches goes wrong on these.
_REMOTE = ("nfs", "cifs", "smb", "fuse.sshfs", "9p")
_OTHERS_MAY_READ = 0o077
_SHM = "/dev/shm"  # noqa: S108  (looked at, never written)
_NO_DOWNLOADS = "downloads end with: Permission denied"
# What keeps models and compilers' caches of a container.
_VOLUME = "-v spark-cache:/cache -v ~/.cache/huggingface:/cache/huggingface"
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
            remedy=on_host(host, "docker system df; docker builder prune; docker image prune"),
        )
    yield _space(
        "disk-models",
        host.models,
        needs.models_bytes,
        status="warning",
        why="models of 30 to 120 billion parameters take 20 to 120 GB each",
        remedy=f"du -sh {host.models.path}/hub/*, and remove what you do not serve (hf cache --help); or "
        + (f"mount a folder with more: -v FOLDER:{host.models.path}" if host.in_container else "another HF_HOME"),
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
    """Memory, shared memory and swap. On a GB10 the GPU has no memory of its own, and nvidia-smi shows none."""
    answer = host.answers["meminfo"]
    sizes = memory(answer.text or "")
    if not {"MemTotal", "MemAvailable", "MemFree"} <= set(sizes):
        why = answer.why or "/proc/meminfo does not say it"
        yield skipped("memory", "memory", why)
        yield _shared_memory(host, needs)
        yield skipped("swap", "swap", why)
        return
    yield _memory(host, sizes, needs)
    yield _shared_memory(host, needs)
    yield _swap(host, sizes)


def _memory(host: Host, sizes: dict[str, int], needs: Needs) -> Check:
    total, available, free = (sizes[key] for key in ("MemTotal", "MemAvailable", "MemFree"))
    share = available / total
    found = (
        f"{available / _GIB:.1f} of {total / _GIB:.1f} GiB available ({share:.0%}), {free / _GIB:.1f} GiB of it unused"
    )
    if share >= needs.utilization:
        return fine("memory", "memory", found)
    lower = f"{max(share - _SPARED, 0):.2f}"
    stop = on_host(host, "docker ps, and stop what you do not need")
    drop = on_host(host, "sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'")
    return Check(
        id="memory",
        status="warning",
        subject="memory",
        found=found,
        expected=f"{needs.utilization:.0%}, which vLLM takes unless it is told otherwise",
        why="on a GB10 the GPU has no other; vLLM ends with: Free memory on device is less than desired GPU memory "
        "utilization",
        remedy=f"{stop}, or -e GPU_MEMORY_UTIL={lower} (vllm serve: --gpu-memory-utilization {lower}); "
        f"files that were read lie in memory, too; {drop}",
    )


def _shared_memory(host: Host, needs: Needs) -> Check:
    free = host.shm_bytes
    if free is None:
        return skipped("shm", _SHM, "its free space cannot be seen from here")
    found = f"{free / 1e9:.{2 if free < 10**9 else 1}f} GB free"
    if free >= needs.shm_bytes:
        return fine("shm", _SHM, found)
    wanted = f"{needs.shm_bytes / 1e9:.0f}"
    return Check(
        id="shm",
        status="warning",
        subject=_SHM,
        found=found,
        expected=f"{wanted} GB",
        why="the processes of a server share tensors in it; full, they end with: Bus error, No space left on device",
        remedy="docker run --ipc host, or --shm-size 16g"
        if host.in_container
        else f"ls -l /dev/shm, and remove what no process uses; or sudo mount -o remount,size={wanted}G /dev/shm",
    )


def _swap(host: Host, sizes: dict[str, int]) -> Check:
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
        remedy=on_host(host, "stop what filled the memory, then empty it: sudo swapoff -a && sudo swapon -a"),
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
            remedy=on_host(
                host, "sudo timedatectl set-ntp true; without a network: sudo timedatectl set-time 'YYYY-MM-DD hh:mm'"
            ),
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
        remedy=on_host(host, "sudo timedatectl set-ntp true; timedatectl timesync-status"),
    )


def check_token(host: Host) -> Check:
    """The token of Hugging Face: there, plausible, and nobody else's to read."""
    token = host.token
    give = "docker run -e HF_TOKEN (without a value: that of your shell)" if host.in_container else ""
    if token is None:
        found, expected = "none", "HF_TOKEN, or the file that `hf auth login` writes"
        why, remedy = "gated models are refused (401); public ones need none", give or "hf auth login"
    elif not token.is_plausible:
        found, expected = "it does not begin with hf_", "a token"
        why, remedy = "it is refused: Invalid user token", give or "hf auth login, or export HF_TOKEN=hf_..."
    elif token.mode is not None and token.mode & _OTHERS_MAY_READ:
        found, expected = f"permissions {token.mode:o}", "600"
        why = "other users of this machine can read it"
        remedy = on_host(host, f"chmod 600 {f'what is {token.place} here' if host.in_container else token.place}")
    else:
        return fine("hf-token", token.place, "there")
    subject = token.place if token else "token of Hugging Face"
    return Check(
        id="hf-token", status="warning", subject=subject, found=found, expected=expected, why=why, remedy=remedy
    )


def check_cache(host: Host) -> Iterator[Check]:
    """Whether this user may write where models are kept, and whether that is a place for caches."""
    yield _cache_of_container(host) if host.in_container else _permissions(host)
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
    if not folder.is_there:
        why = "docker run -v makes it, and then it belongs to root"
        return _cache(host, "warning", "not there", why=why, remedy=f"mkdir -p {folder.path}")
    if not folder.is_writable:
        # It stands in the way of downloads here; containers run as root unless told otherwise.
        found = f"not writable; it belongs to user {folder.owner}"
        return _cache(host, "warning", found, why=_NO_DOWNLOADS, remedy=mend)
    if folder.foreign:
        why = f"a container that ran as root left them; {_NO_DOWNLOADS}"
        return _cache(host, "warning", _foreign(folder), why=why, remedy=mend)
    return fine("hf-cache", folder.path, f"writable by user {user}")


def _cache_of_container(host: Host) -> Check:
    """The same inside, where a folder is kept only if it is mounted, and its owner is the host's to change."""
    folder, user = host.models, host.user
    give = f"on the host: sudo chown -R {user} FOLDER, which is {folder.path} here; or a volume: {_VOLUME}"
    if not folder.can_be_made or (folder.is_there and not folder.is_writable):
        found = (
            f"not writable; it belongs to user {folder.owner}" if folder.is_there else "not there, nor can it be made"
        )
        return _cache(host, "error", found, why=_NO_DOWNLOADS, remedy=give)
    if folder.foreign:
        return _cache(host, "warning", _foreign(folder), why=_NO_DOWNLOADS, remedy=give)
    if not folder.mount:
        return skipped("hf-cache", folder.path, "/proc/mounts does not say whether it is kept")
    if folder.mount == "/":
        why = "what is downloaded and compiled goes with the container, and every start does it anew"
        return _cache(host, "warning", "in no volume", why=why, remedy=f"docker run {_VOLUME}")
    there = f"writable by user {user}" if folder.is_there else f"made at need by user {user}"
    return fine("hf-cache", folder.path, f"{there}, kept in what is mounted at {folder.mount}")


def _foreign(folder: Folder) -> str:
    shown = ", ".join(folder.foreign[:3]) + (", ..." if len(folder.foreign) > 3 else "")  # noqa: PLR2004
    return f"belongs to other users: {shown}"


def _cache(host: Host, status: Literal["warning", "error"], found: str, *, why: str, remedy: str) -> Check:
    expected = f"a folder that user {host.user} may write{', on a volume' if host.in_container else ''}"
    return Check(
        id="hf-cache",
        status=status,
        subject=host.models.path,
        found=found,
        expected=expected,
        why=why,
        remedy=remedy,
    )
