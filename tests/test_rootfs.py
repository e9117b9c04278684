"""Claims about the root file system of a base: what stays out of it, and the folder it is made in."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from tests.debian import EPOCH, MIRROR, FakeMachine, fake_machine, make_lock

from sparkbake import rootfs
from sparkbake.errors import BaseError
from sparkbake.rootfs import is_dropped, list_mounts, make_layer, read_installed, work_folder


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeMachine:
    return fake_machine(monkeypatch, tmp_path)


class TestIsDropped:
    @pytest.mark.parametrize(
        "path",
        [
            "dev/null",
            "run/systemd",
            "tmp/x",
            "var/lib/apt/lists/partial",
            "var/lib/apt/extended_states",
            "var/cache/apt/pkgcache.bin",
            "var/cache/apt/archives/partial",
            "var/cache/ldconfig/aux-cache",
            "var/cache/debconf/config.dat-old",
            "var/lib/dpkg/status-old",
            "var/lib/dpkg/lock-frontend",
            "var/log/dpkg.log",
            "var/log/apt/term.log",
            "var/log/journal",
            "etc/hostname",
            "etc/resolv.conf",
            "etc/passwd-",
            "etc/apt/sources.list",
            "etc/apt/sources.list.d/0000main.sources",
            "etc/apt/apt.conf.d/99mmdebstrap",
            "etc/apt/preferences.d/00sparkbake",
            "usr/lib/python3.13/__pycache__/os.cpython-313.pyc",
            "usr/share/doc/curl/changelog.gz",
            "usr/share/man/man1/curl.1.gz",
            "usr/share/info/gcc.info.gz",
            "usr/share/locale/de/LC_MESSAGES/curl.mo",
        ],
    )
    def test_what_names_time_or_machine_or_is_never_read_stays_out(self, path: str) -> None:
        assert is_dropped(path, is_directory=False)

    @pytest.mark.parametrize(
        "path",
        [
            "etc/passwd",
            "etc/shadow",
            "etc/apt/apt.conf.d/01autoremove",
            "etc/ssl/certs/ca-certificates.crt",
            "usr/bin/python3",
            "usr/lib/locale/C.utf8/LC_CTYPE",
            "usr/share/doc/curl/copyright",
            "usr/share/doc/libctf0",
            "usr/share/zoneinfo/UTC",
            "var/lib/dpkg/status",
            "var/lib/dpkg/info/curl.list",
        ],
    )
    def test_what_programs_and_dpkg_need_stays(self, path: str) -> None:
        assert not is_dropped(path, is_directory=False)

    @pytest.mark.parametrize(
        "path", ["dev", "proc", "run", "run/lock", "tmp", "var/log/apt", "usr/share/man/man1", "var/lib/apt/lists"]
    )
    def test_folders_that_programs_expect_stay(self, path: str) -> None:
        assert not is_dropped(path, is_directory=True)


class TestListMounts:
    MOUNTINFO = (
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "40 22 0:5 / /cache/.part-1/tmp/root/dev/null rw - devtmpfs udev rw\n"
        "41 22 0:6 / /cache/.part-1/with\\040space rw - proc proc rw\n"
        "42 22 0:7 / /cache/.part-10/proc rw - proc proc rw\n"
    )

    def test_mounts_below_a_folder_are_found(self) -> None:
        found = list_mounts(Path("/cache/.part-1"), self.MOUNTINFO)
        assert found == ("/cache/.part-1/tmp/root/dev/null", "/cache/.part-1/with space")

    def test_mounts_beside_it_are_not(self) -> None:
        assert list_mounts(Path("/cache/.part-2"), self.MOUNTINFO) == ()


class TestReadInstalled:
    def test_only_what_is_fully_installed_counts(self, tmp_path: Path) -> None:
        status = (
            "Package: apt\nEssential: yes\nStatus: install ok installed\nDescription: x\n Version: 3\nVersion: 1:2\n\n"
            "Package: curl\nStatus: install ok half-configured\nVersion: 1\n"
        )
        with tarfile.open(tmp_path / "layer.tar", "w:") as archive:
            info = tarfile.TarInfo("var/lib/dpkg/status")
            info.size = len(status)
            archive.addfile(info, io.BytesIO(status.encode()))
        assert read_installed(tmp_path / "layer.tar") == {"apt": "1:2"}


class TestMakeLayer:
    def make(self, tmp_path: Path) -> Path:
        return make_layer(make_lock(), "arm64", mirror=MIRROR, part=tmp_path, pool=None)

    def test_exactly_the_locked_versions_are_asked_for(self, machine: FakeMachine, tmp_path: Path) -> None:
        self.make(tmp_path)
        [words] = machine.builds
        assert "--include=apt=1.0,curl=1.0,tzdata=1.0" in words
        assert "Package: curl\nPin: version 1.0\n" in (tmp_path / "arm64.pins").read_text(encoding="utf-8")
        assert words[-1].endswith(f"] {MIRROR} trixie main")

    def test_nothing_of_the_environment_but_proxies_gets_in(
        self, machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TZ", "Pacific/Auckland")
        monkeypatch.setenv("https_proxy", "http://proxy.invalid")
        self.make(tmp_path)
        [words] = machine.builds
        assert words[:2] == ["env", "-i"]
        assert {"TZ=UTC0", "LC_ALL=C.UTF-8", f"SOURCE_DATE_EPOCH={EPOCH}", "https_proxy=http://proxy.invalid"} < {
            *words
        }
        assert '--aptopt=Acquire::http::Proxy "http://proxy.invalid:3128"' in words
        assert not any("Auckland" in word or "Timeout" in word for word in words)

    def test_the_layer_names_neither_mirror_nor_machine(self, machine: FakeMachine, tmp_path: Path) -> None:
        layer = self.make(tmp_path)
        assert b"mirror.invalid" not in layer.read_bytes()
        with tarfile.open(layer, "r:") as archive:
            assert archive.getnames() == [
                "etc/apt/sources.list.d/debian.sources",
                "etc/machine-id",
                "etc/stamp",
                "var/lib/dpkg/status",
            ]

    def test_another_set_of_packages_than_locked_is_told(self, machine: FakeMachine, tmp_path: Path) -> None:
        machine.extra = ",vim=9"
        message = r"installed is not what is locked:\nvim arm64: locked none, installed 9\nrun `nox -s lock"
        with pytest.raises(BaseError, match=message):
            self.make(tmp_path)

    def test_a_failed_build_shows_the_last_lines(self, machine: FakeMachine, tmp_path: Path) -> None:
        machine.mmdebstrap_status = 25
        with pytest.raises(BaseError, match=r"mmdebstrap for arm64 ended with status 25:\nI: .*\nE: no space left"):
            self.make(tmp_path)

    def test_root_needs_mounts_of_its_own(
        self, machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        machine.failing = {"setpriv": "unshare: Operation not permitted"}
        with pytest.raises(BaseError, match=r"not allow: unshare: Operation not permitted\nIn a container, give it"):
            self.make(tmp_path)

    def test_mounts_and_processes_of_root_end_with_it(
        self, machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        self.make(tmp_path)
        assert " unshare --mount --pid --fork --kill-child --mount-proc mmdebstrap --mode=root " in " ".join(
            machine.builds[0]
        )

    def test_another_user_gets_a_user_namespace(
        self, machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        self.make(tmp_path)
        assert "--mode=unshare" in machine.builds[0]
        machine.mmdebstrap_status = 1
        with pytest.raises(BaseError, match="needs user namespaces and /etc/subuid; or run as root"):
            self.make(tmp_path)


class TestWorkFolder:
    @pytest.fixture(autouse=True)
    def any_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rootfs, "_NEEDED_BYTES", 0)

    def test_an_interrupted_run_leaves_nothing(self, tmp_path: Path) -> None:
        def work() -> None:
            with work_folder(tmp_path / "bases", lambda _: None) as part:
                (part / "half").mkdir()
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            work()
        assert [path.name for path in (tmp_path / "bases").iterdir()] == [".lock"]

    def test_what_a_killed_run_left_is_removed(self, tmp_path: Path) -> None:
        left = tmp_path / ".part-old"
        left.mkdir()
        (left / "arm64.tar").write_bytes(b"half")
        with work_folder(tmp_path, lambda _: None):
            assert not left.exists()

    def test_a_folder_with_mounts_below_is_not_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        left = tmp_path / ".part-old"
        left.mkdir()
        monkeypatch.setattr(rootfs, "list_mounts", lambda *_: ("/x/proc",))
        message = r"part-old: not removed, .* below it: /x/proc; unmount them first"
        with pytest.raises(BaseError, match=message), work_folder(tmp_path, lambda _: None):
            pass
        assert left.is_dir()

    def test_little_disk_is_told_before_any_work(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rootfs, "_NEEDED_BYTES", 10**18)
        message = "MB free, expected 1000000000000 MB; make room there"
        with pytest.raises(BaseError, match=message), work_folder(tmp_path, lambda _: None):
            pass

    def test_a_second_run_waits_and_says_so(self, tmp_path: Path) -> None:
        """What it says ends the wait here, so that the test needs no second process."""

        def give_up(text: str) -> None:
            raise BaseError(text)

        with (
            work_folder(tmp_path, lambda _: None) as part,
            pytest.raises(BaseError, match="waiting for another run to end"),
            work_folder(tmp_path, give_up),
        ):
            pass
        assert not part.exists()
