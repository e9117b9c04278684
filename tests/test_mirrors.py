"""Claims about mirrors.yaml: what is read, and what is refused with which words."""

from pathlib import Path

import pytest

from sparkbake.errors import MatrixError
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
ca_bundle: {bundle}
"""
    assert load(tmp_path, text) == Mirrors(
        bases=(
            ("ubuntu-24.04", f"registry.example/ubuntu@{DIGEST}"),
            ("debian-13", f"oci-layout:/bases/debian@{DIGEST}"),
        ),
        package_index="https://user:password@index.example/simple",
        debian="http://mirror.example/debian",
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
            "2:9: mirror: unknown key, expected one of bases, ca_bundle, debian, package_index, schema",
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
            'schema: "1"\nca_bundle: /nowhere/ca.pem',
            "2:12: ca_bundle: got '/nowhere/ca.pem', which is no file; expected a PEM file with certificates",
        ),
    ],
)
def test_a_fault_is_told_with_its_place_and_what_is_expected(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(MatrixError) as caught:
        load(tmp_path, text)
    assert caught.value.faults == (f"mirrors.yaml:{fault}",)


def test_a_file_that_is_not_there_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match=r"nowhere\.yaml: cannot be read: "):
        load_mirrors(tmp_path / "nowhere.yaml", BASES)
