"""Claims about the script that installs packages of the operating system: from where, and from what never."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.builders import ROOT

UBUNTU = """\
Types: deb
URIs: http://ports.example/ubuntu/
Suites: noble noble-updates
Components: main universe
Signed-By: /usr/share/keyrings/archive.gpg
"""


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs apt-packages.sh up to where it has installed; apt says its options and sources, `make` is there already."""
    programs, given, etc = tmp_path / "bin", tmp_path / "given", tmp_path / "etc"
    for folder in (programs, given, etc / "sources.list.d"):
        folder.mkdir(parents=True)
    (etc / "sources.list.d/ubuntu.sources").write_text(UBUNTU, encoding="utf-8")
    (etc / "sources.list").write_text(
        "deb [arch=arm64] http://a.example/x noble main\ndeb-src http://a.example/x n m\n"
    )
    says = '#!/bin/bash\necho "apt-get $*"\n[[ $* == *update* ]] || exit 0\n'
    says += f"for file in {tmp_path}/apt/* {tmp_path}/apt/parts/*; do [[ ! -f $file ]] || cat $file; done\n"
    (programs / "apt-get").write_text(says, encoding="utf-8")
    (programs / "dpkg-query").write_text("#!/bin/bash\n[[ ${*: -1} != make ]] || printf installed\n", encoding="utf-8")
    for one in programs.iterdir():
        one.chmod(0o755)
    text = (ROOT / "recipes/scripts/apt-packages.sh").read_text(encoding="utf-8").partition("apt-get clean\n")[0]
    for old, new in (("/dev/sparkbake", given), ("/dev/apt", tmp_path / "apt"), ("/dev/", tmp_path), ("/etc/apt", etc)):
        text = text.replace(old, str(new) + ("/" if old == "/dev/" else ""))
    (tmp_path / "script.sh").write_text(text.replace(f"{tmp_path}/null", "/dev/null"), encoding="utf-8")

    def run(place: str | None, snapshot: str = "20260101T000000Z") -> "subprocess.CompletedProcess[str]":
        if place is not None:
            (given / "apt").write_text(place, encoding="utf-8")
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "APT_SNAPSHOT": snapshot}
        argv = ["bash", str(tmp_path / "script.sh"), "git", "make"]
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=30)

    return run


def test_packages_come_from_the_archive_s_snapshot_and_only_those_that_lack(
    install: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    done = install(None)
    assert done.returncode == 0, done.stderr
    assert "-o APT::Snapshot=20260101T000000Z " in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" install --yes --no-install-recommends git")


def test_another_snapshot_service_has_the_image_s_own_suites_and_keys(
    install: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    done = install("https://snapshot.example/ubuntu")
    assert done.returncode == 0, done.stderr
    address = "https://snapshot.example/ubuntu/20260101T000000Z"
    assert "APT::Snapshot" not in done.stdout
    sources = done.stdout.partition("\n")[2].rpartition("apt-get ")[0]
    assert sources == (
        f"deb [arch=arm64] {address} noble main\ndeb-src {address} n m\n"
        + UBUNTU.replace("http://ports.example/ubuntu/", address)
    )


def test_a_folder_of_packages_is_all_that_apt_knows(install: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    done = install("http://127.0.0.1:1/apt/ ./", snapshot="")
    assert done.returncode == 0, done.stderr
    assert "Dir::Etc::SourceParts=/dev/null" in done.stdout
    assert "\ndeb [trusted=yes] http://127.0.0.1:1/apt/ ./\n" in done.stdout


@pytest.mark.parametrize("place", [None, "https://snapshot.example/ubuntu"])
def test_without_a_snapshot_nothing_is_fetched_from_what_may_change(
    install: Callable[..., "subprocess.CompletedProcess[str]"], place: str | None
) -> None:
    done = install(place, snapshot="")
    assert done.returncode == 1
    assert "the base lacks git, and it has no archive snapshot to take them from; name a folder" in done.stderr
    assert done.stdout == ""
