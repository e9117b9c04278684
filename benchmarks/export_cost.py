"""What it costs to pack an image's layers: seconds and bytes of each way of compression, in one run on one machine.

For each way all steps are executed first (not timed), then the export alone: compress, rewrite times if asked, write
an archive. The file times are other ones each time, so that no layer is found packed already. "gzip 6, rewriting
times" is how the prototype did it. Needs an engine, the package index, the base, and about 40 GB of disk; what it adds
to the build cache is removed again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sparkbake.bake import FILE_EPOCH, bake_file
from sparkbake.bases import choose
from sparkbake.build import write_contexts
from sparkbake.buildx import BakeOptions, bake_argv, forget
from sparkbake.engine import cache_ids, default_builder, engine_state
from sparkbake.preflight import ca_bundle
from sparkbake.project import Project, open_project

ROOT = Path(__file__).parents[1]
WAYS = {
    "gzip 6, rewriting times": "compression=gzip,compression-level=6,rewrite-timestamp=true",
    "zstd 3, rewriting times": "compression=zstd,compression-level=3,rewrite-timestamp=true",
    "gzip 6": "compression=gzip,compression-level=6",
    "zstd 1": "compression=zstd,compression-level=1",
    "zstd 3": "compression=zstd,compression-level=3",
    "zstd 7": "compression=zstd,compression-level=7",
    "zstd 12": "compression=zstd,compression-level=12",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default="0.32.0-t5")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(WAYS))
    options = parser.parse_args()
    project = open_project(ROOT)
    measured = {}
    for number, way in enumerate(options.ways, start=1):
        seconds, size = measure(project, options.tag, WAYS[way], FILE_EPOCH + number)
        measured[way] = (seconds, size)
        print(f"{way}: export {seconds:.0f} s, {size / 1e9:.3f} GB", flush=True)
    (first, _size), *_others = measured.values()
    for way, (seconds, _size) in measured.items():
        print(f"{way}: {seconds / first:.2f} of the time of '{options.ways[0]}', one run, {os.cpu_count()} cores")


def measure(project: Project, tag: str, way: str, epoch: int) -> tuple[float, int]:
    """Seconds of the export, and bytes of the compressed layers."""
    base = next(one for one in project.matrix.bases if not one.image)
    plan = project.plan(project.select([tag]), base)
    chosen = choose(
        base.name,
        project.matrix,
        project.mirrors(None),
        locks=project.locks,
        cache=project.cache,
        architectures=["arm64", engine_state().architecture],
        say=lambda _text: None,
    )
    builder = default_builder()
    before = cache_ids()
    with tempfile.TemporaryDirectory(prefix="sparkbake-bench-") as folder:
        root = Path(folder)
        write_contexts(plan, project.contexts(plan), root / "build")
        (target,) = plan.targets
        body = json.loads(bake_file(plan, {target.name: ""}, {base.name: chosen.context or ""}))
        (described,) = body["target"].values()
        described["args"]["FILE_EPOCH"] = str(epoch)
        described["tags"] = []
        ca = ca_bundle(os.environ)
        settings = BakeOptions(
            builder=builder,
            secrets={"ca": ca} if ca else {},
            readable=(chosen.folder,) if chosen.folder else (),
            writable=(root,),
        )
        try:
            run(root, body, "type=cacheonly", settings)
            # Not to the engine's store: that unpacks, which does not go with rewriting times.
            archive = root / "image.tar"
            began = time.monotonic()
            run(root, body, f"type=oci,dest={archive},force-compression=true,{way}", settings)
            return time.monotonic() - began, archive.stat().st_size
        finally:
            forget(builder, cache_ids() - before)


def run(root: Path, body: dict[str, dict[str, dict[str, object]]], output: str, settings: BakeOptions) -> None:
    (described,) = body["target"].values()
    described["output"] = [output]
    file = root / "build" / "docker-bake.json"
    file.write_text(json.dumps(body), encoding="utf-8")
    done = subprocess.run(
        bake_argv(file, root / "metadata.json", settings, os.environ),
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"bake ended with {done.returncode}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
