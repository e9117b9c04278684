"""The digest of an image does not depend on the machine: on how many cores it has, its time zone, or its umask.

Each image is built from nothing by an engine of its own, since that is what compresses layers and runs the steps.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.engine.apart import Apart, engine_apart
from tests.engine.small import ROOT, Small, digest_in, make_small

pytestmark = [pytest.mark.engine, pytest.mark.network]

T5 = "1.17.0-t5"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What an engine has, and what it must not matter for."""

    cores: str | None = None
    umask: str = "022"
    variables: Mapping[str, str] = field(default_factory=dict)


USUAL = Machine()
ONE_CORE = Machine(cores="0")
ELSEWHERE = Machine(umask="077", variables={"TZ": "Pacific/Kiritimati", "LANG": "tr_TR.UTF-8"})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    project = make_small(tmp_path_factory.mktemp("small") / "checkout", variants=["t5"])
    shutil.copytree(ROOT / "tools" / "requirements", project.root / "tools" / "requirements")
    return project


@pytest.fixture(scope="module")
def bundle(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All that the builds need, since an engine apart has no network."""
    folder = tmp_path_factory.mktemp("bundle") / "made"
    done = small.run("bundle", T5, "--output", str(folder))
    assert done.returncode == 0, done.stderr
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def usual(small: Small, bundle: Path) -> str:
    """Digest of the image as the usual machine builds it."""
    return built(USUAL, small, bundle)


def built(machine: Machine, small: Small, bundle: Path) -> str:
    """Digest of the image that an engine of such a machine builds from nothing."""
    folder = Path(tempfile.mkdtemp(prefix="apart-"))
    with engine_apart(
        folder / "engine", cores=machine.cores, umask=machine.umask, variables=machine.variables
    ) as engine:
        assert cores(engine) == (len(os.sched_getaffinity(0)) if machine.cores is None else 1)
        argv = small.command("build", T5, "--no-verify", "--no-cache", "--mirrors", str(bundle / "mirrors.yaml"))
        done = subprocess.run(
            engine.command(*argv),
            env={**small.environment(), **engine.environment(), **machine.variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )
    folder.rmdir()
    assert done.returncode == 0, done.stderr
    (line,) = [one for one in done.stderr.splitlines() if f" {small.reference(T5)}: " in one]
    return digest_in(line)


def cores(engine: Apart) -> int:
    """How many an engine says that it has."""
    done = subprocess.run(
        ["docker", "info", "--format", "{{.NCPU}}"],
        env={**os.environ, **engine.environment()},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_one_core_gives_the_digest_that_all_give(usual: str, small: Small, bundle: Path) -> None:
    assert len(os.sched_getaffinity(0)) > 1, "this machine has one core, and cannot tell"
    assert built(ONE_CORE, small, bundle) == usual


def test_another_time_zone_language_and_umask_of_the_engine_give_the_same_digest(
    usual: str, small: Small, bundle: Path
) -> None:
    assert built(ELSEWHERE, small, bundle) == usual
