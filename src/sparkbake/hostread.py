"""Read what a host's programs and files say: text in, values out. None always means "it does not say"."""

import json
import re
from dataclasses import dataclass
from typing import Any

# The header of nvidia-smi; from 595 on drivers may tell their own CUDA ("UMD") from that of the tool.
_CUDA = re.compile(r"CUDA (?:UMD )?Version\s*:\s*(\d+\.\d+)")
_UNSAID = "[N/A]"
_ID = re.compile(r" \(UUID: [^)]*\)")
_NVCC = re.compile(r"release (\d+\.\d+)")
_MEMINFO = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
# The socket of a system-wide containerd, and the folder that it keeps images in.
_CONTAINERD = ("/run/containerd/containerd.sock", "/var/lib/containerd")
# Of a socket in /proc/net/tcp: https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html
_LISTENING = "0A"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU as nvidia-smi lists it.

    Attributes:
        name: "NVIDIA GB10".
        compute_capability: "12.1".
        driver: "580.95.05".
    """

    name: str
    compute_capability: str
    driver: str


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers that compare; it ends where anything else begins.

    >>> numbers("580.95.05") < numbers("580.142")
    True
    """
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(one) for one in found[0].split(".")) if found else ()


def gpus(listing: str) -> tuple[Gpu, ...]:
    """What `nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader` lists."""
    rows = [[word.strip() for word in line.split(",")] for line in listing.splitlines()]
    return tuple(Gpu(name=one[0], compute_capability=one[1], driver=one[2]) for one in rows if len(one) == 3)  # noqa: PLR2004


def held(listing: str) -> tuple[int | None, ...]:
    """Bytes that each process holds, as `nvidia-smi --query-compute-apps=used_memory` lists it in MiB; None: unsaid."""
    words = [line.strip() for line in listing.splitlines()]
    return tuple(int(one) * 2**20 if one.isdecimal() else None for one in words if one.isdecimal() or one == _UNSAID)


def driver_cuda(header: str) -> str | None:
    """The newest CUDA that a driver knows, "13.0", as nvidia-smi writes it above its table."""
    found = _CUDA.search(header)
    return found[1] if found else None


def smi_header(text: str) -> str:
    """What nvidia-smi prints down to the line with its versions; further down it names processes."""
    lines = text.splitlines()
    last = next((number for number, line in enumerate(lines) if "Version" in line), -1)
    return "".join(f"{line}\n" for line in lines[: last + 1])


def without_ids(listing: str) -> str:
    """What `nvidia-smi -L` lists, without what tells one GPU from all others of its kind."""
    return _ID.sub("", listing)


def nvcc_release(text: str) -> str | None:
    """The release of CUDA that a compiler is of, "13.0"."""
    found = _NVCC.search(text)
    return found[1] if found else None


def memory(text: str) -> dict[str, int]:
    """/proc/meminfo: name to bytes."""
    return {name: int(size) * 1024 for name, size in _MEMINFO.findall(text)}


def docker_info(text: str) -> dict[str, Any] | None:
    """What `docker info --format '{{json .}}'` says that matters here; None when it is no answer of an engine.

    The rest is left out, since it can hold a proxy with a password.

    Returns:
        ServerVersion; DataFolder, where images lie; names of Runtimes; ids of Devices that it found by CDI.
    """
    try:
        said = json.loads(text)
    except ValueError:
        return None
    if not isinstance(said, dict) or not said.get("ServerVersion"):
        return None
    address = str((said.get("Containerd") or {}).get("Address", ""))
    return {
        "ServerVersion": str(said["ServerVersion"]),
        "DataFolder": _CONTAINERD[1] if address == _CONTAINERD[0] else str(said.get("DockerRootDir", "")),
        "Runtimes": sorted(said.get("Runtimes") or ()),
        "Devices": sorted(str(one.get("ID", "")) for one in said.get("DiscoveredDevices") or ()),
    }


def docker_refusal(text: str) -> str:
    """Why no engine answered, as `docker info --format '{{json .}}'` has it; empty when it does not say.

    Up to 26 at least the command ends with 0 all the same, from 28.2 on with 1.
    """
    try:
        said = json.loads(text)
    except ValueError:
        return ""
    errors = said.get("ServerErrors") if isinstance(said, dict) else None
    return str(errors[0]) if isinstance(errors, list) and errors else ""


def addressed(text: str) -> str:
    """The interfaces that have an address, one a line, of `ip -json -4 address show`; the addresses are left out."""
    try:
        said = json.loads(text)
    except ValueError:
        return ""
    entries = [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []
    return "".join(f"{one['ifname']}\n" for one in entries if one.get("ifname") and one.get("addr_info"))


def listening(table: str) -> str:
    """The lines of /proc/net/tcp or tcp6 about sockets that listen; the others name who talks to whom."""
    lines = [line for line in table.splitlines() if line.split()[3:4] == [_LISTENING]]
    return "".join(f"{line}\n" for line in lines)


def listening_ports(table: str) -> frozenset[int]:
    """The ports of /proc/net/tcp or tcp6 that something listens on."""
    return frozenset(int(line.split()[1].rpartition(":")[2], 16) for line in listening(table).splitlines())


def settings(text: str) -> dict[str, str]:
    """Lines of KEY=VALUE, as /etc/os-release and `timedatectl show` have them; quotes are taken off."""
    pairs = [line.partition("=") for line in text.splitlines() if "=" in line]
    return {key.strip(): value.strip().strip("\"'") for key, _equals, value in pairs}


def file_system(mounts: str, folder: str) -> tuple[str, str]:
    """The longest mount point above a folder, "/" of the root, and the kind of file system there; empty if none is.

    Args:
        mounts: /proc/mounts; a space in a path stands in octal.
        folder: an absolute path without links.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:  # noqa: PLR2004
            continue
        point = words[1].replace("\\040", " ").rstrip("/")
        # Of two mounts on one folder the later one counts.
        if (folder == point or folder.startswith(f"{point}/")) and len(point) >= len(best):
            best, kind = point, words[2]
    return (best or "/", kind) if kind else ("", "")
