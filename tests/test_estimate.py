"""Claims about what a build is said to cost."""

from dataclasses import replace

from tests.builders import WHEELS, make_lock, make_plan, make_wheel
from tests.test_sourceresolve import make_plan as make_compiled_plan

from sparkbake.estimate import DISK_PER_WHEEL_BYTE, estimate, estimate_compiled
from sparkbake.model import Plan

GB = 10**9
DISK_GB = {"compiled": "5", "fetched": "1"}


def test_the_download_is_the_wheels_and_one_installer() -> None:
    assert estimate(make_plan("0.20.2-t4")).download_bytes == 1000 * (len(WHEELS) + 1)
    assert len(make_lock().installer) == 2


def test_a_file_that_targets_share_is_fetched_and_kept_once() -> None:
    one, both = estimate(make_plan("0.20.2-t4")), estimate(make_plan("0.20.2-t4", "0.20.2-t5"))
    assert both == one


def test_a_file_that_only_one_target_has_is_added() -> None:
    (first, second) = make_plan("0.20.2-t4", "0.20.2-t5").targets
    other = make_wheel("transformers", "5.8.0", size_bytes=GB)
    more = replace(second.environment, wheels=(*second.environment.wheels, other))
    before = estimate(Plan(targets=(first, second)))
    after = estimate(Plan(targets=(first, replace(second, environment=more))))
    assert after.download_bytes - before.download_bytes == GB
    assert after.disk_bytes - before.disk_bytes == DISK_PER_WHEEL_BYTE * GB


def test_the_disk_is_a_multiple_of_the_wheels_and_what_every_build_takes() -> None:
    """The installer stays in a step of the build and is in no image."""
    assert estimate(make_plan("0.20.2-t4")).disk_bytes == 3 * GB + DISK_PER_WHEEL_BYTE * 1000 * len(WHEELS)


def test_compiling_counts_sources_and_what_is_there_already_costs_nothing() -> None:
    plan = make_compiled_plan()
    whole, row = estimate_compiled(plan, (), DISK_GB), estimate_compiled(plan, plan.reusable, DISK_GB)
    assert 0 < row < whole
    # Room for each source that is compiled, and for each image.
    assert row >= len({one.commit for one in plan.targets[-1].sources}) * 5 * GB
    # And less for what vLLM's CMake is handed.
    (fetch,) = plan.targets[-1].fetches[:1]
    other = replace(fetch, source=replace(fetch.source, commit="e" * 40))
    more = replace(plan, targets=(*plan.targets[:-1], replace(plan.targets[-1], fetches=(other,))))
    less = replace(plan, targets=(*plan.targets[:-1], replace(plan.targets[-1], fetches=())))
    assert estimate_compiled(more, (), DISK_GB) - estimate_compiled(less, (), DISK_GB) == GB
    assert estimate_compiled(plan, [one.name for one in plan.targets], DISK_GB) == 0
