"""A checkout with verified images in the engine, to publish to a registry on this machine, and what is there then."""

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.builders import ROOT
from tests.engine.loopback import Server
from tests.engine.small import remove
from tests.imagebuilder import make_checkout, manifest_of
from tests.ocibuilder import MadeLayer, add_image, copied, digest_of, make_file, pack, write_index
from tests.saidbuilder import clean_report, keep

from sparkbake.engine import local_image
from sparkbake.expected import record_path
from sparkbake.manifest import MANIFEST
from sparkbake.model import Target
from sparkbake.project import Project, write_file
from sparkbake.verify import report_json
from sparkbake.verifying import report_path

NAME = "sparks/spark-vllm"
SHARED_BYTES, OWN_BYTES = 8_000_000, 1_000_000


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A checkout whose images the engine has.

    Attributes:
        digests: tag to digest.
        loaded: all images that the engine was given.
    """

    project: Project
    folder: Path
    digests: dict[str, str]
    loaded: set[str]

    def target(self, tag: str, *, trim: bool = True) -> Target:
        base = next(one for one in self.project.matrix.bases if one.name == "debian-13")
        return self.project.plan(self.project.select([tag]), base, trim=trim).targets[0]

    def load(self, tag: str, *, seed: str = "", compression: str = "zstd", trim: bool = True) -> str:
        """Give the engine an image of a row, with a layer that all share and one of its own; its digest."""
        target = self.target(tag, trim=trim)
        place = self.folder / f"{tag}-{seed}-{compression}-{trim}"
        layers = [
            layer("shared", SHARED_BYTES, "shared", compression),
            layer(tag + seed, OWN_BYTES, "own", compression),
            copied("manifest", [make_file(MANIFEST, manifest_of(self.project, target))], compression=compression),
        ]
        described = add_image(place, layers, config={"Labels": dict(target.labels)})
        named = {"io.containerd.image.name": target.reference, "org.opencontainers.image.ref.name": tag}
        write_index(place, [{**described, "annotations": named}])
        archive = pack(place, place.with_suffix(".tar"))
        subprocess.run(["docker", "image", "load", "--input", str(archive)], check=True, capture_output=True)
        image = local_image(target.reference)
        assert image is not None
        assert image.digest == described["digest"]
        self.loaded.add(image.digest)
        return image.digest

    def report(self, tag: str, digest: str, *, trim: bool = True, **changed: Any) -> Path:
        """Write the report of a clean image."""
        target = self.target(tag, trim=trim)
        report = replace(clean_report(self.project, target, digest), **changed)
        path = report_path(self.project, target)
        write_file(path, report_json(report))
        return path

    def verify_all(self) -> None:
        """Leave what `verify` and `build` keep of each image, and no records."""
        for tag, digest in self.digests.items():
            self.report(tag, digest)
            keep(self.project, self.target(tag), digest)
            record_path(self.project.locks, tag).unlink(missing_ok=True)

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "sparkbake.cli", "--root", str(self.project.root), "publish", *words]

    def publish(self, host: str, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Publish there; unsigned unless the words say who signs."""
        signed = words if {"--sign-key", "--keyless"} & set(words) else (*words, "--no-sign")
        return subprocess.run(
            self.argv(*signed, "--registry", f"{host}/sparks"),
            env={**environment(), **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def layer(seed: str, size_bytes: int, name: str, compression: str) -> MadeLayer:
    """A layer that no compressor makes smaller."""
    # Of this run alone, so that the images of two runs on one engine are not the same.
    content = random.Random(f"{os.getpid()} {seed}").randbytes(size_bytes)  # noqa: S311  (no secret)
    return copied(name, [make_file(f"opt/{seed}", content)], compression=compression)


@contextlib.contextmanager
def made_checkout(folder: Path, *tags: str) -> Iterator[Checkout]:
    """A checkout of its own, with an image of each row in the engine."""
    project = make_checkout(folder / "checkout", ("namespace: sparks", f"namespace: sparks-{os.getpid()}"))
    project.build.mkdir()
    made = Checkout(project=project, folder=folder / "images", digests={}, loaded=set())
    made.folder.mkdir()
    try:
        for tag in tags:
            made.digests[tag] = made.load(tag)
        yield made
    finally:
        for digest in made.loaded:
            remove(digest)


# ---- what a registry has


def index_under(server: Server, tag: str) -> str | None:
    """The digest of what a tag names."""
    body = server.manifest(NAME, tag)
    return digest_of(body) if body else None


def names(server: Server, tag: str) -> str | None:
    """The digest of the image that a tag names, itself or in its index."""
    body = server.manifest(NAME, tag)
    found = json.loads(body or b"{}").get("manifests")
    if found is None:
        return digest_of(body) if body else None
    (digest,) = (one["digest"] for one in found if one["platform"]["os"] == "linux")
    return str(digest)
