"""Builders for the tests of bootstrapped bases: packages, locks, and a machine that plays mirror and mmdebstrap."""

import dataclasses
import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sparkbake import bootstrap, process, rootfs
from sparkbake.baselock import BaseLock, DebianPackage
from sparkbake.errors import ProcessError

EPOCH = 1_700_000_000
RELEASE_DATE = "Tue, 14 Nov 2023 22:13:20 UTC"
MIRROR = "https://mirror.invalid/debian"


def make_package(name: str, version: str = "1.0", architecture: str = "arm64", content: str = "") -> DebianPackage:
    sha256 = hashlib.sha256(f"{name}{version}{architecture}{content}".encode()).hexdigest()
    return DebianPackage(name=name, version=version, architecture=architecture, sha256=sha256, size_bytes=1000)


def make_lock(**changes: Any) -> BaseLock:
    lock = BaseLock(
        name="debian-13",
        suites=("trixie",),
        include=("curl",),
        source_date_epoch=EPOCH,
        packages=(("arm64", (make_package("apt"), make_package("curl"), make_package("tzdata", architecture="all"))),),
        index_digest=None,
        manifests=(),
        generator=(("mmdebstrap", "1.3.5"),),
    )
    return dataclasses.replace(lock, **changes)


def pool_path(package: DebianPackage) -> str:
    version = package.version.rpartition(":")[2]
    return f"pool/main/{package.name[0]}/{package.name}/{package.name}_{version}_{package.architecture}.deb"


def packages_text(*packages: DebianPackage) -> str:
    return "\n".join(
        f"Package: {package.name}\nVersion: {package.version}\nArchitecture: {package.architecture}\n"
        f"Installed-Size: 7\nDescription: text\n about: it\nFilename: {pool_path(package)}\n"
        f"Size: {package.size_bytes}\nSHA256: {package.sha256}\n"
        for package in packages
    )


class FakeMachine:
    """Plays process.run and process.stream: a mirror with some packages, apt, and an mmdebstrap that packs a tar.

    What mmdebstrap installs are the packages of --include and `extra`; `stamp` goes into a file of the root. `pool` are
    packages that the mirror has beside those in its index; `offered` are the indexes that mmdebstrap was given of such.
    """

    def __init__(self, *packages: DebianPackage) -> None:
        self.mirror = packages
        self.pool: tuple[DebianPackage, ...] = ()
        self.offered: list[str] = []
        self.missing: set[str] = set()
        self.failing: dict[str, str] = {}
        self.extra = ""
        self.stamp = "same"
        self.index_lines = ""
        self.mmdebstrap_status = 0
        self.builds: list[list[str]] = []

    def run(self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **_: Any) -> str:
        words = [str(word) for word in argv]
        if words[0] in self.missing:
            raise ProcessError(f"{words[0]}: not found on PATH", returncode=None)
        for part, output in self.failing.items():
            if part in " ".join(words):
                raise ProcessError("failed", returncode=1, output=output)
        if words[1:] == ["--version"]:
            return f"{words[0]} 2.5 (amd64)\n"
        if words[0] == "apt-config":
            return 'Acquire::http::Proxy "http://proxy.invalid:3128"\nAcquire::http::Timeout "9"\n'
        if words[0] in ("arch-test", "setpriv"):
            return ""
        if words[:2] == ["dpkg-deb", "--field"]:
            return Path(words[2]).read_text(encoding="utf-8")
        if words[:2] == ["apt-get", "indextargets"] and env is None:
            return self.index_lines
        assert env is not None
        return self._apt(words, Path(env["APT_CONFIG"]).parent)

    def _apt(self, words: list[str], root: Path) -> str:
        lists = root / "var/lib/apt/lists"
        if "update" in words:
            (lists / "x_InRelease").write_text(f"Origin: Debian\nDate: {RELEASE_DATE}\nSuite: stable\n")
            return ""
        if "indextargets" in words:
            return f"{lists}/x_Packages\n"
        if "download-file" in words:
            return self._download(*words[2:])
        if "cat-file" in words:
            match = re.search(r'^APT::Architecture "(.*)";', (root / "apt.conf").read_text(), re.MULTILINE)
            assert match is not None
            return packages_text(*(each for each in self.mirror if each.architecture in ("all", match[1])))
        names = {word.partition("=")[0] for word in words[4:]}
        names = {"apt"} if names == {"?essential"} else names | {"tzdata"}
        versions = {each.name: each.version for each in self.mirror}
        return "".join(f"Inst {name} ({versions[name]} Debian:13/stable [arm64])\n" for name in sorted(names))

    def _download(self, address: str, target: str, hash_: str) -> str:
        for each in (*self.mirror, *self.pool):
            if address == f"{MIRROR}/{pool_path(each)}":
                if hash_ != f"SHA256:{each.sha256}":
                    raise ProcessError("failed", returncode=100, output="E: Hash Sum mismatch\n")
                Path(target).write_text(f"Package: {each.name}\nVersion: {each.version}\n", encoding="utf-8")
                return ""
        raise ProcessError("failed", returncode=100, output=f"Err:1 {address}\nE: 404  Not Found\n\n")

    def stream(self, argv: Sequence[str | Path], on_line: Callable[[str], None], **_: Any) -> int:
        words = [str(word) for word in argv]
        self.builds.append(words)
        pools = [word.partition(" copy:")[2].removesuffix(" ./") for word in words if word.endswith(" ./")]
        self.offered += [(Path(one) / "Packages").read_text(encoding="utf-8") for one in pools]
        on_line("I: extracting archives...")
        if self.mmdebstrap_status:
            on_line("E: no space left on device")
            return self.mmdebstrap_status
        [included] = [word.removeprefix("--include=") for word in words if word.startswith("--include=")]
        status = "\n".join(
            f"Package: {name}\nStatus: install ok installed\nVersion: {version}\n"
            for name, _, version in (item.partition("=") for item in f"{included}{self.extra}".split(","))
        )
        files = {
            "./var/lib/dpkg/status": status,
            "./var/lib/dpkg/status-old": "now",
            "./etc/hostname": "this-machine",
            "./etc/stamp": self.stamp,
            "./etc/apt/sources.list": f"deb {MIRROR} trixie main",
        }
        [target] = [word for word in words if word.endswith("-raw.tar")]
        with tarfile.open(target, "w:") as archive:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(text), EPOCH + 10**6
                archive.addfile(info, io.BytesIO(text.encode()))
        return 0


def fake_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeMachine:
    """Let a FakeMachine take the place of this machine's programs and disk."""
    fake = FakeMachine(
        *(make_package(name, architecture=each) for name in ("apt", "curl") for each in ("amd64", "arm64")),
        make_package("tzdata", architecture="all"),
    )
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    program.write_text("    my $mirror    = 'http://default.invalid/debian';\n")
    program.chmod(0o755)
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(bootstrap, "KEYRING", keyring)
    monkeypatch.setattr(rootfs, "_NEEDED_BYTES", 0)
    monkeypatch.setattr(process, "run", fake.run)
    monkeypatch.setattr(process, "stream", fake.stream)
    return fake
