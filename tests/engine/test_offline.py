"""A bundle made with the network, and built from where there is none: the same image, or a clear word why not."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.apart import Apart, engine_apart
from tests.engine.small import ROOT, Small, digest_in, make_small, remove

pytestmark = [pytest.mark.engine, pytest.mark.network]

T4, T5 = "1.17.0-t4", "1.17.0-t5"
BASE = ("--base", "debian-13")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    project = make_small(tmp_path_factory.mktemp("small") / "checkout")
    shutil.copytree(ROOT / "tools" / "requirements", project.root / "tools" / "requirements")
    yield project
    remove(project.reference(T5))


@pytest.fixture(scope="module")
def bundle(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One that was made, and then moved elsewhere."""
    folder = tmp_path_factory.mktemp("bundle")
    done = small.run("bundle", T5, "--output", str(folder / "made"))
    assert done.returncode == 0, done.stderr
    (folder / "made").rename(folder / "moved")
    yield folder / "moved"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    folder = Path(tempfile.mkdtemp(prefix="apart-"))
    with engine_apart(folder / "engine") as engine:
        yield engine
    folder.rmdir()


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """The same bundle again, so that a test may spoil it; its files are links."""
    return Path(shutil.copytree(bundle, tmp_path / "copy", copy_function=os.link))


def offline(apart: Apart, small: Small, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        apart.command(*small.command(*words)),
        env={**small.environment(), **apart.environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )


def mirrors(bundle: Path) -> tuple[str, str]:
    return ("--mirrors", str(bundle / "mirrors.yaml"))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file anew, not through the link that it shares with another bundle."""
    path.unlink()
    path.write_bytes(content)


def test_there_is_no_way_out_of_the_network_that_builds(apart: Apart) -> None:
    routes = subprocess.run(apart.command("ip", "route"), capture_output=True, text=True, check=True)
    assert routes.stdout == ""
    script = "import socket; socket.create_connection(('192.0.2.1', 443), timeout=5)"
    done = subprocess.run(apart.command("python3", "-c", script), capture_output=True, text=True, check=False)
    assert "Network is unreachable" in done.stderr


def test_a_build_without_a_network_gives_the_same_image(apart: Apart, small: Small, bundle: Path) -> None:
    online = small.run("build", T5, *BASE, "--no-verify")
    assert online.returncode == 0, online.stderr
    # A proxy that this machine is told of, and that is not there, must not stand in the way of loopback.
    proxies = {"HTTP_PROXY": "http://192.0.2.1:3128", "http_proxy": "http://192.0.2.1:3128"}
    done = offline(apart, small, "build", T5, "--no-verify", *mirrors(bundle), **proxies)
    assert done.returncode == 0, done.stderr
    assert "sparkbake: 0 steps executed" not in done.stderr
    assert digest_in(done.stderr) == digest_in(online.stderr)


def test_the_image_of_a_bundle_is_verified_without_a_network(apart: Apart, small: Small, bundle: Path) -> None:
    """These images have no torch and no vLLM, so verify has findings; none of them may be for want of a network."""
    done = offline(apart, small, "build", T5, "--json", *mirrors(bundle))
    report = json.loads(done.stdout)
    errors = {one["subject"] for one in report["findings"] if one["severity"] == "error"}
    assert errors == {"torch", "import_vllm", "vllm_command", "ray_command", "version.py"}


def test_without_its_bundle_the_same_build_finds_no_base(apart: Apart, small: Small) -> None:
    done = offline(apart, small, "build", T5, "--no-verify", "--base", "ubuntu-24.04")
    assert done.returncode == 5
    assert "the registry does not give it" in done.stderr


def test_the_tools_install_without_an_index(apart: Apart, bundle: Path, tmp_path: Path) -> None:
    tools, requirements = str(bundle / "tools"), ROOT / "tools" / "requirements"
    variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": tools, "UV_OFFLINE": "1", "UV_FIND_LINKS": tools}
    variables |= {"UV_CACHE_DIR": str(tmp_path / "cache"), "VIRTUAL_ENV": str(tmp_path / "run")}

    def run(*words: str | Path) -> None:
        argv = apart.command(*map(str, words))
        done = subprocess.run(argv, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    run("python3", "-m", "venv", tmp_path / "nox")
    pip = (tmp_path / "nox" / "bin" / "python", "-m", "pip", "install", "--no-cache-dir", "--require-hashes", "-r")
    run(*pip, requirements / "quickstart.txt")
    uv = tmp_path / "nox" / "bin" / "uv"
    run(uv, "venv", tmp_path / "run")
    # Said, since a session of nox has UV_PYTHON name its own environment.
    run(uv, "pip", "install", "--python", tmp_path / "run", "--require-hashes", "-r", requirements / "run.txt")
    run(tmp_path / "run" / "bin" / "python", "-c", "import docker, jinja2, yaml, zstandard")


# ---- what cannot be built from


def test_a_missing_and_a_changed_wheel_are_named_before_the_build(apart: Apart, small: Small, copy: Path) -> None:
    first, second = sorted((copy / "wheels").glob("c*.whl"))[:2]
    first.unlink()
    content = second.read_bytes()
    replace_file(second, content[:-1] + bytes([content[-1] ^ 1]))
    done = offline(apart, small, "build", T5, "--no-verify", *mirrors(copy))
    assert done.returncode == 10, done.stderr
    assert f"{first}: missing, expected " in done.stderr
    assert f"{second}: changed: its hash is " in done.stderr
    assert f"nox -s bundle -- {T5} --base debian-13 --output {copy}" in done.stderr


def test_the_bundle_of_another_lock_is_refused(apart: Apart, small: Small, bundle: Path, tmp_path: Path) -> None:
    project = Small(root=Path(shutil.copytree(small.root, tmp_path / "checkout")))
    project.edit_lock(T5, "1790000000", "1790000001")
    done = offline(apart, project, "build", T5, "--no-verify", *mirrors(bundle))
    assert done.returncode == 10, done.stderr
    assert f"{bundle}: is of another lock of {T5}, sha256:" in done.stderr


def test_the_bundle_of_another_row_is_refused(apart: Apart, small: Small, bundle: Path) -> None:
    done = offline(apart, small, "build", T4, "--no-verify", *mirrors(bundle))
    assert done.returncode == 10, done.stderr
    assert f"{bundle}: is of {T5} on debian-13, expected {T4} on debian-13" in done.stderr


def test_an_engine_that_cannot_reach_the_bundle_is_named_as_the_cause(apart: Apart, small: Small, bundle: Path) -> None:
    """As with an engine on another machine: the steps have another loopback than this command."""
    words = ("build", T5, "--no-verify", "--no-cache", *mirrors(bundle))
    done = small.run(*words, **apart.environment())
    assert done.returncode == 7, done.stderr
    assert "no step of this build asked http://127.0.0.1:" in done.stderr
    assert "the engine must run on this machine, in its network" in done.stderr


# ---- what is there stays


def test_only_what_is_missing_is_fetched_again(small: Small, copy: Path) -> None:
    kept, lost = sorted((copy / "wheels").glob("*.whl"))[:2]
    before, size = kept.stat().st_mtime_ns, lost.stat().st_size
    replace_file(lost, b"x" * size)
    (copy / "bundle.json").unlink()
    (copy / "wheels" / f".{lost.name}.part").write_bytes(b"of a run that was ended")
    done = small.run("bundle", T5, "--output", str(copy), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fetched_bytes"] == size
    assert kept.stat().st_mtime_ns == before
    assert small.run("bundle", "--check", str(copy)).returncode == 0
