"""Make the root file system of a locked base: mmdebstrap's call, what stays out of the image, the folder to work in."""

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sparkbake import oci, process
from sparkbake.baselock import BaseLock
from sparkbake.debianmirror import KEYRING, default_mirror, read_stanzas, source_lines, transport_options
from sparkbake.debianpool import source_line
from sparkbake.errors import BaseError, ProcessError

_PINS = "/etc/apt/preferences.d/00sparkbake"
_KEPT_LINES = 40
# Measured: 195 packages take 1.2 GB while they are built and 0.5 GB after it, and one architecture follows the other.
_NEEDED_BYTES = 3 * 1024**3


def make_layer(lock: BaseLock, architecture: oci.Architecture, *, mirror: str, part: Path, pool: Path | None) -> Path:
    """Install what is locked for one architecture, and return the tar of the image's layer, `part`/ARCHITECTURE.tar.

    Args:
        mirror: as debianmirror.mirror_address returns it.
        part: an existing folder to work in, as work_folder gives it.
        pool: what debianpool.fetch_superseded made, of packages that the mirror's index lacks.

    Raises:
        BaseError: mmdebstrap failed, or installed something else than what is locked.
    """
    raw, tar = part / f"{architecture}-raw.tar", part / f"{architecture}.tar"
    _run_mmdebstrap(lock, architecture, mirror=mirror, part=part, target=raw, pool=pool)
    oci.write_layer_tar(
        raw,
        tar,
        epoch=lock.source_date_epoch,
        is_dropped=lambda path, entry: is_dropped(path, is_directory=entry.isdir()),
        replaced=_replaced_files(lock),
    )
    raw.unlink()
    _check_installed(lock, architecture, read_installed(tar))
    return tar


# mmdebstrap


def _run_mmdebstrap(
    lock: BaseLock, architecture: str, *, mirror: str, part: Path, target: Path, pool: Path | None
) -> None:
    packages = lock.packages_of(architecture)
    pins = part / f"{architecture}.pins"
    # mmdebstrap installs the essential packages first, without a look at --include; the pins hold those too.
    pins.write_text(
        "\n".join(f"Package: {each.name}\nPin: version {each.version}\nPin-Priority: 1001\n" for each in packages),
        encoding="utf-8",
    )
    scratch = part / "tmp"
    scratch.mkdir(exist_ok=True)
    is_root = os.geteuid() == 0
    argv = [
        # Another user's files under the cache may be closed to the users that unshare mode maps to.
        *_clean_environment(lock.source_date_epoch, scratch if is_root else Path(tempfile.gettempdir())),
        *(_own_namespaces() if is_root else ()),
        "mmdebstrap",
        f"--mode={'root' if is_root else 'unshare'}",
        "--variant=essential",
        f"--architectures={architecture}",
        "--format=tar",
        f"--include={','.join(f'{each.name}={each.version}' for each in packages)}",
        f"--setup-hook=upload {shlex.quote(str(pins))} {_PINS}",
        *(f"--aptopt={option}" for option in transport_options()),
        "--skip=output/dev",
        "",  # No suite: it would narrow down the essential packages to that one, against the pins.
        str(target),
        *source_lines(architecture, lock.suites, mirror),
        *([source_line(pool, architecture)] if pool else ()),
    ]
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    status = process.stream(argv, last.append)
    if status:
        hint = (
            [] if is_root else ["As another user than root this needs user namespaces and /etc/subuid; or run as root."]
        )
        told = [f"base {lock.name}: mmdebstrap for {architecture} ended with status {status}:", *last, *hint]
        raise BaseError("\n".join(told))


def _clean_environment(epoch: int, scratch: Path) -> list[str]:
    """Return the start of a command line that hands on nothing of this process's environment but proxies."""
    kept = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.lower().endswith("_proxy")]
    return [
        "env",
        "-i",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        f"HOME={scratch}",
        "TZ=UTC0",
        "LC_ALL=C.UTF-8",
        f"SOURCE_DATE_EPOCH={epoch}",
        f"TMPDIR={scratch}",
        *kept,
    ]


def _own_namespaces() -> list[str]:
    """Return the start of a command line under which mounts and processes end with the program, even when killed.

    mmdebstrap as root mounts /proc, /sys and parts of /dev below its scratch folder; one that is killed would leave
    them there, where the folder's removal could follow them into the machine's own.
    """
    words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        process.run([*words, "true"], timeout_s=60)
    except ProcessError as err:
        raise BaseError(
            f"mmdebstrap needs mounts of its own, which this machine does not allow: {err.output or err}\n"
            "In a container, give it the capability SYS_ADMIN; or run as a user with /etc/subuid entries."
        ) from err
    return words


def read_installed(layer: Path) -> dict[str, str]:
    """Return package to version of what is fully installed, from the dpkg status in a layer."""
    with tarfile.open(layer, "r:") as archive:
        file = archive.extractfile("var/lib/dpkg/status")
        text = file.read().decode() if file else ""
    stanzas = read_stanzas(text, "Package", "Status", "Version")
    return {each["Package"]: each["Version"] for each in stanzas if each["Status"] == "install ok installed"}


def _check_installed(lock: BaseLock, architecture: str, installed: Mapping[str, str]) -> None:
    locked = {package.name: package.version for package in lock.packages_of(architecture)}
    lines = [
        f"{each} {architecture}: locked {locked.get(each, 'none')}, installed {installed.get(each, 'none')}"
        for each in sorted({*locked, *installed})
        if locked.get(each) != installed.get(each)
    ]
    if lines:
        told = [f"base {lock.name}: what got installed is not what is locked:", *lines, lock.remedy]
        raise BaseError("\n".join(told))


# What of a root file system goes into the image

# Folders that stay, empty.
_EMPTIED = ("dev", "proc", "sys", "run", "tmp", "var/tmp", "var/lib/apt/lists", "var/cache/apt/archives")
# Folders that stay with their folders, for packages put links there at install time; nothing else stays.
_FILES_DROPPED = ("var/log", "var/cache/apt", "usr/share/man", "etc/apt/sources.list.d")
_DROPPED = re.compile(
    "|".join(
        (
            r"(.*/)?__pycache__",
            # What stands beside the copyright files; links between folders stay, copyright is reached by them.
            r"usr/share/doc/[^/]+/(?!copyright$).+",
            # Made where the file system has ACLs, and only there.
            r"var/log/journal",
            r"usr/share/(info|locale)/.+",
            r"etc/(resolv\.conf|hostname|\.pwd\.lock|(passwd|group|shadow|gshadow|subuid|subgid)-)",
            r"etc/apt/(sources\.list|apt\.conf\.d/(00|99)mmdebstrap)|" + re.escape(_PINS.removeprefix("/")),
            r"etc/dpkg/dpkg\.cfg\.d/99mmdebstrap",
            r"var/cache/ldconfig/aux-cache|var/lib/dbus/machine-id|var/cache/debconf/.+-old",
            r"var/lib/dpkg/([^/]+-old|lock|lock-frontend|triggers/Lock)",
            # Which package came as a dependency: differs with apt's version. Without it all count as asked for.
            r"var/lib/apt/extended_states",
        )
    )
)


def is_dropped(path: str, *, is_directory: bool) -> bool:
    """Say whether a path of the root file system ("usr/share/man", no leading slash) stays out of the image."""
    if any(path.startswith(f"{folder}/") for folder in _EMPTIED):
        return path != "run/lock"
    if not is_directory and any(path.startswith(f"{folder}/") for folder in _FILES_DROPPED):
        return True
    return any(_DROPPED.fullmatch(parent) for parent in _with_parents(path))


def _with_parents(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _replaced_files(lock: BaseLock) -> dict[str, bytes]:
    sources = (
        f"Types: deb\nURIs: {default_mirror()}\nSuites: {' '.join(lock.suites)}\n"
        f"Components: main\nSigned-By: {KEYRING}\n"
    )
    return {"etc/machine-id": b"", "etc/apt/sources.list.d/debian.sources": sources.encode()}


# Folders to work in


@contextlib.contextmanager
def work_folder(parent: Path, tell: Callable[[str], None]) -> Iterator[Path]:
    """Give a folder to work in, for one run at a time; what earlier runs left when they were killed is removed.

    Raises:
        BaseError: the disk has too little room, or something is mounted below a folder that is to be removed.
    """
    parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(parent).free
    if free < _NEEDED_BYTES:
        raise BaseError(f"{parent}: {free // 10**6} MB free, expected {_NEEDED_BYTES // 10**6} MB; make room there")
    with (parent / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another run to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in sorted(parent.glob(".part-*")):
            remove_folder(left)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=parent))
        try:
            yield part
        finally:
            remove_folder(part)


def remove_folder(folder: Path) -> None:
    """Remove a folder, unless something is mounted below it: that would empty what is mounted.

    Raises:
        BaseError: something is; names it.
    """
    below = list_mounts(folder.resolve(), Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    if below:
        raise BaseError(f"{folder}: not removed, for these are mounted below it: {' '.join(below)}; unmount them first")
    shutil.rmtree(folder)


def list_mounts(folder: Path, mountinfo: str) -> tuple[str, ...]:
    """Return the mount points at or below a folder.

    Args:
        folder: absolute, without symbolic links.
        mountinfo: content of /proc/self/mountinfo (proc_pid_mountinfo(5): the fifth field, with octal escapes).
    """
    fields = (line.split()[4] for line in mountinfo.splitlines())
    places = (re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field) for field in fields)
    return tuple(place for place in places if Path(place).is_relative_to(folder))
