"""Every error this project raises on purpose; each carries the exit code the command line ends with."""

from collections.abc import Sequence


class SparkbakeError(Exception):
    """Base of all errors; the message says where, what was found, what is expected and what to do."""

    exit_code = 1


class UsageError(SparkbakeError):
    """The command line asks for something that does not exist (an unknown tag, a pattern that matches nothing)."""

    exit_code = 2


class FaultsError(SparkbakeError):
    """All faults of one file, collected and raised once."""

    exit_code = 2

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class MatrixError(FaultsError):
    """matrix.yaml or mirrors.yaml is not what its schema says."""


class LockError(SparkbakeError):
    """A lock is missing, stale, damaged, or cannot be made.

    Attributes:
        state: "missing", "stale" or "damaged"; of use only where a lock was read.
    """

    exit_code = 3

    def __init__(self, message: str, *, state: str = "damaged") -> None:
        self.state = state
        super().__init__(message)


class PreflightError(FaultsError):
    """This machine cannot do what is asked; every fault names the command that mends it."""

    exit_code = 4


class BaseError(SparkbakeError):
    """A base image cannot be had: the registry does not answer, or the mirror has moved on from the lock."""

    exit_code = 5


class ProcessError(SparkbakeError):
    """A program could not be started, or ended with an error.

    Attributes:
        returncode: its exit status, or None when it could not be started or ran out of time.
        output: the last lines it printed.
    """

    exit_code = 6

    def __init__(self, message: str, *, returncode: int | None = None, output: str = "") -> None:
        self.returncode = returncode
        self.output = output
        super().__init__(message)


class BuildError(SparkbakeError):
    """BuildKit could not build a target (the message names target, step, last lines and the full log), or a patch does
    not apply.
    """

    exit_code = 7


class VerifyError(SparkbakeError):
    """The image is not what the plan says."""

    exit_code = 1


class ImageError(SparkbakeError):
    """An image cannot be read: it is not there, not of an OCI format, or damaged."""

    exit_code = 8


class BundleError(FaultsError):
    """A bundle is not whole, not of the lock that is built from, or cannot be made."""

    exit_code = 10


class RegistryError(SparkbakeError):
    """A registry does not answer, refuses, or has something else than it was given; the next run goes on from there.

    Attributes:
        passes: whether it may go well when it is tried again.
        status: of the answer; None when there was none, or it is not what is wrong.
    """

    exit_code = 9

    def __init__(self, message: str, *, passes: bool = False, status: int | None = None) -> None:
        self.passes = passes
        self.status = status
        super().__init__(message)


class HostError(SparkbakeError):
    """Another machine cannot be reached, refuses, or cannot take an image; the other machines go on without it."""

    exit_code = 1
