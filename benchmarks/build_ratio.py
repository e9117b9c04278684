"""How long a whole build takes, against the least work there is to do for it.

One run on one machine: (a) `uv pip install` of the locked environment into an empty folder, its cache empty, (b) one
pass of zstd -3 over what was installed, then (c) `build --no-verify` with an empty build cache and a base that is
there. Prints the seconds and c / (a + b). Needs an engine, the package index, zstd, and about 40 GB of disk; empties
the build cache of the engine.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uv

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default="0.32.0-t5")
    parser.add_argument("--empty-build-cache", action="store_true", required=True, help="say that it may be emptied")
    options = parser.parse_args()
    if shutil.which("zstd") is None:
        sys.exit("zstd is missing; install it: apt-get install zstd")
    sparkbake("render", options.tag, "--base", "debian-13")
    (target,) = ROOT.glob(f"build/*-{options.tag.replace('.', '_')}")
    with tempfile.TemporaryDirectory(prefix="sparkbake-bench-") as folder:
        least = install(target / "requirements.txt", Path(folder))
        least += compress(Path(folder, "environment"))
    run(["docker", "builder", "prune", "--all", "--force"])
    whole = timed("build", lambda: sparkbake("build", options.tag, "--base", "debian-13", "--no-verify"))
    print(f"ratio: {whole / least:.2f} ({whole:.0f} s / {least:.0f} s), one run, {os.cpu_count()} cores")


def install(requirements: Path, folder: Path) -> float:
    argv = [uv.find_uv_bin(), "pip", "install", "--quiet", "--target", str(folder / "environment")]
    argv += ["--cache-dir", str(folder / "cache"), "--link-mode", "copy", "--no-deps", "--require-hashes"]
    argv += ["--only-binary", ":all:", "--python-platform", "aarch64-manylinux_2_40", "--python-version", "3.13"]
    return timed("uv pip install", lambda: run([*argv, "--requirements", str(requirements)]))


def compress(folder: Path) -> float:
    def work() -> None:
        tar = ["tar", "--create", "--file", "-", "--directory", str(folder), "."]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as source:
            subprocess.run(["zstd", "-3", "-T0", "--quiet", "-o", "/dev/null", "-f"], stdin=source.stdout, check=True)

    return timed("zstd -3, all cores", work)


def sparkbake(*words: str) -> None:
    run([sys.executable, "-m", "sparkbake.cli", "--root", str(ROOT), *words])


def run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def timed(name: str, work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    seconds = time.monotonic() - began
    print(f"{name}: {seconds:.0f} s", flush=True)
    return seconds


if __name__ == "__main__":
    main()
