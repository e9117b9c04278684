"""Claims about selecting rows and about the plan made of them."""

import json
from dataclasses import replace

import pytest
from tests.builders import (
    ROOT,
    WHEELS,
    make_frozen,
    make_lock,
    make_matrix,
    make_plan,
    make_row,
    make_wheel,
    real_matrix,
    real_plan,
)

from sparkbake.errors import LockError, MatrixError, UsageError
from sparkbake.layers import DIFFERENCE
from sparkbake.lockfile import canonical, sha256_of
from sparkbake.matrix import rows
from sparkbake.model import Plan, Strategy, Target
from sparkbake.project import open_project
from sparkbake.resolve import resolve, select, siblings_of, trims_of

ROWS = rows(make_matrix())


def selected(*patterns: str) -> list[str]:
    return [one.tag for one in select(ROWS, patterns)]


# ---- select


def test_a_tag_selects_its_row() -> None:
    assert selected("0.20.2-t5") == ["0.20.2-t5"]


@pytest.mark.parametrize(
    ("pattern", "tags"),
    [
        ("*", ["0.20.2-t4", "0.20.2-t5", "0.32.0-t5"]),
        ("*-t5", ["0.20.2-t5", "0.32.0-t5"]),
        ("0.20.2-t?", ["0.20.2-t4", "0.20.2-t5"]),
        ("0.20.2-t[45]", ["0.20.2-t4", "0.20.2-t5"]),
        ("0.20.2-t[!4]", ["0.20.2-t5"]),
    ],
)
def test_a_pattern_selects_all_that_match(pattern: str, tags: list[str]) -> None:
    assert selected(pattern) == tags


def test_rows_come_in_the_order_of_the_matrix_and_once() -> None:
    assert selected("0.32.0-t5", "*-t5", "0.20.2-t4") == ["0.20.2-t4", "0.20.2-t5", "0.32.0-t5"]


def test_an_unknown_tag_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        selected("0.20.1-t4")
    assert str(caught.value) == (
        "'0.20.1-t4': no such tag; the nearest are 0.20.2-t4, 0.20.2-t5, 0.32.0-t5; `nox -s list` lists all"
    )


def test_a_tag_that_is_like_no_other_is_told_without_a_guess() -> None:
    with pytest.raises(UsageError, match=r"^'latest': no such tag; `nox -s list` lists all$"):
        selected("latest")


def test_a_pattern_that_matches_nothing_is_told_even_beside_one_that_does() -> None:
    with pytest.raises(UsageError, match=r"^'0\.99\.\*': pattern matches no tag; .*`nox -s list` lists all$"):
        selected("*", "0.99.*")


@pytest.mark.parametrize("pattern", ["", " "])
def test_an_empty_pattern_is_told(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"^got an empty tag or pattern; `nox -s list` lists the tags$"):
        selected(pattern)


def test_no_pattern_is_told_with_all_tags() -> None:
    with pytest.raises(UsageError) as caught:
        selected()
    assert str(caught.value) == (
        "no tag given; expected one or more of 0.20.2-t4, 0.20.2-t5, 0.32.0-t5, or a pattern such as '0.20.*-t5'"
    )


def test_the_pattern_of_the_advice_is_a_valid_one() -> None:
    assert selected("0.20.*-t5") == ["0.20.2-t5"]


# ---- resolve


def test_siblings_are_the_other_variants_of_a_release() -> None:
    assert [one.tag for one in siblings_of(make_row("0.20.2-t4"), ROWS)] == ["0.20.2-t5"]
    assert siblings_of(make_row("0.32.0-t5"), ROWS) == ()


def test_a_target_is_what_the_matrix_the_lock_and_the_base_say() -> None:
    (target,) = make_plan("0.20.2-t4", frozen=make_frozen("ubuntu-24.04", snapshot="20260916T000000Z")).targets
    assert target.name == "spark-vllm-0_20_2-t4"
    assert target.reference == "registry.example:5000/sparks/spark-vllm:0.20.2-t4"
    assert target.platform == "linux/arm64"
    assert (target.base_reference, target.base_digest) == (
        "registry.example/library/ubuntu:24.04",
        "sha256:" + 64 * "d",
    )
    assert target.apt_snapshot == "20260916T000000Z"
    assert target.os_packages == ("curl", "python3")
    assert target.source_date_epoch == make_lock().source_date_epoch
    assert target.environment.wheels == WHEELS
    assert [(one.path, one.keep) for one in target.collisions] == [
        ("build_backend.py", None),
        ("shared/*", "torch"),
    ]
    assert dict(target.versions)["torch"] == "2.11.0"
    assert [one.package for one in target.overrides] == ["torch"]
    assert dict(target.labels)["org.opencontainers.image.base.name"] == "registry.example/library/ubuntu:24.04"


def test_only_trims_of_what_is_installed_in_that_version_are_made() -> None:
    (trim,) = make_matrix().trims
    environment = replace(make_plan().targets[0].environment, wheels=(make_wheel("torch", "2.11.0+cu130"),))
    every = replace(trim, versions=None)
    others = (replace(trim, package="ray"), replace(trim, versions="<2.11"))
    assert trims_of(environment, (trim, *others, every)) == (trim, every)


def test_a_real_row_is_trimmed_unless_asked_not_to() -> None:
    project = open_project(ROOT)
    rows_ = project.select(["0.32.0-t5"])
    for trim, said in ((True, "ray"), (False, "none")):
        (target,) = project.plan(rows_, project.matrix.bases[1], trim=trim).targets
        assert bool(target.trims) is trim
        assert said in dict(target.labels)["dev.scitrera.trimmed"].split(",")


def test_every_trim_of_the_real_matrix_is_about_some_row() -> None:
    trimmed = {one for target in real_plan("debian-13").targets for one in target.trims}
    assert trimmed == set(real_matrix().trims)


def test_targets_stand_in_the_order_of_the_rows() -> None:
    assert [one.tag for one in make_plan("0.32.0-t5", "0.20.2-t4").targets] == ["0.32.0-t5", "0.20.2-t4"]


def test_a_plan_is_a_value_that_can_be_compared_and_hashed() -> None:
    assert hash(make_plan()) == hash(make_plan())
    assert make_plan() == make_plan()


def plan_with_sibling(sibling_tag: str) -> Plan:
    matrix = make_matrix()
    row, sibling = make_row("0.20.2-t4"), make_row(sibling_tag)
    other = make_lock(sibling, wheels=[make_wheel("ray", "2.0"), *WHEELS[2:]])
    return resolve(
        matrix, [row], {row.tag: make_lock(row)}, make_frozen(), {row.tag: make_lock(row), sibling_tag: other}
    )


def test_what_differs_from_a_sibling_is_the_last_layer() -> None:
    (target,) = plan_with_sibling("0.20.2-t5").targets
    assert target.layers[-1].name == DIFFERENCE
    assert [one.name for one in target.layers[-1].wheels] == ["nvidia-nccl", "ray"]


def test_the_lock_of_another_release_changes_no_layer() -> None:
    (target,) = plan_with_sibling("0.32.0-t5").targets
    assert DIFFERENCE not in [one.name for one in target.layers]


def test_a_lock_without_an_environment_for_the_base_is_told() -> None:
    row = make_row()
    lock = make_lock(row, bases=["ubuntu-24.04"])
    with pytest.raises(
        LockError,
        match=r"^the lock of 0\.20\.2-t4 has no environment for debian-13; run `nox -s lock -- 0\.20\.2-t4`$",
    ):
        resolve(make_matrix(), [row], {row.tag: lock}, make_frozen(), {})


def test_a_matrix_without_the_image_that_is_built_is_told() -> None:
    matrix = make_matrix("images:\n  vllm:", "images:\n  torch:")
    with pytest.raises(MatrixError, match="images: has no 'vllm', which every release is built as; add it"):
        make_plan(matrix=matrix)


# ---- published rows


def layering(target: Target) -> str:
    """Digest of which package lies in which layer, in order: 64 hex digits."""
    return sha256_of(canonical([[one.name, [wheel.name for wheel in one.wheels]] for one in target.layers]))


def test_the_layers_of_published_rows_are_frozen() -> None:
    """A sibling that is added moves packages of the row, whose lock is as before, into its difference layer."""
    frozen = json.loads((ROOT / "tests/data/published-layers.json").read_text(encoding="utf-8"))
    project = open_project(ROOT)
    published = [row for row in project.rows if row.release.published and row.release.strategy is Strategy.WHEELS]
    found = {
        f"{row.tag} on {base.name}": layering(project.plan([row], base).targets[0])
        for row in published
        for base in project.matrix.bases
    }
    assert found == frozen, (
        "the layers of a row marked `published: true` are not those of tests/data/published-layers.json, so it would "
        "get another digest under the same tag: give it a higher `revision`, or leave out the sibling row, group or "
        "own_layer_bytes that moves its packages; when it was published just now, add its lines"
    )


def test_a_sibling_that_is_added_is_another_layering() -> None:
    """So that the freeze can fail: the lock of the row is the same in both plans."""
    (alone,) = plan_with_sibling("0.32.0-t5").targets
    (target,) = plan_with_sibling("0.20.2-t5").targets
    assert alone.environment == target.environment
    assert layering(alone) != layering(target)
