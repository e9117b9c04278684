"""Claims about bills of materials: valid for those who read them, equal for equal images, and silent about nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packageurl import PackageURL
from packaging.metadata import parse_email
from tests.billvalidator import faults_of
from tests.builders import LOCKS, make_lock, make_wheel

from sparkbake.bill import Bill, Licence, Patch, image_purl, purl
from sparkbake.cyclonedx import cyclonedx_json, uuid8
from sparkbake.dpkg import OsPackage
from sparkbake.errors import ImageError
from sparkbake.labels import OCI
from sparkbake.lockfile import lock_digest, parse_lock
from sparkbake.model import Lock
from sparkbake.sbom import components_of, licence_of
from sparkbake.spdx import spdx_json
from sparkbake.surveyed import Survey

PREFIX = "dev.example"
REFERENCE = "registry.example:5000/sparks/spark-vllm:0.20.2-t4"
DIGEST = "sha256:" + 64 * "a"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SITE = "opt/venv/lib/python3.13/site-packages"
DEBIAN = b'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\n\n# x\nID=debian\n'
LABELS = {
    OCI + "created": "2026-10-25T12:34:18Z",
    OCI + "licenses": "Apache-2.0",
    OCI + "revision": COMMIT,
    OCI + "source": "https://example.com/vllm",
    OCI + "url": "https://example.com/sparks/",
    f"{PREFIX}.trimmed": "none",
}
PATCHES = (
    Patch(component="vllm", file="0001-tiles.patch", sha256=64 * "1"),
    Patch(component="vllm", file="0002-arches.patch", sha256=64 * "2"),
)


def make_os_package(name: str = "libc6", version: str = "2.41-12", *, source: str = "glibc") -> OsPackage:
    return OsPackage(
        name=name,
        architecture="arm64",
        version=version,
        source=source,
        source_version=version.partition("+b")[0],
        maintainer="GNU Libc Maintainers <libc@example.com>",
        conffiles=(),
    )


OS_PACKAGES = (make_os_package(), make_os_package("g++", "4:14.2.0-1+b1", source="gcc-defaults"))


def info(wheel_name: str, version: str, file: str) -> str:
    return f"{SITE}/{wheel_name.replace('-', '_')}-{version}.dist-info/{file}"


def make_survey(
    lock: Lock,
    *,
    labels: Mapping[str, str | None] | None = None,
    texts: Mapping[str, bytes | None] | None = None,
    config: str = '{"architecture":"arm64"}',
) -> Survey:
    """An image of a lock; what is given as None is not there."""
    wheels = lock.environments[-1].wheels
    metadata = {
        info(one.name, one.version, "METADATA"): f"Name: {one.name}\nSummary: About {one.name}\nLicense: MIT\n".encode()
        for one in wheels
    }
    all_texts = {**metadata, "etc/os-release": DEBIAN, **(texts or {})}
    all_labels = {**LABELS, f"{PREFIX}.lock_digest": lock_digest(lock), **(labels or {})}
    return Survey(
        image="image.tar",
        digest=DIGEST,
        config=config,
        labels=tuple((key, value) for key, value in all_labels.items() if value is not None),
        seen={},
        texts={path: text for path, text in all_texts.items() if text is not None},
        binaries={},
        unread=(),
    )


def make_bill(
    lock: Lock | None = None,
    survey: Survey | None = None,
    *,
    os_packages: Sequence[OsPackage] = OS_PACKAGES,
    patches: Sequence[Patch] = (),
    base: str = "debian-13",
    **changes: Any,
) -> Bill:
    """A small bill; `changes` are of its survey."""
    lock = lock or make_lock()
    return components_of(
        survey or make_survey(lock, **changes),
        lock,
        base=base,
        reference=REFERENCE,
        label_prefix=PREFIX,
        os_packages=os_packages,
        patches=patches,
    )


def cyclonedx(bill: Bill) -> dict[str, Any]:
    return dict(json.loads(cyclonedx_json(bill)))


def spdx(bill: Bill) -> dict[str, Any]:
    return dict(json.loads(spdx_json(bill)))


def in_cyclonedx(bill: Bill, name: str) -> dict[str, Any]:
    return dict(next(one for one in cyclonedx(bill)["components"] if one["name"] == name))


def in_spdx(bill: Bill, name: str) -> dict[str, Any]:
    return dict(next(one for one in spdx(bill)["packages"] if one["name"] == name))


# ---- whole bills


@cache
def real_bill() -> Bill:
    """All packages of the newest real lock, with some of what their metadata say."""
    lock = parse_lock((LOCKS / "0.32.0-t5.json").read_text(encoding="utf-8"), "0.32.0-t5.json", "")
    wheels = lock.environments[-1].wheels
    said = ("License-Expression: MIT OR Apache-2.0", "License: BSD", "License: Copyright\n        Long text", "", "")
    texts = {
        info(one.name, one.version, "METADATA"): f"Name: {one.name}\nSummary: X\n{line}\n".encode()
        for one, line in zip(wheels, said * len(wheels), strict=False)
    }
    vllm = next(one for one in wheels if one.name == "vllm")
    texts[info("vllm", vllm.version, "TRIMMED.json")] = b'{"vllm/x.so": 5}'
    names = [f"lib{letter}{number}++" for letter in "abcdefgh" for number in range(20)]
    return make_bill(
        lock,
        make_survey(lock, texts=texts, labels={f"{PREFIX}.trimmed": "vllm"}),
        os_packages=[make_os_package(name, "1:2.3+dfsg-1~deb13u1") for name in names],
        patches=PATCHES,
    )


def test_the_bill_of_a_real_lock_is_valid_and_complete() -> None:
    bill = real_bill()
    assert len(bill.components) > 300
    assert faults_of(bill) == []


def test_a_small_bill_is_valid() -> None:
    assert faults_of(make_bill()) == []


def test_equal_images_have_equal_bytes_however_they_are_read() -> None:
    lock = make_lock()
    texts = {info("torch", "2.11.0", "METADATA"): b"License: Other\n", info("ray", "1.0", "METADATA"): b"License: x\n"}
    survey = make_survey(lock, texts=texts)
    other = replace(
        survey,
        labels=tuple(reversed(survey.labels)),
        texts=dict(reversed(list(survey.texts.items()))),
    )
    environments = [replace(one, wheels=one.wheels[::-1]) for one in lock.environments]
    first = make_bill(lock, survey, patches=PATCHES)
    second = make_bill(lock, other, os_packages=OS_PACKAGES[::-1], patches=PATCHES[::-1])
    assert cyclonedx_json(first) == cyclonedx_json(second) == cyclonedx_json(first)
    assert spdx_json(first) == spdx_json(second) == spdx_json(first)
    shuffled = replace(lock, environments=tuple(environments))
    third = make_bill(shuffled, replace(survey, labels=make_survey(shuffled).labels), patches=PATCHES)
    assert third.components == first.components


def test_files_are_sorted_and_indented() -> None:
    for text in (cyclonedx_json(make_bill()), spdx_json(make_bill())):
        assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    purls = [one.purl for one in make_bill().components]
    assert purls == sorted(purls)


def test_a_package_more_or_another_one_shows() -> None:
    wheels = (make_wheel("ray"), make_wheel("vllm", "0.20.2"))
    few = make_bill(make_lock(wheels=wheels))
    more = make_bill(make_lock(wheels=(*wheels, make_wheel("zstd"))))
    other = make_bill(make_lock(wheels=(make_wheel("ray", content="rebuilt"), wheels[1])))
    assert {one.name for one in more.components} - {one.name for one in few.components} == {"zstd"}
    assert in_cyclonedx(more, "zstd")["purl"] == "pkg:pypi/zstd@1.0"
    assert in_spdx(more, "zstd")["versionInfo"] == "1.0"
    assert in_cyclonedx(few, "ray")["hashes"] != in_cyclonedx(other, "ray")["hashes"]
    assert in_spdx(few, "ray")["checksums"] != in_spdx(other, "ray")["checksums"]


def test_an_os_package_that_is_gone_or_newer_shows() -> None:
    all_of_it = make_bill()
    newer = make_bill(os_packages=[make_os_package("libc6", "2.41-13")])
    assert in_spdx(newer, "libc6")["versionInfo"] == "2.41-13"
    assert [one["name"] for one in cyclonedx(all_of_it)["components"] if "g++" in one["name"]] == ["g++"]
    assert [one["name"] for one in cyclonedx(newer)["components"] if "g++" in one["name"]] == []


# ---- the image


def test_the_image_is_the_subject_of_the_bill() -> None:
    bill = make_bill()
    found = cyclonedx(bill)
    image = found["metadata"]["component"]
    assert (image["name"], image["version"], image["type"]) == (REFERENCE, DIGEST, "container")
    assert {"name": f"sparkbake:label:{OCI}revision", "value": COMMIT} in image["properties"]
    assert found["metadata"]["timestamp"] == spdx(bill)["creationInfo"]["created"] == "2026-10-25T12:34:18Z"
    assert f"{OCI}revision={COMMIT}" in in_spdx(bill, REFERENCE)["comment"]
    assert in_spdx(bill, REFERENCE)["checksums"] == [{"algorithm": "SHA256", "checksumValue": 64 * "a"}]


def test_the_image_depends_on_all_packages() -> None:
    bill = make_bill()
    found = cyclonedx(bill)
    (only,) = found["dependencies"]
    assert only["ref"] == found["metadata"]["component"]["bom-ref"]
    assert only["dependsOn"] == sorted(["debian-13", *(one.purl for one in bill.components)])


def test_the_document_describes_the_image_and_the_image_contains_all_packages() -> None:
    found = spdx(make_bill())
    names = {one["SPDXID"]: one["name"] for one in found["packages"]}
    related = [
        (names.get(one["spdxElementId"]), one["relationshipType"], names[one["relatedSpdxElement"]])
        for one in found["relationships"]
    ]
    contained = {name for _image, kind, name in related if kind == "CONTAINS"}
    assert (None, "DESCRIBES", REFERENCE) in related
    assert contained == {"debian", "libc6", "g++", "nvidia-nccl", "ray", "torch", "vllm"}
    assert ("vllm", "GENERATED_FROM", "vllm") in related


def test_identifiers_are_of_the_digest() -> None:
    bill = make_bill()
    other = replace(bill, digest="sha256:" + 64 * "b")
    assert cyclonedx(bill)["serialNumber"] == f"urn:uuid:{uuid8(DIGEST.encode())}" != cyclonedx(other)["serialNumber"]
    assert spdx(bill)["documentNamespace"] == f"https://example.com/sparks/spdx/sha256-{64 * 'a'}"
    assert spdx(other)["documentNamespace"] == f"https://example.com/sparks/spdx/sha256-{64 * 'b'}"


def test_uuids_are_made_as_the_rfc_shows() -> None:
    """The example of RFC 9562, appendix B.2: SHA-256 of the namespace of DNS and a name."""
    name = bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8") + b"www.example.com"
    assert uuid8(name) == "5c146b14-3c52-8afd-938a-375d0df1fbf6"


# ---- packages


def test_a_python_package_has_its_wheel_and_what_its_metadata_say() -> None:
    found = in_cyclonedx(make_bill(), "torch")
    wheel = make_wheel("torch", "2.11.0")
    assert found == {
        "type": "library",
        "bom-ref": "pkg:pypi/torch@2.11.0",
        "purl": "pkg:pypi/torch@2.11.0",
        "name": "torch",
        "version": "2.11.0",
        "description": "About torch",
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        "licenses": [{"expression": "MIT", "acknowledgement": "declared"}],
        "properties": [{"name": "sparkbake:wheel", "value": wheel.file}],
    }
    package = in_spdx(make_bill(), "torch")
    assert package["packageFileName"] == wheel.file
    assert package["checksums"] == [{"algorithm": "SHA256", "checksumValue": wheel.sha256}]
    assert (package["licenseDeclared"], package["summary"]) == ("MIT", "About torch")


@pytest.mark.parametrize(
    "content", [None, b"", b"nonsense \xff\0", b"Summary: \xff\n", b"Summary: UNKNOWN\nLicense: \n"]
)
def test_a_package_whose_metadata_say_nothing_is_there_all_the_same(content: bytes | None) -> None:
    bill = make_bill(texts={info("torch", "2.11.0", "METADATA"): content})
    torch = next(one for one in bill.components if one.name == "torch")
    assert (torch.licence, torch.summary) == (None, None)
    assert "licenses" not in in_cyclonedx(bill, "torch")
    assert in_spdx(bill, "torch")["licenseDeclared"] == "NOASSERTION"


def test_metadata_are_found_however_the_folder_spells_name_and_version() -> None:
    lock = make_lock(wheels=(make_wheel("ruamel-yaml", "1.0.post1"),))
    texts = {f"{SITE}/ruamel.YAML-1.0.0.post1.dist-info/METADATA": b"Summary: YAML\n"}
    texts |= {f"{SITE}/x/ruamel_yaml-1.0.post1.dist-info/METADATA": b"Summary: one that another carries\n"}
    survey = replace(make_survey(lock), texts={**texts, "etc/os-release": DEBIAN})
    assert make_bill(lock, survey, os_packages=()).components[0].summary == "YAML"


def test_an_os_package_has_its_source_package_and_its_maintainer() -> None:
    found, package = in_cyclonedx(make_bill(), "g++"), in_spdx(make_bill(), "g++")
    (source,) = found["pedigree"]["ancestors"]
    assert found["purl"] == "pkg:deb/debian/g%2B%2B@4:14.2.0-1%2Bb1?arch=arm64&distro=debian-13"
    assert source["purl"] == "pkg:deb/debian/gcc-defaults@4:14.2.0-1?arch=source&distro=debian-13"
    assert found["publisher"] == "GNU Libc Maintainers <libc@example.com>"
    assert package["supplier"] == "Organization: Debian GNU/Linux"
    assert package["sourceInfo"] == f"built from gcc-defaults 4:14.2.0-1, {source['purl']}"


def test_an_os_package_without_a_maintainer_has_none() -> None:
    bill = make_bill(os_packages=[replace(make_os_package(), maintainer="")])
    assert "publisher" not in in_cyclonedx(bill, "libc6")


def test_vllm_says_which_commit_it_was_built_from() -> None:
    bill = make_bill()
    (source,) = in_cyclonedx(bill, "vllm")["pedigree"]["ancestors"]
    assert (source["version"], source["externalReferences"][0]["url"]) == (COMMIT, "https://example.com/vllm")
    assert source["purl"] == f"pkg:generic/vllm@{COMMIT}?vcs_url=git%2Bhttps://example.com/vllm%40{COMMIT}"
    locations = [one["downloadLocation"] for one in spdx(bill)["packages"]]
    assert f"git+https://example.com/vllm@{COMMIT}" in locations


def test_patches_are_named_with_their_hashes() -> None:
    bill = make_bill(patches=PATCHES)
    found = in_cyclonedx(bill, "vllm")
    assert [one["diff"]["url"] for one in found["pedigree"]["patches"]] == ["0001-tiles.patch", "0002-arches.patch"]
    assert {"name": "sparkbake:patch", "value": f"0001-tiles.patch sha256:{64 * '1'}"} in found["properties"]
    assert f"patched with 0002-arches.patch, sha256:{64 * '2'}" in in_spdx(bill, "vllm")["sourceInfo"]
    assert "patches" not in in_cyclonedx(bill, "libc6")["pedigree"]


def test_a_trimmed_package_says_what_is_missing() -> None:
    texts = {info("torch", "2.11.0", "TRIMMED.json"): b'{"torch/lib/a.a": 40, "torch/lib/b.a": 2}'}
    bill = make_bill(texts=texts, labels={f"{PREFIX}.trimmed": "torch"})
    said = "files of the wheel that the image lacks: 2, of 42 bytes in all"
    assert {"name": "sparkbake:trimmed", "value": said} in in_cyclonedx(bill, "torch")["properties"]
    assert in_spdx(bill, "torch")["comment"] == said
    assert "comment" not in in_spdx(bill, "ray")


def test_a_pruned_package_says_of_how_many_bytes_of_cubins_there_are_zeros() -> None:
    pruned = (
        b'{"torch/lib/libtorch_cuda.so": {"sha256": "0", "bytes": 5}, "torch/lib/b.so": {"sha256": "0", "bytes": 2}}'
    )
    texts = {info("torch", "2.11.0", "TRIMMED.json"): b'{"a": 3}', info("torch", "2.11.0", "PRUNED.json"): pruned}
    bill = make_bill(texts=texts, labels={f"{PREFIX}.trimmed": "torch"})
    said = "files of the wheel that the image lacks: 1, of 3 bytes in all; "
    said += "files whose cubins of other chips are overwritten with zeros: 2, of 7 bytes in all"
    assert {"name": "sparkbake:trimmed", "value": said} in in_cyclonedx(bill, "torch")["properties"]


# ---- package URLs


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (purl("deb", "debian/libc6", "2.41-12", arch="arm64"), "pkg:deb/debian/libc6@2.41-12?arch=arm64"),
        (purl("deb", "debian/x", "1:2.3+dfsg-1~b1"), "pkg:deb/debian/x@1:2.3%2Bdfsg-1~b1"),
        (purl("pypi", "torch", "2.11.0+cu130"), "pkg:pypi/torch@2.11.0%2Bcu130"),
        (purl("pypi", "x", "1!2.0"), "pkg:pypi/x@1%212.0"),
        (purl("generic", "ü", "1 2"), "pkg:generic/%C3%BC@1%202"),
        (purl("generic", "a", "1", z="?", b="&="), "pkg:generic/a@1?b=%26%3D&z=%3F"),
        (
            image_purl("registry.example:5000/Sparks/VLLM:1", DIGEST, "arm64"),
            f"pkg:oci/vllm@{DIGEST}?arch=arm64&repository_url=registry.example:5000/Sparks/VLLM&tag=1",
        ),
        (image_purl(f"a/b:1@{DIGEST}", DIGEST, "amd64"), f"pkg:oci/b@{DIGEST}?arch=amd64&repository_url=a/b&tag=1"),
    ],
)
def test_a_purl_is_encoded_as_its_specification_says(made: str, expected: str) -> None:
    assert made == expected == PackageURL.from_string(made).to_string()


@given(
    st.text("abz09+.-", min_size=2, max_size=9),
    st.text("019:.+~-aZ", min_size=1, max_size=9),
    st.text("abc+:&=?#%@ ü~", min_size=1, max_size=9).filter(str.strip),
)
def test_a_purl_is_read_back_as_it_was_meant(name: str, version: str, value: str) -> None:
    made = PackageURL.from_string(purl("deb", f"debian/{name}", version, distro=value))
    assert (made.namespace, made.name, made.version, made.qualifiers) == ("debian", name, version, {"distro": value})


def test_the_distribution_may_have_no_version_and_stand_in_usr_lib() -> None:
    texts = {"etc/os-release": None, "usr/lib/os-release": b"ID=debian\n"}
    bill = make_bill(texts=texts)
    assert in_cyclonedx(bill, "libc6")["purl"] == "pkg:deb/debian/libc6@2.41-12?arch=arm64&distro=debian"
    assert in_cyclonedx(bill, "debian") == {
        "type": "operating-system",
        "bom-ref": "debian",
        "name": "debian",
        "description": "debian",
    }
    assert faults_of(bill) == []


def test_the_purpose_of_the_distribution_is_spelled_as_the_json_schema_has_it() -> None:
    """spdx-tools takes "-" as well: https://github.com/spdx/spdx-spec, branch support/2.3, schemas/spdx-schema.json."""
    assert in_spdx(make_bill(), "debian")["primaryPackagePurpose"] == "OPERATING_SYSTEM"


# ---- licences

_LONG = "License: Copyright (c) X\n        \n          All rights\n        reserved\n"
_BSD = "Classifier: License :: OSI Approved :: BSD License\nClassifier: License :: Other\n"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("License-Expression: mit or apache-2.0", Licence(expression="MIT OR Apache-2.0", name="", text=None)),
        ("License: bsd-3-clause", Licence(expression="BSD-3-Clause", name="", text=None)),
        ("License: BSD\nLicense-Expression: MIT", Licence(expression="MIT", name="", text=None)),
        ("License-Expression: LicenseRef-NV", Licence(expression="LicenseRef-NV", name="", text=None)),
        ("License: Apache 2.0\n" + _BSD, Licence(expression=None, name="Apache 2.0", text=None)),
        ("License: UNKNOWN\n" + _BSD, Licence(expression=None, name="BSD License, Other", text=None)),
        (_LONG, Licence(expression=None, name="Copyright (c) X", text="Copyright (c) X\n\n  All rights\nreserved")),
        (
            _LONG + _BSD,
            Licence(expression=None, name="BSD License, Other", text="Copyright (c) X\n\n  All rights\nreserved"),
        ),
        ("License: UNKNOWN\nClassifier: Programming Language :: Python", None),
    ],
)
def test_only_a_valid_expression_stands_as_one(metadata: str, expected: Licence | None) -> None:
    if expected and expected.expression:
        expected = replace(expected, name=expected.expression)
    assert licence_of(parse_email(metadata)[0]) == expected
    assert faults_of(make_bill(texts={info("torch", "2.11.0", "METADATA"): metadata.encode()})) == []


def test_another_text_is_a_named_licence() -> None:
    bill = make_bill(texts={info("torch", "2.11.0", "METADATA"): (_LONG + _BSD).encode()})
    (found,) = in_cyclonedx(bill, "torch")["licenses"]
    assert found["license"]["name"] == "BSD License, Other"
    assert found["license"]["text"]["content"].endswith("reserved")
    (extracted,) = spdx(bill)["hasExtractedLicensingInfos"]
    assert extracted["licenseId"] == in_spdx(bill, "torch")["licenseDeclared"]
    assert (extracted["name"], extracted["extractedText"]) == (
        "BSD License, Other",
        found["license"]["text"]["content"],
    )


def test_a_licence_of_two_packages_stands_there_once() -> None:
    texts = {
        info("torch", "2.11.0", "METADATA"): b"License: MIT-like\n",
        info("ray", "1.0", "METADATA"): b"License: MIT-like\n",
        info("vllm", "0.20.2", "METADATA"): b"License-Expression: MIT AND LicenseRef-X\n",
    }
    bill = make_bill(texts=texts)
    found = spdx(bill)["hasExtractedLicensingInfos"]
    assert in_spdx(bill, "torch")["licenseDeclared"] == in_spdx(bill, "ray")["licenseDeclared"]
    assert sorted(one["name"] for one in found) == ["LicenseRef-X", "MIT-like"]


# ---- what an image must say


def trimmed(content: bytes) -> dict[str, Any]:
    return {
        "texts": {info("torch", "2.11.0", "TRIMMED.json"): content},
        "labels": {f"{PREFIX}.trimmed": "torch"},
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {OCI + "created": None}}, f"image.tar: has no label {OCI}created, expected one as on all images"),
        *(
            ({"labels": {OCI + "created": date}}, f"got '{date}', expected a date as in YYYY-MM-DDThh:mm:ssZ")
            for date in ("", "2026-10-25", "2026-13-25T12:34:18Z", "2026-10-25T12:34:18+02:00", "2026-10-25T25:00:00Z")
        ),
        (
            {"labels": {OCI + "url": "https://example.com/#a"}},
            f"image.tar: label {OCI}url: got 'https://example.com/#a', expected an http address without a fragment",
        ),
        ({"texts": {"etc/os-release": None}}, "image.tar: has no etc/os-release, expected one that names"),
        (
            {"texts": {"etc/os-release": b'ID="debian'}},
            "etc/os-release: cannot be read: No closing quotation; expected",
        ),
        ({"texts": {"etc/os-release": b"\xff"}}, "etc/os-release: cannot be read: 'utf-8' codec"),
        ({"texts": {"etc/os-release": b"NAME=x"}}, "etc/os-release: has no ID, expected one such as ID=debian"),
        ({"config": "{}"}, "image.tar: its config has no architecture; make the image anew"),
        (
            {"patches": [replace(PATCHES[0], component="nccl")]},
            "0001-tiles.patch is a patch of 'nccl', which is none of",
        ),
        ({"base": "fedora"}, "no environment for the base 'fedora', expected one of: ubuntu-24.04, debian-13"),
        (
            {"labels": {f"{PREFIX}.lock_digest": "sha256:0"}},
            "image.tar: was made from the lock sha256:0, but that of 0.20.2-t4 is sha256:",
        ),
        (
            {"labels": {f"{PREFIX}.trimmed": "ray,vllm"}},
            "trimmed says that files of ray, vllm are left out, but notes of that are there of none; make it anew",
        ),
        (
            {**trimmed(b"{}"), "labels": {}},
            "trimmed says that files of none are left out, but notes of that are there of torch; make it anew",
        ),
        (trimmed(b"["), "TRIMMED.json: is no JSON"),
        (trimmed(b'{"a": "b"}'), "TRIMMED.json: expected a size in bytes for each path; make the image anew"),
        (
            trimmed(b'{"a": {"sha256": "0"}}'),
            "TRIMMED.json: expected a size in bytes for each path; make the image anew",
        ),
    ],
)
def test_what_cannot_be_told_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError) as raised:
        make_bill(**changes)
    assert message in str(raised.value)


@pytest.mark.parametrize("reference", ["", "vllm", "registry.example:5000/vllm", f"registry.example/vllm@{DIGEST}"])
def test_a_reference_names_a_tag(reference: str) -> None:
    with pytest.raises(ImageError, match="expected registry/name:tag"):
        image_purl(reference, DIGEST, "arm64")
