"""A bundle of a compiled row, and a build from it where there is no network: the same images, of stand-ins."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from tests.builders import ROOT
from tests.engine.apart import Apart, engine_apart
from tests.engine.rustpart import CRATE, VERSION
from tests.engine.standins import FIRST, SECOND, StandIns, ran, serving_stand_ins
from tests.engine.upstreams import LACKING

pytestmark = [pytest.mark.engine, pytest.mark.network]

T4, LATER = f"{FIRST}-t4", f"{SECOND}-t4"
# The stand-in for a compiler writes another number each time.
COMPILED_OTHERWISE = {"opt/nccl/lib/libnccl_static.a"}
# Made when a container is.
OF_CONTAINERS = {".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab", "dev/console"}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    with serving_stand_ins(tmp_path_factory.mktemp("stand-ins"), whole=True) as made:
        shutil.copytree(ROOT / "tools" / "requirements", made.root / "tools" / "requirements")
        yield made


@pytest.fixture(scope="module")
def bundle(stand_ins: StandIns, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One that was made, and then moved elsewhere."""
    folder = tmp_path_factory.mktemp("bundle")
    done = make(stand_ins, folder / "made")
    assert done.returncode == 0, done.stderr[-6000:]
    (folder / "made").rename(folder / "moved")
    yield folder / "moved"
    shutil.rmtree(folder)


def make(stand_ins: StandIns, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Make a bundle; the tools of this project's commands come from the package index itself."""
    mirrors = yaml.safe_load(stand_ins.mirrors.read_text(encoding="utf-8"))
    del mirrors["package_index"]
    path = stand_ins.root / "for-bundle.yaml"
    path.write_text(yaml.safe_dump(mirrors), encoding="utf-8")
    return stand_ins.run(*stand_ins.command("bundle", T4, "--mirrors", str(path), "--output", str(folder), *words))


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    folder = Path(tempfile.mkdtemp(prefix="apart-"))
    with engine_apart(folder / "engine") as engine:
        yield engine
    folder.rmdir()


@pytest.fixture(scope="module")
def online(stand_ins: StandIns) -> StandIns:
    """Built where there is a network, the packages of the operating system from a folder."""
    done = stand_ins.build(T4, "--no-verify")
    assert done.returncode == 0, done.stderr[-6000:]
    return stand_ins


@pytest.fixture(scope="module")
def offline(stand_ins: StandIns, bundle: Path, apart: Apart) -> str:
    """What the build said that had nothing but the bundle."""
    shutil.rmtree(stand_ins.root / "build", ignore_errors=True)
    # A proxy that this machine is told of, and that is not there, must not stand in the way of loopback.
    done = stand_ins.build(T4, mirrors=bundle / "mirrors.yaml", apart=apart)
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stderr


def labels(reference: str, environment: Mapping[str, str]) -> dict[str, str]:
    argv = ["docker", "inspect", reference]
    done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)[0]["Config"]["Labels"]
    return found


def files(reference: str, folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Path to what an image has there: mode, owner, time, and a digest or where it leads."""
    variables = {**os.environ, **environment}
    made = subprocess.run(
        ["docker", "create", "--network", "none", reference, "true"],
        env=variables, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    path = folder / f"{made}.tar"
    subprocess.run(["docker", "export", "--output", str(path), made], env=variables, check=True)
    subprocess.run(["docker", "rm", made], env=variables, check=True, capture_output=True)
    found = {}
    with tarfile.open(path) as tar:
        for one in tar:
            opened = tar.extractfile(one) if one.isreg() else None
            content = hashlib.sha256(opened.read()).hexdigest() if opened else f"{one.type!r} {one.linkname}"
            # Making a container writes into folders.
            time = "" if one.isdir() else one.mtime
            found[one.name] = f"{one.mode:o} {one.uid}:{one.gid} {time} {content}"
    path.unlink()
    return {name: what for name, what in found.items() if name.rstrip("/") not in OF_CONTAINERS}


def test_packages_that_the_images_lack_come_from_the_folder(online: StandIns) -> None:
    for reference, name in ((online.references[0], LACKING[0]), (online.references[1], LACKING[1])):
        argv = ["docker", "run", "--rm", "--network", "none", reference, "dpkg-query", "--show", name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.stdout.startswith(f"{name}\t"), done.stderr


def test_a_bundle_has_all_that_the_images_are_made_of(bundle: Path) -> None:
    names = {one.relative_to(bundle).as_posix() for one in bundle.rglob("*") if one.is_file()}
    folders = {one.partition("/")[0] for one in names}
    assert folders == {"apt", "bundle.json", "crates", "git", "images", "mirrors.yaml", "tools", "wheels"}
    assert f"crates/files/{CRATE}-{VERSION}.crate" in names
    repositories = json.loads((bundle / "git/repositories.json").read_text(encoding="utf-8"))
    of = {one.rpartition("/")[2] for one in repositories}
    # Those two come by way of torch alone.
    assert {"nccl.git", "torch.git", "fmt.git", "deep.git", "vllm.git", "cutlass.git", "llvm.git"} <= of
    assert "llm-multimodal" in of, "which Cargo.lock names"
    debs = {one.partition("_")[0].removeprefix("apt/") for one in names if one.endswith(".deb")}
    assert {*LACKING, "libjq1", "libonig5"} <= debs
    assert set(json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["files"]) == names - {"bundle.json"}


def test_a_build_without_a_network_is_found_clean_and_compiled_everything(offline: str) -> None:
    assert offline.count(": clean") == 3
    # What is said of the step of NCCL is cut off before it names the script.
    assert ran(offline, stopped=True) >= {"build-torch.sh", "build-llvm.sh", "build-vllm.sh"}
    for script in ("fetch-crates.sh", "apt-packages.sh"):
        assert re.search(rf"/dev/sparkbake/{script} .*: (done|stopped), ", offline), script


def test_it_gives_the_same_labels_and_files(online: StandIns, offline: str, apart: Apart, tmp_path: Path) -> None:
    for reference in (*online.references[:2], online.reference("vllm", T4)):
        assert labels(reference, {}) == labels(reference, apart.environment())
        here, there = files(reference, tmp_path, {}), files(reference, tmp_path, apart.environment())
        assert here.keys() == there.keys()
        assert {name for name in here if here[name] != there[name]} <= COMPILED_OTHERWISE


def test_the_next_build_from_it_finds_what_is_there(
    stand_ins: StandIns, offline: str, bundle: Path, apart: Apart
) -> None:
    done = stand_ins.build(T4, "--no-verify", mirrors=bundle / "mirrors.yaml", apart=apart)
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stderr.count(": is there already: docker-image://") == 2
    assert "/dev/sparkbake/build-" not in "".join(line for line in done.stderr.splitlines() if ": done, " in line)


# ---- what cannot be built from


def test_the_bundle_of_another_row_is_refused(stand_ins: StandIns, bundle: Path, apart: Apart) -> None:
    done = stand_ins.build(LATER, "--no-verify", mirrors=bundle / "mirrors.yaml", apart=apart)
    assert done.returncode == 10, done.stderr
    assert f"is of {T4}, expected {LATER}; make it anew: nox -s bundle -- {LATER}" in done.stderr


def test_damage_is_named_before_the_build_and_by_check(
    stand_ins: StandIns, bundle: Path, apart: Apart, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy", copy_function=os.link))
    lost = next((copy / "apt").glob("jq_*.deb"))
    pack = next((copy / "git").glob("*torch-*/objects/pack/*.pack"))
    lost.unlink()
    content = pack.read_bytes()
    pack.unlink()
    pack.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = stand_ins.build(T4, "--no-verify", mirrors=copy / "mirrors.yaml", apart=apart)
    assert done.returncode == 10, done.stderr
    assert f"{lost}: missing, expected " in done.stderr
    assert f"{pack}: changed: its hash is " in done.stderr
    checked = stand_ins.run(*stand_ins.command("bundle", "--check", str(copy)))
    assert checked.returncode == 1
    assert f"{lost}: missing, expected " in checked.stdout
    assert stand_ins.run(*stand_ins.command("bundle", "--check", str(bundle))).returncode == 0


def test_only_what_is_missing_is_fetched_again(stand_ins: StandIns, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy", copy_function=os.link))
    lost = min((copy / "wheels").glob("*.whl"))
    size = lost.stat().st_size
    lost.unlink()
    shutil.rmtree(next((copy / "git").glob("*deep*.git")))
    (copy / "bundle.json").unlink()
    done = make(stand_ins, copy, "--json")
    assert done.returncode == 0, done.stderr[-6000:]
    assert size < json.loads(done.stdout)["fetched_bytes"] < size + 50_000
    assert done.stderr.count("checkout: fetching ") == 1
    assert stand_ins.run(*stand_ins.command("bundle", "--check", str(copy))).returncode == 0
