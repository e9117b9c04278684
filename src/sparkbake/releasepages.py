"""Release notes as files of a checkout make them: the pages of docs/images/, one a row."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sparkbake.delta import Delta
from sparkbake.errors import LockError, MatrixError
from sparkbake.expected import load_expected
from sparkbake.knownissues import FILE, load_issues
from sparkbake.model import Row, Strategy
from sparkbake.notes import Notes, make_notes, previous_row
from sparkbake.noteschanges import Record, Side
from sparkbake.notespage import MARK, index, page
from sparkbake.project import Project, write_file
from sparkbake.series import load_series
from sparkbake.sourcelock import load_source_lock
from sparkbake.tables import say

_FOLDER = Path("docs", "images")


def records(project: Project) -> Iterator[tuple[str, Record]]:
    """Tag and record of every recorded image, rows and bases in the order of the matrix."""
    for row in project.rows:
        yield from ((row.tag, one) for one in _records_of(project, row))


def _records_of(project: Project, row: Row) -> Iterator[Record]:
    """Of no compiled row there is one: nobody has measured how far compiling gives the same bytes."""
    if row.release.strategy is Strategy.SOURCE:
        return
    recorded = load_expected(project.locks, row.tag)
    for base in project.matrix.bases:
        if base.name in recorded:
            (target,) = project.plan([row], base).targets
            one = recorded[base.name]
            yield Record(base=base.name, image=one, is_current=one.plan_digest == project.plan_digest(target))


def notes_of(project: Project, row: Row, since: Row | None, images: Delta | None = None) -> Notes:
    """The release notes of a row, from the files of a checkout; see `notes.make_notes`."""
    return NotesSources(project).notes(row, since, images)


class NotesSources:
    """What the notes of all rows are made of, each file of a checkout read once."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._series = load_series(project.root / "patches" / "vllm")
        self._issues = load_issues(project.root / FILE, project.rows)
        self._sides: dict[str, Side] = {}

    def notes(self, row: Row, since: Row | None, images: Delta | None = None) -> Notes:
        previous, passed = self._way_back(row)
        return make_notes(
            self._project.matrix,
            self._side(row),
            since=self._side(since) if since else None,
            previous=previous,
            passed=passed,
            series=self._series,
            issues=self._issues,
            images=images,
        )

    def _way_back(self, row: Row) -> tuple[Side | None, list[str]]:
        """The last row before it that is not withdrawn and can be had, and the tags of those that cannot."""
        withdrawn = [one.tag for one in self._project.matrix.tagging.withdrawn]
        passed: list[str] = []
        while before := previous_row(row, self._project.rows, without=[*withdrawn, *passed]):
            side = self._side(before)
            if side.can_be_had:
                return side, passed
            passed.append(before.tag)
        return None, passed

    def _side(self, row: Row) -> Side:
        if row.tag not in self._sides:
            self._sides[row.tag] = side_of(self._project, row)
        return self._sides[row.tag]


def side_of(project: Project, row: Row) -> Side:
    """A row as its locks have it; those of a compiled one are its own and that of its foundation.

    Raises:
        LockError: one of them is stale or damaged.
    """
    records, is_compiled = tuple(_records_of(project, row)), row.release.strategy is Strategy.SOURCE
    try:
        if is_compiled:
            pins = project.open_pins(row)
            environments = (load_source_lock(project.locks, project.matrix, row).environment,)
            return Side(row=row, environments=environments, open_pins=pins, records=records)
        return Side(row=row, environments=project.lock(row).environments, open_pins=(), records=records)
    except LockError as err:
        if err.state != "missing":
            raise
    pins = () if row.release.commit else (f"the commit of {row.release.tag}",)
    return Side(row=row, environments=None, open_pins=pins, records=records)


# ---- docs/images/


def pages(project: Project) -> dict[Path, str]:
    """Path in the checkout to the text of every page."""
    sources = NotesSources(project)
    found = [sources.notes(row, previous_row(row, project.rows)) for row in project.rows]
    return {_FOLDER / "README.md": index(found), **{_FOLDER / f"{one.tag}.md": page(one) for one in found}}


def write_pages(project: Project, *, is_check: bool) -> None:
    """Write the pages, and remove those of rows that are gone; or check that all are true.

    Raises:
        MatrixError: with every page that is not true, when they are only checked; or a file is in the folder that was
            not generated.
    """
    wanted = pages(project)
    there = [one.relative_to(project.root) for one in sorted((project.root / _FOLDER).glob("*"))]
    stale = [one for one in there if one not in wanted]
    differing = [path for path, text in wanted.items() if _text(project.root / path) != text]
    _check_stale(project.root, stale)
    if is_check and (stale or differing):
        raise MatrixError(list(_faults(project.root, differing, stale)))
    for path in differing:
        write_file(project.root / path, wanted[path])
        say(f"{project.root / path}: written")
    for path in stale:
        (project.root / path).unlink()
        say(f"{project.root / path}: removed, there is no such row")
    if not differing and not stale:
        say(f"{project.root / _FOLDER}: up to date")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _check_stale(root: Path, stale: Sequence[Path]) -> None:
    own = [one for one in stale if not (root / one).is_file() or not (_text(root / one) or "").startswith(MARK)]
    if own:
        raise MatrixError(
            [f"{root / one}: is not generated, expected only generated pages there; move it" for one in own]
        )


def _faults(root: Path, differing: Sequence[Path], stale: Sequence[Path]) -> Iterator[str]:
    for one in differing:
        yield f"{root / one}: is not what matrix.yaml, locks and known issues say; run `nox -s docs`"
    for one in stale:
        yield f"{root / one}: is of a row that there is none of; run `nox -s docs`"
