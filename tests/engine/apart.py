"""A second Docker Engine in a network of its own that leads nowhere: there is loopback and no route."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_CONFIG = {"features": {"containerd-snapshotter": True}}


@dataclass(frozen=True, kw_only=True)
class Apart:
    """The engine, and the network it is in.

    Attributes:
        pid: of the engine; its network is the one that leads nowhere.
    """

    pid: int
    socket: Path

    def command(self, *words: str) -> list[str]:
        """A command that runs in that network."""
        return ["nsenter", "--net", "--target", str(self.pid), "--", *words]

    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.socket}"}


@contextlib.contextmanager
def engine_apart(
    folder: Path, *, cores: str | None = None, umask: str = "022", variables: Mapping[str, str] | None = None
) -> Iterator[Apart]:
    """Start an engine whose network has loopback alone; at the end it goes with all that it holds.

    Args:
        folder: for its data, of some gigabytes; a socket's path must be short, so this one's should be, too.
        cores: which of this machine's it may use, as taskset has them: "0", "0,1"; None for all.
        variables: of its environment, beside those of this one.
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG))
    argv = ["dockerd", "--config-file", str(folder / "config.json"), "--host", f"unix://{folder / 'docker.sock'}"]
    argv += ["--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")]
    # Neither could be made: it would need the netfilter modules, and there is nowhere to lead to.
    argv += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
    argv = ["taskset", "--cpu-list", cores, *argv] if cores else argv
    script = f'ip link set lo up && umask {umask} && exec "$@"'
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script, "sh", *argv],
            stdout=log,
            stderr=log,
            env={**os.environ, **(variables or {})},
        )
    try:
        _await(folder, process)
        yield Apart(pid=process.pid, socket=folder / "docker.sock")
    finally:
        process.terminate()
        process.wait(timeout=60)
        _remove(folder)


def _await(folder: Path, process: "subprocess.Popen[bytes]") -> None:
    for _turn in range(300):
        if process.poll() is not None:
            break
        done = subprocess.run(
            ["docker", "version"],
            env={**os.environ, "DOCKER_HOST": f"unix://{folder / 'docker.sock'}"},
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError(f"no engine came up:\n{(folder / 'log').read_text()[-2000:]}")


def _remove(folder: Path) -> None:
    """Remove its data, unless something is still mounted there."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left = [one for one in mounts if one.startswith(f"{folder}/")]
    if left:
        raise RuntimeError(f"still mounted, so {folder} stays: {', '.join(left)}")
    shutil.rmtree(folder)
