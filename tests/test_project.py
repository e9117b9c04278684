"""Claims about a checkout: what its base consists of, and how files are written."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.builders import ROOT
from tests.imagebuilder import TAG

from sparkbake.model import Target
from sparkbake.project import Project, open_project, write_file


def target_on(project: Project, base: str) -> Target:
    chosen = next(one for one in project.matrix.bases if one.name == base)
    return project.plan(project.select([TAG]), chosen).targets[0]


# ---- what a base consists of


def test_the_packages_of_a_locked_base_are_known_with_their_versions(project: Project) -> None:
    found = project.os_packages(target_on(project, "debian-13"))
    assert found == {"apt": "1.0", "curl": "1.0", "tzdata": "1.0"}


def test_the_packages_of_a_base_from_a_registry_are_not(project: Project) -> None:
    assert project.os_packages(target_on(project, "ubuntu-24.04")) is None


def test_a_locked_base_has_all_that_the_matrix_asks_for() -> None:
    """The real one; so what an image of it lacks of these is found by the lock."""
    project = open_project(ROOT)
    base = next(one for one in project.matrix.bases if not one.image)
    target = project.plan(project.select(["0.32.0-t5"]), base).targets[0]
    found = project.os_packages(target)
    assert found is not None
    assert set(target.os_packages) <= found.keys()


# ---- writing


def test_a_file_is_written_with_its_folder_for_everybody_to_read(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_file(path, "\u00e4\n")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"\xc3\xa4\n", 0o644)


def test_a_file_takes_the_place_of_an_older_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old and longer")
    write_file(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_file_as_it_was_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "\udcff")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """Such as /dev/stdout."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        write_file(pipe, "a bill\n")
        assert read.result(timeout=10) == "a bill\n"
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
