"""Say what it costs to move from one image to another: the layers that are transported, and which packages need it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sparkbake.imageinfo import Entry, ImageInfo, LayerInfo, layer_name
from sparkbake.model import Pairs, Wheel
from sparkbake.ownership import LayerContents, attribution, versions

State = Literal["changed", "new", "removed", "unchanged"]
# Name of a layer to the wheels in it, as a lock and the matrix lay them out.
LockedLayers = Mapping[str, Sequence[Wheel]]

_XATTR = "SCHILY.xattr."


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerChange:
    """A layer of the new image, and whether the old one has it.

    Attributes:
        name: "cuda.nvidia-cublas", "base", "system".
        disk_bytes: of the files in it; None when the contents could not be read.
    """

    digest: str
    name: str
    group: str
    state: Literal["shared", "changed"]
    compressed_bytes: int
    disk_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageChange:
    """A package that a layer carries which the two images do not share.

    Attributes:
        name: normalised distribution name; "(<group>)" of the files of a layer that belong to no distribution.
        old_version, new_version: None where there is no such package, or it has no version.
        state: "changed" when any of its files has other content, mode, kind, owner, extended attributes or link target,
            or only one image has it; other times alone leave it "unchanged": it is moved in vain. By the locks: when
            its wheel is another one.
        disk_bytes: of its files in the new image; 0 when it is removed; None when the contents could not be read.
        compressed_bytes: of its files in the new image, as `least_bytes` has it; 0 when it is removed.
        moved: whether the new image's layers bring it along.
    """

    name: str
    group: str
    old_version: str | None
    new_version: str | None
    state: State
    disk_bytes: int | None
    compressed_bytes: int
    moved: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """What moving from one image to another costs; manifest and config, a few kilobytes, are not counted.

    Attributes:
        old, new: the images, as they were asked for.
        layers: of the new image, lowest first; one that stands in it twice is moved and listed once.
        packages: sorted by compressed size, the largest first; empty when neither contents nor locks are known.
        moved_bytes, total_bytes: compressed size of the changed layers, and of all.
        moved_disk_bytes: size of the files in the changed layers; None when it is not known of all.
        least_bytes: what would move if every package were a layer of its own: all changed and new ones, each packed as
            one tar (512-byte headers and padding; pax headers where a name needs them) in the order of the image's
            layers, with zstd at level 3. By the locks: of each changed layer the share of its changed packages, by
            the sizes of their wheels. None when neither is known.
        packages_by: what says which packages there are; None when nothing does.
    """

    old: str
    new: str
    layers: tuple[LayerChange, ...]
    packages: tuple[PackageChange, ...]
    moved_bytes: int
    moved_disk_bytes: int | None
    total_bytes: int
    least_bytes: int | None
    packages_by: Literal["contents", "locks"] | None

    @property
    def ratio(self) -> float | None:
        """How many times more is moved than the least; None when that is nothing, or not known."""
        return self.moved_bytes / self.least_bytes if self.least_bytes else None


# ---- layers


def distinct(layers: Iterable[LayerInfo]) -> tuple[LayerInfo, ...]:
    """Layers without those that stand there before."""
    found: dict[str, LayerInfo] = {}
    for one in layers:
        found.setdefault(one.digest, one)
    return tuple(found.values())


def group_of_layer(name: str) -> str:
    """The group of a layer: "cuda" of "cuda.nvidia-cublas"."""
    return name.partition(".")[0]


def layer_names(image: ImageInfo) -> dict[str, str]:
    """Digest to name: what our recipes call a layer, else "base" of the lowest and "system" of any other."""
    first = image.layers[0].digest if image.layers else ""
    return {one.digest: layer_name(one) or ("base" if one.digest == first else "system") for one in image.layers}


def layer_changes(old: ImageInfo, new: ImageInfo, disk_bytes: Mapping[str, int]) -> tuple[LayerChange, ...]:
    """The layers of the new image; those of equal digest are shared wherever they stand.

    Args:
        disk_bytes: digest to the size of the files in a layer, of those that were read.
    """
    names = layer_names(new)
    known = {one.digest for one in old.layers}
    return tuple(
        LayerChange(
            digest=one.digest,
            name=names[one.digest],
            group=group_of_layer(names[one.digest]),
            state="shared" if one.digest in known else "changed",
            compressed_bytes=one.size_bytes,
            disk_bytes=disk_bytes.get(one.digest),
        )
        for one in distinct(new.layers)
    )


def summed(
    old: str,
    new: str,
    layers: tuple[LayerChange, ...],
    packages: Sequence[PackageChange] | None,
    *,
    packages_by: Literal["contents", "locks"] = "contents",
) -> Delta:
    """Add up.

    Args:
        packages: None when neither the contents of the images nor their locks are known.
    """
    moved = [one for one in layers if one.state == "changed"]
    return Delta(
        old=old,
        new=new,
        layers=layers,
        packages=tuple(sorted(packages or (), key=lambda one: (-one.compressed_bytes, one.name))),
        moved_bytes=sum(one.compressed_bytes for one in moved),
        moved_disk_bytes=_sum_if_known(one.disk_bytes for one in moved),
        total_bytes=sum(one.compressed_bytes for one in layers),
        least_bytes=None
        if packages is None
        else sum(one.compressed_bytes for one in packages if one.state in ("changed", "new")),
        packages_by=None if packages is None else packages_by,
    )


def _sum_if_known(sizes: Iterable[int | None]) -> int | None:
    found = list(sizes)
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


# ---- packages by the locks


def locked_changes(old: LockedLayers, new: LockedLayers, layers: Sequence[LayerChange]) -> tuple[PackageChange, ...]:
    """The packages of two images by their locks, by name: those that differ, and those that are moved in vain.

    What changed layers without packages bring (the operating system, what the image does) is "(<group>)".

    Args:
        layers: of the new image, as `layer_changes` has them.
    """
    before = {one.name: (name, one) for name, wheels in old.items() for one in wheels}
    after = {one.name: (name, one) for name, wheels in new.items() for one in wheels}
    changed = {one.name: one.compressed_bytes for one in layers if one.state == "changed"}
    found = [
        PackageChange(
            name=name,
            group=group_of_layer((after.get(name) or before[name])[0]),
            old_version=before[name][1].version if name in before else None,
            new_version=after[name][1].version if name in after else None,
            state=_locked_state(before.get(name), after.get(name)),
            disk_bytes=None if name in after else 0,
            compressed_bytes=_share(after[name][1], new[after[name][0]], changed[after[name][0]])
            if name in after and after[name][0] in changed
            else 0,
            moved=name in after and after[name][0] in changed,
        )
        for name in sorted(before.keys() | after.keys())
    ]
    others = [
        PackageChange(
            name=f"({one.group})",
            group=one.group,
            old_version=None,
            new_version=None,
            state="changed",
            disk_bytes=one.disk_bytes,
            compressed_bytes=one.compressed_bytes,
            moved=True,
        )
        for one in layers
        if one.state == "changed" and one.name not in new
    ]
    return (*others, *(one for one in found if one.moved or one.state != "unchanged"))


def _locked_state(before: tuple[str, Wheel] | None, after: tuple[str, Wheel] | None) -> State:
    if before is None or after is None:
        return "removed" if before else "new"
    return "unchanged" if before[1].sha256 == after[1].sha256 else "changed"


def _share(wheel: Wheel, wheels: Sequence[Wheel], layer_bytes: int) -> int:
    """What a package has of the bytes of its layer, by the size of its wheel."""
    return round(layer_bytes * wheel.size_bytes / sum(one.size_bytes for one in wheels))


# ---- packages


def package_changes(
    old: Sequence[LayerContents], new: Sequence[LayerContents], compressed_bytes: Mapping[str, int]
) -> tuple[PackageChange, ...]:
    """The packages of the layers that the images do not share, by name.

    Args:
        old, new: the images' layers; the entries of those they share are left out.
        compressed_bytes: of each package's files in the new image.
    """
    before, after = _files(old), _files(new)
    old_versions, new_versions = versions(old), versions(new)
    return tuple(
        PackageChange(
            name=name,
            group=(after.get(name) or before[name])[0][0],
            old_version=old_versions.get(name),
            new_version=new_versions.get(name),
            state=_state(name, before, after, old_versions, new_versions),
            disk_bytes=sum(entry.size_bytes for _group, entry in after.get(name, ())),
            compressed_bytes=compressed_bytes.get(name, 0),
            moved=name in after,
        )
        for name in sorted(before.keys() | after.keys())
    )


_Files = Mapping[str, Sequence[tuple[str, Entry]]]


def _files(layers: Sequence[LayerContents]) -> dict[str, list[tuple[str, Entry]]]:
    """Package to its entries, each with the group of its layer."""
    owners = attribution(layers)
    found: dict[str, list[tuple[str, Entry]]] = {}
    for layer in layers:
        for entry in layer.entries:
            found.setdefault(owners[layer.digest, entry.path], []).append((layer.group, entry))
    return found


def _state(
    name: str, before: _Files, after: _Files, old_versions: Mapping[str, str], new_versions: Mapping[str, str]
) -> State:
    # A distribution may lie in several layers, of which the images share some: then its RECORD says that it is there.
    if name not in before and name not in old_versions:
        return "new"
    if name not in after and name not in new_versions:
        return "removed"
    return "unchanged" if _traits(before.get(name, ())) == _traits(after.get(name, ())) else "changed"


def _traits(files: Sequence[tuple[str, Entry]]) -> frozenset[tuple[object, ...]]:
    """All that makes a package another one: everything of its files but their times."""
    return frozenset(
        (one.path, one.kind, one.mode, one.uid, one.gid, one.target, one.sha256, _attributes(one))
        for _group, one in files
    )


def _attributes(entry: Entry) -> Pairs:
    return tuple(pair for pair in entry.headers if pair[0].startswith(_XATTR))
