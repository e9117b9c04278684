"""What publish.yml hands from the job that builds to the job that publishes, through the real engine."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compiledimages import TAG, image_of, make_compiled_checkout
from tests.engine.compiledrow import NAMES, made_row
from tests.engine.loopback import registry
from tests.engine.published import environment
from tests.engine.small import exists, inspect, remove

from sparkbake.project import Project

ROOT = Path(__file__).parents[2]
REFERENCE = "docker.io/sparkbake-test/handover:1.0-t5"

pytestmark = pytest.mark.engine


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A folder with reports and the scripts, whose plan has one small image, which the engine has."""
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "file").write_text("one\n", encoding="utf-8")
    (tmp_path / "build" / "reports").mkdir(parents=True)
    (tmp_path / "build" / "reports" / "one.json").write_text("{}", encoding="utf-8")
    (tmp_path / ".github").symlink_to(ROOT / ".github")
    (tmp_path / "quickstart").write_text(f"""#!/bin/sh
echo '[{{"tag": "1.0-t5", "reference": "{REFERENCE}"}}]'
""")
    (tmp_path / "quickstart").chmod(0o755)
    make(tmp_path)
    yield tmp_path
    subprocess.run(["docker", "image", "rm", "--force", REFERENCE], check=False, capture_output=True)


def make(folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY file /file\n", encoding="utf-8")
    build = ["docker", "buildx", "build", "--quiet", "--provenance=false", "--tag", REFERENCE]
    build += ["--output", "type=docker,compression=zstd,force-compression=true,oci-mediatypes=true"]
    subprocess.run([*build, "--file", "Dockerfile", "image"], cwd=folder, check=True, capture_output=True)


def digest() -> str:
    shown = ["docker", "image", "inspect", REFERENCE, "--format", "{{.Descriptor.Digest}}"]
    return subprocess.run(shown, check=True, capture_output=True, text=True).stdout.strip()


def script(folder: Path, name: str, tag: str = "1.0-t5") -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder)}
    words = [f".github/scripts/{name}", str(folder / "handover"), tag]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_an_image_arrives_with_its_digest_and_its_reports(checkout: Path) -> None:
    before = digest()
    packed = script(checkout, "pack.sh")
    assert packed.returncode == 0, packed.stderr
    subprocess.run(["docker", "image", "rm", REFERENCE], check=True, capture_output=True)
    (checkout / "build/reports/one.json").unlink()
    unpacked = script(checkout, "unpack.sh")
    assert unpacked.returncode == 0, unpacked.stderr
    assert digest() == before
    assert (checkout / "build/reports/one.json").read_text(encoding="utf-8") == "{}"
    assert not (checkout / "handover/images.tar").exists()


def test_another_image_than_was_packed_is_refused(checkout: Path) -> None:
    assert script(checkout, "pack.sh").returncode == 0
    (checkout / "handover/digests").write_text(f"{REFERENCE} sha256:{64 * '0'}\n", encoding="utf-8")
    refused = script(checkout, "unpack.sh")
    assert refused.returncode == 1
    assert f"expected sha256:{64 * '0'}, which was verified; build it again" in refused.stderr


# ---- rows that are compiled


def command(project: Project, *words: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "sparkbake.cli", "--root", str(project.root), *words]
    return subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False, timeout=120)


def with_scripts(project: Project) -> Project:
    (project.root / ".github").symlink_to(ROOT / ".github")
    run = f'PYTHONPATH={ROOT}/src exec {sys.executable} -m sparkbake.cli --root {project.root} "$@"'
    (project.root / "quickstart").write_text(f"#!/bin/sh\n{run}\n")
    (project.root / "quickstart").chmod(0o755)
    return project


def test_a_compiled_row_is_published_from_where_it_was_handed_over_to(tmp_path: Path) -> None:
    with made_row(tmp_path) as built, registry(tmp_path / "registry") as server:
        with_scripts(built)
        references = [image_of(built, name).target.reference for name in NAMES]
        before = {one: inspect(one)["Id"] for one in references}
        packed = script(built.root, "pack.sh", TAG)
        assert packed.returncode == 0, packed.stderr
        for one in references:
            remove(one)
        other = with_scripts(make_compiled_checkout(tmp_path / "other"))
        (built.root / "handover").rename(other.root / "handover")
        unpacked = script(other.root, "unpack.sh", TAG)
        assert unpacked.returncode == 0, unpacked.stderr
        assert {one: inspect(one)["Id"] for one in references} == before
        done = command(other, "publish", TAG, "--no-sign", "--registry", f"{server.host}/sparks")
        assert done.returncode == 0, done.stdout + done.stderr
        for one in references:
            place = f"{server.host}/sparks/{one.rpartition('/')[2]}"
            checked = command(other, "check", place)
            assert checked.returncode == 0, checked.stdout + checked.stderr


def test_images_of_a_former_run_are_gone_before_a_compiled_row_is_built(tmp_path: Path) -> None:
    with made_row(tmp_path) as built:
        with_scripts(built)
        done = subprocess.run(
            [".github/scripts/anew.sh", TAG], cwd=built.root, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert not any(exists(image_of(built, name).target.reference) for name in NAMES)
