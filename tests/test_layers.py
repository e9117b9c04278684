"""Claims about layers: nothing is lost, and what siblings share is the same layer in both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_matrix, make_wheel, real_plan

from sparkbake.layers import DIFFERENCE, difference, group_of, split
from sparkbake.matrix import RESERVED_LAYERS
from sparkbake.model import Group, Wheel

GROUPS = make_matrix().groups
NAMES = st.from_regex(r"(torch|vllm|nvidia-[a-z]|ray[a-z]?)", fullmatch=True)
ENVIRONMENT = st.dictionaries(NAMES, st.sampled_from(["1.0", "1.1"]), max_size=12).map(
    lambda some: tuple(make_wheel(name, version) for name, version in sorted(some.items()))
)


@given(ENVIRONMENT, st.lists(ENVIRONMENT, max_size=3))
def test_every_package_is_in_exactly_one_layer(wheels: tuple[Wheel, ...], siblings: list[tuple[Wheel, ...]]) -> None:
    layers = split(wheels, GROUPS, difference(wheels, siblings))
    assert sorted((one for layer in layers for one in layer.wheels), key=lambda one: one.name) == list(wheels)
    assert len({layer.name for layer in layers}) == len(layers)
    assert all(layer.wheels for layer in layers)
    assert sum(layer.size_bytes for layer in layers) == sum(one.size_bytes for one in wheels)


@given(ENVIRONMENT, ENVIRONMENT)
def test_siblings_share_every_layer_but_the_difference(one: tuple[Wheel, ...], two: tuple[Wheel, ...]) -> None:
    shared = [
        [layer for layer in split(wheels, GROUPS, difference(wheels, [other])) if layer.name != DIFFERENCE]
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
    layers = split(wheels, GROUPS, frozenset({"ray"}))
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


def test_no_layer_of_a_matrix_may_be_called_like_the_difference() -> None:
    assert DIFFERENCE in RESERVED_LAYERS


def test_no_layer_of_the_real_rows_is_larger_than_a_registry_takes() -> None:
    for target in real_plan("ubuntu-24.04").targets:
        assert max(one.size_bytes for one in target.layers) < 4 * 10**9, target.tag


def test_real_siblings_differ_in_few_packages() -> None:
    four, five = (one for one in real_plan("ubuntu-24.04").targets if one.tag.startswith("0.20.2-"))
    assert four.layers[:-1] == five.layers[:-1]
    assert {one.layers[-1].name for one in (four, five)} == {DIFFERENCE}
    assert five.layers[-1].size_bytes < 20 * 10**6
