"""Claims about what is found out before any work, and how it is told: what, why, and the command that mends it."""

import os
import platform
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sparkbake import preflight
from sparkbake.engine import EngineState
from sparkbake.errors import PreflightError
from sparkbake.preflight import Needs, arm64_program, ca_bundle, certificate_faults, check, emulation_fault

STATE = EngineState(
    version="28.5.2", architecture="amd64", has_containerd_store=True, data_folder="/var/lib/docker", cached_bytes=0
)
NEEDS = Needs(architecture="arm64", disk_bytes=45 * 10**9)
BINFMT = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")


def faults(
    *,
    needs: Needs = NEEDS,
    state: EngineState = STATE,
    buildx: str | None = "v0.29.1",
    emulation: str | None = None,
    free: int | None = 10**12,
    environment: dict[str, str] | None = None,
) -> tuple[str, ...]:
    try:
        check(
            needs,
            state,
            buildx=buildx,
            emulation=lambda: emulation,
            free_bytes=lambda _folder: free,
            environment=environment or {},
        )
    except PreflightError as err:
        return err.faults
    return ()


def test_a_machine_that_has_all_it_needs_has_no_faults() -> None:
    assert faults() == ()


def test_an_old_engine_is_told_with_the_way_to_a_new_one() -> None:
    assert faults(state=replace(STATE, version="20.10.24+dfsg1")) == (
        "Docker Engine 20.10.24+dfsg1 is too old: expected 27 or newer; "
        "upgrade it: https://docs.docker.com/engine/install/",
    )


@pytest.mark.parametrize("version", ["27.0.0", "28.5.2+dfsg3", "29.0.0-rc.1"])
def test_a_newer_engine_is_fine(version: str) -> None:
    assert faults(state=replace(STATE, version=version)) == ()


def test_an_engine_without_a_readable_version_is_told() -> None:
    assert "Docker Engine dev is too old" in faults(state=replace(STATE, version="dev"))[0]


def test_the_missing_containerd_store_is_told_with_the_setting_that_turns_it_on() -> None:
    assert faults(state=replace(STATE, has_containerd_store=False)) == (
        "the engine does not use the containerd image store, which reproducible file times and OCI output need; "
        'add "features": {"containerd-snapshotter": true} to /etc/docker/daemon.json and restart it: '
        "sudo systemctl restart docker",
    )


def test_missing_buildx_is_told_with_the_command_that_installs_it() -> None:
    assert faults(buildx=None) == (
        "docker buildx is missing; install it: sudo apt-get install docker-buildx (or docker-buildx-plugin)",
    )


def test_old_buildx_is_told_with_what_is_expected() -> None:
    assert faults(buildx="v0.21.9") == (
        "docker buildx v0.21.9 is too old: expected 0.22 or newer; "
        "upgrade it: sudo apt-get install docker-buildx (or docker-buildx-plugin)",
    )


@pytest.mark.parametrize("version", ["v0.22.0", "0.29.1+ds1", "v0.30.0-rc1", "v1.0.0", "a-build-of-my-own"])
def test_newer_buildx_and_one_of_unknown_version_are_fine(version: str) -> None:
    assert faults(buildx=version) == ()


def test_missing_emulation_is_told_with_its_reason_and_what_mends_it() -> None:
    assert faults(emulation="running one ended with 'Exec format error'") == (
        "arm64 programs do not run here: running one ended with 'Exec format error'; "
        "run ./quickstart setup, which mends it",
    )


def test_a_spark_needs_no_emulation() -> None:
    assert faults(state=replace(STATE, architecture="arm64"), emulation="there is none") == ()


def test_a_full_disk_is_told_with_what_is_needed_and_what_frees_it() -> None:
    assert faults(free=12_300_000_000) == (
        "/var/lib/docker has 12.3 GB free: expected 50.0 GB (45.0 for the build, 5 to spare); "
        "free some: docker builder prune, docker image prune",
    )


def test_what_the_build_cache_holds_already_is_taken_off() -> None:
    assert faults(state=replace(STATE, cached_bytes=40 * 10**9), free=10 * 10**9) == ()
    assert faults(state=replace(STATE, cached_bytes=40 * 10**9), free=9 * 10**9) == (
        "/var/lib/docker has 9.0 GB free: expected 10.0 GB (5.0 for the build, 5 to spare); "
        "free some: docker builder prune, docker image prune",
    )


def test_a_cache_larger_than_the_build_still_leaves_some_to_spare() -> None:
    (fault,) = faults(state=replace(STATE, cached_bytes=10**12), free=0)
    assert "expected 5.0 GB (0.0 for the build, 5 to spare)" in fault


def test_the_disk_of_another_machine_is_not_looked_at() -> None:
    assert faults(state=replace(STATE, data_folder=""), free=0) == ()


@pytest.mark.parametrize("free", [50 * 10**9, None])
def test_enough_disk_and_one_that_cannot_be_seen_are_fine(free: int | None) -> None:
    assert faults(free=free) == ()


def test_another_builder_needs_neither_emulation_nor_disk_here() -> None:
    assert faults(needs=replace(NEEDS, remote_builder=True), emulation="there is none", free=0) == ()


def test_a_certificate_bundle_that_is_not_there_is_told_with_its_variable() -> None:
    assert faults(environment={"SSL_CERT_FILE": "/nowhere/ca.pem"}) == (
        "SSL_CERT_FILE names /nowhere/ca.pem, which is no file: expected certificates in PEM form; unset it or mend it",
    )


@pytest.mark.parametrize("value", ["proxy:3128", "proxy", "http://", "ftp://proxy:3128", "//proxy:3128"])
def test_a_proxy_variable_that_is_no_address_is_told_with_one(value: str) -> None:
    assert faults(environment={"https_proxy": value}) == (
        f"https_proxy is '{value}': expected an address such as http://proxy:3128; export it anew or unset it",
    )


def test_a_proxy_variable_that_cannot_even_be_taken_apart_is_told() -> None:
    (fault,) = faults(environment={"HTTPS_PROXY": "http://[fe80::1:3128"})
    assert fault.startswith("HTTPS_PROXY is 'http://[fe80::1:3128': expected an address")


@pytest.mark.parametrize("value", ["", "http://proxy:3128", "https://user:word@proxy", "socks5h://127.0.0.1:1080"])
def test_a_proxy_variable_that_is_an_address_is_fine(value: str) -> None:
    assert faults(environment={"HTTP_PROXY": value, "NO_PROXY": "localhost"}) == ()


def test_all_faults_are_told_at_once() -> None:
    found = faults(
        state=replace(STATE, version="20.10", has_containerd_store=False),
        buildx=None,
        emulation="there is none",
        free=0,
        environment={"SSL_CERT_FILE": "/nowhere", "HTTP_PROXY": "proxy"},
    )
    assert len(found) == 7


def test_the_certificates_that_this_machine_was_told_to_trust_are_used(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates", encoding="utf-8")
    environment = {"SSL_CERT_FILE": "", "REQUESTS_CA_BUNDLE": str(bundle), "CURL_CA_BUNDLE": "/other"}
    assert ca_bundle(environment) == bundle
    assert ca_bundle({}) is None
    assert certificate_faults({"SSL_CERT_FILE": str(bundle)}) == []


def test_free_space_is_that_of_the_file_system_and_unknown_where_there_is_none(tmp_path: Path) -> None:
    assert (preflight.free_bytes(str(tmp_path)) or 0) > 0
    assert preflight.free_bytes(str(tmp_path / "nowhere")) is None


# ---- programs for another architecture


def test_the_probe_is_a_small_elf_program_for_arm64() -> None:
    program = arm64_program(42)
    assert program[:6] == b"\x7fELF\x02\x01"
    assert int.from_bytes(program[18:20], "little") == 183  # EM_AARCH64
    assert len(program) == 132


@pytest.mark.usefixtures("real_processes")
def test_the_probe_ends_with_its_status_where_arm64_programs_run(tmp_path: Path) -> None:
    if platform.machine() != "aarch64" and not BINFMT.exists():
        assert "running one ended with" in (emulation_fault() or "")
        return
    for status in (0, 42, 255):
        path = tmp_path / f"probe-{status}"
        path.write_bytes(arm64_program(status))
        path.chmod(0o755)
        assert subprocess.run([path], check=False, timeout=20).returncode == status


@pytest.mark.usefixtures("real_processes")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"\x7fELF nothing that runs", "running one ended with 'Exec format error'"),
        (b"#!/bin/sh\nexit 7\n", "running one ended with 7, expected 42"),
        (b"#!/bin/sh\nkill -11 $$\n", "running one ended with -11, expected 42"),
    ],
)
def test_a_machine_that_does_not_run_the_probe_gives_the_reason(
    monkeypatch: pytest.MonkeyPatch, program: bytes, reason: str
) -> None:
    monkeypatch.setattr(preflight, "arm64_program", lambda _status: program)
    assert emulation_fault() == reason


def machine_with_qemu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str) -> None:
    """An amd64 machine whose arm64 programs a QEMU runs that answers --version."""
    emulator = tmp_path / "qemu"
    emulator.touch()
    registration = tmp_path / "registration"
    registration.write_text(f"enabled\ninterpreter {emulator}\nflags: POF\n", encoding="utf-8")
    monkeypatch.setattr(preflight, "_BINFMT", registration)
    monkeypatch.setattr(preflight, "arm64_program", lambda _status: b"#!/bin/sh\nexit 42\n")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "x", "6", "1", "x86_64")))
    monkeypatch.setattr(preflight, "run", lambda _argv, *, timeout_s: said)


@pytest.mark.usefixtures("real_processes")
@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("qemu-aarch64 version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright\n", None),
        (
            "qemu-aarch64 version 7.2.15 (Debian 1:7.2+dfsg-7)\nCopyright\n",
            "QEMU 7.2.15 is too old (7.2 hangs on `import torch`), expected 10 or newer",
        ),
        ("something else", None),
    ],
)
def test_an_old_qemu_is_told_with_what_is_expected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, fault: str | None
) -> None:
    machine_with_qemu(monkeypatch, tmp_path, said)
    assert emulation_fault() == fault


@pytest.mark.usefixtures("real_processes")
@pytest.mark.parametrize("text", ["enabled\ninterpreter /nowhere/qemu\n", "enabled\n", None])
def test_a_qemu_that_cannot_be_seen_from_here_is_not_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    machine_with_qemu(monkeypatch, tmp_path, "qemu-aarch64 version 1.0")
    if text is None:
        (tmp_path / "registration").unlink()
    else:
        (tmp_path / "registration").write_text(text, encoding="utf-8")
    assert emulation_fault() is None
