"""What was compiled, from one engine to the next by the cache of a real registry; stand-ins are compiled.

The engine has one build cache for all, so that the commands of this module's recipes have a mark of their own: by that
their records are found and removed, and the engine is then one that never compiled any of it.
"""

import json
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.engine.loopback import Server, registry
from tests.engine.small import exists, inspect, remove
from tests.engine.standins import FIRST, SECOND, StandIns, ran, serving_stand_ins

from sparkbake.buildcache import TargetCache, cache_bodies
from sparkbake.buildx import BakeOptions, bake, forget
from sparkbake.engine import default_builder

pytestmark = [pytest.mark.engine, pytest.mark.network]

T4, LATER = f"{FIRST}-t4", f"{SECOND}-t4"
NAME = "sparks/build-cache"
# What takes hours; what is said of the other steps is cut off before it names the script.
LONG = {"build-llvm.sh", "build-torch.sh", "build-triton.sh", "build-vllm.sh"}
# What every step that compiles says first.
COMPILES = "    jobs: "


def mark_commands(recipes: Path, mark: str) -> None:
    """Make every command one of this module's alone, and its records in the build cache such that can be told.

    So with ccache: what that has is compiled in no time, and whoever compiles holds a lock in it.
    """
    shell = f'SHELL ["/usr/bin/env", "SPARKBAKE_TEST={mark}", "/bin/bash", "-euo", "pipefail", "-c"]'
    for name in ("_source.j2", "pytorch-dev.Dockerfile.j2", "pytorch.Dockerfile.j2", "vllm-source.Dockerfile.j2"):
        path = recipes / name
        text = path.read_text(encoding="utf-8").replace("id=sparkbake-ccache", f"id=sparkbake-ccache-{mark}")
        text = re.sub(r"^SHELL .*\n", "", text, flags=re.MULTILINE)
        path.write_text(re.sub(r"^(FROM .* AS .*)$", rf"\1\n{shell}", text, flags=re.MULTILINE), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """An engine that can forget what it compiled, and what it compiles."""

    stand_ins: StandIns
    mark: str

    @property
    def references(self) -> tuple[str, ...]:
        return self.stand_ins.references[:3]

    def build(self, *words: str) -> tuple[int, str]:
        done = self.stand_ins.build(T4, "--no-verify", *words)
        return done.returncode, done.stderr

    def digests(self) -> list[str]:
        return [inspect(one)["Id"] for one in self.references]

    def records(self) -> set[str]:
        """Of the build cache what commands with the mark have made, and all that was made on it."""
        argv = ["docker", "buildx", "du", "--builder", default_builder(), "--format", "json"]
        listed = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout
        cached = [json.loads(line) for line in listed.splitlines()]
        # Other cache mounts are everybody's, whoever was the first to have them.
        kept = [one for one in cached if one["Type"] != "exec.cachemount" or "/ccache " in one["Description"]]
        found: set[str] = set()
        fresh = {one["ID"] for one in kept if self.mark in one["Description"]}
        while fresh:
            found |= fresh
            fresh = {one["ID"] for one in kept if set(one["Parents"] or ()) & fresh} - found
        return found

    def become_another(self) -> None:
        """Have neither the images nor anything that they were compiled with."""
        for reference in self.references:
            remove(reference)
        for _turn in range(10):
            # Those that others are made from go after these.
            forget(default_builder(), self.records())
            if not self.records():
                return
        raise AssertionError(self.records())


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    mark = secrets.token_hex(8)
    with serving_stand_ins(tmp_path_factory.mktemp("stand-ins")) as made:
        mark_commands(made.root / "recipes", mark)
        machine = Machine(stand_ins=made, mark=mark)
        yield machine
        machine.become_another()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with registry(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture(scope="module")
def digests(machine: Machine, server: Server) -> list[str]:
    """Those of the images whose steps the registry has."""
    status, told = machine.build("--cache-to", f"{server.host}/{NAME}")
    assert status == 0, told[-6000:]
    assert ran(told, stopped=True) >= LONG
    return machine.digests()


def caches(server: Server) -> Mapping[str, dict[str, object]]:
    """Tag to manifest of what the registry has."""
    found = {tag: server.manifest(NAME, tag) for tag in server.tags(NAME)}
    return {tag: json.loads(body) for tag, body in found.items() if body}


def test_each_image_has_its_cache_in_the_registry_packed_as_zstd(
    machine: Machine, server: Server, digests: list[str]
) -> None:
    found = caches(server)
    assert len(found) == len(machine.references)
    for image in ("pytorch-dev", "pytorch", "vllm"):
        (body,) = (one for tag, one in found.items() if re.match(rf"cache-{machine.stand_ins.name}-{image}-\d", tag))
        layers = body["layers"]
        assert isinstance(layers, list)
        assert any(one["mediaType"].endswith("+zstd") for one in layers)


def test_another_machine_compiles_nothing_and_has_the_same_images(
    machine: Machine, server: Server, digests: list[str]
) -> None:
    machine.become_another()
    status, told = machine.build("--cache-from", f"{server.host}/{NAME}")
    assert status == 0, told[-6000:]
    assert told.count(": is there\n") == len(machine.references)
    assert COMPILES not in told
    assert re.search(r"/dev/sparkbake/build-vllm\.sh.*: cached, ", told)
    assert machine.digests() == digests
    labels = inspect(machine.references[2])["Config"]["Labels"]
    assert not [key for key in labels if "cache" in key]


def test_another_row_on_the_same_foundation_takes_what_it_shares(
    machine: Machine, server: Server, digests: list[str]
) -> None:
    machine.become_another()
    try:
        done = machine.stand_ins.build(LATER, "--no-verify", "--cache-from", f"{server.host}/{NAME}")
    finally:
        remove(machine.stand_ins.reference("vllm", LATER))
    assert done.returncode == 0, done.stderr[-6000:]
    assert ran(done.stderr) & LONG == {"build-vllm.sh"}
    assert done.stderr.count(COMPILES) == 1


def test_without_the_cache_it_compiles_and_says_what_was_not_there(
    machine: Machine, server: Server, digests: list[str]
) -> None:
    machine.become_another()
    status, told = machine.build("--cache-from", f"{server.host}/{NAME}-of-others")
    assert status == 0, told[-6000:]
    assert told.count(": is not there; nothing is taken from it\n") == len(machine.references)
    # What came from a registry has no mark, so that the engine may still know torch from the tests above.
    assert ran(told, stopped=True) >= LONG - {"build-torch.sh"}


def test_a_registry_that_is_full_ends_it_after_the_images_are_built(machine: Machine, tmp_path: Path) -> None:
    for reference in machine.references:
        remove(reference)
    with registry(tmp_path, most_file_bytes=20_000) as full:
        status, told = machine.build("--cache-to", f"{full.host}/{NAME}")
    assert status == 9, told[-6000:]
    assert f"error: --cache-to: {full.host}/{NAME}: 3 not written: " in told
    assert all(exists(reference) for reference in machine.references)


def test_a_registry_that_does_not_answer_is_known_before_anything_is_built(machine: Machine, tmp_path: Path) -> None:
    for reference in machine.references:
        remove(reference)
    with registry(tmp_path) as gone:
        place = f"{gone.host}/{NAME}"
    status, told = machine.build("--cache-to", place)
    assert status == 9
    assert f"error: --cache-to: {place}: " in told
    assert "nothing was built: mend it, or leave --cache-to out" in told
    assert not any(exists(reference) for reference in machine.references)
    status, told = machine.build("--cache-from", place)
    assert status == 0, told[-6000:]
    assert "nothing is taken from there" in told


def test_bake_ends_well_and_tells_which_caches_were_not_written(tmp_path: Path) -> None:
    """What the tests above rely on, of one small image."""
    reference = f"docker.io/sparkbake-test/cache-{secrets.token_hex(4)}:1"
    (tmp_path / "Dockerfile").write_text("FROM scratch AS image\nCOPY file /\n", encoding="utf-8")
    (tmp_path / "file").write_bytes(secrets.token_bytes(200_000))
    with registry(tmp_path / "registry", most_file_bytes=20_000) as full, registry(tmp_path / "gone") as gone:
        cache = TargetCache(write=f"{full.host}/{NAME}:cache-one")
        unwritten = bake_small(tmp_path, reference, cache)
    assert len(unwritten) == 1
    try:
        assert exists(reference)
        # Of one that is not there any more nothing is read, and that ends nothing either.
        assert bake_small(tmp_path, reference, TargetCache(read=(f"{gone.host}/{NAME}:cache-one",))) == ()
    finally:
        remove(reference)


def bake_small(folder: Path, reference: str, cache: TargetCache) -> tuple[str, ...]:
    """Build the Dockerfile of a folder into the engine, and as files; why its cache was not written."""
    body = {"context": str(folder), "attest": ["type=provenance,disabled=true", "type=sbom,disabled=true"]}
    (own,) = cache_bodies({"one": cache}, compression="zstd", is_borne=True).values()
    targets = {
        "one": {**body, **own, "tags": [reference], "output": ["type=image"]},
        "files": {**body, "output": [f"type=local,dest={folder}/files/one"]},
    }
    file = folder / "bake.json"
    file.write_text(json.dumps({"group": {"default": {"targets": list(targets)}}, "target": targets}), encoding="utf-8")
    (folder / "files").mkdir(exist_ok=True)
    result = bake(
        file,
        folder / "metadata.json",
        BakeOptions(builder=default_builder(), secrets={}, readable=(folder,), writable=(folder / "files",)),
        targets=list(targets),
        root=folder,
        log=folder / "log",
        show=print,
    )
    assert list(result.digests) == ["one"]
    assert [one.name for one in (folder / "files" / "one").iterdir()] == ["file"]
    return result.unwritten
