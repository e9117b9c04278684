"""Gather what a host is: ask its programs, read its files. What is missing is a fact as well, and never an error."""

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sparkbake.errors import ProcessError
from sparkbake.hostread import addressed, docker_info, docker_refusal, file_system, listening, smi_header, without_ids
from sparkbake.hostvalues import Answer, Folder, Host, Port, Token
from sparkbake.process import run

# Name of an answer to what is run for it.
PROGRAMS = {
    "nvidia-smi": ("nvidia-smi",),
    "gpus": ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"),
    "gpu-processes": ("nvidia-smi", "--query-compute-apps=used_memory", "--format=csv,noheader,nounits"),
    "nvidia-ctk": ("nvidia-ctk", "--version"),
    "ipv4": ("ip", "-json", "-4", "address", "show"),
    "timedatectl": ("timedatectl", "show", "--property=NTPSynchronized"),
}
_OWN_REGISTRY = "docker.io/"
# Where the engine is that the docker command talks to, unless DOCKER_HOST says it.
_CONTEXT = ("docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
# Name of an answer to the file that holds it.
FILES = {
    "os-release": "etc/os-release",
    "dgx-release": "etc/dgx-release",
    "meminfo": "proc/meminfo",
    "tcp": "proc/net/tcp",
    "tcp6": "proc/net/tcp6",
}
# Name of an answer to what keeps of it what is looked at; the rest is nobody's business who reads a report.
_SHORTENED = {"nvidia-smi": smi_header, "ipv4": addressed, "tcp": listening, "tcp6": listening}
_MOUNTS = "proc/mounts"
_SHM = "dev/shm"
_RDMA = "sys/class/infiniband"
_CONTAINER_MARKS = (".dockerenv", "run/.containerenv")
_NVCCS = ("usr/bin/nvcc", "usr/local/cuda/bin/nvcc", "usr/local/cuda-*/bin/nvcc")
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_PORT = "8000"
_TOKEN_START = "hf_"  # noqa: S105  (how tokens begin, and none itself)
_TIMEOUT_S = 10
_CONTAINER_TIMEOUT_S = 120
_KEPT_WHY_CHARS = 300
# Enough to see that a cache is mixed; a cache can have a hundred thousand entries.
_MAX_ENTRIES = 1000


def gather(
    *,
    environment: Mapping[str, str],
    models: Path,
    clock: str,
    image: str = "",
    candidates: Sequence[str] = (),
    root: Path = Path("/"),
) -> Host:
    """Look at this machine. Nothing is changed; only a named image is started, without a network, for its nvidia-smi.

    Args:
        models: the folder of models and downloads.
        clock: what this machine takes for today, YYYY-MM-DD.
        image: that the engine has; it is never pulled.
        candidates: references of images of which the first that the engine has is taken where none is named.
        root: where the files are that describe the machine.
    """
    answers = {name: _ask(argv) for name, argv in PROGRAMS.items()}
    answers |= {name: _read(root / path) for name, path in FILES.items()}
    answers |= {name: _shortened(answers[name], shorten) for name, shorten in _SHORTENED.items()}
    answers["docker"] = _ask_docker()
    if answers["docker"].text is not None and answers["gpus"].text is not None:
        image = image or _first_there(candidates)
    answers["container-gpu"] = _ask_container(image, answers)
    images = _images_folder(answers["docker"], environment, root)
    return Host(
        machine=os.uname().machine,
        in_container=any((root / mark).exists() for mark in _CONTAINER_MARKS),
        user=os.getuid(),
        clock=clock,
        answers=answers,
        nvccs={str(path): _ask((path, "--version")) for path in _compilers(root)},
        images=images,
        models=_folder(models, root, deep=True),
        token=_token(environment),
        rdma=rdma_ports(root),
        image=image,
        shm_bytes=_free(root / _SHM),
        named_ports=_named_ports(environment),
    )


def huggingface_home(environment: Mapping[str, str]) -> Path:
    """Where Hugging Face keeps downloads and the token.

    https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    """
    named = environment.get("HF_HOME")
    if named:
        return Path(named).expanduser()
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"


# ---- programs and files


def _ask(argv: tuple[str | Path, ...], timeout_s: int = _TIMEOUT_S) -> Answer:
    try:
        return Answer(text=run(argv, timeout_s=timeout_s))
    except ProcessError as err:
        return Answer(why=_short(err.output or str(err).partition(";")[0]))


def _shortened(answer: Answer, shorten: Callable[[str], str]) -> Answer:
    return answer if answer.text is None else Answer(text=shorten(answer.text))


def _short(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())[:_KEPT_WHY_CHARS]


def _read(path: Path) -> Answer:
    try:
        return Answer(text=path.read_text(encoding="utf-8", errors="replace"))
    except OSError as err:
        return Answer(why=f"{path}: {err.strerror}")


def _ask_docker() -> Answer:
    """The few words of `docker info` that matter, as JSON; see `hostread.docker_info`."""
    answer = _ask(("docker", "info", "--format", "{{json .}}"))
    if answer.text is None:
        return answer
    info = docker_info(answer.text)
    if info:
        return Answer(text=json.dumps(info))
    return Answer(why=_short(docker_refusal(answer.text)) or "docker info says nothing of an engine")


def _first_there(references: Sequence[str]) -> str:
    if not references:
        return ""
    listed = _ask(("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}")).text or ""
    there = set(listed.splitlines())
    # Docker lists those of its own registry without it.
    return next((one for one in references if one.removeprefix(_OWN_REGISTRY) in there), "")


def _ask_container(image: str, answers: Mapping[str, Answer]) -> Answer:
    if not image or answers["docker"].text is None or answers["gpus"].text is None:
        return Answer(why="not asked")
    options = ("--rm", "--pull", "never", "--gpus", "all", "--network", "none", "--entrypoint", "nvidia-smi")
    return _shortened(_ask(("docker", "run", *options, image, "-L"), timeout_s=_CONTAINER_TIMEOUT_S), without_ids)


def _compilers(root: Path) -> tuple[Path, ...]:
    """Every nvcc, the one that a shell would start first; one that is reached by two paths counts once."""
    on_path = shutil.which("nvcc")
    paths = [Path(on_path)] if on_path else []
    paths += [path for pattern in _NVCCS for path in sorted(root.glob(pattern))]
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    return tuple(found.values())


# ---- folders


def _images_folder(docker: Answer, environment: Mapping[str, str], root: Path) -> Folder | None:
    if docker.text is None:
        return None
    host = environment.get("DOCKER_HOST") or _ask(_CONTEXT).text
    if host and not host.startswith("unix:"):
        return None
    named = str(json.loads(docker.text)["DataFolder"])
    return _folder(root / named.lstrip("/"), root, deep=False) if named else None


def _folder(path: Path, root: Path, *, deep: bool) -> Folder:
    """Look at a folder; `deep` also at whom its entries belong to."""
    path = path.absolute()
    there = _status(path)
    is_there = there is not None and stat.S_ISDIR(there.st_mode)
    near = next((one for one in (path, *path.parents) if _status(one)), Path("/"))
    user = os.getuid()
    # Root may write everything, whomever it belongs to.
    foreign = sorted(_foreign(path, path, user)) if deep and is_there and user else ()
    mount, kind = file_system(_read(root / _MOUNTS).text or "", str(near.resolve()))
    return Folder(
        path=str(path),
        is_there=is_there,
        is_writable=is_there and os.access(path, os.W_OK | os.X_OK),
        owner=there.st_uid if there else None,
        foreign=tuple(foreign),
        file_system=kind,
        mount=mount,
        can_be_made=os.access(near, os.W_OK | os.X_OK),
        free_bytes=_free(near),
    )


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _foreign(top: Path, folder: Path, user: int) -> Iterator[str]:
    for entry in _entries(folder):
        if _owner(entry) != user:
            yield str(Path(entry.path).relative_to(top))
        elif folder == top and entry.is_dir(follow_symlinks=False):
            yield from _foreign(top, Path(entry.path), user)


def _owner(entry: "os.DirEntry[str]") -> int | None:
    try:
        return entry.stat(follow_symlinks=False).st_uid
    except OSError:  # it went since it was listed
        return None


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry, _number in zip(entries, range(_MAX_ENTRIES), strict=False)]
    except OSError:
        return []


# ---- token and network


def _named_ports(environment: Mapping[str, str]) -> dict[str, str]:
    """Where `serve` and the Ray head of an image listen."""
    others = {name: environment[name] for name in ("RAY_PORT",) if environment.get(name)}
    return {"PORT": environment.get("PORT") or _PORT, **others}


def _token(environment: Mapping[str, str]) -> Token | None:
    """The token that huggingface_hub would take: a variable before the file."""
    for name in _TOKEN_VARIABLES:
        if environment.get(name):
            return Token(place=name, is_plausible=environment[name].startswith(_TOKEN_START), mode=None)
    named = environment.get("HF_TOKEN_PATH")
    path = Path(named).expanduser() if named else huggingface_home(environment) / "token"
    there, text = _status(path), _read(path).text
    if there is None or not text:
        return None
    return Token(place=str(path), is_plausible=text.startswith(_TOKEN_START), mode=stat.S_IMODE(there.st_mode))


def rdma_ports(root: Path) -> tuple[Port, ...] | None:
    """The ports that `rdma link` lists; None when this system knows no RDMA devices.

    https://www.kernel.org/doc/Documentation/ABI/stable/sysfs-class-infiniband
    """
    if not (root / _RDMA).is_dir():
        return None
    return tuple(_port(path, root) for path in sorted((root / _RDMA).glob("*/ports/*")) if path.name.isdigit())


def _port(path: Path, root: Path) -> Port:
    device = path.parents[1]
    # The interface of the first address; where that is empty, the only one of the device.
    interface = _line(path / "gid_attrs" / "ndevs" / "0")
    interface = interface or next((one.name for one in sorted((device / "device" / "net").glob("*"))), "")
    mtu = _line(root / "sys" / "class" / "net" / interface / "mtu") if interface else ""
    return Port(
        device=device.name,
        number=int(path.name),
        state=_line(path / "state").rpartition(": ")[2],
        rate=_line(path / "rate"),
        layer=_line(path / "link_layer"),
        interface=interface,
        mtu=int(mtu) if mtu.isdigit() else None,
    )


def _line(path: Path) -> str:
    return (_read(path).text or "").strip()
