"""The whole diagnosis of a host: every check in one order, each of them in the answer, whatever came of it."""

from collections.abc import Sequence
from dataclasses import asdict

from sparkbake.hostchecks import check_gpu, check_nvcc, check_system
from sparkbake.hostengine import check_docker
from sparkbake.hostnetwork import check_ports, check_rdma
from sparkbake.hostresources import check_cache, check_disk, check_memory, check_time, check_token
from sparkbake.hostvalues import Check, Host, Needs

SCHEMA = 1

_STATUSES = ("error", "warning", "not checked", "ok")


def diagnose(host: Host, needs: Needs) -> tuple[Check, ...]:
    """Hold a host against what an image needs.

    A check that cannot be made is in the answer, too, and says why.
    """
    return (
        check_system(host),
        *check_gpu(host, needs),
        check_nvcc(host, needs),
        *check_docker(host),
        *check_disk(host, needs),
        *check_memory(host, needs),
        *check_rdma(host, needs),
        check_time(host, needs),
        check_token(host),
        *check_cache(host),
        *check_ports(host, needs),
    )


def count(checks: Sequence[Check]) -> dict[str, int]:
    """Status to the number of checks that have it, the worst first; all statuses are there."""
    return {status: sum(one.status == status for one in checks) for status in _STATUSES}


def exit_status(checks: Sequence[Check]) -> int:
    """1 with an error, else 0."""
    return int(any(one.status == "error" for one in checks))


def last_line(checks: Sequence[Check]) -> str:
    """All in one line: "18 checks: 1 error, 2 warnings, 3 not checked, 12 ok"."""
    words = {"error": "errors", "warning": "warnings"}
    parts = [
        f"{number} {words.get(status, status) if number != 1 else status}" for status, number in count(checks).items()
    ]
    return f"{len(checks)} checks: {', '.join(parts)}"


def as_json(checks: Sequence[Check], host: Host, needs: Needs) -> dict[str, object]:
    """A diagnosis for machines; a key may be added within a schema, none changes or goes.

    It has all that was gathered of the host, so that it can be understood elsewhere; a token is never part of it.
    """
    return {
        "schema": SCHEMA,
        "count": count(checks),
        "checks": [asdict(one) for one in checks],
        "needs": asdict(needs),
        "host": asdict(host),
    }
