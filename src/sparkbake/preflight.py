"""Find out before any work what would break it: engine, image store, emulation, disk, certificates."""

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from sparkbake.engine import EngineState
from sparkbake.errors import PreflightError
from sparkbake.process import run
from sparkbake.versions import major

MIN_ENGINE = 27
# The first whose bake adds secrets to a target on the command line.
MIN_BUILDX = Version("0.22")
MIN_QEMU = 10
KEPT_FREE_BYTES = 5 * 10**9
_BINFMT = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROBE_STATUS = 42


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a build asks of this machine.

    Attributes:
        architecture: the image's, as OCI names it.
        disk_bytes: free space it takes in the engine's data folder.
        remote_builder: whether another builder than the engine's own does the work; its emulation and disk are not
            looked at.
    """

    architecture: str
    disk_bytes: int
    remote_builder: bool = False


def check(
    needs: Needs,
    state: EngineState,
    *,
    buildx: str | None,
    emulation: Callable[[], str | None],
    free_bytes: Callable[[str], int | None],
    environment: Mapping[str, str],
) -> None:
    """Check everything and report all faults at once.

    Args:
        emulation: says why arm64 programs do not run here; None when they do.
        free_bytes: free space of the file system a folder is on; None when it cannot be seen from here.

    Raises:
        PreflightError: with one line a fault: what, why, and the command that mends it.
    """
    faults = [
        *_engine_faults(state),
        *_buildx_faults(buildx),
        *certificate_faults(environment),
        *_proxy_faults(environment),
    ]
    if not needs.remote_builder:
        faults += _emulation_faults(needs, state, emulation)
        faults += _disk_faults(needs, state, free_bytes)
    if faults:
        raise PreflightError(faults)


def _engine_faults(state: EngineState) -> list[str]:
    faults = []
    if _leading_number(state.version) < MIN_ENGINE:
        faults.append(
            f"Docker Engine {state.version} is too old: expected {MIN_ENGINE} or newer; "
            "upgrade it: https://docs.docker.com/engine/install/"
        )
    if not state.has_containerd_store:
        faults.append(
            "the engine does not use the containerd image store, which reproducible file times and OCI output need; "
            'add "features": {"containerd-snapshotter": true} to /etc/docker/daemon.json and restart it: '
            "sudo systemctl restart docker"
        )
    return faults


def _buildx_faults(buildx: str | None) -> list[str]:
    if buildx is None:
        return ["docker buildx is missing; install it: sudo apt-get install docker-buildx (or docker-buildx-plugin)"]
    try:
        version = Version(buildx.lstrip("v").partition("+")[0])
    except InvalidVersion:
        return []
    return (
        [
            f"docker buildx {buildx} is too old: expected {MIN_BUILDX} or newer; "
            "upgrade it: sudo apt-get install docker-buildx (or docker-buildx-plugin)"
        ]
        if version < MIN_BUILDX
        else []
    )


def _emulation_faults(needs: Needs, state: EngineState, emulation: Callable[[], str | None]) -> list[str]:
    if needs.architecture == state.architecture:
        return []
    fault = emulation()
    return (
        [f"{needs.architecture} programs do not run here: {fault}; run ./quickstart setup, which mends it"]
        if fault
        else []
    )


def _disk_faults(needs: Needs, state: EngineState, free_bytes: Callable[[str], int | None]) -> list[str]:
    free = free_bytes(state.data_folder) if state.data_folder else None
    # What the build cache holds already need not be made again.
    needed = max(0, needs.disk_bytes - state.cached_bytes)
    wanted = needed + KEPT_FREE_BYTES
    if free is None or free >= wanted:
        return []
    return [
        f"{state.data_folder} has {free / 1e9:.1f} GB free: expected {wanted / 1e9:.1f} GB "
        f"({needed / 1e9:.1f} for the build, {KEPT_FREE_BYTES / 1e9:.0f} to spare); "
        "free some: docker builder prune, docker image prune"
    ]


def _proxy_faults(environment: Mapping[str, str]) -> list[str]:
    """Proxy variables that no program will understand."""
    return [
        f"{name} is '{environment[name]}': expected an address such as http://proxy:3128; export it anew or unset it"
        for name in _PROXY_VARIABLES
        if environment.get(name) and not _is_proxy(environment[name])
    ]


def _is_proxy(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https", "socks5", "socks5h") and bool(parts.hostname)


def certificate_faults(environment: Mapping[str, str]) -> list[str]:
    """Variables that name a certificate bundle which is not there."""
    return [
        f"{name} names {environment[name]}, which is no file: expected certificates in PEM form; unset it or mend it"
        for name in _CA_VARIABLES
        if environment.get(name) and not Path(environment[name]).is_file()
    ]


def ca_bundle(environment: Mapping[str, str]) -> Path | None:
    """The certificate bundle this machine was told to trust; None when it was told of none."""
    named = next((environment[name] for name in _CA_VARIABLES if environment.get(name)), None)
    return Path(named) if named else None


def free_bytes(folder: str) -> int | None:
    """Free space of the file system a folder is on; None when it cannot be seen from here."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def emulation_fault() -> str | None:
    """Why this machine does not run arm64 programs; None when it does. Runs one, and asks QEMU for its version."""
    fault = _run_fault(arm64_program(_PROBE_STATUS), _PROBE_STATUS)
    if fault or os.uname().machine == "aarch64":
        return fault
    version = _qemu_version()
    if version is not None and major(version) < MIN_QEMU:
        return f"QEMU {version} is too old (7.2 hangs on `import torch`), expected {MIN_QEMU} or newer"
    return None


def arm64_program(status: int) -> bytes:
    """An arm64 ELF program of three instructions that ends with a status of 0 to 255."""
    code = struct.pack("<3I", 0xD2800000 | status << 5, 0xD2800BA8, 0xD4000001)  # mov x0, #status; mov x8, #93; svc #0
    address, headers = 0x400000, 64 + 56
    size = headers + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, address + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, address, address, size, size, 0x1000)
    return head + segment + code


def _run_fault(program: bytes, status: int) -> str | None:
    with tempfile.TemporaryDirectory(prefix="sparkbake-") as folder:
        path = Path(folder, "probe")
        path.write_bytes(program)
        path.chmod(0o755)
        try:
            done = subprocess.run([path], check=False, timeout=20)
        except OSError as err:
            return f"running one ended with '{err.strerror}'"
        except subprocess.TimeoutExpired:
            return "running one did not end within 20 s"
    return None if done.returncode == status else f"running one ended with {done.returncode}, expected {status}"


def _qemu_version() -> str | None:
    """Version of the registered QEMU; None where the registration names a program that cannot be seen from here."""
    try:
        lines = _BINFMT.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    named: Sequence[str] = [line.partition(" ")[2] for line in lines if line.startswith("interpreter ")]
    if not named or not Path(named[0]).exists():
        return None
    # Debian registers a link whose name tells QEMU how it was called; the program behind it answers --version.
    words = run([Path(named[0]).resolve(), "--version"], timeout_s=20).split()
    return words[words.index("version") + 1] if "version" in words else None


def _leading_number(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdigit() else 0
