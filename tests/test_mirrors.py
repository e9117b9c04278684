"""Claims about mirrors.yaml: what is read, and what is refused with which words."""

from pathlib import Path

import pytest

from sparkbake.errors import MatrixError, UsageError
from sparkbake.mirrors import Mirrors, load_mirrors

BASES = ("ubuntu-24.04", "debian-13")
DIGEST = "sha256:" + 64 * "d"


def load(folder: Path, text: str) -> Mirrors:
    path = folder / "mirrors.yaml"
    path.write_text(text, encoding="utf-8")
    return load_mirrors(path, BASES)


def test_a_file_with_all_keys_is_read_as_it_says(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates", encoding="utf-8")
    text = f"""\
schema: "1"
bases:
  ubuntu-24.04: registry.example/ubuntu@{DIGEST}
  debian-13: oci-layout:/bases/debian@{DIGEST}
package_index: https://user:password@index.example/simple
debian: http://mirror.example/debian
images:
  docker.io/nvidia/cuda:13.1.0-devel: registry.example/cuda@{DIGEST}
git:
  https://github.com/: https://git.example/github/
crates: sparse+https://crates.example/index/
apt: https://snapshot.example/ubuntu
ca_bundle: {bundle}
"""
    assert load(tmp_path, text) == Mirrors(
        bases=(
            ("ubuntu-24.04", f"registry.example/ubuntu@{DIGEST}"),
            ("debian-13", f"oci-layout:/bases/debian@{DIGEST}"),
        ),
        package_index="https://user:password@index.example/simple",
        debian="http://mirror.example/debian",
        images=(("docker.io/nvidia/cuda:13.1.0-devel", f"registry.example/cuda@{DIGEST}"),),
        git=(("https://github.com/", "https://git.example/github/"),),
        crates="sparse+https://crates.example/index/",
        apt="https://snapshot.example/ubuntu",
        ca_bundle=bundle,
    )


def test_every_key_but_the_schema_may_be_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, 'schema: "1"\n') == Mirrors()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('schema: "2"', "1:9: schema: got '2', expected '1', the version of this format"),
        ("{}", "1:1: schema: missing, expected '1', the version of this format; add it"),
        (
            'schema: "1"\nmirror: https://example.com',
            "2:9: mirror: unknown key, expected one of apt, bases, bundle, ca_bundle, crates, debian, git, "
            "images, package_index, schema",
        ),
        (
            'schema: "1"\ngit: {"https://example.com/": mirror}',
            "2:31: git.\"https://example.com/\": got 'mirror', expected the beginning of an address",
        ),
        (
            'schema: "1"\nimages: {"x/cuda:13": "y/cuda:13"}',
            "2:23: images.\"x/cuda:13\": got 'y/cuda:13', expected a reference that ends in @sha256: and 64 hex digits",
        ),
        (
            f'schema: "1"\nbases: {{fedora-42: registry.example/fedora@{DIGEST}}}',
            "2:20: bases.fedora-42: no such base; expected one of ubuntu-24.04, debian-13",
        ),
        (
            'schema: "1"\nbases:\n  debian-13: registry.example/debian:13',
            "3:14: bases.debian-13: got 'registry.example/debian:13', expected a reference that ends in @sha256: and "
            "64 hex digits",
        ),
        ('schema: "1"\npackage_index: index.example', "2:16: package_index: got 'index.example', expected a URL"),
        ('schema: "1"\ndebian: mirror.example', "2:9: debian: got 'mirror.example', expected a URL"),
        (
            'schema: "1"\ncrates: https://crates.example/index/',
            "2:9: crates: got 'https://crates.example/index/', expected 'sparse+', a URL and a slash, as cargo has it",
        ),
        (
            'schema: "1"\ncrates: sparse+https://c.example/index',
            "2:9: crates: got 'sparse+https://c.example/index', expected 'sparse+', a URL and a slash, as cargo has it",
        ),
        (
            'schema: "1"\napt: ftp://snapshot.example/ubuntu',
            "2:6: apt: got 'ftp://snapshot.example/ubuntu', expected the http or https address of a snapshot service, "
            "without a slash at its end, or a folder",
        ),
        (
            'schema: "1"\napt: https://snapshot.example/ubuntu/',
            "2:6: apt: got 'https://snapshot.example/ubuntu/', expected the http or https address of a snapshot "
            "service, without a slash at its end, or a folder",
        ),
        (
            'schema: "1"\napt: nowhere',
            "2:6: apt: got 'nowhere', which has no file Packages; expected a folder with packages and their list, as "
            "`dpkg-scanpackages . >Packages` writes it there",
        ),
        (
            'schema: "1"\nca_bundle: /nowhere/ca.pem',
            "2:12: ca_bundle: got '/nowhere/ca.pem', which is no file; expected a PEM file with certificates",
        ),
        (
            'schema: "1"\nbundle: nowhere',
            "2:9: bundle: got 'nowhere', which has no bundle.json; expected a folder that `nox -s bundle` finished",
        ),
    ],
)
def test_a_fault_is_told_with_its_place_and_what_is_expected(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(MatrixError) as caught:
        load(tmp_path, text)
    assert caught.value.faults == (f"mirrors.yaml:{fault}",)


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    for name in ("ca.pem", "bundle.json"):
        (tmp_path / name).touch()
    text = f'schema: "1"\nbundle: .\nca_bundle: ca.pem\nbases: {{debian-13: "oci-layout://bases/debian@{DIGEST}"}}\n'
    assert load(tmp_path, text) == Mirrors(
        bases=(("debian-13", f"oci-layout:{tmp_path}/bases/debian@{DIGEST}"),),
        ca_bundle=tmp_path / "ca.pem",
        bundle=tmp_path / ".",
    )


def test_a_folder_of_packages_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "debs").mkdir()
    (tmp_path / "debs/Packages").touch()
    assert load(tmp_path, 'schema: "1"\napt: debs\n') == Mirrors(apt=tmp_path / "debs")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("package_index", "https://index.example"),
        ("git", "{https://a.example/: https://b.example/}"),
        ("crates", "sparse+https://crates.example/"),
        ("apt", "https://snapshot.example/ubuntu"),
    ],
)
def test_a_bundle_leaves_no_room_for_other_places_of_what_it_has(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "bundle.json").touch()
    with pytest.raises(MatrixError) as caught:
        load(tmp_path, f'schema: "1"\n{key}: {value}\nbundle: .')
    assert caught.value.faults == (
        f"mirrors.yaml:3:9: bundle: and {key} exclude each other, since a bundle has that itself; remove one",
    )


def test_a_file_that_is_not_there_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match=r"nowhere\.yaml: cannot be read: "):
        load_mirrors(tmp_path / "nowhere.yaml", BASES)


# ---- what builds can do with them


@pytest.mark.parametrize(
    ("mirrors", "expected"),
    [
        (Mirrors(package_index="http://127.0.0.1:8080/simple"), True),
        (Mirrors(package_index="https://me:word@localhost/simple"), True),
        (Mirrors(crates="sparse+http://[::1]:8080/"), True),
        (Mirrors(git=(("https://github.com/", "git://127.0.0.2/"),)), True),
        (Mirrors(package_index="https://index.example/127.0.0.1/"), False),
        (Mirrors(debian="http://127.0.0.1/debian"), False),
        (Mirrors(apt="http://127.0.0.1:8080/ubuntu"), True),
        (Mirrors(apt="https://snapshot.example/ubuntu"), False),
        (Mirrors(apt=Path("/srv/packages")), True),
        (Mirrors(), False),
    ],
)
def test_steps_need_the_network_of_this_machine_for_what_is_on_loopback(mirrors: Mirrors, *, expected: bool) -> None:
    assert mirrors.on_loopback is expected
    mirrors.check_for_builds()


def test_what_no_step_of_a_build_can_ask_is_refused_with_the_reason() -> None:
    git = (("https://a.example/", "file:///srv/git/"), ("https://b.example/", "ssh://git@host/"))
    mirrors = Mirrors(git=git, package_index="file:///srv/simple")
    with pytest.raises(UsageError) as caught:
        mirrors.check_for_builds()
    assert str(caught.value).splitlines() == [
        "--mirrors: package_index: got 'file:///srv/simple', which is a folder of this machine, and no step of a build "
        "sees that; serve it over https, http, on loopback if need be",
        "--mirrors: git: got 'file:///srv/git/', which is a folder of this machine, and no step of a build sees that; "
        "serve it over https, http or git, on loopback if need be",
        "--mirrors: git: got 'ssh://git@host/', which takes a key of ssh; serve it over https, http or git, on "
        "loopback if need be",
    ]
