"""Claims about packages of the operating system of a bundle: how they are fetched, and how they are listed."""

from pathlib import Path

import pytest
from tests.builders import RECIPES

from sparkbake.bundlepackages import gather
from sparkbake.errors import BundleError
from sparkbake.sourcerender import render_kept_packages


def kept(folder: Path, stage: str, name: str, content: bytes = b"x") -> None:
    (folder / stage).mkdir(parents=True, exist_ok=True)
    (folder / stage / f"{name}.deb").write_bytes(content)
    (folder / stage / f"{name}.control").write_text(f"Package: {name.partition('_')[0]}\n", encoding="utf-8")


def test_packages_of_all_images_lie_beside_each_other_and_are_listed_once(tmp_path: Path) -> None:
    kept(tmp_path / "kept", "devel", "make_4.4.1-2_arm64")
    kept(tmp_path / "kept", "runtime", "make_4.4.1-2_arm64")
    kept(tmp_path / "kept", "devel", "libwebp7_1%3a2.0_arm64", b"webp")
    made = gather(tmp_path / "kept", tmp_path / "apt")
    assert sorted(one.name for one in made) == ["Packages", "libwebp7_1.2.0_arm64.deb", "make_4.4.1-2_arm64.deb"]
    sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert (tmp_path / "apt/Packages").read_text(encoding="utf-8").split("\n\n")[1] == (
        f"Package: make\nFilename: make_4.4.1-2_arm64.deb\nSize: 1\nSHA256: {sha256}\n"
    )


def test_no_package_at_all_is_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    assert gather(tmp_path / "kept", tmp_path / "apt") == [tmp_path / "apt/Packages"]
    assert (tmp_path / "apt/Packages").read_text(encoding="utf-8") == ""


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    kept(tmp_path / "kept", "devel", "make_4.4.1-2_arm64")
    kept(tmp_path / "kept", "runtime", "make_4.4.1-2_arm64", b"y")
    with pytest.raises(BundleError, match="the images install different files of this name"):
        gather(tmp_path / "kept", tmp_path / "apt")


@pytest.mark.parametrize("rust", [[], ["cargo"]])
def test_what_is_kept_is_what_the_recipes_install_in_their_order(rust: list[str]) -> None:
    files = render_kept_packages(
        "0.22.1-t5",
        devel="registry.example/cuda:devel@sha256:" + 64 * "1",
        runtime="registry.example/cuda:runtime@sha256:" + 64 * "2",
        packages={"devel": ["git", "make"], "runtime": ["curl"], "rust": rust},
        recipes=RECIPES,
    )
    context = {str(one.path): one.content for one in files}
    assert set(context) == {"Dockerfile", "apt-packages.sh", "drop-nvidia.sh", "settled.sh"}
    text = context["Dockerfile"].replace("\\\n", "")
    asked = [line.rpartition("apt-packages.sh ")[2] for line in text.splitlines() if "apt-packages.sh " in line]
    assert asked == ["git make", *(["cargo"] if rust else []), "curl"]
    assert ("FROM devel AS rust" in text) is bool(rust)
    assert ("/kept-rust/ /rust/" in text) is bool(rust)
