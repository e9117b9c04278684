"""One image for all tests that run containers of ours: natively, with Ray."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.small import ROOT, make_small, remove

from sparkbake.lockfile import parse_lock

_TAG = "1.17.0-t5"
_NEWEST = "0.32.0-t5"


@pytest.fixture(scope="session")
def ray_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small image for this machine with the Ray of a real row; removed in the end."""
    platform = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[os.uname().machine]
    small = make_small(
        tmp_path_factory.mktemp("ray") / "checkout",
        name="small-ray",
        platform=platform,
        extras=[f"ray=={_ray_version(ROOT / 'locks' / f'{_NEWEST}.json')}"],
        variants=["t5"],
    )
    done = small.run("build", _TAG, "--base", "debian-13", "--no-verify")
    assert done.returncode == 0, done.stderr
    yield small.reference(_TAG)
    remove(small.reference(_TAG))


def _ray_version(path: Path) -> str:
    locked = parse_lock(path.read_text(encoding="utf-8"), str(path), "")
    return next(one.version for one in locked.environments[0].wheels if one.name == "ray")
