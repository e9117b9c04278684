"""Cleaning a real engine, one of its own: whose images go, and whose stay."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.builders import ROOT
from tests.engine.sparks import Spark, sparks
from tests.imagebuilder import make_checkout
from tests.ocibuilder import MadeLayer, add_image, copied, make_file, pack, write_index

from sparkbake.project import Project

pytestmark = pytest.mark.engine

T4, T5 = "0.20.2-t4", "0.20.2-t5"
NAME = "registry.example:5000/sparks/spark-vllm"
LABEL = "dev.example.lock_digest"
# As our recipes leave it, oldest first; the steps of the layers stand between.
AFTER = ["ENV A=b", "WORKDIR /workspace", 'CMD ["/bin/bash"]']


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine, and a checkout to clean it from."""

    spark: Spark
    project: Project
    folder: Path

    def load(self, name: str, content: str, *, more: Sequence[str] = (), label: bool = True) -> str:
        """Give it an image; its digest.

        Args:
            more: steps without a layer that somebody added.
        """
        place = Path(tempfile.mkdtemp(dir=self.folder))
        made: MadeLayer = copied("manifest", [make_file("usr/x", content.encode())])
        steps = [{"created_by": made.step}, *({"created_by": one, "empty_layer": True} for one in (*AFTER, *more))]
        labels = {LABEL: "sha256:x"} if label else {}
        described = add_image(place, [made], config={"Labels": labels}, history=steps)
        # The name of a temporary folder may end in what no repository's name may end in.
        first = f"loaded:{place.name}"
        write_index(place, [{**described, "annotations": {"io.containerd.image.name": f"docker.io/library/{first}"}}])
        self.spark.docker("image", "load", "--input", str(pack(place, place.with_suffix(".tar"))))
        # As a build names what it made: whatever had the name stays without one, which `load` does not care for.
        self.spark.docker("tag", first, name)
        self.spark.docker("image", "rm", first)
        return str(described["digest"])

    def clean(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "sparkbake.cli", "--root", str(self.project.root), "clean", *words]
        variables = {
            "PYTHONPATH": str(ROOT / "src"),
            "DOCKER_HOST": f"unix://{self.spark.socket}",
            "SPARKBAKE_CACHE": str(self.folder / "cache"),
        }
        return subprocess.run(
            argv, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=120
        )

    def ids(self) -> set[str]:
        return set(self.spark.docker("image", "ls", "--all", "--quiet", "--no-trunc").split())


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    # Paths of sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="sparks-"))
    project = make_checkout(tmp_path_factory.mktemp("clean") / "checkout")
    try:
        with sparks(folder, (True,)) as found:
            yield Engine(spark=found.machines[0], project=project, folder=tmp_path_factory.mktemp("images"))
    finally:
        shutil.rmtree(folder)


def items(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    assert done.stdout, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return found


def test_superseded_images_go_and_those_of_others_stay(engine: Engine) -> None:
    engine.spark.empty()
    superseded = engine.load(f"{NAME}:{T4}", "old")
    kept = {
        engine.load(f"{NAME}:{T4}", "new"),
        engine.load("somebody/built-on-ours:1", "theirs", more=["ENV C=d"]),
        engine.load("somebody/without-labels:1", "foreign", label=False),
    }
    # Somebody's own that lost its name, too.
    kept.add(engine.load("somebody/lost:1", "lost", more=['CMD ["theirs"]']))
    kept.add(engine.load("somebody/lost:1", "found", more=['CMD ["theirs"]']))
    assert engine.ids() == {superseded, *kept}
    done = engine.clean("--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert [(one["kind"], one["place"], one["removed"]) for one in items(done)] == [("image", superseded, True)]
    assert engine.ids() == kept


def test_all_takes_our_names_and_leaves_what_others_named(engine: Engine) -> None:
    engine.spark.empty()
    ours = engine.load(f"{NAME}:{T4}", "one")
    shared = engine.load(f"{NAME}:{T5}", "two")
    engine.spark.docker("tag", f"{NAME}:{T5}", "mine:1")
    done = engine.clean("--all", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert {one["place"] for one in items(done)} == {f"{NAME}:{T4}", f"{NAME}:{T5}"}
    assert engine.ids() == {shared}
    assert ours not in engine.ids()
    assert engine.spark.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split() == ["mine:1"]


def test_an_image_that_a_container_needs_stays(engine: Engine) -> None:
    engine.spark.empty()
    digest = engine.load(f"{NAME}:{T4}", "needed")
    engine.spark.docker("create", "--network", "none", "--platform", "linux/arm64", "--name", "needs-it", digest, "x")
    try:
        done = engine.clean(T4, "--yes")
        assert done.returncode == 1
        assert f"{NAME}:{T4}: stays: " in done.stderr
        assert "container" in done.stderr
        assert engine.ids() == {digest}
    finally:
        engine.spark.docker("rm", "needs-it")


def test_records_of_the_build_cache_that_name_our_recipes_can_be_told(engine: Engine, tmp_path: Path) -> None:
    engine.spark.empty()
    engine.load("busy:1", "busy")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    engine.spark.docker("build", "--quiet", str(tmp_path / "ours"))
    before = engine.spark.docker("system", "df", "--verbose", "--format", "{{json .BuildCache}}")
    assert json.loads(before)
    done = engine.clean("--build-cache", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert [one for one in items(done) if one["kind"] == "build cache"] == []
    after = engine.spark.docker("system", "df", "--verbose", "--format", "{{json .BuildCache}}")
    assert {one["ID"] for one in json.loads(after)} == {one["ID"] for one in json.loads(before)}
