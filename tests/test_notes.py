"""Claims about release notes as values and as Markdown."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tests.builders import make_lock, make_matrix, make_row, make_wheel, with_strategy
from tests.compiledbuilder import make_compiled
from tests.test_knownissues import ISSUES
from tests.test_patches import SERIES
from tests.test_patches import parse as parse_series

from sparkbake.delta import Delta
from sparkbake.expected import Expected, RecordedLayer
from sparkbake.knownissues import parse_issues
from sparkbake.matrix import rows
from sparkbake.model import Matrix, Strategy, Wheel
from sparkbake.notes import Notes, make_notes, previous_row
from sparkbake.noteschanges import Moved, Record, Side
from sparkbake.notespage import index, page
from sparkbake.sourcedata import Limit

GOLDEN = Path(__file__).parent / "data" / "notes"
NEW, OLD = "0.32.0-t5", "0.20.2-t5"
COMPILED = with_strategy("0.20.2", Strategy.SOURCE)

SAME = make_wheel("ray", "1.0")
OLD_WHEELS = (
    make_wheel("cachetools", "7.0"),
    SAME,
    make_wheel("torch", "2.11.0", size_bytes=290_000_000),
    make_wheel("vllm", "0.20.2", size_bytes=240_000_000),
    make_wheel("wget", "3.2", size_bytes=2_000_000),
)
NEW_WHEELS = (
    make_wheel("cachetools", "7.1", size_bytes=12_000),
    SAME,
    make_wheel("tiny", "0.1", size_bytes=1_999_999),
    make_wheel("torch", "2.11.0", content="repacked", size_bytes=290_000_001),
    make_wheel("vllm", "0.32.0", size_bytes=321_400_000),
)


def make_record(*layers: tuple[str, int], base: str = "debian-13", is_current: bool = True) -> Record:
    """A record whose layers are (letter of the digest, size)."""
    image = Expected(
        digest=f"sha256:{layers[-1][0] * 64}",
        config="sha256:" + 64 * "c",
        plan_digest="sha256:" + 64 * "p",
        engine="28.5.2",
        layers=tuple(
            RecordedLayer(name="x", digest=f"sha256:{64 * letter}", compressed_bytes=size) for letter, size in layers
        ),
    )
    return Record(base=base, image=image, is_current=is_current)


def make_side(
    tag: str,
    wheels: tuple[Wheel, ...] | None,
    *records: Record,
    matrix: Matrix | None = None,
    bases: tuple[str, ...] = ("ubuntu-24.04", "debian-13"),
) -> Side:
    """A row; without wheels it is not locked."""
    matrix = matrix or make_matrix()
    row = make_row(tag, matrix)
    environments = None if wheels is None else make_lock(row, matrix, wheels=wheels, bases=bases).environments
    open_pins = () if row.release.commit or environments else (f"the commit of {row.release.tag}",)
    return Side(row=row, environments=environments, open_pins=open_pins, records=records)


OLD_SIDE = make_side(OLD, OLD_WHEELS, make_record(("1", 100_000_000), ("2", 900_000_000)))
NEW_SIDE = make_side(NEW, NEW_WHEELS, make_record(("1", 100_000_000), ("3", 1_000_000_000), is_current=False))


def make(
    side: Side = NEW_SIDE,
    since: Side | None = OLD_SIDE,
    *,
    previous: Side | Literal["since"] | None = "since",
    passed: Sequence[str] = (),
    matrix: Matrix | None = None,
    series: str = SERIES,
    issues: str = ISSUES,
    images: Delta | None = None,
) -> Notes:
    matrix = matrix or make_matrix()
    return make_notes(
        matrix,
        side,
        since=since,
        previous=since if previous == "since" else previous,
        passed=passed,
        series=parse_series(series),
        issues=parse_issues(issues, "known-issues.yaml", rows(matrix)),
        images=images,
    )


# ---- golden


def test_the_page_of_a_row_is_as_reviewed(update_golden: bool) -> None:  # noqa: FBT001
    """Look at the diff, then run with --update-golden."""
    for tag, notes in ((NEW, make()), (OLD, make(make_side(OLD, None, matrix=COMPILED), None))):
        path = GOLDEN / f"{tag}.md"
        if update_golden:
            path.write_text(page(notes), encoding="utf-8")
        assert page(notes) == path.read_text(encoding="utf-8")


# ---- which row is before


def test_the_row_before_has_the_same_major() -> None:
    t4, t5, new = rows(make_matrix())
    assert [previous_row(one, (t4, t5, new)) for one in (t4, t5, new)] == [None, None, t5]


def test_a_withdrawn_row_is_passed_over_on_the_way_back() -> None:
    _t4, t5, new = rows(make_matrix())
    later = replace(new, tag="0.33.0-t5")
    assert previous_row(later, (t5, new, later)) == new
    assert previous_row(later, (t5, new, later), without=["0.32.0-t5"]) == t5


# ---- what changed


def test_every_package_that_differs_has_its_state() -> None:
    update = make().update
    assert update
    assert [(one.name, one.state, one.old, one.new, one.is_large) for one in update.packages] == [
        ("cachetools", "changed", "7.0", "7.1", False),
        ("tiny", "new", None, "0.1", False),
        ("torch", "repacked", "2.11.0", "2.11.0", True),
        ("vllm", "changed", "0.20.2", "0.32.0", True),
        ("wget", "gone", "3.2", None, True),
    ]
    assert update.kept == 1


def test_wheels_that_the_old_environment_has_are_not_counted() -> None:
    update = make().update
    assert update
    assert update.changed_bytes == 12_000 + 1_999_999 + 290_000_001 + 321_400_000
    assert update.wheel_bytes == update.changed_bytes + SAME.size_bytes


def test_recorded_images_say_what_moves_by_their_layers() -> None:
    update = make().update
    assert update
    assert update.moved == (Moved(base="debian-13", moved_bytes=1_000_000_000, total_bytes=1_100_000_000),)


def test_records_of_different_bases_are_not_compared() -> None:
    side = replace(NEW_SIDE, records=(make_record(("3", 1), base="ubuntu-24.04"),))
    update = make(side).update
    assert update
    assert update.moved == ()


def test_environments_are_compared_on_a_base_that_both_have_and_rather_on_a_recorded_one() -> None:
    def base_of(*bases: str, records: tuple[Record, ...] = ()) -> str | None:
        update = make(make_side(NEW, NEW_WHEELS, *records, bases=bases), replace(OLD_SIDE, records=())).update
        return update.base if update else "no update"

    both = ("ubuntu-24.04", "debian-13")
    assert base_of(*both) == "ubuntu-24.04"
    assert base_of(*both, records=NEW_SIDE.records) == "debian-13"
    assert base_of("debian-13") == "debian-13"
    assert base_of("another") is None


def test_images_that_were_given_stand_first() -> None:
    images = Delta(
        old="a.tar",
        new="b.tar",
        layers=(),
        packages=(),
        moved_bytes=12_300_000,
        moved_disk_bytes=None,
        total_bytes=45_600_000,
        least_bytes=12_000_000,
        packages_by="contents",
    )
    said = page(make(images=images)).partition("downloads\n\n")[2]
    assert said.startswith(
        "- By the layers of a.tar and b.tar: 12.3 MB of 45.6 MB compressed; least possible: 12.0 MB.\n"
    )
    said = page(make(images=replace(images, least_bytes=None)))
    assert "least possible: not known." in said


def test_an_update_from_a_row_without_a_lock_is_told_by_components_alone() -> None:
    notes = make(since=make_side(OLD, None))
    assert notes.update
    assert (notes.update.base, notes.update.packages) == (None, ())
    said = page(notes)
    assert "- Not known by packages: one of the two rows is not locked." in said
    assert "## Packages" not in said
    assert "| transformers | 5.8.0 | **5.19.0** |" in said


def test_nothing_changed_is_said() -> None:
    assert "None changed; 5 unchanged (on debian-13)." in page(make(since=replace(NEW_SIDE, row=OLD_SIDE.row)))


def test_components_that_only_one_row_has_are_shown() -> None:
    old = replace(OLD_SIDE, row=replace(OLD_SIDE.row, versions=(*OLD_SIDE.row.versions[1:], ("xformers", "0.1"))))
    said = page(make(since=old))
    assert "| cuda | - | **13.0.2** |" in said
    assert "| xformers | 0.1 | - |" in said


# ---- what is ours


def test_a_row_without_a_lock_says_which_pins_are_open() -> None:
    said = page(make(make_side(NEW, None)))
    assert (
        "**Not locked yet**; open: the commit of v0.32.0. Packages and sizes follow with `nox -s lock -- 0.32.0-t5`."
        in said
    )
    assert "Not known before the row is locked." in said
    assert "**Not locked yet**. Packages" in page(make(make_side(OLD, None), None))
    assert "Not locked" not in page(make())


def test_patches_are_those_of_the_default_build_of_sources() -> None:
    matrix = COMPILED
    side = make_side(OLD, None, matrix=matrix)
    known = SERIES.replace('"1.0": {source: sdist}', '"0.20.2": {source: sdist}')
    said = page(make(side, None, matrix=matrix, series=known))
    assert "- `0001-greet.patch`: it was too short. Goes when 3.0 is out (https://example.com/pull/1)" in said
    assert "compiled from source; foundation 2.11.0-cu130." in said


def test_why_there_are_no_patches() -> None:
    matrix = COMPILED
    side = make_side(OLD, None, matrix=matrix)
    pending = SERIES.replace('"0.9": its', '"0.20.2": its')
    fine = SERIES.replace('"2.0": {source: wheel, note: without sources}', '"0.20.2": {source: sdist}')
    fine = fine.replace('releases: "<2"', 'releases: "==1.0"').replace('releases: ">=2"', 'releases: "!=1.0"')
    assert make().patches_why == "the image has upstream's own wheel of tool"
    assert make(side, None, matrix=matrix).patches_why == "no patch was tried on tool 0.20.2"
    assert make(side, None, matrix=matrix, series=pending).patches_why == (
        "nothing is claimed of tool 0.20.2 yet: its commit is not known"
    )
    assert make(side, None, matrix=matrix, series=fine).patches_why == "tool 0.20.2 needs none"


def test_only_what_is_about_the_row_is_said() -> None:
    assert [one.title for one in make().issues] == ["It answers slowly", "It is large"]
    assert [one.title for one in make(OLD_SIDE, None).issues] == ["It is large"]
    assert [one.paths for one in make().code] == [("torch/lib/libold.so",)]
    matrix = make_matrix(
        '        versions: ">=0.20"\n        reason: upstream', '        versions: "<0.20"\n        reason: upstream'
    )
    assert make(matrix=matrix).code == ()
    assert "No library is worse for the chip than the others." in page(make(matrix=matrix))


def test_without_known_issues_that_is_said() -> None:
    assert "None that we know of." in page(make(issues='schema: "1"\n'))


def test_a_bar_in_a_reason_does_not_break_a_table() -> None:
    trim = replace(make().trims[0], reason="this | that")
    assert r"| torch | files | 0.0 | this \| that |" in page(replace(make(), trims=(trim,)))
    large = replace(trim, saves_bytes=2_000_000, cubins=True)
    text = page(replace(make(), trims=(trim, large)))
    assert "files of at least 0.0 MB on disk, and cubins of at least 2.0 MB, overwritten with zeros:\n" in text
    assert "| torch | cubins | 2.0 |" in text
    assert "## Left out\n\nNothing.\n" in page(replace(make(), trims=()))


def test_a_published_row_is_pulled_without_more_ado() -> None:
    assert "Not marked as published" in page(make())
    assert "Not marked as published" not in page(replace(make(), is_published=True))


# ---- rows that are compiled


PIN = "cutlass: commit of v4.4.2"
BEFORE_SIDE = make_side(OLD, OLD_WHEELS, matrix=COMPILED)


def with_pins(side: Side, *, published: bool = False, foundation: str | None = None) -> Side:
    row = replace(side.row, release=replace(side.row.release, published=published))
    if foundation:
        row = replace(row, foundation=replace(row.foundation, name=foundation))
    return replace(side, row=row, open_pins=(PIN,))


def test_open_pins_are_named_and_what_is_published_is_told_from_what_can_be_built() -> None:
    said = page(make(with_pins(BEFORE_SIDE), None))
    assert (
        f"**Pins are open**, so that `nox -s build -- {OLD}` refuses it until `matrix.yaml` has them:\n\n- {PIN}\n"
        in said
    )
    assert "yet, and it cannot be built before its pins are known. Once it is:" in said
    assert "What is published under its tag" not in said
    said = page(make(with_pins(BEFORE_SIDE, published=True), None))
    assert "What is published under its tag was therefore not built from here; all below is of this checkout." in said
    assert "Not marked as published" not in said


def test_a_row_can_be_had_when_it_was_published_or_can_be_built() -> None:
    assert NEW_SIDE.can_be_had
    assert not make_side(NEW, None).can_be_had
    assert not with_pins(BEFORE_SIDE).can_be_had
    assert with_pins(BEFORE_SIDE, published=True).can_be_had


def test_nothing_is_said_to_be_trimmed_from_what_is_compiled_or_compiled_for_other_chips() -> None:
    notes = make(BEFORE_SIDE, None)
    assert (notes.trims, notes.code) == ((), ())
    assert "Nothing: that is done to rows that are installed from wheels alone." in page(notes)
    assert "`docs/kernels.md` says which of its kernels" in page(notes)


def test_between_a_compiled_row_and_one_of_wheels_next_to_everything_is_downloaded() -> None:
    said = page(make(since=BEFORE_SIDE))
    assert "share hardly a layer, so that next to all of the image is downloaded, 1100.0 MB compressed.\n" in said
    assert "- The wheels that changed, of what is not compiled: " in said


def test_packages_that_one_row_has_compiled_are_counted_and_not_told_as_new() -> None:
    matrix = make_compiled()
    old = make_side("0.14.0-t4", (SAME,), matrix=matrix, bases=("ubuntu-24.04",))
    named = [make_wheel(name) for name in ("cuda-toolkit", "nvidia-cublas", "torch", "tiny", "vllm")]
    update = make(make_side(OLD, (SAME, *named), matrix=matrix), old, matrix=matrix).update
    assert update
    assert [one.name for one in update.packages] == ["cuda-toolkit", "tiny"]
    assert update.elsewhere == 3


def test_compiled_rows_share_their_foundation_or_do_not() -> None:
    said = page(make(BEFORE_SIDE, replace(BEFORE_SIDE, row=replace(BEFORE_SIDE.row, tag="0.19.0-t5"))))
    assert "- The foundation stays 2.11.0-cu130, and with it its layers." in said
    said = page(make(BEFORE_SIDE, with_pins(BEFORE_SIDE, foundation="2.10.0-cu131")))
    assert "- The foundation changes from 2.10.0-cu131 to 2.11.0-cu130: next to all of the image is downloaded." in said


def test_limits_and_what_a_row_has_otherwise_are_told() -> None:
    release = replace(
        NEW_SIDE.row.release, limits=(Limit(model="GLM", architectures=(), model_types=(), reason="it has none"),)
    )
    exceptions = replace(NEW_SIDE.row.variant.exceptions, note="published from a fork")
    variant = replace(NEW_SIDE.row.variant, exceptions=exceptions)
    said = page(make(replace(NEW_SIDE, row=replace(NEW_SIDE.row, release=release, variant=variant))))
    assert "otherwise than in other rows\n\n- GLM cannot run, since it has none.\n- Published from a fork.\n" in said
    assert "otherwise than in other rows" not in page(make())


def test_the_way_back_passes_over_what_nobody_has() -> None:
    between = with_pins(make_side(OLD, OLD_WHEELS))
    old = make_side("0.20.2-t4", OLD_WHEELS, *OLD_SIDE.records)
    said = page(make(since=between, previous=old, passed=[OLD]))
    assert (
        "- From 0.20.2-t4, the last before it that can be had: 1000.0 MB of 1100.0 MB compressed (on debian-13); "
        "`nox -s notes -- 0.32.0-t5 --since 0.20.2-t4` has the rest."
    ) in said
    assert (
        "Not to `0.20.2-t5`: not published, and not all of it is known.\n\nThe tag of a row never changes: `0.20"
        in said
    )
    assert "`0.20.2-t4` is not marked as published yet: `nox -s build -- 0.20.2-t4` makes it." in said
    said = page(make(since=between, previous=None, passed=[OLD]))
    assert "There is no row before it with this major of transformers that can be had." in said
    without_records = replace(old, records=())
    assert "can be had: about 613.4 MB of wheels (on " in page(make(since=between, previous=without_records))
    assert "can be had: next to all of the image;" in page(make(since=between, previous=replace(BEFORE_SIDE)))


# ---- the table of all


def test_the_table_has_a_line_a_row() -> None:
    unlocked = replace(make_side(NEW, None), records=())
    lines = index([make(OLD_SIDE, None), make(), make(replace(NEW_SIDE, records=())), make(unlocked)]).splitlines()[-4:]
    assert [line.split(" | ")[5:] for line in lines] == [
        ["1.00", "the first", "-", "to build |"],
        ["1.10", "`0.20.2-t5`", "1000.0", "to build |"],
        ["-", "`0.20.2-t5`", "about 613.4", "to build |"],
        ["-", "`0.20.2-t5`", "-", "not locked |"],
    ]
    published = with_pins(BEFORE_SIDE, published=True)
    (one, two, three) = index([make(published, None), make(BEFORE_SIDE), make(since=BEFORE_SIDE)]).splitlines()[-3:]
    assert one.endswith("| - | the first | - | published, pins open |")
    assert two.endswith("| - | `0.20.2-t5` | - | to build |")
    assert three.endswith("| 1.10 | `0.20.2-t5` | about 1100.0 | to build |")
    assert lines[1].startswith("| [`0.32.0-t5`](0.32.0-t5.md) | 0.32.0 | 5.19.0 | 2.11.0 | 13.0.2 |")
