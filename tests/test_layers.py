"""Claims about layers: nothing is lost, and what siblings share is the same layer in both."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_matrix, make_wheel, real_plan

from sparkbake.consistency import RESERVED_LAYERS
from sparkbake.errors import LockError
from sparkbake.layers import DIFFERENCE, difference, group_of, split
from sparkbake.model import Group, Layer, Wheel

GB = 10**9
GROUPS = make_matrix().groups
NAMES = st.from_regex(r"(torch|vllm|nvidia-[a-z]|ray[a-z]?)", fullmatch=True)
ENVIRONMENT = st.dictionaries(NAMES, st.sampled_from(["1.0", "1.1"]), max_size=12).map(
    lambda some: tuple(make_wheel(name, version) for name, version in sorted(some.items()))
)


def layers_of(wheels: Sequence[Wheel], differing: frozenset[str] = frozenset()) -> tuple[Layer, ...]:
    return split(wheels, GROUPS, differing, own_layer_bytes=GB)


def packages_of(layers: Sequence[Layer]) -> dict[str, list[str]]:
    return {layer.name: [one.name for one in layer.wheels] for layer in layers}


@given(ENVIRONMENT, st.lists(ENVIRONMENT, max_size=3), st.sampled_from([1000, 5000]))
def test_every_package_is_in_exactly_one_layer(
    wheels: tuple[Wheel, ...], siblings: list[tuple[Wheel, ...]], own: int
) -> None:
    layers = split(wheels, GROUPS, difference(wheels, siblings), own_layer_bytes=own, max_bytes=3000)
    assert sorted((one for layer in layers for one in layer.wheels), key=lambda one: one.name) == list(wheels)
    assert len({layer.name for layer in layers}) == len(layers)
    assert all(layer.wheels for layer in layers)
    assert sum(layer.size_bytes for layer in layers) == sum(one.size_bytes for one in wheels)


@given(ENVIRONMENT, ENVIRONMENT)
def test_siblings_share_every_layer_but_the_difference(one: tuple[Wheel, ...], two: tuple[Wheel, ...]) -> None:
    shared = [
        [layer for layer in layers_of(wheels, difference(wheels, [other])) if layer.name != DIFFERENCE]
        for wheels, other in ((one, two), (two, one))
    ]
    assert shared[0] == shared[1]


@given(ENVIRONMENT)
def test_equal_siblings_have_no_difference(wheels: tuple[Wheel, ...]) -> None:
    assert difference(wheels, [wheels, wheels]) == frozenset()
    assert difference(wheels, []) == frozenset()


def test_the_difference_is_what_is_not_the_same_file_in_every_sibling() -> None:
    same, only_here = make_wheel("ray"), make_wheel("einops")
    here = (same, only_here, make_wheel("torch", "1.0"), make_wheel("vllm", content="one"))
    there = (same, make_wheel("torch", "2.0"), make_wheel("vllm", content="two"), make_wheel("only-there"))
    assert difference(here, [here, there]) == {"einops", "torch", "vllm"}


def test_layers_stand_in_the_order_of_the_groups_and_the_difference_last() -> None:
    wheels = [make_wheel(name) for name in ("nvidia-nccl", "ray", "torch", "vllm")]
    layers = layers_of(wheels, frozenset({"ray"}))
    assert [(one.name, [wheel.name for wheel in one.wheels]) for one in layers] == [
        ("torch", ["nvidia-nccl", "torch"]),
        ("vllm", ["vllm"]),
        ("difference", ["ray"]),
    ]


def test_the_first_group_that_names_a_package_has_it() -> None:
    groups = (
        Group(name="rest", packages=("*",)),
        Group(name="cuda", packages=("nvidia-cuda-*",)),
        Group(name="other", packages=("nvidia-*",)),
    )
    assert group_of("nvidia-cuda-nvcc", groups) == "cuda"
    assert group_of("nvidia-nccl", groups) == "other"
    assert group_of("ray", groups) == "rest"


def test_a_package_that_no_group_takes_is_an_error() -> None:
    with pytest.raises(ValueError, match="no layer takes the package 'ray'"):
        group_of("ray", [Group(name="torch", packages=("torch",))])


def test_a_large_package_has_a_layer_of_its_own_in_its_group() -> None:
    wheels = [make_wheel("nvidia-nccl", size_bytes=GB), make_wheel("ray", size_bytes=GB - 1), make_wheel("torch")]
    assert packages_of(layers_of(wheels)) == {"torch": ["torch"], "torch.nvidia-nccl": ["nvidia-nccl"], "rest": ["ray"]}


def test_what_differs_from_a_sibling_is_in_the_last_layer_however_large() -> None:
    wheels = [make_wheel("nvidia-nccl", size_bytes=GB), make_wheel("torch", size_bytes=GB)]
    found = packages_of(layers_of(wheels, frozenset({"torch"})))
    assert found == {"torch.nvidia-nccl": ["nvidia-nccl"], DIFFERENCE: ["torch"]}


@given(st.lists(st.integers(0, 999).map("package-{}".format), unique=True, max_size=30), st.data())
def test_the_layer_of_a_package_does_not_depend_on_how_large_others_are(names: list[str], data: st.DataObject) -> None:
    """Where a shared layer is split or not may change; what is in a layer of its own does not move."""
    before, after = (
        [make_wheel(name, version, size_bytes=data.draw(st.sampled_from([1000, 2 * GB]))) for name in names]
        for version in ("1.0", "1.1")
    )
    places = [
        {one.name: layer.name for layer in layers_of(wheels) for one in layer.wheels} for wheels in (before, after)
    ]
    for old, new in zip(before, after, strict=True):
        if old.size_bytes == new.size_bytes:
            assert places[0][old.name] == places[1][old.name]


def test_a_layer_that_is_too_large_is_halved_by_the_names_of_its_packages() -> None:
    wheels = [make_wheel(f"package-{number}", size_bytes=100) for number in range(20)]
    parts = split(wheels, GROUPS, frozenset(), own_layer_bytes=GB, max_bytes=1000)
    assert len(parts) > 1
    assert all(one.name.startswith("rest-") and one.size_bytes <= 1000 for one in parts)
    assert sorted(name for some in packages_of(parts).values() for name in some) == sorted(one.name for one in wheels)
    more = split([*wheels, make_wheel("other")], GROUPS, frozenset(), own_layer_bytes=500, max_bytes=1000)
    assert {one.name: one.wheels for one in more if one.name != "rest.other"} == {one.name: one.wheels for one in parts}


def test_a_package_that_is_too_large_for_a_layer_is_an_error() -> None:
    with pytest.raises(LockError, match=r"the package vllm has 5\.0 GB, expected at most 4\.0 GB in a layer"):
        layers_of([make_wheel("vllm", size_bytes=5 * GB)])


def test_more_layers_than_an_engine_takes_are_an_error() -> None:
    wheels = [make_wheel(f"package-{number}", size_bytes=GB) for number in range(101)]
    with pytest.raises(LockError, match=r"101 layers, expected at most 100; raise own_layer_bytes in matrix\.yaml"):
        layers_of(wheels)


def test_no_layer_of_a_matrix_may_be_called_like_the_difference() -> None:
    assert DIFFERENCE in RESERVED_LAYERS


def test_no_layer_of_the_real_rows_is_large_and_none_has_many() -> None:
    for target in real_plan("ubuntu-24.04").targets:
        assert max(one.size_bytes for one in target.layers) < GB, target.tag
        assert len(target.layers) < 80, target.tag


def test_real_siblings_differ_in_few_packages() -> None:
    four, five = (one for one in real_plan("ubuntu-24.04").targets if one.tag.startswith("0.20.2-"))
    assert four.layers[:-1] == five.layers[:-1]
    assert {one.layers[-1].name for one in (four, five)} == {DIFFERENCE}
    assert five.layers[-1].size_bytes < 20 * 10**6


@pytest.mark.parametrize(("old", "new"), [("0.28.0-t5", "0.31.0-t5"), ("0.31.0-t5", "0.32.0-t5")])
def test_an_update_moves_little_more_than_what_changed(old: str, new: str) -> None:
    """As downloaded; what it is in the image, `nox -s delta` measures."""
    targets = {one.tag: one for one in real_plan("debian-13").targets}
    before = {one.wheels for one in targets[old].layers}
    known = {one.sha256 for one in targets[old].environment.wheels}
    moved = sum(one.size_bytes for one in targets[new].layers if one.wheels not in before)
    changed = sum(one.size_bytes for one in targets[new].environment.wheels if one.sha256 not in known)
    assert moved <= 1.15 * changed
