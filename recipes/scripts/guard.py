"""Runs inside a build: proves that NCCL and torch are the ones compiled here, and the only ones.

`nccl` looks for every libnccl in the image. `record` looks into a torch that was just installed and writes down what
it is; `check` holds the image against that after each further installation. What was recorded stays in the image.
`images` loads what torchvision reads images with.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

SITE = next(Path("/opt/venv/lib").glob("python3*/site-packages"), Path("/opt/venv/lib"))
PYTHON = Path("/opt/venv/bin/python")
NCCL = Path("/opt/nccl")
RECORD = Path("/usr/share/sparkbake/torch.json")
OURS = ("torch", "torchvision", "torchaudio")
# Without a GPU and without a driver: `torch.cuda.nccl.version()` asks the library that torch loaded.
ASK = """
import json, torch
from torch._C import has_lapack
has_cuda = torch.version.cuda is not None
nccl = ".".join(map(str, torch.cuda.nccl.version())) if has_cuda else None
cudnn = torch.backends.cudnn.version() if has_cuda else None
said = {"version": torch.__version__, "cuda": torch.version.cuda, "nccl": nccl, "cudnn": cudnn}
print(json.dumps({**said, "lapack": bool(has_lapack)}))
"""
# What it is linked to of torch is there once torch is loaded.
LOAD = "import ctypes, sys, torch; ctypes.CDLL(sys.argv[1])"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    nccl = commands.add_parser("nccl")
    nccl.add_argument("version", help="as upstream's tag has it, 2.29.2-1")
    nccl.set_defaults(run=lambda given: guard_nccl(given.version))
    record = commands.add_parser("record")
    for name in ("torch", "torchvision", "torchaudio", "cuda", "nccl"):
        record.add_argument(f"--{name}", required=True, help="its version")
    record.set_defaults(run=lambda given: record_torch({name: getattr(given, name) for name in OURS}, given))
    commands.add_parser("images").set_defaults(run=lambda _given: guard_images())
    check = commands.add_parser("check")
    check.add_argument("after", help="what was installed, for the message")
    check.set_defaults(run=lambda given: check_torch(given.after))
    given = parser.parse_args()
    given.run(given)


def say(text: str) -> None:
    print(f"guard: {text}", flush=True)


def fail(text: str) -> NoReturn:
    print(f"guard: error: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


def plain(version: str) -> str:
    """A version as Python has it, without its local part.

    >>> plain("2.10.0-rc6"), plain("2.10.0+cu131")
    ('2.10.0rc6', '2.10.0')
    """
    return re.sub(r"-?(a|b|rc)\.?", r"\1", version.partition("+")[0])


# ---- NCCL


def guard_nccl(version: str) -> None:
    expected = version.partition("-")[0]
    here = NCCL / "lib" / f"libnccl.so.{expected}"
    others = sorted(one for one in nccl_files() if one != here)
    if others:
        fail(f"expected one NCCL, {here}; found {', '.join(map(str, others))}, too: remove what brings it")
    if not here.is_file():
        fail(f"{here} is not there; NCCL {version} was asked for")
    header = (NCCL / "include/nccl.h").read_text(encoding="utf-8")
    parts = [re.search(rf"#define NCCL_{name}\s+(\d+)", header) for name in ("MAJOR", "MINOR", "PATCH")]
    found = ".".join(one[1] for one in parts if one)
    if found != expected:
        fail(f"{NCCL}/include/nccl.h is of NCCL {found}, expected {expected}")
    places = loaded_from()
    if places != [str(NCCL / "lib/libnccl.so.2")]:
        fail(f"a program would load libnccl.so.2 from {', '.join(places) or 'nowhere'}, expected {NCCL}/lib alone")
    say(f"one NCCL, {version}: {here}")


def loaded_from() -> list[str]:
    """Where the loader finds NCCL, when nobody tells it a place."""
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    return sorted(set(re.findall(r"libnccl\.so\.2 \(.*=> (\S+)", listed)))


def nccl_files(image: Path = Path("/")) -> list[Path]:
    """Every file that is an NCCL, anywhere in the image; links to them do not count."""
    found = []
    for root, folders, names in os.walk(image):
        if Path(root) == image:
            folders[:] = [one for one in folders if one not in ("proc", "sys", "dev")]
        paths = (Path(root) / one for one in names if one.startswith("libnccl") and re.search(r"\.(so|a)\b", one))
        # Plug-ins of NCCL have names of their own: libnccl-net.so, libnccl-tuner.so.
        found += [one for one in paths if not one.is_symlink() and re.match(r"libnccl(_static)?\.", one.name)]
    return found


# ---- torch


def record_torch(expected: dict[str, str], given: argparse.Namespace) -> None:
    found = {name: installed(name) for name in OURS}
    for name, version in expected.items():
        if plain(found[name]["version"]) != plain(version):
            fail(f"{name} is {found[name]['version']}, expected {version}")
    done = subprocess.run([PYTHON, "-c", ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"torch does not import: {done.stderr.strip()[-1500:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    if said["cuda"] is None:
        fail(f"torch {said['version']} is a build for the CPU alone; CUDA {given.cuda} was to be compiled in")
    if said["cuda"] != ".".join(given.cuda.split(".")[:2]):
        fail(f"torch {said['version']} is built for CUDA {said['cuda']}, expected {given.cuda}")
    if said["nccl"] != given.nccl.partition("-")[0]:
        fail(f"torch {said['version']} uses NCCL {said['nccl']}, expected {given.nccl}")
    # What torch does not find when it is compiled it leaves out, with a line among thousands.
    if not said["cudnn"]:
        fail(f"torch {said['version']} is compiled without cuDNN; was its package there, libcudnn.so with its headers?")
    if not said["lapack"]:
        fail(
            f"torch {said['version']} is compiled without LAPACK: no BLAS with it was found; name a package that has "
            "one in the matrix, under source.build_os_packages"
        )
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    built = {name: said[name] for name in ("cuda", "cudnn", "lapack", "nccl")}
    RECORD.write_text(json.dumps({**found, "built_with": built}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    say(f"torch {said['version']}, CUDA {said['cuda']}, NCCL {said['nccl']}, cuDNN {said['cudnn']}, LAPACK: recorded")


def guard_images() -> None:
    """Load the library; torchvision itself only warns, and fails when somebody reads an image."""
    library = SITE / "torchvision/image.so"
    done = subprocess.run([PYTHON, "-c", LOAD, library], capture_output=True, text=True, check=False)
    if done.returncode:
        fail(
            f"{library} does not load: {done.stderr.strip()[-1500:]}; name the packages that have its libraries in the "
            "matrix, under source.runtime_os_packages"
        )
    say(f"{library} loads")


def check_torch(after: str) -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    for name in OURS:
        was, now = recorded[name], installed(name)
        if was != now:
            fail(
                f"after {after}, {name} {now['version']} is not the {name} {was['version']} that was compiled here: "
                f"something replaced it; take {name} out of what was installed"
            )
    say(f"after {after}: torch is still the one compiled here")


def installed(name: str) -> dict[str, str]:
    """Version of a package, and one digest over all its files, 'sha256:' + 64 hex."""
    infos = sorted(SITE.glob(f"{name}-*.dist-info"))
    if len(infos) != 1:
        fail(f"expected one {name} in {SITE}, found {', '.join(one.name for one in infos) or 'none'}")
    with (infos[0] / "RECORD").open(encoding="utf-8", newline="") as file:
        paths = sorted(row[0] for row in csv.reader(file) if row)
    total = hashlib.sha256()
    for path in paths:
        # A module that was imported has bytecode beside it, which no installer wrote.
        if path.endswith(".pyc") or path == f"{infos[0].name}/RECORD":
            continue
        place = SITE / path
        digest = hash_of(place) if place.is_file() else "missing"
        total.update(f"{digest}  {path}\n".encode())
    version = infos[0].name.removesuffix(".dist-info").partition("-")[2]
    return {"version": version, "files": f"sha256:{total.hexdigest()}"}


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
