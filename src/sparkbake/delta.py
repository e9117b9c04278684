"""Say what it costs to move from one image to another: the layers that are transported, and which packages need it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sparkbake.imageinfo import Entry, ImageInfo, LayerInfo, layer_name
from sparkbake.model import Pairs
from sparkbake.ownership import LayerContents, attribution, versions

State = Literal["changed", "new", "removed", "unchanged"]

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
            or only one image has it; other times alone leave it "unchanged": it is moved in vain.
        disk_bytes: of its files in the new image; 0 when it is removed.
        compressed_bytes: of its files in the new image, as `least_bytes` has it; 0 when it is removed.
        moved: whether the new image's layers bring it along.
    """

    name: str
    group: str
    old_version: str | None
    new_version: str | None
    state: State
    disk_bytes: int
    compressed_bytes: int
    moved: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """What moving from one image to another costs; manifest and config, a few kilobytes, are not counted.

    Attributes:
        old, new: the images, as they were asked for.
        layers: of the new image, lowest first; one that stands in it twice is moved and listed once.
        packages: sorted by compressed size, the largest first; empty when the contents could not be read.
        moved_bytes, total_bytes: compressed size of the changed layers, and of all.
        moved_disk_bytes: size of the files in the changed layers; None when the contents could not be read.
        least_bytes: what would move if every package were a layer of its own: all changed and new ones, each packed as
            one tar (512-byte headers and padding; pax headers where a name needs them) in the order of the image's
            layers, with zstd at level 3. None when the contents could not be read.
    """

    old: str
    new: str
    layers: tuple[LayerChange, ...]
    packages: tuple[PackageChange, ...]
    moved_bytes: int
    moved_disk_bytes: int | None
    total_bytes: int
    least_bytes: int | None

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
) -> Delta:
    """Add up.

    Args:
        packages: None when the contents of the images could not be read.
    """
    moved = [one for one in layers if one.state == "changed"]
    return Delta(
        old=old,
        new=new,
        layers=layers,
        packages=tuple(sorted(packages or (), key=lambda one: (-one.compressed_bytes, one.name))),
        moved_bytes=sum(one.compressed_bytes for one in moved),
        moved_disk_bytes=None if packages is None else sum(one.disk_bytes or 0 for one in moved),
        total_bytes=sum(one.compressed_bytes for one in layers),
        least_bytes=None
        if packages is None
        else sum(one.compressed_bytes for one in packages if one.state in ("changed", "new")),
    )


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
