"""What is known of a host, and what the doctor says of it, as values; nothing here needs more than Python itself.

`hostfacts` gathers a Host, `hostread` reads its answers; `hostchecks`, `hostengine`, `hostresources` and `hostnetwork`
make Checks of it, `doctor` puts them together. Those modules, with `errors` and `process`, import the standard library
and each other alone, so that they also run inside an image, where nothing of this project is installed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# Why what depends on the GPU is not looked at.
NO_GPU = "no NVIDIA GPU answers"

Status = Literal["ok", "warning", "error", "not checked"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a program printed or a file holds.

    Attributes:
        text: None when there is none.
        why: there is none: "not found on PATH", the last lines of a program that failed; empty when there is one.
    """

    text: str | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """A folder that images or models lie in.

    Attributes:
        path: as it was named.
        is_there: whether it is a folder.
        is_writable: by this user.
        owner: user id; None of a folder that is not there.
        foreign: entries in it, two levels deep, that belong to other users.
        file_system: "ext4", "nfs4"; empty when it is not known. Of the nearest folder that is there.
        mount: likewise, where that file system is mounted, "/cache"; "/" for the root, empty when it is not known.
        can_be_made: it is there, or this user may write into the nearest folder that is.
        free_bytes: of that folder, too; None when it cannot be seen from here.
    """

    path: str
    is_there: bool
    is_writable: bool
    owner: int | None
    foreign: tuple[str, ...]
    file_system: str
    mount: str
    can_be_made: bool
    free_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """That there is a token of Hugging Face; never what it is.

    Attributes:
        place: "HF_TOKEN" or a path.
        is_plausible: whether it begins as tokens do.
        mode: permission bits of the file; None of a variable.
    """

    place: str
    is_plausible: bool
    mode: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """A port of an RDMA device (HCA), as /sys/class/infiniband has it.

    Attributes:
        device: "rocep1s0f0".
        number: from 1.
        state: "ACTIVE", "DOWN".
        rate: "200 Gb/sec (4X HDR)".
        layer: "Ethernet" (RoCE) or "InfiniBand".
        interface: of the network, "enp1s0f0np0"; empty when it has none.
        mtu: of the interface, in bytes; None without one.
    """

    device: str
    number: int
    state: str
    rate: str
    layer: str
    interface: str
    mtu: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """A machine, or a container, as it was found.

    Attributes:
        machine: as `uname -m` says, "aarch64".
        in_container: whether it says that it is one.
        user: id of the user who asks.
        clock: what it takes for today, YYYY-MM-DD.
        answers: see `hostfacts.PROGRAMS` and `hostfacts.FILES` for the names.
        nvccs: path to what `nvcc --version` says there; the first that a shell would start comes first.
        images: the folder of the engine; None when no engine says where it is.
        models: the folder of models and their downloads.
        token: None when there is none.
        rdma: None when this system knows no RDMA devices.
        image: that the GPU was asked for in; empty when none was.
        shm_bytes: free in /dev/shm; None when that cannot be seen.
        named_ports: variable of an image's commands to the port that it names; PORT is always there.
    """

    machine: str
    in_container: bool
    user: int
    clock: str
    answers: Mapping[str, Answer]
    nvccs: Mapping[str, Answer]
    images: Folder | None
    models: Folder
    token: Token | None
    rdma: tuple[Port, ...] | None
    image: str
    shm_bytes: int | None
    named_ports: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """A series of drivers that users report trouble of."""

    series: str
    what: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a host is held against.

    Attributes:
        compute_capability: "12.1".
        cuda: the release of CUDA in the image, "13.0.3".
        least_driver: without which no image of ours runs.
        drivers: release of CUDA ("13.0") to the driver it came with, which knows all of it; oldest first.
        troubles: drivers with reports.
        image_bytes: that an image takes on disk, packed and unpacked.
        models_bytes: that should be free for models.
        utilization: share of the memory that vLLM asks for unless told otherwise.
        shm_bytes: that should be free in /dev/shm.
        held_bytes: of the GPU's memory, from which on it matters that other processes hold it.
        roce_mtu: bytes.
        clock_not_before: YYYY-MM-DD.
        ports: that a server will listen on; none means those that the host's variables name.
    """

    compute_capability: str
    cuda: str
    least_driver: str
    drivers: tuple[tuple[str, str], ...]
    troubles: tuple[Trouble, ...]
    image_bytes: int
    models_bytes: int
    utilization: float
    shm_bytes: int
    held_bytes: int
    roce_mtu: int
    clock_not_before: str
    ports: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        id: of the kind of check, "driver".
        subject: what it is about: a device, a folder, a port.
        found: in a few words; of a check that could not be made, why.
        expected, why, remedy: what should be there, why that matters, and the command that mends it; empty unless the
            status is "warning" or "error".
    """

    id: str
    status: Status
    subject: str
    found: str
    expected: str = ""
    why: str = ""
    remedy: str = ""


def on_host(host: Host, command: str) -> str:
    """A command that mends the host, told so to whoever reads it in a container."""
    return f"on the host: {command}" if host.in_container else command


def fine(kind: str, subject: str, found: str) -> Check:
    return Check(id=kind, status="ok", subject=subject, found=found)


def skipped(kind: str, subject: str, because: str) -> Check:
    """A check that could not be made.

    Args:
        because: goes on after "because", which the answer begins with.
    """
    return Check(id=kind, status="not checked", subject=subject, found=f"because {because}")
