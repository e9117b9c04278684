"""Runs inside a build: prints how many compile jobs may run at once, from cores and from memory that is free now.

nvcc takes several GiB for one file of attention kernels, and the machine may be somebody's desktop: by cores alone a
build would end for want of memory. A number that somebody asked for counts, whatever memory there is.

BuildKit runs stages beside each other, of several targets and builds, and each would count the same memory as its own:
so one step compiles at a time, whoever holds the lock on the file that they all have open.
"""

import argparse
import fcntl
import os
import re
import sys
from pathlib import Path

# A secret, unlike the build argument BUILD_JOBS, does not make BuildKit run finished steps anew.
ASKED = Path("/dev/sparkbake/jobs")
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib-per-job", type=float, required=True, help="memory that one job may take")
    parser.add_argument("--gib-reserved", type=float, default=8, help="memory for whoever works at the machine")
    parser.add_argument("--turn", type=int, help="wait until nobody else has the file open at this number locked")
    parser.add_argument("--meminfo", type=Path, default=MEMINFO)
    parser.add_argument("--cgroup", type=Path, default=CGROUP)
    parser.add_argument("--asked", type=Path, default=ASKED)
    options = parser.parse_args()
    asked = asked_for(options.asked)
    if options.turn is not None:
        wait_for_turn(options.turn)
    cores = len(os.sched_getaffinity(0))
    free = free_bytes(options.meminfo, options.cgroup)
    fitting = max(1, int((free / GIB - options.gib_reserved) / options.gib_per_job))
    found = asked or min(cores, fitting)
    memory = f"{free / GIB:.1f} GiB free, {options.gib_reserved:g} of them kept, {options.gib_per_job:g} a job"
    why = "as asked for" if asked else f"{cores} cores, {memory}"
    print(f"jobs: {found} ({why})", file=sys.stderr, flush=True)
    print(found)


def wait_for_turn(number: int) -> None:
    """Lock a file that the calling script has open: the lock is given back when that script has ended."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("jobs: another step compiles; waiting for it to end", file=sys.stderr, flush=True)
        fcntl.flock(number, fcntl.LOCK_EX)


def asked_for(path: Path) -> int | None:
    """What the secret or BUILD_JOBS says; None when both say nothing."""
    secret = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    for name, text in (("the secret jobs", secret), ("BUILD_JOBS", os.environ.get("BUILD_JOBS", ""))):
        if text:
            if not re.fullmatch(r"[1-9]\d{0,3}", text):
                sys.exit(f"jobs: error: {name}: got '{text}', expected a number from 1 to 9999")
            return int(text)
    return None


def free_bytes(meminfo: Path, cgroup: Path) -> int:
    """What the kernel calls available, or what is left to this container where that is less."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        sys.exit(f"jobs: error: {meminfo} has no MemAvailable; say how many jobs there may be: BUILD_JOBS")
    available = int(match[1]) * 1024
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.exists() and (text := limit.read_text(encoding="utf-8").strip()) != "max":
        available = min(available, int(text) - int(used.read_text(encoding="utf-8")))
    return available


if __name__ == "__main__":
    main()
