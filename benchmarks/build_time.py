"""How long a build of everything takes when the package cache is warm, and where the time goes.

Builds once, not timed, so that base and wheels are here; then `build --no-cache --no-verify` some times over: every
step runs, nothing is downloaded that the package cache has. What each adds to the build cache is removed before the
next. Prints the seconds of each run, and of its phases: fetching and installing the environment, dealing it into
layers, exporting (compress, write, name), and the rest. Needs an engine, the package index, the base, and about 70 GB
of disk; the engine has the image under its tag afterwards.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sparkbake.engine import default_builder
from sparkbake.forgetting import forgetting

ROOT = Path(__file__).parents[1]
# What recipes/scripts/layout.py says, with its own seconds.
_LAYOUT = re.compile(r"layout: (\d+) s: (dealing |done)")
_EXPORT = re.compile(r"exporting to .*: done, ([\d.]+) s$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Phases:
    """Seconds of one build: in all, and of its phases; None where the build did not say."""

    whole_s: float
    install_s: float | None
    layout_s: float | None
    export_s: float | None

    def __str__(self) -> str:
        parts = {"fetch and install": self.install_s, "layout": self.layout_s, "export": self.export_s}
        known = {name: seconds for name, seconds in parts.items() if seconds is not None}
        known["the rest"] = self.whole_s - sum(known.values())
        return f"{self.whole_s:.0f} s: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in known.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default="0.32.0-t5")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout")
    options = parser.parse_args()
    builder = default_builder()
    print(f"warming: {build(options.root, options.tag).whole_s:.0f} s", flush=True)
    found = []
    for number in range(1, options.runs + 1):
        load = os.getloadavg()[0]
        with forgetting(builder):
            found.append(build(options.root, options.tag, "--no-cache"))
        print(f"run {number}: {found[-1]} (load before: {load:.1f})", flush=True)
    whole = [one.whole_s for one in found]
    print(
        f"{options.tag}: {min(whole):.0f} to {max(whole):.0f} s, median {statistics.median(whole):.0f} s; "
        f"{len(whole)} runs, {os.cpu_count()} cores"
    )


def build(root: Path, tag: str, *words: str) -> Phases:
    argv = [sys.executable, "-m", "sparkbake.cli", "--root", str(root), "build", tag, "--base", "debian-13"]
    began = time.monotonic()
    done = subprocess.run([*argv, "--no-verify", *words], stderr=subprocess.PIPE, text=True, check=False)
    whole_s = time.monotonic() - began
    if done.returncode:
        sys.exit(f"build ended with {done.returncode}: {done.stderr[-2000:]}")
    return phases(done.stderr.splitlines(), whole_s)


def phases(lines: Iterable[str], whole_s: float) -> Phases:
    """The phases of a build, of what it said."""
    said: dict[str, float] = {}
    export_s = None
    for line in lines:
        if found := _LAYOUT.search(line):
            said[found[2].strip()] = float(found[1])
        elif found := _EXPORT.search(line):
            export_s = float(found[1])
    install_s, end_s = said.get("dealing"), said.get("done")
    return Phases(
        whole_s=whole_s,
        install_s=install_s,
        layout_s=None if install_s is None or end_s is None else end_s - install_s,
        export_s=export_s,
    )


if __name__ == "__main__":
    main()
