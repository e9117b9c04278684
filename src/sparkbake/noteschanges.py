"""Say what changed from one row to another: packages, and the bytes that an update moves; `notes` has the rest.

Of a compiled row the packages are those of its environment; what is compiled shows as versions of components.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from sparkbake.delta import Delta
from sparkbake.expected import Expected
from sparkbake.model import Environment, Matrix, Pairs, Row, Strategy, Wheel

State = Literal["changed", "repacked", "new", "gone"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A recorded image of a row, and whether it is of what the checkout has now."""

    base: str
    image: Expected
    is_current: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """A row with what was resolved and recorded of it.

    Attributes:
        environments: the packages it has from the index, by base; None while there is no lock.
        open_pins: what is not known of it yet, each as a user is told.
    """

    row: Row
    environments: tuple[Environment, ...] | None
    open_pins: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def can_be_had(self) -> bool:
        """Whether an image of it was published, or can be built."""
        return self.row.release.published or (self.environments is not None and not self.open_pins)

    def environment(self, base: str) -> Environment | None:
        return next((one for one in self.environments or () if one.base == base), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A package that differs.

    Attributes:
        state: "repacked" is the same version in another wheel.
        old, new: versions; None where there is no such package.
        size_bytes: of the new wheel; 0 when it is gone.
        is_large: whether its wheel, new or gone, has a layer of its own.
    """

    name: str
    state: State
    old: str | None
    new: str | None
    size_bytes: int
    is_large: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """What an update transports by the layers of two recorded images on one base, compressed."""

    base: str
    moved_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What changed since another row.

    Attributes:
        strategy, foundation: of the other row.
        versions: of the other row's components.
        elsewhere: how many packages are left out, since one of the two rows has them compiled or in CUDA's images.
        base: whose environments are compared; None when a lock is missing, and then there are no packages.
        packages: that differ, sorted by name; `kept` is how many do not.
        changed_bytes, wheel_bytes: size of the wheels that the old environment does not have, and of all. What is
            transported is near that, but not that: layers are packed otherwise, lack what is trimmed, and are shared
            by small packages.
        images: two images held against each other; None when none were given.
    """

    tag: str
    strategy: Strategy
    foundation: str
    versions: Pairs
    base: str | None
    elsewhere: int
    packages: tuple[Package, ...]
    kept: int
    changed_bytes: int
    wheel_bytes: int
    moved: tuple[Moved, ...]
    images: Delta | None


def bases_of(matrix: Matrix, *sides: Side) -> tuple[str, ...]:
    """Names of the bases, those with a recorded image first: of what somebody has, rather than of what could be."""
    recorded = [one.base for side in sides for one in side.records]
    return tuple(dict.fromkeys([*recorded, *(one.name for one in matrix.bases)]))


def make_update(matrix: Matrix, side: Side, since: Side, images: Delta | None) -> Update:
    """What changed from one row to another.

    Args:
        images: of `since` and of the row, held against each other.
    """
    base, old, new = _environments(matrix, side, since)
    elsewhere = _elsewhere(matrix, side, since, {one.name for one in old} ^ {one.name for one in new})
    old, new = ([one for one in wheels if one.name not in elsewhere] for wheels in (old, new))
    known = {one.sha256 for one in old}
    return Update(
        tag=since.row.tag,
        strategy=since.row.release.strategy,
        foundation=since.row.foundation.name,
        versions=since.row.versions,
        base=base,
        elsewhere=len(elsewhere),
        packages=tuple(_packages(old, new, own_layer_bytes=matrix.own_layer_bytes)),
        kept=sum(one.sha256 in known for one in new),
        changed_bytes=sum(one.size_bytes for one in new if one.sha256 not in known),
        wheel_bytes=sum(one.size_bytes for one in new),
        moved=tuple(_moved(side.records, since.records)),
        images=images,
    )


def _environments(matrix: Matrix, side: Side, since: Side) -> tuple[str | None, Sequence[Wheel], Sequence[Wheel]]:
    """The first base that both rows have an environment on, with the old and the new packages."""
    for base in bases_of(matrix, side, since):
        old, new = since.environment(base), side.environment(base)
        if old and new:
            return base, old.wheels, new.wheels
    return None, (), ()


def _elsewhere(matrix: Matrix, side: Side, since: Side, names: Collection[str]) -> frozenset[str]:
    """Of packages that one of two rows has alone those that the other one has compiled, or in CUDA's images."""
    if matrix.sources is None or side.row.release.strategy is since.row.release.strategy:
        return frozenset()
    patterns = (*matrix.sources.replaced, *matrix.sources.torch_without)
    return frozenset(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))


def _packages(old: Sequence[Wheel], new: Sequence[Wheel], *, own_layer_bytes: int) -> Iterable[Package]:
    before, after = {one.name: one for one in old}, {one.name: one for one in new}
    for name in sorted(before.keys() | after.keys()):
        was, is_ = before.get(name), after.get(name)
        if was and is_ and was.sha256 == is_.sha256:
            continue
        shown = is_ or before[name]
        yield Package(
            name=name,
            state=_state(was, is_),
            old=was.version if was else None,
            new=is_.version if is_ else None,
            size_bytes=is_.size_bytes if is_ else 0,
            is_large=shown.size_bytes >= own_layer_bytes,
        )


def _state(was: Wheel | None, is_: Wheel | None) -> State:
    if was is None or is_ is None:
        return "gone" if was else "new"
    return "repacked" if was.version == is_.version else "changed"


def _moved(new: Sequence[Record], old: Sequence[Record]) -> Iterable[Moved]:
    """Of each base on which both rows are recorded."""
    before: Mapping[str, Expected] = {one.base: one.image for one in old}
    for record in new:
        if record.base not in before:
            continue
        known = {layer.digest for layer in before[record.base].layers}
        layers = {layer.digest: layer.compressed_bytes for layer in record.image.layers}
        yield Moved(
            base=record.base,
            moved_bytes=sum(size for digest, size in layers.items() if digest not in known),
            total_bytes=sum(layers.values()),
        )
