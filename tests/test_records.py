"""Claims about the recorded images of the real matrix: what updates move, how large layers are, what they are of.

Records are of real builds that were verified; so these targets are held on real layers without building any.
"""

import hashlib
import re

import pytest
from tests.builders import ROOT

from sparkbake.delta import Delta
from sparkbake.deltaread import read_delta
from sparkbake.expected import load_expected
from sparkbake.model import Base, Row
from sparkbake.project import open_project
from sparkbake.recordedimages import recorded_bases, recorded_image

PROJECT = open_project(ROOT)
RECORDED = [(row, base) for row in PROJECT.rows for base in recorded_bases(PROJECT, row)]
IDS = [f"{row.tag} on {base.name}" for row, base in RECORDED]
# What the packages that changed come to packed, measured once on the images themselves (`nox -s delta`).
MEASURED_LEAST = {("0.31.0-t5", "0.32.0-t5"): 381_000_000}


def moved(old: str, new: str) -> Delta:
    """What the update from one recorded image to another moves, on the base that both are recorded on."""
    rows = PROJECT.select([old])[0], PROJECT.select([new])[0]
    base = next(one for one in recorded_bases(PROJECT, rows[1]) if one in recorded_bases(PROJECT, rows[0]))
    first, second = (recorded_image(PROJECT, row, base) for row in rows)
    return read_delta(first, second, pytest.fail)


def test_the_rows_of_a_release_differ_in_the_difference_and_what_they_say_of_themselves_alone() -> None:
    found = moved("0.20.2-t4", "0.20.2-t5")
    assert {one.name for one in found.layers if one.state == "changed"} == {"difference", "manifest"}
    assert found.moved_bytes <= 20_000_000


def test_an_update_to_the_next_release_moves_little_more_than_what_changed() -> None:
    pair = ("0.31.0-t5", "0.32.0-t5")
    found = moved(*pair)
    # By the locks where the records are of these.
    least = found.least_bytes or MEASURED_LEAST[pair]
    assert found.moved_bytes <= 1.15 * least
    # Neither is it cheap because the two are one.
    assert found.moved_bytes > 100_000_000


@pytest.mark.parametrize(("row", "base"), RECORDED, ids=IDS)
def test_no_layer_has_more_than_2_gb(row: Row, base: Base) -> None:
    assert max(one.size_bytes for one in recorded_image(PROJECT, row, base).info.layers) <= 2_000_000_000


@pytest.mark.parametrize(("row", "base"), RECORDED, ids=IDS)
def test_a_record_has_the_layers_of_the_plan_or_is_said_to_be_of_an_earlier_state(row: Row, base: Base) -> None:
    """A row need not be recorded anew at once; until then the generated table says so."""
    (recorded,) = [one for name, one in load_expected(PROJECT.locks, row.tag).items() if name == base.name]
    (line,) = [
        one
        for one in (ROOT / "docs" / "layers.md").read_text(encoding="utf-8").splitlines()
        if one.startswith(f"| `{row.tag}` | {base.name} | ")
    ]
    assert f"`{recorded.digest}`" in line
    planned = recorded_image(PROJECT, row, base).locked
    assert ("of an earlier state" in line) is (planned is None)
    if planned is not None:
        names = [one.name for one in recorded.layers if one.name not in ("base", "system")]
        assert names == ["skeleton", *planned, "runtime", "manifest"]


WITHOUT_PACKAGES = ("base", "system", "skeleton", "runtime", "manifest")
INVENTORY = re.compile(r"^## (\S+)\n\n.*?<!-- package layers on (\S+): ([0-9a-f]{12}) -->", re.MULTILINE | re.DOTALL)


def test_the_inventories_of_device_code_are_of_the_packages_that_are_recorded() -> None:
    """The image that was read may be an earlier one; what has device code in it must be the same."""
    text = (ROOT / "docs" / "device-code.md").read_text(encoding="utf-8")
    said = {(tag, base): digest for tag, base, digest in INVENTORY.findall(text)}
    assert len(said) == text.count("\n## ")
    for (tag, base), digest in said.items():
        layers = load_expected(PROJECT.locks, tag)[base].layers
        some = "".join(f"{one.digest}\n" for one in layers if one.name not in WITHOUT_PACKAGES)
        assert hashlib.sha256(some.encode()).hexdigest()[:12] == digest, (
            f"docs/device-code.md: the table of {tag} is of other packages than the recorded image has; run "
            f"`nox -s inventory -- {tag}` with that image, mend table and text, and put this digest there"
        )
