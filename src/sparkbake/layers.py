"""Put the packages of an environment into layers: fixed groups, and last what differs from the sibling row."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from sparkbake.model import Group, Layer, Wheel

DIFFERENCE = "difference"
_EVERYTHING_ELSE = "*"


def group_of(name: str, groups: Sequence[Group]) -> str:
    """The group of a package: the first that names it, else the one of '*'.

    Raises:
        ValueError: no group takes it.
    """
    for group in groups:
        if any(pattern != _EVERYTHING_ELSE and fnmatchcase(name, pattern) for pattern in group.packages):
            return group.name
    for group in groups:
        if _EVERYTHING_ELSE in group.packages:
            return group.name
    raise ValueError(f"no layer takes the package '{name}'")


def difference(wheels: Sequence[Wheel], siblings: Sequence[Sequence[Wheel]]) -> frozenset[str]:
    """Names of the packages that are not the same file in every sibling environment."""
    files = [{one.sha256 for one in sibling} for sibling in siblings]
    return frozenset(one.name for one in wheels if any(one.sha256 not in others for others in files))


def split(wheels: Sequence[Wheel], groups: Sequence[Group], differing: frozenset[str]) -> tuple[Layer, ...]:
    """Every package in exactly one layer; layers in the order of `groups`, then the difference; none empty."""
    members: dict[str, list[Wheel]] = {group.name: [] for group in groups}
    members[DIFFERENCE] = []
    for wheel in wheels:
        name = DIFFERENCE if wheel.name in differing else group_of(wheel.name, groups)
        members[name].append(wheel)
    return tuple(Layer(name=name, wheels=tuple(some)) for name, some in members.items() if some)
