"""The Dockerfile of docs/building-on-it.md, built on a small image of ours; what it guards against does fail."""

import io
import os
import re
import subprocess
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.docscommands import IMAGE, ROOT, RUN_ON_OURS
from tests.engine.small import remove

pytestmark = [pytest.mark.engine, pytest.mark.network]

BUILD, SELFTEST = RUN_ON_OURS
PLATFORM = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[os.uname().machine]
# The two guards of the recipe.
CONSTRAINT = "--constraint /tmp/before.txt"
COMPARISON = 'test -z "$(LC_ALL=C comm -23 /tmp/before.txt /tmp/after.txt)"'
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def recipe() -> str:
    page = (ROOT / "docs" / "building-on-it.md").read_text(encoding="utf-8")
    found = re.search(r"^```Dockerfile\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def wheel(folder: Path, name: str, version: str = "1.0", *, requires: str = "") -> None:
    """A package of one module, which may require others."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"NAME = {name!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    folder.mkdir(parents=True, exist_ok=True)
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    (folder / f"{name}-{version}-py3-none-any.whl").write_bytes(body.getvalue())


@pytest.fixture(scope="module")
def base(ray_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The small image with an index of its own for pip, so that nothing comes from elsewhere."""
    folder = tmp_path_factory.mktemp("base")
    wheel(folder / "wheels", "sparkbakeown")
    wheel(folder / "wheels", "sparkbakeother", requires="markupsafe==2.0.1")
    wheel(folder / "wheels", "markupsafe", "2.0.1")
    (folder / "Dockerfile").write_text(
        f"FROM {ray_image}\nCOPY wheels /wheels\nENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels\n", encoding="utf-8"
    )
    name = f"sparkbake-test/with-wheels:{uuid.uuid4().hex[:8]}"
    subprocess.run(["docker", "build", "--quiet", "--tag", name, "."], cwd=folder, check=True, timeout=300)
    yield name
    remove(name)


@pytest.fixture
def run(base: str, tmp_path: Path) -> Iterator[Run]:
    """Run a command of the guide where its Dockerfile is, with a package in the place of the reader's."""
    name = f"sparkbake-test/my-vllm-{uuid.uuid4().hex[:8]}"

    def call(
        command: str, package: str = "sparkbakeown", *, constraint: str = CONSTRAINT, comparison: str = COMPARISON
    ) -> "subprocess.CompletedProcess[str]":
        text = recipe()
        for old, new in (
            (IMAGE, base), ("YOUR-PACKAGE", package), (CONSTRAINT, constraint), (COMPARISON, comparison),
        ):  # fmt: skip
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (tmp_path / "Dockerfile").write_text(text, encoding="utf-8")
        mine = tmp_path / "serve-mine"
        mine.write_text(
            "#!/bin/sh\nexec python3 -c 'import sparkbakeown; print(sparkbakeown.NAME)'\n", encoding="utf-8"
        )
        mine.chmod(0o755)
        words = command.replace("linux/arm64", PLATFORM).replace("my-vllm", name).replace("--gpus all ", "")
        return subprocess.run(
            ["/bin/sh", "-c", words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
        )

    yield call
    remove(name)


def said(done: "subprocess.CompletedProcess[str]") -> str:
    return re.sub(r"sparkbake-test/my-vllm-\w+", "my-vllm", done.stdout + done.stderr)


def test_the_recipe_of_the_guide_builds_and_what_is_built_is_still_ours(run: Run) -> None:
    for command in (BUILD, SELFTEST):
        done = run(command)
        status, printed = RUN_ON_OURS[command]
        assert done.returncode == status, said(done)
        assert re.search(printed, said(done), re.MULTILINE), said(done)
    # Its command is the reader's own, and the entrypoint is ours.
    assert run("docker run --rm my-vllm").stdout == "sparkbakeown\n"
    assert "transformers" in run("docker run --rm my-vllm info").stdout


def test_a_package_that_asks_for_another_version_ends_the_build(run: Run) -> None:
    done = run(BUILD, "sparkbakeother")
    assert done.returncode != 0
    assert "ResolutionImpossible" in said(done)


@pytest.mark.parametrize(
    ("package", "constraint", "deed"),
    [
        ("sparkbakeother", "", "Successfully uninstalled MarkupSafe"),
        ("sparkbakeown && pip uninstall --yes markupsafe", CONSTRAINT, "Successfully uninstalled MarkupSafe"),
    ],
    ids=["replaced", "removed"],
)
def test_a_package_that_is_not_as_it_was_ends_the_build_whatever_did_it(
    run: Run, package: str, constraint: str, deed: str
) -> None:
    """The second guard: pip did what was asked, and the comparison ends the build."""
    done = run(BUILD, package, constraint=constraint)
    assert done.returncode != 0
    assert deed in said(done)


def test_without_the_comparison_that_would_pass(run: Run) -> None:
    done = run(BUILD, "sparkbakeother", constraint="", comparison="true")
    assert done.returncode == 0, said(done)
