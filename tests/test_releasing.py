"""Claims about the command `notes`, and about the pages that `docs` writes."""

import json
from pathlib import Path

import pytest
from tests.builders import ROOT, make_lock
from tests.imagebuilder import make_checkout
from tests.ocibuilder import copied, make_package, write_layout
from tests.test_knownissues import ISSUES
from tests.test_patches import NAME as PATCH_NAME
from tests.test_patches import PATCH, SERIES

from sparkbake.cli import main
from sparkbake.errors import LockError, MatrixError
from sparkbake.lockfile import lock_path, lock_to_json
from sparkbake.model import Row
from sparkbake.notespage import MARK, page
from sparkbake.project import Project, open_project
from sparkbake.releasepages import NotesSources, pages, write_pages

NEW, OLD = "0.32.0-t5", "0.20.2-t5"
RAY = make_package("ray", "1.0", {"ray.py": b"ray"})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A small checkout of the test's own, since some spoil it."""
    made = make_checkout(tmp_path / "checkout")
    series = made.root / "patches" / "vllm"
    series.mkdir(parents=True)
    (series / "series.yaml").write_text(SERIES, encoding="utf-8")
    (series / PATCH_NAME).write_text(PATCH, encoding="utf-8")
    (made.root / "known-issues.yaml").write_text(ISSUES, encoding="utf-8")
    return made


def notes(project: Project, *arguments: str | Path) -> int:
    return main(["--root", str(project.root), "notes", *map(str, arguments)])


def image(folder: Path, tag: str, version: str) -> str:
    """An image that says it is of a row; the layer of torch differs by version."""
    torch = make_package("torch", version, {"torch.py": version.encode() * 99})
    labels = {"org.opencontainers.image.version": tag}
    layout = write_layout(folder, [copied("torch", torch), copied("rest", RAY)], config={"Labels": labels})
    return f"oci:{layout}"


# ---- the command


def test_a_row_is_compared_with_the_one_before_it_of_its_major(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notes(project, NEW) == 0
    said = capsys.readouterr().out
    assert said == pages(project)[Path("docs/images/0.32.0-t5.md")]
    assert "## What an update from 0.20.2-t5 downloads" in said


def test_another_row_may_be_named_also_of_another_major_and_a_later_one(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notes(project, NEW, "--since", "0.20.2-t4") == 0
    assert "| transformers | 4.57.6 | **5.19.0** |" in capsys.readouterr().out
    assert notes(project, OLD, "--since", NEW) == 0
    assert "| transformers | 5.19.0 | **5.8.0** |" in capsys.readouterr().out


def test_machines_get_the_same_as_values(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert notes(project, NEW, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tag"] == NEW
    assert found["update"]["tag"] == OLD
    assert {one["name"]: one["new"] for one in found["update"]["packages"]}["transformers"] == "5.19.0"
    assert [one["title"] for one in found["issues"]] == ["It answers slowly", "It is large"]


def test_notes_go_into_a_file(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "notes.md"
    assert notes(project, NEW, "--output", path) == 0
    assert path.read_text(encoding="utf-8") == pages(project)[Path("docs/images/0.32.0-t5.md")]
    assert capsys.readouterr() == ("", f"sparkbake: {path}: written\n")


def test_images_that_are_given_are_held_against_each_other(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = image(tmp_path / "old", OLD, "2.0"), image(tmp_path / "new", NEW, "2.1")
    assert notes(project, NEW, "--from", old, "--to", new, "--json") == 0
    found = json.loads(capsys.readouterr().out)["update"]["images"]
    states = {one["name"]: (one["state"], one["compressed_bytes"]) for one in found["layers"]}
    assert states["rest"][0] == "shared"
    assert states["torch"] == ("changed", found["moved_bytes"])
    assert 0 < found["moved_bytes"] < found["total_bytes"]
    assert notes(project, NEW, "--from", old, "--to", new) == 0
    assert f"- By the layers of {old} and {new}: 0.0 MB of 0.0 MB compressed" in capsys.readouterr().out


def test_an_image_of_another_row_is_refused(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = image(tmp_path / "old", OLD, "2.0"), image(tmp_path / "new", "0.20.2-t4", "2.1")
    assert notes(project, NEW, "--from", old, "--to", new) == 8
    assert (
        f"{new}: its label org.opencontainers.image.version is '0.20.2-t4', expected 0.32.0-t5; "
        "name an image of that row"
    ) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["0.99.0-t5"], "'0.99.0-t5': no such tag; the nearest are "),
        (["0.20.*"], "got '0.20.*', which matches 0.20.2-t4, 0.20.2-t5; expected one tag"),
        ([NEW, "--since", "0.19.0-t5"], "'0.19.0-t5': no such tag; "),
        ([NEW, "--since", NEW], "--since 0.32.0-t5: got the row itself, expected another one"),
        ([NEW, "--from", "x"], "--from and --to go together: the image of the row before, and that of the row"),
        ([NEW, "--to", "x"], "--from and --to go together"),
        (
            ["0.20.2-t4", "--from", "x", "--to", "y"],
            "0.20.2-t4 is the first of its major, so --from is of no row; name one with --since",
        ),
        ([NEW, "--from", "x", "--to", "y"], "got 'x', expected an OCI archive"),
        ([NEW, "--output", "."], "--output: . is a folder, expected a file"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_says_what_is_expected(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert notes(project, *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_fault_of_the_known_issues_ends_with_2(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (project.root / "known-issues.yaml").write_text(ISSUES.replace("title", "tilte", 1), encoding="utf-8")
    assert notes(project, NEW) == 2
    assert "issues[0].tilte: unknown key" in capsys.readouterr().err


# ---- the real matrix

REAL = open_project(ROOT)


@pytest.mark.parametrize("row", REAL.rows, ids=lambda row: row.tag)
def test_every_row_of_the_matrix_has_notes_and_its_page_has_them(row: Row, capsys: pytest.CaptureFixture[str]) -> None:
    """Also the compiled ones, and those that follow a compiled one."""
    assert main(["--root", str(ROOT), "notes", row.tag]) == 0
    assert capsys.readouterr().out == (ROOT / "docs" / "images" / f"{row.tag}.md").read_text(encoding="utf-8")


def test_any_two_rows_of_the_matrix_can_be_compared() -> None:
    sources = NotesSources(REAL)
    for row in REAL.rows:
        for since in (one for one in REAL.rows if one is not row):
            found = sources.notes(row, since)
            assert found.update, f"{row.tag} since {since.tag}"
            assert found.update.base, f"{row.tag} since {since.tag}"
            assert f"## What an update from {since.tag} downloads" in page(found)


def test_a_row_may_be_compared_with_a_compiled_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "notes", NEW, "--since", "0.14.1-t5"]) == 0
    assert "share hardly a layer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tag", "since", "back", "passed"),
    [
        ("0.20.2-t4", "0.19.1-t4", "0.17.0-t4", ("0.19.1-t4", "0.18.1-t4")),
        ("0.20.2-t5", "0.19.1-t5", "0.17.0-t5", ("0.19.1-t5", "0.18.1-t5")),
        ("0.25.1-t5", "0.22.1-t5", "0.20.2-t5", ("0.22.1-t5",)),
        ("0.32.0-t5", "0.31.0-t5", "0.31.0-t5", ()),
        ("0.14.1-t4", "0.14.0-t4", "0.14.0-t4", ()),
        ("0.13.0-t4", None, None, ()),
    ],
)
def test_a_row_follows_the_one_before_it_and_goes_back_to_one_that_can_be_had(
    tag: str, since: str | None, back: str | None, passed: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing says that the rows passed over were published, and nobody can build them while their pins are open."""
    assert main(["--root", str(ROOT), "notes", tag, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["update"] and found["update"]["tag"]) == since
    way = found["back"]
    assert (way["previous"], tuple(way["passed"])) == (back, passed)
    assert (way["update"] and way["update"]["tag"]) == (back if passed else None)


# ---- locks


def test_a_row_without_a_lock_has_notes(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    lock_path(project.locks, NEW).unlink()
    assert notes(project, NEW) == 0
    assert "**Not locked yet**; open: the commit of v0.32.0." in capsys.readouterr().out


def test_a_stale_lock_is_an_error(project: Project) -> None:
    row = project.select([OLD])[0]
    text = lock_to_json(make_lock(row, project.matrix)).replace('"tag": "0.20.2-t5"', '"tag": "0.20.2-t4"')
    lock_path(project.locks, OLD).write_text(text, encoding="utf-8")
    with pytest.raises(LockError, match="damaged or edited by hand"):
        pages(project)


# ---- docs/images


def test_pages_are_written_once_and_then_true(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_pages(project, is_check=False)
    folder = project.root / "docs" / "images"
    assert sorted(one.name for one in folder.iterdir()) == [
        "0.20.2-t4.md", "0.20.2-t5.md", "0.32.0-t5.md", "README.md",
    ]  # fmt: skip
    capsys.readouterr()
    write_pages(project, is_check=True)
    assert capsys.readouterr().err == f"sparkbake: {folder}: up to date\n"


def test_pages_that_are_not_true_are_all_named_and_mended(project: Project) -> None:
    write_pages(project, is_check=False)
    folder = project.root / "docs" / "images"
    right = (folder / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(right + "more\n", encoding="utf-8")
    (folder / "0.32.0-t5.md").unlink()
    (folder / "0.10.0-t4.md").write_text(MARK + "\nof a row that is gone\n", encoding="utf-8")
    with pytest.raises(MatrixError) as caught:
        write_pages(project, is_check=True)
    assert caught.value.faults == (
        f"{folder / 'README.md'}: is not what matrix.yaml, locks and known issues say; run `nox -s docs`",
        f"{folder / '0.32.0-t5.md'}: is not what matrix.yaml, locks and known issues say; run `nox -s docs`",
        f"{folder / '0.10.0-t4.md'}: is of a row that there is none of; run `nox -s docs`",
    )
    assert (folder / "0.10.0-t4.md").exists()
    write_pages(project, is_check=False)
    assert (folder / "README.md").read_text(encoding="utf-8") == right
    write_pages(project, is_check=True)
    assert not (folder / "0.10.0-t4.md").exists()


def test_a_file_that_was_not_generated_is_left_alone(project: Project) -> None:
    write_pages(project, is_check=False)
    own = project.root / "docs" / "images" / "mine.md"
    own.write_text("# My notes\n", encoding="utf-8")
    (project.root / "docs" / "images" / "README.md").write_text("stale", encoding="utf-8")
    with pytest.raises(MatrixError, match=r"mine\.md: is not generated, expected only generated pages there; move it"):
        write_pages(project, is_check=False)
    assert own.read_text(encoding="utf-8") == "# My notes\n"
    assert (project.root / "docs" / "images" / "README.md").read_text(encoding="utf-8") == "stale"
