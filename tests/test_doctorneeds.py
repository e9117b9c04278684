"""Claims about doctor.yaml: what is read, and what is refused with which words."""

from pathlib import Path

import pytest
from tests.builders import ROOT, real_matrix

from sparkbake.doctorneeds import Standards, load_standards, needs_of
from sparkbake.errors import MatrixError
from sparkbake.hostread import numbers
from sparkbake.hostvalues import Trouble
from sparkbake.matrix import rows

SMALL = """\
schema: "1"
driver:
  least: "580.95"
  releases:
    - cuda: "13.0"
      driver: "580.65"
  troubles:
    - series: "590"
      what: a deadlock
      source: a README
disk:
  per_packed_byte: "4"
  image_gb: "20"
  models_gb: "100"
memory:
  utilization: "0.9"
  shm_gb: "4"
  held_gb: "1"
roce:
  mtu: "9000"
clock_not_before: "2026-11-01"
"""


def load(folder: Path, old: str = "", new: str = "") -> Standards:
    assert old in SMALL
    path = folder / "doctor.yaml"
    path.write_text(SMALL.replace(old, new, 1) if old else SMALL, encoding="utf-8")
    return load_standards(path)


def test_a_file_with_all_keys_is_read_as_it_says(tmp_path: Path) -> None:
    assert load(tmp_path) == Standards(
        least_driver="580.95",
        drivers=(("13.0", "580.65"),),
        troubles=(Trouble(series="590", what="a deadlock", source="a README"),),
        per_packed_byte=4,
        image_bytes=20 * 10**9,
        models_bytes=100 * 10**9,
        utilization=0.9,
        shm_bytes=4 * 10**9,
        held_bytes=10**9,
        roce_mtu=9000,
        clock_not_before="2026-11-01",
    )


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('schema: "1"', 'schema: "2"', "1:9: schema: got '2', expected '1', the version of this format"),
        ("least:", "lest:", "3:9: driver.lest: unknown key, expected one of least, releases, troubles; did you mean"),
        ('"580.95"', "580.95", '3:10: driver.least: got 580.95 unquoted, which YAML reads as a float; write "580.95"'),
        ('"580.65"', '"x"', "6:15: driver.releases[0].driver: got 'x', expected a driver such as 580.95"),
        ('"13.0"', '"13"', "5:13: driver.releases[0].cuda: got '13', expected a release such as 13.0"),
        (
            '"590"',
            '"R590"',
            "8:15: driver.troubles[0].series: got 'R590', expected the beginning of a driver's version",
        ),
        ('"4"', '"four"', "12:20: disk.per_packed_byte: got 'four', expected a number"),
        ('"0.9"', '"90"', "16:16: memory.utilization: got '90', expected a share such as 0.9"),
        ('"2026-11-01"', '"soon"', "21:19: clock_not_before: got 'soon', expected a date, 2026-11-01"),
        ('roce:\n  mtu: "9000"\n', "", "1:1: roce: missing, expected a mapping; add it"),
    ],
)
def test_a_fault_is_told_with_its_place_and_what_is_expected(tmp_path: Path, old: str, new: str, fault: str) -> None:
    with pytest.raises(MatrixError) as caught:
        load(tmp_path, old, new)
    assert [one for one in caught.value.faults if one.startswith(f"doctor.yaml:{fault}")], caught.value.faults


def test_an_image_of_unknown_size_is_reckoned_with_as_the_file_says(tmp_path: Path) -> None:
    given = {"compute_capability": "12.1", "cuda": "13.0.3", "ports": (8000,)}
    known = needs_of(load(tmp_path), packed_bytes=10**9, **given)  # type: ignore[arg-type]
    unknown = needs_of(load(tmp_path), packed_bytes=None, **given)  # type: ignore[arg-type]
    assert (known.image_bytes, unknown.image_bytes) == (4 * 10**9, 20 * 10**9)


def test_every_release_of_cuda_in_the_matrix_has_its_driver() -> None:
    """Else a row of that release is held against the driver of an older one."""
    ours = {".".join(dict(row.versions)["cuda"].split(".")[:2]) for row in rows(real_matrix())}
    releases = [cuda for cuda, _driver in load_standards(ROOT / "doctor.yaml").drivers]
    assert ours <= set(releases)
    assert releases == sorted(releases, key=numbers)


def test_the_projects_own_file_has_no_fault() -> None:
    assert load_standards(ROOT / "doctor.yaml").least_driver == "580.95.05"
