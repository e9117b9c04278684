"""Run a command as the first process of a container must: pass signals on, collect orphans, end as it ends."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from spark.say import SparkError

_PASSED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
_AWAITED = {*_PASSED_ON, signal.SIGCHLD}
_OF_A_TERMINAL = {signal.SIGINT, signal.SIGQUIT}
# si_code of a signal that no process has sent (sigaction(2)).
_BY_KERNEL = 0x80
# Python ignores these, and what is ignored stays so in the program that it becomes.
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
_NOT_FOUND, _NOT_EXECUTABLE, _BY_SIGNAL = 127, 126, 128


def replace_by(words: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Become another command, or as process 1, its parent.

    A process 1 that has no handler for a signal never gets it, and vLLM has none until it has loaded its modules: so a
    container would not stop for its first half minute.

    Raises:
        SparkError: the command cannot be started.
    """
    if os.getpid() == 1:
        sys.exit(run(words, environment))
    _execute(words, environment)


def run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, and return its exit status: 128 + the signal that ended it."""
    # Before there is a child, and for good: a signal that is awaited is never lost, whenever it comes.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            _execute(words, environment)
        except SparkError as err:
            print(f"spark: {err}", file=sys.stderr, flush=True)
            os._exit(err.status)
    while True:
        found = signal.sigwaitinfo(_AWAITED)
        if found.si_signo == signal.SIGCHLD:
            if (code := _collect(child)) is not None:
                return code if code >= 0 else _BY_SIGNAL - code
        # What a terminal sends (Ctrl-C) reaches the child by itself: it goes to the whole group.
        elif found.si_signo not in _OF_A_TERMINAL or found.si_code != _BY_KERNEL:
            os.kill(child, found.si_signo)


def _collect(child: int) -> int | None:
    """Collect all that have ended, orphans too; how the child has, and None while it runs."""
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == child:
            return os.waitstatus_to_exitcode(status)
        if not ended:
            return None


def _execute(words: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(words[0], list(words), dict(environment))  # noqa: S606  (to become a command is what this is for)
    except FileNotFoundError as err:
        raise SparkError(f"{words[0]}: not found on PATH of this image", _NOT_FOUND) from err
    except OSError as err:
        raise SparkError(f"{words[0]}: cannot be started: {err.strerror}", _NOT_EXECUTABLE) from err
