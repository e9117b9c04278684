"""Claims about what is said of new locks."""

from dataclasses import replace

from tests.builders import make_matrix, make_wheel
from tests.test_notes import NEW_SIDE, OLD_SIDE, OLD_WHEELS, SAME, make_side

from sparkbake.bumplocks import change_rows, summary
from sparkbake.noteschanges import make_update


def test_packages_that_came_went_and_changed_are_counted_and_listed() -> None:
    update = make_update(make_matrix(), replace(NEW_SIDE, records=()), OLD_SIDE, None)
    assert summary("0.32.0-t5", update) == (
        "locks/0.32.0-t5.json against 0.20.2-t5, on debian-13: 2 changed, 1 came, 1 went, 1 repacked, 1 unchanged; "
        "613.4 MB of 613.4 MB of wheels are other ones"
    )
    assert change_rows(update) == [
        ("cachetools", "7.0", "7.1", "0.0"),
        ("tiny", "-", "0.1", "2.0"),
        ("torch", "2.11.0", "2.11.0 (repacked)", "290.0"),
        ("vllm", "0.20.2", "0.32.0", "321.4"),
        ("wget", "3.2", "-", ""),
    ]


def test_a_lock_like_the_one_before_changes_nothing() -> None:
    update = make_update(make_matrix(), make_side("0.32.0-t5", OLD_WHEELS), OLD_SIDE, None)
    assert "on debian-13: nothing changed, 5 unchanged; 0.0 MB of " in summary("0.32.0-t5", update)


def test_a_row_before_that_is_not_locked_is_told() -> None:
    before = make_side("0.20.2-t5", None)
    update = make_update(make_matrix(), make_side("0.32.0-t5", (SAME, make_wheel("more"))), before, None)
    assert "against 0.20.2-t5, which is not locked: " in summary("0.32.0-t5", update)
