"""Claims about what is read from the locks of bases."""

from pathlib import Path

import pytest
from tests.builders import INDEX, edited, make_image_lock, make_matrix, write_base_locks

from sparkbake.errors import LockError, UsageError
from sparkbake.frozen import candidates, freeze, registry_base
from sparkbake.lockfile import base_lock_path
from sparkbake.matrix import parse_matrix
from sparkbake.model import Base, Matrix
from sparkbake.resolve import FrozenBase

UBUNTU, DEBIAN = make_matrix().bases
REMEDY = "run `nox -s lock -- --base"


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    write_base_locks(tmp_path, make_matrix())
    return tmp_path


def test_a_registry_base_is_frozen_to_the_manifest_of_the_chip(locks: Path) -> None:
    assert freeze(UBUNTU, make_matrix(), locks) == FrozenBase(
        base=UBUNTU,
        reference="registry.example/library/ubuntu:24.04",
        digest="sha256:" + 64 * "3",
        apt_snapshot="20260916T000000Z",
    )


def test_a_bootstrapped_base_is_frozen_to_its_manifest_and_has_no_snapshot(locks: Path) -> None:
    assert freeze(DEBIAN, make_matrix(), locks) == FrozenBase(
        base=DEBIAN, reference="debian-13", digest="sha256:" + 64 * "5", apt_snapshot=None
    )
    assert INDEX != "sha256:" + 64 * "5"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("os_packages: [curl, python3]", "os_packages: [curl, git, python3]"),
        ("os_packages: [curl, python3]", "os_packages: [curl]"),
        ("suites: [trixie]", "suites: [trixie, trixie-updates]"),
    ],
)
def test_a_bootstrapped_base_of_other_packages_is_stale(locks: Path, old: str, new: str) -> None:
    matrix = make_matrix(old, new)
    with pytest.raises(LockError) as caught:
        freeze(matrix.bases[1], matrix, locks)
    assert str(caught.value) == (
        f"{locks}/bases/debian-13.json: stale: matrix.yaml now lists other packages or suites; {REMEDY} debian-13`"
    )
    assert caught.value.state == "stale"


def test_the_order_of_packages_does_not_matter(locks: Path) -> None:
    matrix = make_matrix("os_packages: [curl, python3]", "os_packages: [python3, curl]")
    assert freeze(matrix.bases[1], matrix, locks) == freeze(DEBIAN, make_matrix(), locks)


@pytest.mark.parametrize("base", [UBUNTU, DEBIAN], ids=lambda base: base.name)
def test_a_missing_lock_is_told_with_the_command_that_makes_it(locks: Path, base: Base) -> None:
    path = base_lock_path(locks, base)
    path.unlink()
    with pytest.raises(LockError) as caught:
        freeze(base, make_matrix(), locks)
    assert str(caught.value) == f"{path}: there is no lock for the base {base.name}; {REMEDY} {base.name}`"
    assert caught.value.state == "missing"


@pytest.mark.parametrize("base", [UBUNTU, DEBIAN], ids=lambda base: base.name)
def test_a_damaged_lock_is_told(locks: Path, base: Base) -> None:
    base_lock_path(locks, base).write_text("{}", encoding="utf-8")
    with pytest.raises(LockError, match=rf"{base.name}\.json: .* run `nox -s lock -- --base {base.name}`") as caught:
        freeze(base, make_matrix(), locks)
    assert caught.value.state == "damaged"


def test_an_architecture_that_the_lock_lacks_is_told(locks: Path) -> None:
    matrix = make_matrix("platform: linux/arm64", "platform: linux/amd64")
    assert freeze(UBUNTU, matrix, locks).digest == "sha256:" + 64 * "2"
    with pytest.raises(LockError, match=r"debian-13\.json: manifests: has none for amd64; run `nox"):
        freeze(DEBIAN, matrix, locks)


def test_dockerfiles_name_the_first_base_that_a_registry_has(locks: Path) -> None:
    assert registry_base(make_matrix(), locks) == make_image_lock()


def test_a_lock_of_another_reference_is_refused_with_both(locks: Path) -> None:
    matrix = make_matrix("registry.example/library/ubuntu:24.04", "registry.example/library/ubuntu:24.10")
    with pytest.raises(LockError) as caught:
        registry_base(matrix, locks)
    assert str(caught.value) == (
        f"{locks}/bases/ubuntu-24.04.json: locks registry.example/library/ubuntu:24.04, "
        f"expected registry.example/library/ubuntu:24.10; {REMEDY} ubuntu-24.04`"
    )


def matrix_without_a_registry() -> Matrix:
    text = edited("    image: registry.example/library/ubuntu:24.04\n", "    suites: [noble]\n")
    return parse_matrix(text, "matrix.yaml")


def test_a_matrix_without_a_registry_base_is_told(locks: Path) -> None:
    with pytest.raises(LockError, match=r"matrix\.yaml: bases: none has an image; add one"):
        registry_base(matrix_without_a_registry(), locks)


def test_auto_tries_the_bases_in_the_order_of_the_matrix() -> None:
    assert candidates("auto", make_matrix()) == (UBUNTU, DEBIAN)
    assert candidates("debian-13", make_matrix()) == (DEBIAN,)


def test_a_base_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(UsageError, match=r"--base: got 'Debian', expected auto or one of ubuntu-24\.04, debian-13"):
        candidates("Debian", make_matrix())
