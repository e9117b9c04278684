"""Say what the locks of new rows have otherwise than those of the rows before: packages that came, went or changed."""

from collections.abc import Iterator, Sequence

from sparkbake.changespage import NONE, counted, mb, version_now
from sparkbake.errors import LockError
from sparkbake.matrix import rows
from sparkbake.model import Lock, Matrix
from sparkbake.notes import previous_row
from sparkbake.noteschanges import Side, Update, make_update
from sparkbake.project import Project
from sparkbake.releasepages import side_of
from sparkbake.tables import say


def lock_changes(project: Project, matrix: Matrix, locks: Sequence[Lock]) -> Iterator[tuple[str, Update]]:
    """Tag of each lock, and what it has otherwise; of a first row, and after one that is not locked, nothing.

    Args:
        project: as it is without them.
        matrix: with their rows.
    """
    known = rows(matrix)
    for lock in locks:
        row = next(one for one in known if one.tag == lock.tag)
        before = previous_row(row, known, without=[one.tag for one in locks])
        if before is None:
            say(f"{lock.tag}: nothing is compared, it is the first row of its major")
            continue
        try:
            since = side_of(project, before)
        except LockError as err:
            say(f"nothing is compared with {before.tag}: {err}")
            continue
        side = Side(row=row, environments=lock.environments, open_pins=(), records=())
        yield lock.tag, make_update(matrix, side, since, None)


def change_rows(update: Update) -> list[tuple[str, str, str, str]]:
    """Package, version before and now, and the size of its wheel: for a table."""
    return [
        (
            one.name,
            one.old or NONE,
            version_now(one),
            mb(one.size_bytes) if one.new else "",
        )
        for one in update.packages
    ]


def summary(tag: str, update: Update) -> str:
    """How many packages changed, came and went, and the bytes of wheels that the row before does not have."""
    said = ", ".join(counted(update))
    where = f", on {update.base}" if update.base else ", which is not locked"
    return (
        f"locks/{tag}.json against {update.tag}{where}: {said or 'nothing changed'}, {update.kept} unchanged; "
        f"{mb(update.changed_bytes)} MB of {mb(update.wheel_bytes)} MB of wheels are other ones"
    )
