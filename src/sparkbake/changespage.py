"""Write down as Markdown what changed from one row to another, and what an update moves; part of `notespage`."""

from collections.abc import Iterator, Sequence

from sparkbake.markdown import joined, table
from sparkbake.model import Strategy
from sparkbake.notes import Notes
from sparkbake.noteschanges import Moved, Package, Update

NONE = "-"
_STATES = {"changed": "changed", "new": "came", "gone": "went", "repacked": "repacked"}


def update_section(notes: Notes) -> Iterator[str]:
    """The bytes that an update moves, as far as they are known."""
    update = notes.update
    if update is None:
        return
    yield f"## What an update from {update.tag} downloads"
    yield ""
    if update.images:
        images = update.images
        moved = Moved(base="", moved_bytes=images.moved_bytes, total_bytes=images.total_bytes)
        least = "not known" if images.least_bytes is None else f"{mb(images.least_bytes)} MB"
        yield f"- By the layers of {images.old} and {images.new}: {_of(moved)}; least possible: {least}."
    yield from map(_moved, update.moved)
    yield from _compiled(notes, update)
    yield _by_packages(notes, update)
    if notes.back.update:
        yield _from_previous(notes, notes.back.update)


def _moved(one: Moved) -> str:
    return f"- By the layers of the recorded images: {_of(one)} (on {one.base})."


def _compiled(notes: Notes, update: Update) -> Iterator[str]:
    """What compiled rows share by their layers, of which no record says the bytes."""
    if notes.strategy is not update.strategy:
        size = f", {mb(notes.records[0].image.compressed_bytes)} MB compressed" if notes.records else ""
        yield (
            "- One of the two is compiled, the other is installed from wheels: they share hardly a layer, so that next "
            f"to all of the image is downloaded{size}."
        )
    elif notes.strategy is Strategy.SOURCE and notes.foundation == update.foundation:
        yield (
            f"- The foundation stays {notes.foundation}, and with it its layers. How many bytes the others are is not "
            "recorded of compiled rows; `--from` and `--to` hold two images against each other."
        )
    elif notes.strategy is Strategy.SOURCE:
        yield (
            f"- The foundation changes from {update.foundation} to {notes.foundation}: next to all of the image is "
            "downloaded."
        )


def _by_packages(notes: Notes, update: Update) -> str:
    if update.base is None:
        return "- Not known by packages: one of the two rows is not locked."
    changed, whole = mb(update.changed_bytes), mb(update.wheel_bytes)
    if Strategy.SOURCE in (notes.strategy, update.strategy):
        return f"- The wheels that changed, of what is not compiled: {changed} MB of {whole} MB (on {update.base})."
    return f"- The wheels that changed: {changed} MB of {whole} MB (on {update.base}); layers have less, see below."


def _from_previous(notes: Notes, update: Update) -> str:
    """What an update moves from the row that somebody can have, where the one before it is none."""
    cost = "next to all of the image"
    if update.moved:
        cost = f"{_of(update.moved[0])} (on {update.moved[0].base})"
    elif update.base and notes.strategy is update.strategy is Strategy.WHEELS:
        cost = f"about {mb(update.changed_bytes)} MB of wheels (on {update.base})"
    return (
        f"- From {update.tag}, the last before it that can be had: {cost}; `nox -s notes -- {notes.tag} --since "
        f"{update.tag}` has the rest."
    )


def _of(one: Moved) -> str:
    return f"{mb(one.moved_bytes)} MB of {mb(one.total_bytes)} MB compressed"


def counted(update: Update) -> list[str]:
    """How many packages changed, came, went and were repacked: "38 changed"; nothing of what none did."""
    found = {shown: sum(one.state == state for one in update.packages) for state, shown in _STATES.items()}
    return [f"{count} {shown}" for shown, count in found.items() if count]


def packages_section(update: Update) -> Iterator[str]:
    """The packages that differ, large ones first."""
    if update.base is None:
        return
    yield "## Packages"
    yield ""
    yield f"{joined(counted(update)) or 'None changed'}; {update.kept} unchanged (on {update.base})."
    if update.elsewhere:
        yield ""
        yield f"{update.elsewhere} more are from the index in one; the other has them compiled, or in CUDA's images."
    large = [one for one in update.packages if one.is_large]
    small = [one for one in update.packages if not one.is_large]
    if large:
        yield ""
        yield from _package_table(sorted(large, key=lambda one: (-one.size_bytes, one.name)))
    if small:
        yield ""
        yield f"<details><summary>{len(small)} small ones</summary>"
        yield ""
        yield from _package_table(small)
        yield ""
        yield "</details>"


def _package_table(packages: Sequence[Package]) -> Iterator[str]:
    return table(
        ("package", "before", "now", "MB"),
        [(one.name, one.old or NONE, version_now(one), mb(one.size_bytes) if one.new else NONE) for one in packages],
    )


def version_now(one: Package) -> str:
    return f"{one.new} (repacked)" if one.state == "repacked" else one.new or NONE


def mb(size_bytes: int) -> str:
    """Bytes as MB, without the unit."""
    return f"{size_bytes / 1e6:.1f}"
