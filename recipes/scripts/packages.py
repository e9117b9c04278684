"""Runs inside a build: installs hashed Python packages from the index, and wheels that this build compiled.

From the index comes only what a requirements file names with its hash, and nothing that it depends on; so torch, which
no such file names, cannot come along. guard.py proves it afterwards.
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

VENV = Path("/opt/venv")
CA = Path("/dev/sparkbake/ca.pem")
INDEX = Path("/dev/sparkbake/index")
# Of what this build compiles; a requirements file that names one would replace it.
COMPILED = {"torch", "torchvision", "torchaudio", "triton", "pytorch-triton", "vllm"}
# Written by uv, with the time or the place of a build.
TRACES = ("uv_cache.json", "direct_url.json", "REQUESTED")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--installer", type=Path, help="requirements file of uv itself: put it to --uv")
    parser.add_argument("--uv", type=Path, default=Path("/usr/local/bin/uv"))
    parser.add_argument("--requirements", type=Path, action="append", default=[])
    parser.add_argument("--wheels", type=Path, action="append", default=[], help="folder: all wheels in it")
    options = parser.parse_args()
    os.umask(0o022)
    if options.installer:
        install_uv(options.installer, options.uv)
    if not (VENV / "bin/python").exists():
        run(sys.executable, "-m", "venv", "--without-pip", "--symlinks", VENV)
    for file in options.requirements:
        install_hashed(options.uv, file)
    for folder in options.wheels:
        install_wheels(options.uv, folder)
    for name in TRACES:
        for path in VENV.glob(f"lib/python3*/site-packages/*.dist-info/{name}"):
            forget(path)
    (VENV / ".lock").unlink(missing_ok=True)
    link_libraries()


def fail(text: str) -> NoReturn:
    print(f"packages: error: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


def run(*argv: str | Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run([str(one) for one in argv], env={**os.environ, **(env or {})}, check=False)
    if done.returncode:
        fail(f"{argv[0]} ended with {done.returncode}")


def outside() -> dict[str, str]:
    found = {"UV_HTTP_TIMEOUT": "300"}
    if CA.exists() and CA.stat().st_size:
        found |= {"SSL_CERT_FILE": str(CA), "PIP_CERT": str(CA)}
    if INDEX.exists() and INDEX.stat().st_size:
        index = INDEX.read_text(encoding="utf-8").strip()
        found |= {"UV_DEFAULT_INDEX": index, "PIP_INDEX_URL": index}
    return found


def install_uv(requirements: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        run(sys.executable, "-m", "venv", place)
        pip = [f"{place}/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        pip += ["--no-cache-dir", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        run(*pip, "-r", requirements, env=outside())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(f"{place}/bin/uv", target)


def install_hashed(uv: Path, requirements: Path) -> None:
    names = {re.split(r"[=\s]", line)[0] for line in requirements.read_text(encoding="utf-8").splitlines() if line}
    if ours := sorted(names & COMPILED):
        fail(f"{requirements.name} names {', '.join(ours)}, which this build compiles; take it out and lock again")
    print(f"packages: {requirements.name}: {len(names)} packages", flush=True)
    if names:
        asked: list[str | Path] = ["--require-hashes", "--only-binary", ":all:", "--requirements", requirements]
        run(*uv_install(uv), *asked, env=outside())


def install_wheels(uv: Path, folder: Path) -> None:
    """Install all wheels below a folder; by name from there, since uv writes down the path of a file it is given."""
    wheels = sorted(folder.rglob("*.whl"))
    if not wheels:
        fail(f"{folder} has no wheel")
    asked = ["==".join(one.name.split("-")[:2]) for one in wheels]
    print(f"packages: compiled here: {', '.join(asked)}", flush=True)
    places = [word for one in sorted({one.parent for one in wheels}) for word in ("--find-links", str(one))]
    run(*uv_install(uv), "--no-cache", "--offline", "--no-index", *places, *asked)


def link_libraries() -> None:
    """Let programs find libraries that come in packages of NVIDIA's, such as cuDNN: torch was linked to them."""
    folders = sorted(str(one) for one in VENV.glob("lib/python3*/site-packages/nvidia/*/lib"))
    if folders:
        Path("/etc/ld.so.conf.d/nvidia-packages.conf").write_text("\n".join(folders) + "\n", encoding="utf-8")
    run("ldconfig")


def uv_install(uv: Path) -> list[str]:
    argv = [str(uv), "pip", "install", "--python", str(VENV / "bin/python"), "--no-deps"]
    return [*argv, "--no-compile-bytecode", "--link-mode", "copy", "--no-config"]


def forget(path: Path) -> None:
    """Remove a file of a package, and its line in the package's RECORD."""
    record = path.parent / "RECORD"
    with record.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row[0] != f"{path.parent.name}/{path.name}"]
    with record.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    path.unlink()


if __name__ == "__main__":
    main()
