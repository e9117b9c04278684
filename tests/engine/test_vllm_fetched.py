"""What the matrix hands vLLM's CMake is what each release would fetch on its own, as its own CMake files say.

In a build recipes/scripts/fetched.py holds the same against each other; here it is known before one begins, and what a
release fetches that the matrix does not know is found, too.
"""

from pathlib import Path

import pytest
from tests.builders import load_script, real_matrix

from sparkbake.cmakerun import is_build_file
from sparkbake.matrix import rows
from sparkbake.model import Row, Strategy
from sparkbake.project import cache_folder
from sparkbake.sourcepins import row_pins, sources_of
from sparkbake.sources import fetch_sdist, read_members

pytestmark = pytest.mark.network

FETCHED = load_script("fetched")
# 0.14.0rc2 is not on the package index, and 0.15.0 and 0.15.1 have no sdist; a build of them holds the same.
WITHOUT = ("0.14.0rc2", "0.15.0", "0.15.1")
COMPILED = {one.release.vllm: one for one in rows(real_matrix()) if one.release.strategy is Strategy.SOURCE}


def handed(row: Row) -> list[dict[str, str | None]]:
    """As fetches.json has them."""
    sources, found = sources_of(real_matrix()), []
    for pin in row_pins(real_matrix(), row):
        repository = sources.repository(pin.name)
        if repository.variable:
            found.append(
                {
                    "variable": repository.variable,
                    "repository": repository.url,
                    "tag": pin.tag,
                    "commit": pin.commit,
                }
            )
    return found


@pytest.mark.parametrize("vllm", [one for one in COMPILED if one not in WITHOUT])
def test_every_pin_is_the_one_that_the_release_names_and_none_is_forgotten(vllm: str, tmp_path: Path) -> None:
    for name, text in read_members(fetch_sdist("vllm", vllm, cache_folder()), is_build_file).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    found, ours = FETCHED.declared(tmp_path), handed(COMPILED[vllm])
    assert [fault for one in ours for fault in FETCHED.faults_of(one, found)] == []
    assert {one["variable"] for one in ours} == set(found), "the matrix knows all that this release would fetch"
    assert len(found) >= 5
    wrong = [{**one, "tag": None, "commit": 40 * "f"} for one in ours]
    assert len([fault for one in wrong for fault in FETCHED.faults_of(one, found)]) == len(ours)


def test_only_releases_without_an_sdist_are_left_out() -> None:
    assert set(WITHOUT) < set(COMPILED)
    assert len(COMPILED) - len(WITHOUT) == 8
