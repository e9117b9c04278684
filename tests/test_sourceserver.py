"""Claims about what is served to a build of what is compiled, and about what is seen before it."""

import hashlib
import http.client
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.builders import ROOT

from sparkbake.bundle import Bundle, BundledFile, bundle_json, locked_digest, parse_bundle, wheel_path
from sparkbake.errors import BuildError, BundleError, PreflightError
from sparkbake.labels import OCI
from sparkbake.loopback import Request
from sparkbake.mirrors import Mirrors
from sparkbake.project import open_project
from sparkbake.sourcebundle import (
    base_images,
    inputs_digest,
    parse_repositories,
    row_of,
    source_standing_faults,
    wheels_of_plan,
)
from sparkbake.sourceresolve import SourcePlan
from sparkbake.sourceserver import Served, packages_served, reachable, require_sources


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
    served = Served(folders=(("/apt/", packages),))
    assert (served.answer(Request(path=path, headers={}, body=None)) is not None) is found
    assert served.asked == [path]


def test_the_index_of_crates_says_where_it_is_served(tmp_path: Path) -> None:
    """Its own address is known once it is asked: a bundle may be served at any port."""
    served = Served(folders=(("/crates/", tmp_path),))
    asked = Request(path="/crates/index/config.json", headers={"host": "127.0.0.1:4711"}, body=None)
    answer = served.answer(asked)
    assert answer is not None
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body) == {"dl": "http://127.0.0.1:4711/crates/files/{crate}-{version}.crate"}


@pytest.mark.parametrize("path", ["/git/", "/git/x.git/config", "/git/../x.git/info/refs?service=git-upload-pack"])
def test_of_repositories_nothing_is_given_but_what_git_asks(tmp_path: Path, path: str) -> None:
    (tmp_path / "git/x.git").mkdir(parents=True)
    (tmp_path / "git/x.git/config").touch()
    served = Served(folders=(("/git/", tmp_path / "git"),))
    assert served.answer(Request(path=path, headers={}, body=None)) is None


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
    with packages_served(Mirrors(apt=packages)) as mirrors:
        address, flat = str(mirrors.apt).split(" ")
        assert flat == "./"
        assert mirrors.on_loopback
        assert get(f"{address}./Packages").startswith(b"Package: make\n")
        assert get(f"{address}./pool/make_4.4.1-2_arm64.deb") == b"make"


def test_mirrors_without_folders_are_taken_as_they_are() -> None:
    mirrors = Mirrors(apt="https://snapshot.example/ubuntu")
    with packages_served(mirrors) as found:
        assert found is mirrors


def test_packages_that_are_listed_and_not_there_are_told_before_the_build(packages: Path) -> None:
    place = packages / "pool/make_4.4.1-2_arm64.deb"
    place.unlink()
    with pytest.raises(PreflightError) as caught, packages_served(Mirrors(apt=packages)):
        pytest.fail("it builds")
    assert caught.value.faults == (
        f"apt: {place}: missing, and Packages lists it",
        f"copy what is missing there, or write {packages}/Packages anew",
    )


@pytest.mark.usefixtures("loopback")
def test_a_build_that_failed_and_asked_nothing_may_have_an_engine_elsewhere(packages: Path) -> None:
    with pytest.raises(BuildError) as caught, packages_served(Mirrors(apt=packages)) as mirrors:
        raise BuildError("x: failed")
    address = str(mirrors.apt).removesuffix("/apt/ ./")
    assert str(caught.value) == (
        f"x: failed\nno step of this build asked {address} for what mirrors.yaml has in folders: if one needed it, the "
        "engine must run on this machine, in its network"
    )


@pytest.mark.usefixtures("loopback")
def test_a_build_that_failed_and_came_here_says_no_more_than_why(packages: Path) -> None:
    with pytest.raises(BuildError) as caught, packages_served(Mirrors(apt=packages)) as mirrors:
        raise BuildError(f"x: failed after {len(get(str(mirrors.apt).partition(' ')[0] + 'Packages'))} bytes")
    assert str(caught.value) == f"x: failed after {(packages / 'Packages').stat().st_size} bytes"


# ---- a bundle


PROJECT = open_project(ROOT)


def known(variant: str | None = None) -> SourcePlan:
    """The plan of a row as if the digests of CUDA's images were known."""
    plan = PROJECT.source_plan(PROJECT.select(["0.14.1-t4"]), variant)
    labels = {f"{OCI}base.digest": "sha256:" + 64 * "1"}
    targets = [replace(one, labels=tuple({**dict(one.labels), **labels}.items())) for one in plan.targets]
    return replace(plan, targets=tuple(targets), open_pins=())


PLAN = known()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """As far as the manifest goes the bundle of the plan; its files are small and without sense."""
    images = [f"images/blobs/sha256/{one.manifest.removeprefix('sha256:')}" for one in base_images(PLAN)]
    contents = {
        "git/repositories.json": json.dumps({"https://git.example/nccl": "nccl.git"}).encode(),
        "apt/Packages": b"",
        **dict.fromkeys(images, b"{}"),
    }
    files = [
        BundledFile(path=path, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        for path, content in contents.items()
    ]
    wheels = [
        BundledFile(path=wheel_path(one), sha256=one.sha256, size_bytes=one.size_bytes) for one in wheels_of_plan(PLAN)
    ]
    for path, content in contents.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    row = row_of(PLAN)
    made = Bundle(
        tag=row.row,
        base=row.base.name,
        lock_digest=locked_digest(row),
        base_digest="",
        architectures=("amd64", "arm64"),
        files=(*files, *wheels),
        inputs_digest=inputs_digest(PLAN),
    )
    (tmp_path / "bundle.json").write_text(bundle_json(made), encoding="utf-8")
    return tmp_path


def test_every_wheel_that_a_bundle_lacks_is_named_before_the_build(bundle: Path) -> None:
    with pytest.raises(BundleError) as caught:
        require_sources(bundle, PLAN, lambda _text: None)
    missing = [one for one in caught.value.faults if ".whl: missing, expected " in one]
    assert len(missing) == len(wheels_of_plan(PLAN))
    assert caught.value.faults[-1].endswith(f"nox -s bundle -- 0.14.1-t4 --output {bundle}")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"tag": "0.14.0-t4"}, "is of 0.14.0-t4, expected 0.14.1-t4; make it anew: nox -s bundle -- 0.14.1-t4"),
        (
            {"lock_digest": "sha256:" + 64 * "0"},
            "is of another lock of 0.14.1-t4, sha256:000000000000, expected sha256:",
        ),
        ({"inputs_digest": None}, "is of another foundation, snapshot or list of packages than 0.14.1-t4 has in this"),
        ({"files": ()}, "bundle.json lists no wheels/"),
    ],
)
def test_the_bundle_of_something_else_is_told(bundle: Path, changes: dict[str, Any], fault: str) -> None:
    whole = parse_bundle((bundle / "bundle.json").read_text(encoding="utf-8"), "bundle.json")
    assert source_standing_faults(whole, PLAN) == []
    faults = source_standing_faults(replace(whole, **changes), PLAN)
    assert faults[0].startswith(fault)
    assert (len(faults) == 1) == ("files" not in changes)


def test_a_variant_is_built_from_the_bundle_of_its_row(bundle: Path) -> None:
    whole = parse_bundle((bundle / "bundle.json").read_text(encoding="utf-8"), "bundle.json")
    assert source_standing_faults(whole, known("12.1")) == []


@pytest.mark.usefixtures("loopback")
def test_all_places_of_a_bundle_are_addresses_while_it_is_served(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reachable(Mirrors(bundle=bundle), PLAN) as mirrors:
        address = str(mirrors.package_index).removesuffix("/simple/")
        assert mirrors == Mirrors(
            package_index=f"{address}/simple/",
            git=(("https://git.example/nccl", f"{address}/git/nccl.git"),),
            apt=f"{address}/apt/ ./",
        )
        assert get(f"{address}/apt/./Packages") == b""


@pytest.mark.parametrize("name", ["../x.git", "/x.git", "x", "x.git/y.git"])
def test_a_repository_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="expected a folder beside it; make the bundle anew"):
        parse_repositories(json.dumps({"https://git.example/x": name}), "repositories.json")
