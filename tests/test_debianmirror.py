"""Claims about what is read from a Debian mirror; apt is played by FakeMachine."""

from pathlib import Path

import pytest
from tests.debian import EPOCH, MIRROR, FakeMachine, fake_machine, make_lock, make_package, packages_text

from sparkbake.debianmirror import (
    default_mirror,
    describe_drift,
    fetch_index,
    find_mirror,
    list_drifted,
    mirror_address,
    parse_folders,
    parse_packages,
    resolve_packages,
)
from sparkbake.errors import BaseError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeMachine:
    return fake_machine(monkeypatch, tmp_path)


class TestFindMirror:
    def test_the_configured_one_comes_first(self) -> None:
        assert find_mirror(MIRROR) == MIRROR

    def test_else_the_main_archive_of_this_debian(self, machine: FakeMachine) -> None:
        machine.index_lines = (
            "main|Debian|Debian-Security|http://one.invalid/debian-security/\n"
            "main|Node Source|Node Source|http://two.invalid/debian/\n"
            "main|Debian|Debian|http://three.invalid/archive/\n"
        )
        assert find_mirror(None) == "http://three.invalid/archive"

    def test_before_any_update_the_path_decides(self, machine: FakeMachine) -> None:
        machine.index_lines = "main|||http://one.invalid/debian-security/\nmain|||http://two.invalid/debian/\n"
        assert find_mirror(None) == "http://two.invalid/debian"

    def test_an_address_that_only_apt_understands_is_passed_over(self, machine: FakeMachine) -> None:
        machine.index_lines = "main|Debian|Debian|mirror+file:/etc/apt/mirrors/debian.list/\nmain|Debian|Debian|http://two.invalid/debian/\n"
        assert find_mirror(None) == "http://two.invalid/debian"

    def test_on_another_distribution_there_is_none(self, machine: FakeMachine) -> None:
        machine.index_lines = "main|Ubuntu|Ubuntu|http://one.invalid/ubuntu/\n"
        assert find_mirror(None) is None

    def test_without_apt_there_is_none(self, machine: FakeMachine) -> None:
        machine.missing = {"apt-get"}
        assert find_mirror(None) is None


class TestMirrorAddress:
    def test_it_has_no_slash_at_its_end(self) -> None:
        assert mirror_address(f"{MIRROR}/") == MIRROR

    def test_files_are_copied(self) -> None:
        """Else: `mmdebstrap: package file not accessible from chroot directory -- use copy:// instead of file://`."""
        assert mirror_address("file:///srv/debian") == "copy:///srv/debian"

    def test_without_a_mirror_the_default_of_mmdebstrap_serves(self, machine: FakeMachine) -> None:
        assert mirror_address(None) == "http://default.invalid/debian"

    def test_an_mmdebstrap_without_default_is_told(self, machine: FakeMachine, tmp_path: Path) -> None:
        (tmp_path / "bin" / "mmdebstrap").write_text("")
        with pytest.raises(BaseError, match="no default mirror found in it"):
            default_mirror()


class TestFetchIndex:
    def test_it_has_packages_and_date_of_the_architecture(self, machine: FakeMachine, tmp_path: Path) -> None:
        index = fetch_index(tmp_path / "apt", "arm64", ("trixie",), mirror=MIRROR)
        assert index.release_epoch == EPOCH
        assert index.packages == {each.name: (each,) for each in make_lock().packages_of("arm64")}

    def test_apt_looks_into_its_own_folder_with_the_proxies_of_this_machine(
        self, machine: FakeMachine, tmp_path: Path
    ) -> None:
        index = fetch_index(tmp_path / "apt", "arm64", ("trixie",), mirror=MIRROR)
        config = Path(index.environment["APT_CONFIG"]).read_text(encoding="utf-8")
        assert f'Dir "{tmp_path}/apt/";' in config
        assert 'Acquire::http::Proxy "http://proxy.invalid:3128";' in config
        assert "Timeout" not in config

    def test_a_mirror_that_does_not_answer_is_told(self, machine: FakeMachine, tmp_path: Path) -> None:
        machine.failing = {" update": "E: Could not resolve"}
        message = r"no package index of trixie for arm64:\nE: Could not resolve\nName a Debian"
        with pytest.raises(BaseError, match=message):
            fetch_index(tmp_path / "apt", "arm64", ("trixie",), mirror=MIRROR)


class TestResolvePackages:
    def test_what_is_essential_and_what_is_asked_for_come_with_what_they_need(
        self, machine: FakeMachine, tmp_path: Path
    ) -> None:
        index = fetch_index(tmp_path / "apt", "arm64", ("trixie",), mirror=MIRROR)
        assert resolve_packages(index, ("curl",)) == make_lock().packages_of("arm64")

    def test_an_unknown_package_is_told(self, machine: FakeMachine, tmp_path: Path) -> None:
        machine.failing = {" apt curl": "E: Unable to locate package curl"}
        index = fetch_index(tmp_path / "apt", "arm64", ("trixie",), mirror=MIRROR)
        with pytest.raises(BaseError, match=r"that is to be installed:\nE: Unable to locate package curl\nCorrect"):
            resolve_packages(index, ("curl",))


class TestParsePackages:
    def test_all_versions_of_a_package_are_found(self) -> None:
        packages = (make_package("curl", "1.0"), make_package("apt"), make_package("curl", "1:2.0~rc1+b1"))
        found = parse_packages(packages_text(*packages))
        assert found == {"curl": (packages[0], packages[2]), "apt": (packages[1],)}

    def test_an_empty_index_has_none(self) -> None:
        assert parse_packages("") == {}


class TestParseFolders:
    def test_a_package_lies_in_one_folder_whatever_its_version(self) -> None:
        text = packages_text(make_package("curl"), make_package("curl", "1:2.0"), make_package("apt"))
        assert parse_folders(text) == {"curl": "pool/main/c/curl", "apt": "pool/main/a/apt"}


class TestDrift:
    def test_nothing_drifted(self) -> None:
        packages = make_lock().packages_of("arm64")
        assert list_drifted(make_lock(), "arm64", parse_packages(packages_text(*packages))) == ()

    def test_the_locked_version_may_be_one_of_several(self) -> None:
        packages = (*make_lock().packages_of("arm64"), make_package("curl", "9"))
        assert list_drifted(make_lock(), "arm64", parse_packages(packages_text(*packages))) == ()

    def test_every_package_that_drifted_is_listed(self) -> None:
        locked = {package.name: package for package in make_lock().packages_of("arm64")}
        other = make_package("tzdata", architecture="all", content="rebuilt")
        index = parse_packages(packages_text(make_package("curl", "1.1"), make_package("curl", "1.2"), other))
        drifted = list_drifted(make_lock(), "arm64", index)
        assert [describe_drift(each, index) for each in drifted] == [
            f"apt arm64: locked 1.0 (sha256 {locked['apt'].sha256[:12]}), mirror has none",
            f"curl arm64: locked 1.0 (sha256 {locked['curl'].sha256[:12]}), mirror has 1.1, 1.2",
            (
                f"tzdata all: locked 1.0 (sha256 {locked['tzdata'].sha256[:12]}), "
                f"mirror has 1.0 (sha256 {other.sha256[:12]})"
            ),
        ]
