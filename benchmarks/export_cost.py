"""What it costs to export an image: seconds and bytes of each way, in one run on one machine.

For each way all steps are executed first (not timed), then the export alone: compress, rewrite times if asked, and
write an archive, which the client is handed, or an image in the engine's store, as builds do. The file times are other
ones each time, so that no layer is found packed already. The prototype exported "gzip 6, rewriting times"; into the
engine's store that cannot be had, since the engine unpacks whatever `unpack` says, and BuildKit refuses both together:
so hold "engine: as builds do" against "zstd 3" to see what the archive costs. Needs an engine, the package index, the
base, and about 40 GB of disk. What it adds to the build cache is removed again, unless another build ran meanwhile.
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
from sparkbake.buildx import BakeOptions, bake_argv
from sparkbake.engine import default_builder, engine_state, local_image
from sparkbake.forgetting import forgetting
from sparkbake.preflight import ca_bundle
from sparkbake.project import Project, open_project

ROOT = Path(__file__).parents[1]
_ARCHIVE = "type=oci,dest={archive}"
_OLD = "compression=gzip,compression-level=6,rewrite-timestamp=true"
_NEW = "compression=zstd,compression-level=3"
WAYS = {
    "engine: as builds do": f"type=image,{_NEW}",
    "engine: gzip 6": "type=image,compression=gzip,compression-level=6",
    "gzip 6, rewriting times": f"{_ARCHIVE},{_OLD}",
    "zstd 3, rewriting times": f"{_ARCHIVE},{_NEW},rewrite-timestamp=true",
    "gzip 6": f"{_ARCHIVE},compression=gzip,compression-level=6",
    "zstd 1": f"{_ARCHIVE},compression=zstd,compression-level=1",
    "zstd 3": f"{_ARCHIVE},{_NEW}",
    "zstd 7": f"{_ARCHIVE},compression=zstd,compression-level=7",
    "zstd 12": f"{_ARCHIVE},compression=zstd,compression-level=12",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default="0.32.0-t5")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout")
    options = parser.parse_args()
    project = open_project(options.root)
    measured = {}
    for number, way in enumerate(options.ways, start=1):
        seconds, size = measure(project, options.tag, WAYS[way], FILE_EPOCH + number)
        measured[way] = (seconds, size)
        print(f"{way}: export {seconds:.1f} s, {size / 1e9:.3f} GB", flush=True)
    (first, _size), *_others = measured.values()
    for way, (seconds, _size) in measured.items():
        print(f"{way}: {seconds / first:.2f} of the time of '{options.ways[0]}', one run, {os.cpu_count()} cores")


def measure(project: Project, tag: str, way: str, epoch: int) -> tuple[float, int]:
    """Seconds of the export, and bytes: of the archive, or what the engine counts: also the files, if it unpacks."""
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
    with forgetting(builder, builds=2), tempfile.TemporaryDirectory(prefix="sparkbake-bench-") as folder:
        root = Path(folder)
        write_contexts(plan, project.contexts(plan), root / "build")
        (target,) = plan.targets
        body = json.loads(bake_file(plan, {target.name: ""}, {base.name: chosen.context or ""}))
        (described,) = body["target"].values()
        described["args"]["FILE_EPOCH"] = str(epoch)
        # A name that no image has: the store keeps what has one, and only that can be asked for and removed.
        name = f"sparkbake-bench:{epoch}-{os.getpid()}"
        described["tags"] = [name] if way.startswith("type=image") else []
        ca = ca_bundle(os.environ)
        settings = BakeOptions(
            builder=builder,
            secrets={"ca": ca} if ca else {},
            readable=(chosen.folder,) if chosen.folder else (),
            writable=(root,),
        )
        try:
            run(root, body, "type=cacheonly", settings)
            archive = root / "image.tar"
            began = time.monotonic()
            run(root, body, f"{way.format(archive=archive)},oci-mediatypes=true,force-compression=true", settings)
            seconds = time.monotonic() - began
            image = local_image(name) if described["tags"] else None
            return seconds, image.size_bytes if image else archive.stat().st_size
        finally:
            if described["tags"]:
                subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True, check=False)


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
