"""Reach another machine with the user's own ssh: one connection for all commands and for the tunnel back.

Multiplexing: ssh(1), -O; ssh_config(5), ControlMaster.
"""

import shlex
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparkbake import process
from sparkbake.errors import HostError, ProcessError
from sparkbake.loopback import LOOPBACK

_CONNECT_S = 15
_OPEN_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 120.0
# ssh's own exit status, as against that of the command it ran.
_SSH_FAILED = 255

# Nobody is there to type a password for several hosts at once; what the user's configuration adds for interactive use
# (a command, a terminal, tunnels that may be taken already) would be in the way. Layers are compressed.
_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": str(_CONNECT_S),
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
    "ControlPersist": "no",
    "ClearAllForwardings": "yes",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "PermitLocalCommand": "no",
    "Compression": "no",
}

# What ssh says, and what to do about it; the first that fits counts.
_REMEDIES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is another than known_hosts has: find out why, then `ssh-keygen -R` it and log in once by hand",
    ),
    ("Host key verification failed", "its host key is not known: log in once by hand with ssh, and look at the key"),
    ("Permission denied", "it accepts none of your keys, and no password is asked for: `ssh-copy-id` one to it"),
    ("Could not resolve hostname", "there is no such name: look for a slip, or add it to ~/.ssh/config"),
    ("Connection refused", "no sshd listens there: start it (`sudo systemctl start ssh`), or name its port"),
    ("timed out", "it does not answer: is it on, and on this network?"),
    ("No route to host", "it does not answer: is it on, and on this network?"),
    ("Network is unreachable", "it does not answer: is it on, and on this network?"),
)


class Connection:
    """A connection to one machine, once it is open; threads may share it.

    Args:
        host: an ssh destination: "spark2", "user@spark2", "ssh://user@spark2:2222".
        socket: through which later calls find it; a path of less than 100 characters.
    """

    def __init__(self, host: str, socket: Path) -> None:
        self.host = host
        self._socket = socket
        self._closed = threading.Event()
        self._far_pid: str | None = None

    def open(self) -> None:
        """Connect and authenticate.

        Raises:
            HostError: it cannot be reached or refuses; says what to do.
        """
        options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
        argv = ["ssh", "-f", "-N", "-M", "-S", str(self._socket), *options, "--", self.host]
        try:
            process.run(argv, timeout_s=_OPEN_TIMEOUT_S)
        except ProcessError as err:
            raise HostError(_unreachable(err)) from err
        if self._closed.is_set():
            self.close()
            raise HostError("interrupted")

    def run(self, *words: str, timeout_s: float | None = COMMAND_TIMEOUT_S) -> str:
        """Run a program there and return what it wrote to standard output.

        Raises:
            HostError: the connection is lost.
            ProcessError: the program cannot be started, or ended with another status than 0.
        """
        try:
            return process.run([*self._again, "--", self.host, shlex.join(words)], timeout_s=timeout_s)
        except ProcessError as err:
            if err.returncode == _SSH_FAILED:
                raise HostError(_lost(err.output)) from err
            raise

    def work(self, *words: str) -> None:
        """Run a program there that may take long, and that `cancel` ends.

        Raises:
            HostError: the connection is lost.
            ProcessError: it cannot be started, or ended with another status than 0.
        """
        lines: list[str] = []

        def take(line: str) -> None:
            if self._far_pid is None and line.isdigit():
                self._far_pid = line
            else:
                lines.append(line)

        told = shlex.join(("sh", "-c", 'echo "$$"; exec "$@"', "sh", *words))
        try:
            status = process.stream([*self._again, "--", self.host, told], take)
        finally:
            self._far_pid = None
        output = "\n".join(lines)
        if status == _SSH_FAILED:
            raise HostError(_lost(output))
        if status:
            raise ProcessError(f"{shlex.join(words)}: exit status {status}\n{output}", returncode=status, output=output)

    def cancel(self) -> None:
        """End what `work` is waiting for, as Ctrl-C there would."""
        if self._far_pid is not None:
            try:
                self.run("kill", self._far_pid)
            except (HostError, ProcessError):
                # It has ended meanwhile.
                return

    def forward(self, port: int) -> int:
        """Let a free port of 127.0.0.1 there lead to one of 127.0.0.1 here, and return it.

        Raises:
            HostError: sshd there does not allow it.
        """
        argv = [*self._again, "-O", "forward", "-R", f"{LOOPBACK}:0:{LOOPBACK}:{port}", "--", self.host]
        try:
            return int(process.run(argv, timeout_s=COMMAND_TIMEOUT_S))
        except (ProcessError, ValueError) as err:
            told = _last_line(err.output) if isinstance(err, ProcessError) else str(err)
            raise HostError(
                f"no tunnel back from it: {told}; sshd_config there must say `AllowTcpForwarding yes` (or remote)"
            ) from err

    def close(self) -> None:
        """End the connection, and with it the tunnel and whatever `run` is waiting for."""
        self._closed.set()
        if self._socket.exists():
            try:
                process.run([*self._again, "-O", "exit", "--", self.host], timeout_s=_CLOSE_TIMEOUT_S)
            except ProcessError:
                # It has ended by itself meanwhile.
                return

    @property
    def _again(self) -> list[str]:
        """Through the open connection; the user's configuration has done its part, and may have tunnels of its own."""
        return ["ssh", "-F", "none", "-o", "BatchMode=yes", "-S", str(self._socket)]


@contextmanager
def connections(hosts: tuple[str, ...]) -> Iterator[tuple[Connection, ...]]:
    """Connections that are yet to be opened, all closed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="ship-") as folder:
        made = tuple(Connection(host, Path(folder, str(number))) for number, host in enumerate(hosts))
        try:
            yield made
        finally:
            for one in made:
                one.close()


def _unreachable(err: ProcessError) -> str:
    if not err.output:
        return f"cannot be reached: {err}"
    remedy = next((text for sign, text in _REMEDIES if sign in err.output), "try `ssh` to it by hand")
    return f"cannot be reached: {_last_line(err.output)}; {remedy}"


def _lost(output: str) -> str:
    return f"the connection is lost: {_last_line(output)}; ship again"


def _last_line(output: str) -> str:
    return (output.strip().splitlines() or ["ssh does not say why"])[-1].strip()
