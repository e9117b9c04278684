"""How long it takes to bring an image to two engines: `ship`, against `docker save | ssh docker load`.

Two engines in network namespaces of this machine, each behind an sshd, both served at once by either way: first an
image that they know nothing of, then its sibling, of which they have 95 %. Prints seconds and bytes of each run, and
the ratio of the medians. Needs root, dockerd, sshd and about 4 GB of disk; --rate gives the links a speed.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.engine.sparks import Sparks, slow, sparks  # noqa: E402
from tests.imagebuilder import make_checkout  # noqa: E402
from tests.ocibuilder import MadeLayer, add_image, copied, make_file, pack, write_index  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

LAYERS = 10
# Of three machines, the one that is shipped from.
HERE = 2
OLD, NEW = "0.20.2-t4", "0.20.2-t5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--mb", type=int, default=300, help="of the image, compressed (default: 300)")
    parser.add_argument("--rate", help="of each link: 1gbit (default: as fast as this machine is)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sparks-"))
    try:
        with ExitStack() as stack:
            found = stack.enter_context(sparks(folder, (True, True, True)))
            for number in range(2) if options.rate else ():
                stack.enter_context(slow(number, options.rate))
            measure(found, folder, options)
    finally:
        shutil.rmtree(folder)


def measure(found: Sparks, folder: Path, options: argparse.Namespace) -> None:
    project = make_checkout(folder / "checkout")
    names = {
        tag: project.plan(project.select([tag]), project.matrix.bases[0]).targets[0].reference for tag in (OLD, NEW)
    }
    layer_bytes = options.mb * 1_000_000 // LAYERS
    shared = [layer(str(number), layer_bytes) for number in range(LAYERS - 1)]
    # Half a layer of its own: one in twenty bytes.
    sizes = {}
    for tag, last in ((OLD, layer_bytes), (NEW, layer_bytes // 2)):
        sizes[tag] = load(found, folder, names[tag], [*shared, layer(tag, last)])
    ways: dict[str, Callable[[str], int]] = {
        "ship": lambda tag: ship(found, project.root, tag),
        "save | ssh load": lambda tag: save_load(found, names[tag], sizes[tag]),
    }
    seconds: dict[tuple[str, str], list[float]] = {}
    for run in range(options.runs):
        for way, work in ways.items():
            for machine in found.machines[:HERE]:
                machine.empty()
            for tag, what in ((OLD, "first"), (NEW, "sibling")):
                began = time.monotonic()
                moved = work(tag)
                took = time.monotonic() - began
                seconds.setdefault((what, way), []).append(took)
                print(f"run {run + 1}: {what}: {way}: {took:.1f} s, {moved / 1e6:.1f} MB", flush=True)
    for what in ("first", "sibling"):
        one, other = (statistics.median(seconds[what, way]) for way in ways)
        of = f"medians of {options.runs}, {os.cpu_count()} cores"
        print(f"{what}: {one:.1f} s / {other:.1f} s = {one / other:.2f} ({of})")


def layer(seed: str, size_bytes: int) -> MadeLayer:
    """One that compresses to about that size: as much noise, and as much text again."""
    noise = random.Random(seed).randbytes(size_bytes)  # noqa: S311  (no secret)
    text = b"every version frozen, every file accounted for\n" * (size_bytes // 47)
    return copied(seed, [make_file(f"opt/{seed}.noise", noise), make_file(f"opt/{seed}.txt", text)])


def load(found: Sparks, folder: Path, name: str, layers: list[MadeLayer]) -> int:
    """Give the image to the engine that is shipped from; bytes of its archive."""
    place = Path(tempfile.mkdtemp(dir=folder))
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    described = add_image(place, layers, architecture=architecture)
    write_index(place, [{**described, "annotations": {"io.containerd.image.name": name}}])
    archive = pack(place, place.with_suffix(".tar"))
    found.machines[HERE].docker("image", "load", "--input", str(archive))
    size = archive.stat().st_size
    shutil.rmtree(place)
    archive.unlink()
    return size


def ship(found: Sparks, root: Path, tag: str) -> int:
    """Bytes that moved to both."""
    argv = [sys.executable, "-m", "sparkbake.cli", "--root", str(root), "ship", tag, "--json"]
    argv += [one.name for one in found.machines[:HERE]]
    environment = {**found.environment, "PYTHONPATH": str(ROOT / "src"), "DOCKER_HOST": docker_host(found)}
    done = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)
    return sum(one["moved_bytes"] for one in json.loads(done.stdout)["hosts"])


def save_load(found: Sparks, name: str, archive_bytes: int) -> int:
    """Bytes that moved to both; at once, as `ship` does it."""
    pairs = []
    for machine in found.machines[:HERE]:
        save = subprocess.Popen(["docker", "-H", docker_host(found), "image", "save", name], stdout=subprocess.PIPE)
        argv = ["ssh", machine.name, "docker", "image", "load"]
        into = subprocess.Popen(argv, env=found.environment, stdin=save.stdout, stdout=subprocess.DEVNULL)
        pairs.append((save, into))
    for save, into in pairs:
        if into.wait() or save.wait():
            raise RuntimeError("docker save | ssh docker load failed")
    return archive_bytes * len(pairs)


def docker_host(found: Sparks) -> str:
    return f"unix://{found.machines[HERE].socket}"


if __name__ == "__main__":
    main()
