"""Which files of an image carry device code, for what chips, and whose they are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sparkbake.delta import group_of_layer
from sparkbake.devicecode import VERDICTS, Tally, Verdict
from sparkbake.ownership import LayerContents, attribution, is_record, record_text
from sparkbake.surveyed import Survey, Unread


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceFile:
    """A file of an image that carries device code.

    Attributes:
        package: as ownership.attribution has it: a distribution's name, or "(<group>)".
        layer: digest of the layer it is in.
        layer_name: "cuda.nvidia-cublas", "base", "system".
        build_id: hex digits; None of a file without one.

    The others are as in `surveyed.Code`.
    """

    path: str
    package: str
    layer: str
    layer_name: str
    build_id: str | None
    is_cubin: bool
    verdict: Verdict
    containers: tuple[tuple[Verdict, int], ...]
    unlisted: int
    emptied: tuple[Tally, ...]
    lost: tuple[Tally, ...]
    foreign: tuple[Tally, ...]
    sass: tuple[Tally, ...]
    ptx: tuple[Tally, ...]
    other: tuple[Tally, ...]

    @property
    def size_bytes(self) -> int:
        """Of the device code in it, as it is stored."""
        return sum(one.size_bytes for one in (*self.sass, *self.ptx, *self.other))


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """All device code of an image, as it is with its layers on top of each other.

    Attributes:
        image: as it was asked for.
        digest: of the manifest.
        elf_files: how many ELF files there are.
        files: worst verdict first, then the largest, then by path.
    """

    image: str
    digest: str
    compute_capability: str
    elf_files: int
    files: tuple[DeviceFile, ...]
    unread: tuple[Unread, ...]


def inventory_of(survey: Survey, *, compute_capability: str) -> Inventory:
    """Take stock of what was read of an image.

    Raises:
        ImageError: a RECORD is no CSV in UTF-8.
    """
    files = _files(survey)
    return Inventory(
        image=survey.image,
        digest=survey.digest,
        compute_capability=compute_capability,
        elf_files=len(survey.binaries) + len(survey.unread),
        files=tuple(sorted(files, key=lambda one: (-VERDICTS.index(one.verdict), -one.size_bytes, one.path))),
        unread=survey.unread,
    )


def _files(survey: Survey) -> Iterator[DeviceFile]:
    owners = packages(survey)
    for path, binary in survey.binaries.items():
        if (code := binary.code) is not None:
            seen = survey.seen[path]
            yield DeviceFile(
                path=path,
                package=owners[path],
                layer=seen.layer,
                layer_name=seen.layer_name,
                build_id=binary.build_id,
                is_cubin=code.is_cubin,
                verdict=code.verdict,
                containers=code.containers,
                unlisted=code.unlisted,
                emptied=code.emptied,
                lost=code.lost,
                foreign=code.foreign,
                sass=code.sass,
                ptx=code.ptx,
                other=code.other,
            )


def packages(survey: Survey) -> Mapping[str, str]:
    """Path of each ELF file to its package, as `ownership.attribution` has it.

    Raises:
        ImageError: a RECORD is no CSV in UTF-8.
    """
    return {path: package for (_layer, path), package in attribution(layer_contents(survey)).items()}


def layer_contents(survey: Survey) -> list[LayerContents]:
    """The ELF files and RECORDs of each layer.

    Raises:
        ImageError: a RECORD is not UTF-8.
    """
    layers: dict[str, tuple[str, list[str], list[str]]] = {}
    for path, seen in survey.seen.items():
        if path in survey.binaries or (is_record(path) and path in survey.texts):
            _name, binaries, records = layers.setdefault(seen.layer, (seen.layer_name, [], []))
            (binaries if path in survey.binaries else records).append(path)
    return [
        LayerContents(
            digest=digest,
            group=group_of_layer(name),
            disk_bytes=0,
            entries=tuple(survey.seen[path].entry for path in binaries),
            records=tuple((path, record_text(survey.texts[path], f"{survey.image}: {path}")) for path in records),
        )
        for digest, (name, binaries, records) in layers.items()
    ]
