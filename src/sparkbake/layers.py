"""Put the packages of an environment into layers: fixed groups, and last what differs from the sibling row.

Where a package lies depends on itself (its name, and whether its own wheel is large) and on whether the sibling rows of
its release have the same file, never on how large others are: so one that does not change stays in a layer that does
not change, or shares one with small packages only. A sibling that is added later moves what differs from it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from sparkbake.errors import LockError
from sparkbake.model import Group, Layer, Wheel

DIFFERENCE = "difference"
# https://docs.docker.com/docker-hub/ and most registries take layers of 10 GB; clients resume none that breaks off.
MAX_LAYER_BYTES = 4 * 10**9
# An engine takes 125 (moby, layer/layer_store.go, maxLayerDepth), and the base and whoever builds on it have some.
MAX_LAYERS = 100
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


def split(
    wheels: Sequence[Wheel],
    groups: Sequence[Group],
    differing: frozenset[str],
    *,
    own_layer_bytes: int,
    max_bytes: int = MAX_LAYER_BYTES,
) -> tuple[Layer, ...]:
    """Every package in exactly one layer, none empty; in the order of `groups`, then the difference.

    The layer of a group is named after it; "<group>.<package>" is one of a single package of at least
    `own_layer_bytes`, and "<group>-<bits>" a part of one that is larger than `max_bytes` as downloaded.

    Raises:
        LockError: a single package is larger than `max_bytes`, or there are more than MAX_LAYERS.
    """
    members: dict[str, list[Wheel]] = {}
    for group in groups:
        own = [one for one in wheels if one.name not in differing and group_of(one.name, groups) == group.name]
        members[group.name] = [one for one in own if one.size_bytes < own_layer_bytes]
        members |= {f"{group.name}.{one.name}": [one] for one in own if one.size_bytes >= own_layer_bytes}
    members[DIFFERENCE] = [one for one in wheels if one.name in differing]
    layers = tuple(layer for name, some in members.items() for layer in _parts(name, some, max_bytes))
    if len(layers) > MAX_LAYERS:
        raise LockError(
            f"{len(layers)} layers, expected at most {MAX_LAYERS}; raise own_layer_bytes in matrix.yaml, which is "
            f"{own_layer_bytes} now"
        )
    return layers


def _parts(name: str, wheels: Sequence[Wheel], max_bytes: int, bits: str = "") -> Iterator[Layer]:
    """One layer, or where that is too large two halves of it, by the next bit of the SHA-256 of each package's name.

    A name's bits never change: a part keeps its packages whatever others are added or grow, until it is too large
    itself.
    """
    layer = Layer(name=f"{name}-{bits}" if bits else name, wheels=tuple(wheels))
    if layer.size_bytes > max_bytes and len(wheels) == 1:
        raise LockError(
            f"the package {wheels[0].name} has {layer.size_bytes / 1e9:.1f} GB, expected at most "
            f"{max_bytes / 1e9:.1f} GB in a layer; a package cannot be split"
        )
    if layer.size_bytes <= max_bytes:
        if wheels:
            yield layer
        return
    for half in "01":
        some = [one for one in wheels if _bit(one.name, len(bits)) == half]
        yield from _parts(name, some, max_bytes, bits + half)


def _bit(name: str, place: int) -> str:
    """A bit of the SHA-256 of a name, "0" or "1", counted from the most significant."""
    return f"{int(hashlib.sha256(name.encode()).hexdigest(), 16):0256b}"[place]
