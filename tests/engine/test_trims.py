"""Every trim of the matrix does what it says in every row, by the lists of files in the real wheels on the index.

What of a file are cubins no list says: test_fatbin_against_cuobjdump.py sees it of the newest row, and every build.
"""

import re
import tomllib
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from urllib.parse import unquote

import pytest
import uv
from tests.builders import real_plan

from sparkbake import process
from sparkbake.model import Target, Trim, Wheel
from sparkbake.remote import RemoteFile

pytestmark = pytest.mark.network

TARGETS = real_plan("debian-13").targets


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, int]]:
    """Wheel to the files it installs, below site-packages, with their sizes; of all packages that are trimmed."""
    urls = {name: url for target in TARGETS for name, url in urls_of(target).items()}
    wheels = {one.file for target in TARGETS for _trim, one in trimmed(target)}
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(wheels, pool.map(installed, (urls[one] for one in wheels)), strict=True))


def trimmed(target: Target) -> Iterator[tuple[Trim, Wheel]]:
    wheels = {one.name: one for one in target.environment.wheels}
    return ((trim, wheels[trim.package]) for trim in target.trims)


def urls_of(target: Target) -> dict[str, str]:
    """Where the index has the wheels of the trimmed packages, as uv finds them."""
    wanted = {f"{one.name}=={one.version}" for _trim, one in trimmed(target)}
    argv = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-deps", "--format", "pylock.toml"]
    argv += ["--python-platform", "aarch64-manylinux_2_40", "--python-version", target.environment.python]
    lock = tomllib.loads(process.run([*argv, "-"], timeout_s=300, stdin="\n".join(sorted(wanted))))
    found = [wheel["url"] for package in lock["packages"] for wheel in package.get("wheels", [])]
    return {unquote(url.rpartition("/")[2]): url for url in found}


def installed(url: str) -> dict[str, int]:
    with zipfile.ZipFile(RemoteFile(url)) as wheel:
        return {place_of(one.filename): one.file_size for one in wheel.infolist() if not one.is_dir()}


def place_of(name: str) -> str:
    """Where a member of a wheel is installed, below site-packages."""
    name = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", name)
    name = re.sub(r"^[^/]+\.data/scripts/", "../../../bin/", name)
    return re.sub(r"^[^/]+\.data/data/", "../../../", name)


@pytest.mark.parametrize("target", TARGETS, ids=[one.tag for one in TARGETS])
def test_every_trim_matches_and_spares_what_it_says(target: Target, files: dict[str, dict[str, int]]) -> None:
    assert target.trims
    for trim, wheel in trimmed(target):
        sizes = {path: size for path, size in files[wheel.file].items() if ".dist-info/" not in path}
        found: dict[str, int] = {}
        for pattern in trim.paths:
            some = {path: size for path, size in sizes.items() if fnmatchcase(path, pattern)}
            assert some, f"{pattern} matches nothing in {wheel.file}"
            found |= some
        for other, carrier in trimmed(target):
            if other.package != trim.package:
                assert found.keys().isdisjoint(files[carrier.file]), f"{carrier.file} carries the same"
        assert sum(found.values()) >= trim.saves_bytes, f"{trim.paths} of {wheel.file}"
