"""Claims about crates of a bundle: fetched from a sparse index on loopback, and laid out as one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine.rustpart import CRATE, VERSION, checksum, crate_bytes, served_crates

from sparkbake.bundlecrates import keep_crates
from sparkbake.errors import BundleError
from sparkbake.sourcebundle import Crate

LOCKED = Crate(name=CRATE, version=VERSION, sha256=checksum())

pytestmark = pytest.mark.usefixtures("loopback")


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., list[str]]:
    """Keeps crates of a served index; gives the files of the bundle."""

    def keeps(*crates: Crate) -> list[str]:
        with served_crates(tmp_path / "upstream") as address:
            found = keep_crates(tmp_path / "bundle", crates, address, lambda _text: None)
        return [one.relative_to(tmp_path / "bundle").as_posix() for one in found]

    return keeps


def test_a_crate_and_its_line_of_the_index_are_kept(keep: Callable[..., list[str]], tmp_path: Path) -> None:
    assert keep(LOCKED) == ["crates/index/co/un/counting", "crates/files/counting-1.0.0.crate"]
    assert (tmp_path / "bundle/crates/files/counting-1.0.0.crate").read_bytes() == crate_bytes()
    line = (tmp_path / "bundle/crates/index/co/un/counting").read_text(encoding="utf-8")
    assert f'"cksum": "{checksum()}"' in line
    assert line.count("\n") == 1


def test_what_is_there_with_its_hash_is_not_fetched_again(tmp_path: Path) -> None:
    with served_crates(tmp_path / "upstream") as address:
        (_index, file) = keep_crates(tmp_path / "bundle", [LOCKED], address, lambda _text: None)
        before = file.stat().st_mtime_ns
        (tmp_path / "upstream" / "counting-1.0.0.crate").unlink()
        keep_crates(tmp_path / "bundle", [LOCKED], address, lambda _text: None)
        assert file.stat().st_mtime_ns == before
        file.write_bytes(b"damaged")
        with pytest.raises(BundleError, match=f"crates: {address[7:]} does not give them: .*counting-1.0.0.crate"):
            keep_crates(tmp_path / "bundle", [LOCKED], address, lambda _text: None)


def test_a_crate_of_another_hash_or_name_is_refused(keep: Callable[..., list[str]]) -> None:
    other = Crate(name=CRATE, version=VERSION, sha256=64 * "0")
    with pytest.raises(
        BundleError, match=r"counting 1\.0\.0: the index has no such crate with the hash of Cargo\.lock"
    ):
        keep(other)


def test_a_crate_that_the_index_does_not_have_is_told(keep: Callable[..., list[str]]) -> None:
    with pytest.raises(BundleError, match=r"`crates` in mirrors\.yaml names another"):
        keep(Crate(name="absent", version="1.0.0", sha256=64 * "0"))
