"""Claims about what tables show."""

from dataclasses import replace

import pytest
from tests.builders import make_matrix, make_plan, real_matrix

from sparkbake.estimate import Estimate
from sparkbake.expected import Expected, RecordedLayer
from sparkbake.findings import Finding, Waived
from sparkbake.matrix import rows
from sparkbake.model import Override, Plan
from sparkbake.tables import (
    ROW_HEADERS,
    markdown_images,
    markdown_records,
    markdown_trims,
    print_plan,
    print_report,
    print_table,
    row_cells,
    say,
)
from sparkbake.verify import Report

COST = Estimate(download_bytes=4_140_000_000, disk_bytes=40_260_000_000)


def test_what_is_said_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    assert capsys.readouterr() == ("", "sparkbake: hello\n")


def test_the_table_of_the_readme_has_every_row_with_all_versions() -> None:
    matrix = real_matrix()
    head, rule, *lines = markdown_images(rows(matrix)).splitlines()
    assert head == "| tag | " + " | ".join(one.name for one in matrix.components) + " | overrides |"
    assert rule.count("|") == head.count("|")
    for row, line in zip(rows(matrix), lines, strict=True):
        cells = [one.strip() for one in line.strip("|").split("|")]
        assert cells[0] == f"`{row.tag}`"
        assert tuple(cells[1:-1]) == tuple(version for _name, version in row.versions)


def test_the_table_names_the_overrides_of_a_row() -> None:
    _head, _rule, t4, t5, other = markdown_images(rows(make_matrix())).splitlines()
    assert t4.endswith("| torch |")
    assert t5.endswith("| torch,transformers |")
    assert other.endswith("| none |")


def test_the_cells_of_a_row_stand_below_their_headers() -> None:
    cells = dict(zip(ROW_HEADERS, row_cells(rows(make_matrix())[1], "yes"), strict=True))
    assert cells == {
        "tag": "0.20.2-t5",
        "strategy": "wheels",
        "variants": "",
        "foundation": "2.11.0-cu130",
        "transformers": "5.8.0",
        "overrides": "torch,transformers",
        "locked": "yes",
        "open pins": "",
    }


def test_a_plan_shows_layers_overrides_with_reasons_and_the_cost(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(make_plan("0.20.2-t5"), COST, "debian-13")
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "registry.example:5000/sparks/spark-vllm:0.20.2-t5 (linux/arm64)",
        "torch 2 0.0 MB",
        "base debian-13",
        "locked 4 packages by hash, Python 3.12",
        "created 2023-11-14T22:13:20Z",
        "override: torch the foundation has a fix that 2.10.0 lacks",
        "override: transformers models of today need it",
        "to download at most 4.14 GB (without the base)",
        "disk at most 40 GB in the engine's data folder",
    ):
        assert line in shown


def test_a_plan_without_overrides_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(make_plan("0.32.0-t5"), COST, "debian-13")
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "overrides none" in shown


def test_brackets_in_a_reason_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    (target,) = make_plan("0.20.2-t4").targets
    overrides = (Override(package="ray", reason="upstream asks for ray[cgraph] there"),)
    print_plan(Plan(targets=(replace(target, overrides=overrides),)), COST, "debian-13")
    assert "upstream asks for ray[cgraph] there" in capsys.readouterr().out


def test_a_table_that_goes_into_a_file_is_wide(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("one", "two"), [("a" * 80, "b" * 80)])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_name_that_is_no_utf_8_is_shown_with_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("one",), [("opt/\udcff[bold]",)])
    _head, row = capsys.readouterr().out.splitlines()
    assert row.rstrip() == "opt/\\udcff[bold]"


def test_a_title_that_is_no_utf_8_is_shown_with_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a report on an OCI file, which is named as the user names it."""
    print_table(("one",), [], title="of opt/\udcfe[bold]")
    assert capsys.readouterr().out.splitlines()[0] == "of opt/\\udcfe[bold]"


def test_a_report_shows_facts_and_findings(capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding(
        id="torch", severity="error", subject="version", found="2.10.0", expected="2.11.0", remedy="mend it"
    )
    print_report(
        Report(
            tag="0.20.2-t4",
            name="x-0_20_2-t4",
            reference="registry.example/x:0.20.2-t4",
            digest="sha256:" + 64 * "a",
            plan_digest="sha256:" + 64 * "c",
            checks_digest="sha256:" + 64 * "b",
            programs="under emulation",
            facts=(("machine", "aarch64"),),
            findings=(finding,),
            waived=(Waived(finding=finding, reason="borne", expires="2027-01-01"),),
        )
    )
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "looked at found (programs: under emulation)" in shown
    assert "machine aarch64" in shown
    assert "1 findings" in shown
    assert "error: torch version 2.10.0 2.11.0 mend it" in shown
    assert "torch version 2027-01-01 borne" in shown


# ---- tables of documents


def test_the_table_of_trims_has_all_of_the_matrix_with_files_and_reason() -> None:
    (trim,) = make_matrix().trims
    head, rule, first, every, third = markdown_trims(
        (trim, replace(trim, versions=None), replace(trim, cubins=True))
    ).splitlines()
    assert rule.count("|") == head.count("|") == first.count("|")
    assert first == "| torch | >=2.11 | files | `torch/lib/*.a` | 0.0 | nothing links to them |"
    assert every.startswith("| torch | all |")
    assert third == first.replace("| files |", "| cubins |")


def test_the_table_of_records_says_whether_they_are_of_what_is_here() -> None:
    layer = RecordedLayer(name="base", digest="sha256:" + 64 * "c", compressed_bytes=3_250_000_000)
    one = Expected(
        digest="sha256:" + 64 * "a",
        config="sha256:1",
        plan_digest="sha256:" + 64 * "b",
        engine="28.5.2",
        layers=(layer,),
    )
    _head, _rule, now, then = markdown_records(
        [("0.32.0-t5", "debian-13", one, True), ("0.31.0-t5", "debian-13", one, False)]
    ).splitlines()
    assert (
        now
        == f"| `0.32.0-t5` | debian-13 | `sha256:{64 * 'a'}` | 1 | 3.25 | 3.25 | not recorded | not recorded | yes |"
    )
    assert then.endswith("| no, of an earlier state |")


def test_the_table_of_records_has_sizes_on_disk_where_they_are_recorded() -> None:
    layer = RecordedLayer(
        name="base", digest="sha256:" + 64 * "c", compressed_bytes=3_250_000_000, disk_bytes=7_900_000_000
    )
    one = Expected(
        digest="sha256:1", config="sha256:2", plan_digest="sha256:3", engine="28.5.2", layers=(layer,),
        trimmed_bytes=980_000_000,
    )  # fmt: skip
    *_head, line = markdown_records([("0.32.0-t5", "debian-13", one, True)]).splitlines()
    assert line.endswith("| 1 | 3.25 | 3.25 | 7.90 | 8.88 | yes |")
    *_head, line = markdown_records([("0.32.0-t5", "debian-13", replace(one, trimmed_bytes=None), True)]).splitlines()
    assert line.endswith("| 7.90 | not recorded | yes |")
