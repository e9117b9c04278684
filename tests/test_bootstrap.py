"""Claims about locking and building a base; the mirror, apt and mmdebstrap are played by FakeMachine."""

import re
from pathlib import Path

import pytest
from tests.debian import EPOCH, MIRROR, FakeMachine, fake_machine, make_lock, make_package

from sparkbake import oci
from sparkbake.baselock import BaseLock, base_lock_to_json
from sparkbake.bootstrap import bootstrap, lock_base
from sparkbake.debianmirror import read_stanzas
from sparkbake.errors import BaseError

GONE = "fetching it from the pool failed: E: 404  Not Found"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeMachine:
    return fake_machine(monkeypatch, tmp_path)


def lock_here(tmp_path: Path, *architectures: oci.Architecture) -> tuple[BaseLock, Path]:
    return lock_base(
        name="debian-13",
        suites=("trixie",),
        include=("curl",),
        architectures=architectures or ("arm64",),
        mirror=MIRROR,
        work_dir=tmp_path / "work",
        say=lambda _: None,
    )


def bootstrap_here(lock: BaseLock, cache: Path, *architectures: oci.Architecture) -> Path:
    return bootstrap(lock, architectures=architectures or ("arm64",), mirror=MIRROR, cache_dir=cache, say=print)


class TestLockBase:
    def test_the_lock_has_what_the_mirror_has(self, machine: FakeMachine, tmp_path: Path) -> None:
        lock, layout = lock_here(tmp_path, "amd64", "arm64")
        assert lock.source_date_epoch == EPOCH
        assert lock.include == ("curl",)
        assert [(each, [package.name for package in packages]) for each, packages in lock.packages] == [
            ("amd64", ["apt", "curl", "tzdata"]),
            ("arm64", ["apt", "curl", "tzdata"]),
        ]
        assert lock.packages_of("arm64") == make_lock().packages_of("arm64")
        assert lock.index_digest == oci.read_index_digest(layout)
        assert lock.manifests == oci.read_manifest_digests(layout)
        assert dict(lock.generator)["mmdebstrap"] == "2.5"
        assert len(machine.builds) == 2

    def test_locking_again_gives_the_same_lock(self, machine: FakeMachine, tmp_path: Path) -> None:
        first, _ = lock_here(tmp_path / "one")
        second, _ = lock_here(tmp_path / "two")
        assert base_lock_to_json(first) == base_lock_to_json(second)


class TestBootstrap:
    def test_a_lock_is_built_again_to_the_same_digest(self, machine: FakeMachine, tmp_path: Path) -> None:
        lock, made = lock_here(tmp_path)
        layout = bootstrap_here(lock, tmp_path / "cache")
        assert layout != made
        assert oci.read_index_digest(layout) == lock.index_digest

    def test_the_folder_is_named_after_the_content_of_the_lock(self, machine: FakeMachine, tmp_path: Path) -> None:
        layout = bootstrap_here(make_lock(), tmp_path)
        assert re.fullmatch(r"debian-13-[0-9a-f]{12}-arm64", layout.name)
        assert layout.parent == tmp_path / "bases"
        assert bootstrap_here(make_lock(generator=()), tmp_path) == layout
        assert bootstrap_here(make_lock(source_date_epoch=EPOCH + 1), tmp_path) != layout

    def test_a_complete_layout_is_reused_without_any_tool(self, machine: FakeMachine, tmp_path: Path) -> None:
        lock, layout = lock_here(tmp_path)
        machine.missing = {"mmdebstrap", "apt-get", "arch-test"}
        assert bootstrap_here(lock, tmp_path / "work") == layout
        assert len(machine.builds) == 1

    def test_a_layout_that_is_not_complete_is_made_anew(self, machine: FakeMachine, tmp_path: Path) -> None:
        lock, layout = lock_here(tmp_path)
        next(layout.glob("blobs/sha256/*")).unlink()
        assert bootstrap_here(lock, tmp_path / "work") == layout
        assert oci.read_index_digest(layout) == lock.index_digest

    def test_a_layout_of_another_digest_than_the_locked_one_is_made_anew(
        self, machine: FakeMachine, tmp_path: Path
    ) -> None:
        lock, _ = lock_here(tmp_path)
        machine.stamp = "another"
        layout = bootstrap_here(make_lock(), tmp_path)
        machine.stamp = "same"
        assert bootstrap_here(lock, tmp_path) == layout
        assert oci.read_index_digest(layout) == lock.index_digest

    def test_a_run_that_ends_early_leaves_nothing(self, machine: FakeMachine, tmp_path: Path) -> None:
        machine.mmdebstrap_status = 25
        with pytest.raises(BaseError, match="ended with status 25"):
            bootstrap_here(make_lock(), tmp_path)
        assert [path.name for path in (tmp_path / "bases").iterdir()] == [".lock"]

    def test_a_mirror_that_moved_on_is_told_package_by_package(self, machine: FakeMachine, tmp_path: Path) -> None:
        lock, _ = lock_here(tmp_path, "amd64", "arm64")
        old = {(each.name, each.architecture): each.sha256[:12] for each in machine.mirror}
        machine.mirror = (
            make_package("apt", architecture="arm64"),
            make_package("apt", "1.1", architecture="amd64"),
            make_package("curl", "1.1", architecture="arm64"),
            make_package("curl", architecture="amd64"),
            make_package("tzdata", "2026b", architecture="all"),
        )
        with pytest.raises(BaseError) as raised:
            bootstrap_here(lock, tmp_path / "cache", "amd64", "arm64")
        assert str(raised.value).splitlines() == [
            f"base debian-13: the mirror {MIRROR} has moved on from the lock:",
            f"apt amd64: locked 1.0 (sha256 {old['apt', 'amd64']}), mirror has 1.1; {GONE}",
            f"curl arm64: locked 1.0 (sha256 {old['curl', 'arm64']}), mirror has 1.1; {GONE}",
            f"tzdata all: locked 1.0 (sha256 {old['tzdata', 'all']}), mirror has 2026b; {GONE}",
            (
                "run `nox -s lock -- --base debian-13` to renew the lock, "
                "or name a snapshot archive as `debian:` in mirrors.yaml"
            ),
        ]
        assert len(machine.builds) == 2

    def test_what_the_pool_still_has_is_taken_from_there(
        self, machine: FakeMachine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lock, layout = lock_here(tmp_path, "arm64")
        machine.pool = machine.mirror
        machine.mirror = (
            make_package("apt", "1:1.1"),
            make_package("curl"),
            make_package("tzdata", "2026b", architecture="all"),
        )
        assert oci.read_index_digest(bootstrap_here(lock, tmp_path / "cache", "arm64")) == oci.read_index_digest(layout)
        (offered,) = machine.offered
        stanzas = {each["Package"]: each for each in read_stanzas(offered, "Package", "Version", "Filename", "SHA256")}
        assert {name: each["Filename"] for name, each in stanzas.items()} == {
            "apt": "./apt_1.0_arm64.deb",
            "tzdata": "./tzdata_1.0_all.deb",
        }
        assert stanzas["apt"]["SHA256"] == make_package("apt").sha256
        assert "moved on from 2 packages; fetching these from its pool" in capsys.readouterr().out
        assert not list((tmp_path / "cache" / "bases").glob(".part-*"))

    def test_another_file_of_that_name_in_the_pool_is_not_taken(self, machine: FakeMachine, tmp_path: Path) -> None:
        lock, _ = lock_here(tmp_path, "arm64")
        machine.pool = (make_package("apt", content="rebuilt"),)
        machine.mirror = (make_package("apt", "1.1"), *(each for each in machine.mirror if each.name != "apt"))
        with pytest.raises(BaseError, match=r"apt arm64: .*; fetching it from the pool failed: E: Hash Sum mismatch"):
            bootstrap_here(lock, tmp_path / "cache", "arm64")

    def test_a_package_that_left_the_index_whole_is_told(self, machine: FakeMachine, tmp_path: Path) -> None:
        lock, _ = lock_here(tmp_path, "arm64")
        machine.mirror = tuple(each for each in machine.mirror if each.name != "curl")
        with pytest.raises(BaseError, match=r"curl arm64: .*mirror has none; the index no longer says where"):
            bootstrap_here(lock, tmp_path / "cache", "arm64")

    def test_another_digest_than_the_locked_one_is_told(self, machine: FakeMachine, tmp_path: Path) -> None:
        lock, _ = lock_here(tmp_path)
        machine.stamp = "another"
        with pytest.raises(BaseError) as raised:
            bootstrap_here(lock, tmp_path / "cache")
        lines = str(raised.value).splitlines()
        assert lines[0] == "base debian-13: the same packages gave another image than the lock says:"
        assert re.fullmatch(rf"arm64: locked {dict(lock.manifests)['arm64']}, built sha256:[0-9a-f]{{64}}", lines[1])
        assert re.fullmatch(rf"index: locked {lock.index_digest}, built sha256:[0-9a-f]{{64}}", lines[2])
        assert "The lock was made with apt 2.5, mmdebstrap 2.5, python" in lines[3]
        assert not list((tmp_path / "cache" / "bases").glob("debian*"))

    def test_one_architecture_of_two_is_compared_by_its_manifest(self, machine: FakeMachine, tmp_path: Path) -> None:
        lock, _ = lock_here(tmp_path, "amd64", "arm64")
        layout = bootstrap_here(lock, tmp_path / "cache", "arm64")
        assert oci.read_manifest_digests(layout) == lock.manifests[1:]
        machine.stamp = "another"
        with pytest.raises(BaseError, match="arm64: locked sha256:"):
            bootstrap_here(lock, tmp_path / "other", "arm64")

    @pytest.mark.parametrize(
        ("missing", "message"),
        [
            ("mmdebstrap", "mmdebstrap is missing; run `apt-get install mmdebstrap`"),
            ("arch-test", "arch-test is missing; run `apt-get install arch-test`"),
        ],
    )
    def test_a_missing_tool_is_told_with_the_command_that_brings_it(
        self, machine: FakeMachine, tmp_path: Path, missing: str, message: str
    ) -> None:
        machine.missing = {missing}
        with pytest.raises(BaseError, match=message):
            bootstrap_here(make_lock(), tmp_path)

    def test_missing_emulation_and_keyring_are_told_together(self, machine: FakeMachine, tmp_path: Path) -> None:
        machine.failing = {"arch-test arm64": ""}
        (tmp_path / "keyring.gpg").unlink()
        with pytest.raises(BaseError) as raised:
            bootstrap_here(make_lock(), tmp_path)
        first, second = str(raised.value).splitlines()
        assert first.endswith("keyring.gpg is missing; run `apt-get install debian-archive-keyring`")
        assert "arm64 programs do not run here; run `apt-get install qemu-user-static`" in second

    def test_an_architecture_the_lock_lacks_is_told(self, machine: FakeMachine, tmp_path: Path) -> None:
        with pytest.raises(BaseError, match=r"its lock has no amd64; run `nox -s lock -- --base debian-13` to renew"):
            bootstrap_here(make_lock(), tmp_path, "amd64")

    def test_each_phase_is_told_with_its_time(self, machine: FakeMachine, tmp_path: Path) -> None:
        lines: list[str] = []
        bootstrap(make_lock(), architectures=("arm64",), mirror=MIRROR, cache_dir=tmp_path, say=lines.append)
        assert [re.sub(r" +\d+ s", " N s", line) for line in lines[:2]] == [
            "base debian-13: N s: arm64: comparing the lock with the mirror",
            "base debian-13: N s: arm64: mmdebstrap with 3 packages",
        ]
