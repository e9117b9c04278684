"""What an image's entrypoint costs over starting a command by itself: milliseconds, native, without an engine.

The files that the image of a row has by itself are laid out in a folder, and started with the system's Python, as in a
container; each way is run once untimed, then all in turn, so that a busy moment slows none of them alone.
"""

import argparse
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from sparkbake.project import open_project
from sparkbake.runtime import FOLDER

ROOT = Path(__file__).parents[1]
PROGRAM = "/bin/true"
# As the image has them, and below the folder of this run.
PLACES = ("/usr/lib/sparkbake", "/usr/share/sparkbake")
TARGET_MS = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default="0.32.0-t5")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sparkbake-bench-") as folder:
        start = str(lay_out(options.tag, Path(folder)))
        ways = {
            "exec": [PROGRAM],
            "pass-through": [start, PROGRAM],
            "serve --dry-run": [start, "serve", "--dry-run", "Qwen/Qwen3-1.7B"],
            "health": [start, "health"],
            "info": [start, "info"],
            "cluster COMMAND": [start, "cluster", PROGRAM],
        }
        found = measure(ways, options.runs)
    bare = statistics.median(wall for wall, _cpu in found["exec"])
    load = os.getloadavg()[0]
    print(f"{options.runs} runs each, {os.cpu_count()} cores, load {load:.1f}; aim: {TARGET_MS} ms over exec")
    for name, both in found.items():
        times = [wall for wall, _cpu in both]
        middle, cpu = statistics.median(times), statistics.median(cpu for _wall, cpu in both)
        spread = f"{min(times):.1f} to {max(times):.1f}"
        print(
            f"{name:<16} median {middle:6.1f} ms, {spread:>15}, {middle - bare:6.1f} over exec; processor {cpu:6.1f} ms"
        )


def lay_out(tag: str, folder: Path) -> Path:
    """Write an image's own files, which know where they are, and return its entrypoint."""
    project = open_project(ROOT)
    (context,) = project.contexts(project.plan(project.select([tag]), project.matrix.bases[0])).values()
    files = {one.path.relative_to(FOLDER): one.content for one in context if one.path.is_relative_to(FOLDER)}
    files[PurePosixPath("usr/share/sparkbake/manifest.json")] = next(
        one.content for one in context if one.path.name == "manifest.json"
    )
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        text = content
        for place in PLACES:
            text = text.replace(f"{place}/", f"{folder}{place}/").replace(f"{place} ", f"{folder}{place} ")
        (folder / path).write_text(text, encoding="utf-8")
    start = folder / "usr/local/bin/spark"
    start.chmod(0o755)
    return start


def cpu_s() -> float:
    """Processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(ways: Mapping[str, Sequence[str]], runs: int) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of each run of each way: by the clock, and of the processor."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(runs + 1):
        for name, argv in ways.items():
            began, before = time.perf_counter(), cpu_s()
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            took = (time.perf_counter() - began) * 1000, (cpu_s() - before) * 1000
            if done.returncode:
                raise SystemExit(f"{name}: exit status {done.returncode}: {done.stderr.strip()}")
            if number:
                found[name].append(took)
    return found


if __name__ == "__main__":
    main()
