"""Claims about what is served to a build of what is compiled, and about what is seen before it."""

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sparkbake.errors import BuildError, PreflightError
from sparkbake.mirrors import Mirrors
from sparkbake.sourceserver import Counter, reachable


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    (folder / "pool").mkdir(parents=True)
    (folder / "pool/make_4.4.1-2_arm64.deb").write_bytes(b"make")
    (folder / "Packages").write_text("Package: make\nFilename: pool/make_4.4.1-2_arm64.deb\n", encoding="utf-8")
    (tmp_path / "secret").write_bytes(b"not served")
    return folder


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/apt/Packages", True),
        ("/apt/./Packages", True),
        ("/apt/pool/make_4.4.1-2_arm64.deb", True),
        ("/apt/pool/make_4.4.1%2d2_arm64.deb", True),
        ("/apt/Release", False),
        ("/apt/pool", False),
        ("/apt/", False),
        ("/apt/../secret", False),
        ("/apt/%2e%2e/secret", False),
        ("/apt//etc/passwd", False),
        ("/Packages", False),
    ],
)
def test_the_files_of_a_folder_are_given_and_nothing_else(packages: Path, path: str, *, found: bool) -> None:
    counter = Counter(folders=(("/apt/", packages),))
    assert (counter.answer(path) is not None) is found
    assert counter.asked == [path]


def get(address: str) -> bytes:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    connection.request("GET", parts.path)
    try:
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.usefixtures("loopback")
def test_a_folder_of_packages_becomes_an_address_as_apt_has_it(packages: Path) -> None:
    with reachable(Mirrors(apt=packages)) as mirrors:
        address, flat = str(mirrors.apt).split(" ")
        assert flat == "./"
        assert mirrors.on_loopback
        assert get(f"{address}./Packages").startswith(b"Package: make\n")
        assert get(f"{address}./pool/make_4.4.1-2_arm64.deb") == b"make"


def test_mirrors_without_folders_are_taken_as_they_are() -> None:
    mirrors = Mirrors(apt="https://snapshot.example/ubuntu")
    with reachable(mirrors) as found:
        assert found is mirrors


def test_packages_that_are_listed_and_not_there_are_told_before_the_build(packages: Path) -> None:
    place = packages / "pool/make_4.4.1-2_arm64.deb"
    place.unlink()
    with pytest.raises(PreflightError) as caught, reachable(Mirrors(apt=packages)):
        pytest.fail("it builds")
    assert caught.value.faults == (
        f"apt: {place}: missing, and Packages lists it",
        f"copy what is missing there, or write {packages}/Packages anew",
    )


@pytest.mark.usefixtures("loopback")
def test_a_build_that_failed_and_asked_nothing_may_have_an_engine_elsewhere(packages: Path) -> None:
    with pytest.raises(BuildError) as caught, reachable(Mirrors(apt=packages)) as mirrors:
        raise BuildError("x: failed")
    address = str(mirrors.apt).removesuffix("/apt/ ./")
    assert str(caught.value) == (
        f"x: failed\nno step of this build asked {address} for what mirrors.yaml has in folders: if one needed it, the "
        "engine must run on this machine, in its network"
    )


@pytest.mark.usefixtures("loopback")
def test_a_build_that_failed_and_came_here_says_no_more_than_why(packages: Path) -> None:
    with pytest.raises(BuildError) as caught, reachable(Mirrors(apt=packages)) as mirrors:
        raise BuildError(f"x: failed after {len(get(str(mirrors.apt).partition(' ')[0] + 'Packages'))} bytes")
    assert str(caught.value) == f"x: failed after {(packages / 'Packages').stat().st_size} bytes"
