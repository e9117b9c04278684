"""Claims about `verify` of OCI files, as a user calls it: what it reads, prints and writes, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.imagebuilder import (
    CODEC,
    TAG,
    Layers,
    config_of,
    make_checkout,
    make_layers,
    make_packages,
    target_of,
    with_member,
    write_image,
)
from tests.ocibuilder import SITE, MadeLayer, make_file, write_layout
from tests.verified import BACKDOOR, NAME, VALIDATOR, findings_of, report_of, report_path

from sparkbake.cli import main
from sparkbake.images import open_image
from sparkbake.labels import OCI
from sparkbake.project import Project
from sparkbake.verifying import verify_files

WAIVED = ("missing-library", f"{SITE}/{CODEC}")


def verify(project: Project, *words: str) -> int:
    return main(["--root", str(project.root), "verify", *words])


# ---- OCI files


def test_a_clean_file_ends_with_0_and_is_reported(
    project: Project, clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(project, f"oci:{clean}") == 0
    said = capsys.readouterr()
    report = report_of(project, ran=False)
    assert (report["clean"], report["findings"], report["tag"], report["name"]) == (True, [], TAG, NAME)
    assert (report["reference"], report["programs"]) == (str(clean), "not run")
    assert report["digest"] == open_image(clean, platform="linux/arm64").info.digest
    assert report["plan_digest"] == project.plan_digest(target_of(project))
    path = report_path(project, ran=False)
    assert f"verify {TAG}: clean, 1 waived; report: {path}" in said.err
    assert "its programs are not run, since it is not in the engine" in said.err
    assert said.out.startswith(f"{clean}\n")
    assert "findings that matrix.yaml waives" in said.out
    assert "for another FFmpeg" in said.out


def test_a_file_with_a_fault_ends_with_1_and_names_it(
    project: Project, tampered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(project, f"oci:{tampered}") == 1
    said = capsys.readouterr()
    assert findings_of(report_of(project, ran=False)) == [("file-unowned", BACKDOOR)]
    assert f"verify {TAG}: 1 errors, 1 waived; report: " in said.err
    (line,) = [one for one in said.out.splitlines() if BACKDOOR in one]
    assert line.startswith("error: file-unowned")


def test_a_report_for_machines_is_the_file_and_nothing_else(
    project: Project, clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(project, f"oci:{clean}", "--json") == 0
    assert json.loads(capsys.readouterr().out) == report_of(project, ran=False)


def test_reports_for_machines_are_one_a_line(
    project: Project, clean: Path, tampered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(project, f"oci:{tampered}", f"oci:{clean}", "--json") == 1
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["reference"], one["clean"]) for one in reports] == [(str(tampered), False), (str(clean), True)]
    for one in reports:
        VALIDATOR.validate(one)


def test_a_file_may_be_named_without_saying_that_it_is_one(
    project: Project, tampered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(project, str(tampered)) == 1
    assert findings_of(report_of(project, ran=False)) == [("file-unowned", BACKDOOR)]
    assert "1 errors, 1 waived" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["docker://registry.example/a:1", "docker://a"])
def test_an_image_of_a_registry_is_refused(
    project: Project, clean: Path, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    assert verify(project, f"oci:{clean}", asked) == 2
    said = capsys.readouterr()
    assert f"got '{asked}', expected a TAG of the engine, a pattern of tags, or oci:FILE" in said.err
    assert said.out == ""


@pytest.mark.parametrize("asked", ["oci:", "docker://", "podman:a"])
def test_a_name_of_no_form_is_refused(project: Project, capsys: pytest.CaptureFixture[str], asked: str) -> None:
    assert verify(project, asked) == 2
    assert f"got '{asked}', expected an OCI archive or layout folder" in capsys.readouterr().err


def test_a_file_that_is_what_the_build_said_is_clean(project: Project, clean: Path) -> None:
    digest = open_image(clean, platform="linux/arm64").info.digest
    assert verify_files(project, {clean: digest}, as_json=False) == 0
    assert report_of(project, ran=False)["findings"] == []


def test_a_file_that_is_another_than_the_build_said_is_found(project: Project, clean: Path) -> None:
    other = "sha256:" + 64 * "0"
    assert verify_files(project, {clean: other}, as_json=False) == 1
    report = report_of(project, ran=False)
    assert findings_of(report) == [("digest", target_of(project).reference)]
    assert (report["findings"][0]["found"], report["findings"][0]["expected"]) == (report["digest"], other)


def test_of_several_files_each_is_looked_at_and_one_fault_is_enough(
    project: Project, clean: Path, tampered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(project, f"oci:{tampered}", f"oci:{clean}") == 1
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line in (str(clean), str(tampered))] == [
        str(tampered),
        str(clean),
    ]
    assert "1 errors, 1 waived" in said.err
    assert "clean, 1 waived" in said.err


def test_a_name_that_is_no_utf_8_is_shown(
    project: Project, layers: Layers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = with_member(layers, make_file("opt/\udcff", b""))
    image = write_image(tmp_path / "image", made, config_of(target_of(project)))
    assert verify(project, f"oci:{image}") == 1
    assert "opt/\\udcff" in capsys.readouterr().out


def test_an_image_of_another_project_is_refused(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_layout(tmp_path / "other", [MadeLayer(members=[make_file("a")])])
    assert verify(project, f"oci:{image}") == 1
    message = f"{image}: its label {OCI}version is '', expected a tag of the matrix; it is no image of this project"
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_there_ends_with_8(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(project, f"oci:{tmp_path}/no.tar") == 8
    assert "no such file or folder; expected an OCI layout folder or an OCI archive" in capsys.readouterr().err


def test_a_tag_that_the_matrix_has_not_ends_with_2(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(project, "0.99.0-t5") == 2
    assert "'0.99.0-t5': no such tag" in capsys.readouterr().err


def test_an_image_on_a_base_that_the_matrix_has_not_is_held_against_the_first(
    project: Project, layers: Layers, tmp_path: Path
) -> None:
    config = config_of(target_of(project), **{OCI + "base.name": "registry.example/other:1"})
    image = write_image(tmp_path / "image", layers, config)
    assert verify_files(project, {image: None}, as_json=False) == 1
    assert findings_of(report_of(project, ran=False)) == [("label", OCI + "base.name")]


def test_an_image_that_does_not_say_its_base_is_held_against_the_first(
    project: Project, layers: Layers, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "image", layers, config_of(target_of(project), **{OCI + "base.name": None}))
    assert verify_files(project, {image: None}, as_json=False) == 1
    assert findings_of(report_of(project, ran=False)) == [("label", OCI + "base.name")]


# ---- waivers


def with_waiver(tmp_path: Path, old: str, new: str) -> tuple[Project, dict[str, Any]]:
    """The report on a clean image in a project whose waiver is another."""
    project = make_checkout(tmp_path / "other", (old, new))
    image = write_image(tmp_path / "image", make_layers(project), config_of(target_of(project)))
    status = verify_files(project, {image: None}, as_json=False)
    report = report_of(project, ran=False)
    assert status == (0 if report["clean"] else 1)
    return project, report


def test_what_is_waived_is_reported_with_its_reason(project: Project, clean: Path) -> None:
    verify_files(project, {clean: None}, as_json=False)
    (one,) = report_of(project, ran=False)["waived"]
    assert (one["finding"]["id"], one["finding"]["subject"]) == WAIVED
    assert one["finding"]["found"] == "libavutil.so.58"
    assert (one["reason"], one["expires"]) == ("for another FFmpeg", "2099-12-31")


def test_a_waiver_that_has_expired_counts_no_more_and_is_found(tmp_path: Path) -> None:
    _project, report = with_waiver(tmp_path, '"2099-12-31"', '"2026-01-31"')
    assert findings_of(report) == [WAIVED, ("waiver-expired", "missing-library of */libtorchcodec_core4.so")]
    assert report["waived"] == []
    assert report["findings"][1]["found"] == "it counted until 2026-01-31"


def test_a_waiver_that_nothing_needs_is_found(project: Project, tmp_path: Path) -> None:
    packages = make_packages()
    made = make_layers(project, {**packages, "vllm": packages["vllm"].having({CODEC: None})})
    image = write_image(tmp_path / "image", made, config_of(target_of(project)))
    assert verify_files(project, {image: None}, as_json=False) == 1
    assert findings_of(report_of(project, ran=False)) == [
        ("waiver-unused", "missing-library of */libtorchcodec_core4.so")
    ]


@pytest.mark.parametrize("subject", ["opt/many/*", "opt/many/[a-z]*"])
def test_a_waiver_of_very_many_findings_sets_all_of_them_aside(tmp_path: Path, subject: str) -> None:
    waiver = f'  waivers:\n    - {{finding: file-unowned, subject: "{subject}", expires: "2099-12-31", reason: why}}\n'
    project = make_checkout(tmp_path / "other", ("  waivers:\n", waiver))
    layers = make_layers(project)
    for number in range(30):
        layers = with_member(layers, make_file(f"opt/many/file{number:02}", b""))
    image = write_image(tmp_path / "image", layers, config_of(target_of(project)))
    assert verify_files(project, {image: None}, as_json=False) == 0


def test_a_waiver_sets_nothing_aside_that_it_does_not_name(tmp_path: Path) -> None:
    """Though of very many findings most are one."""
    waiver = '  waivers:\n    - {finding: file-unowned, subject: "opt/?", expires: "2099-12-31", reason: why}\n'
    project = make_checkout(tmp_path / "other", ("  waivers:\n", waiver))
    layers = with_member(make_layers(project), make_file("opt/a", b""))
    for number in range(30):
        layers = with_member(layers, make_file(f"opt/b/file{number:02}", b""))
    image = write_image(tmp_path / "image", layers, config_of(target_of(project)))
    assert verify_files(project, {image: None}, as_json=False) == 1
    report = report_of(project, ran=False)
    assert [one["finding"]["subject"] for one in report["waived"]] == ["opt/a", f"{SITE}/{CODEC}"]
    assert [one["subject"] for one in report["findings"]] == [*(f"opt/b/file{at:02}" for at in range(20)), "opt/b"]
    assert report["findings"][-1]["found"] == "10 more below /opt/b"


def test_a_waiver_of_other_releases_counts_for_nothing(tmp_path: Path) -> None:
    version = 'core4.so"\n      versions: ">=0.2'
    _project, report = with_waiver(tmp_path, f'{version}0"', f'{version}1"')
    assert findings_of(report) == [WAIVED]


def test_a_waiver_of_other_bases_counts_for_nothing(tmp_path: Path) -> None:
    bases = "      bases: [ubuntu-24.04]\n      expires"
    _project, report = with_waiver(tmp_path, bases, bases.replace("ubuntu-24.04", "debian-13"))
    assert findings_of(report) == [WAIVED]
