"""Hold images that were built against the digests recorded of them, and record those that were found clean."""

import argparse
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sparkbake.buildx import BakeResult
from sparkbake.delta import distinct, layer_names
from sparkbake.engine import default_builder
from sparkbake.errors import ImageError, LockError, UsageError
from sparkbake.expected import (
    Built,
    Expected,
    RecordedLayer,
    Standing,
    load_expected,
    record_json,
    record_path,
    standing,
)
from sparkbake.imageinfo import ImageInfo, parse_json
from sparkbake.images import OpenImage, open_image
from sparkbake.model import Plan, Target
from sparkbake.project import Project, write_file
from sparkbake.saving import save_image
from sparkbake.tables import say

_TRIMMED = ".dist-info/TRIMMED.json"
# Nothing recorded of the inputs that were built from.
_NOTHING_RECORDED = (Standing.OUTDATED, Standing.UNKNOWN)


def check_options(options: argparse.Namespace) -> None:
    """See that what is asked about records goes together.

    Raises:
        UsageError: it does not.
    """
    ways = {"--no-trim": not options.trim, "--compression": options.compression != "zstd"}
    ways |= {
        "--builder": options.builder is not None,
        "--output": bool(options.output),
        "--no-verify": options.no_verify,
    }
    if options.record and options.recorded:
        raise UsageError("--record and --recorded exclude each other: one writes the record, the other believes it")
    for asked in (name for name in ("record", "recorded") if getattr(options, name)):
        for other in (name for name, used in ways.items() if used):
            raise UsageError(
                f"--{asked} and {other} exclude each other: a record is of the image as it is published, "
                "in the engine and verified"
            )


def check_records(project: Project, plan: Plan, options: argparse.Namespace) -> None:
    """See before a build that its outcome can be held against the records.

    Raises:
        LockError: a record is damaged, or --recorded is given and there is none of what is to be built from.
    """
    for target in plan.targets:
        known = load_expected(project.locks, target.tag).get(target.base.name)
        if options.recorded and (known is None or known.plan_digest != project.plan_digest(target)):
            told = _told(Standing.OUTDATED if known else Standing.UNKNOWN, target, {}, "")
            raise LockError(f"{target.tag} on {target.base.name}: {told}")


def hold_against_records(
    project: Project, plan: Plan, result: BakeResult, *, engine: str, options: argparse.Namespace, clean: bool
) -> bool:
    """Say of each image how it stands to its record; record it if asked, and if verify found it clean.

    Args:
        engine: version of the engine; where --builder names another builder, that one compressed the layers, whose
            version nobody recorded: equal contents are as good as recorded then.

    Returns:
        False when the contents of an image are not as recorded; with --recorded also when nothing is recorded of
        these inputs.
    """
    if not options.trim or options.compression != "zstd":
        return True
    good = True
    packer = _packer(engine, options.builder)
    for target in plan.targets:
        plan_digest = project.plan_digest(target)
        known = load_expected(project.locks, target.tag)
        digest = result.digests[target.name]
        built = Built(digest=digest, config=result.configs.get(target.name), plan_digest=plan_digest, engine=packer)
        found = standing(built, known.get(target.base.name))
        is_recording = options.record and clean
        if not (is_recording and found in _NOTHING_RECORDED):
            say(f"{target.tag} on {target.base.name}: {_told(found, target, known, packer)}")
        if options.record and not clean:
            say(f"{target.tag} on {target.base.name}: not recorded, since verify has findings")
        if is_recording:
            info, sizes = saved_info(project, target)
            if info.digest != digest:
                raise ImageError(
                    f"{target.reference}: the engine now has {info.digest} under this tag, expected {digest}, which "
                    "was built and verified; build it again while nothing else does"
                )
            record = expected_of(info, sizes, plan_digest, engine)
            write_record(project, target.tag, {**known, target.base.name: record})
        elif found is Standing.DIFFERENT or (options.recorded and found in _NOTHING_RECORDED):
            good = False
    return good


def _packer(engine: str, builder: str | None) -> str:
    """Who compressed the layers: a version of the engine, or another builder."""
    return engine if builder is None or builder == default_builder() else f"the builder '{builder}'"


def _told(found: Standing, target: Target, known: dict[str, Expected], engine: str) -> str:
    again = f"`nox -s build -- {target.tag} --base {target.base.name} --record`"
    match found:
        case Standing.UNKNOWN:
            return f"its digest is not recorded yet; {again} does"
        case Standing.OUTDATED:
            return f"the recorded digest is of other inputs (recipes, lock or matrix have changed); {again} renews it"
        case Standing.AS_RECORDED:
            return "its digest is the recorded one"
        case Standing.REPACKED:
            recorded = known[target.base.name]
            return (
                f"every file is as recorded, but layers are compressed to other bytes (recorded with engine "
                f"{recorded.engine}, this is {engine}): the digest is not the recorded {recorded.digest}"
            )
    record = known[target.base.name]
    return (
        f"its digest is not the recorded {record.digest}, though the inputs are the same (recorded with engine "
        f"{record.engine}, this is {engine}); `nox -s reproduce -- {target.tag} --base {target.base.name}` shows "
        "whether builds here are stable"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What an image comes to unpacked.

    Attributes:
        disk_bytes: digest of a layer to the size of its files.
        trimmed_bytes: of the files that its packages lack, as TRIMMED.json of recipes/scripts/layout.py has them.
    """

    disk_bytes: dict[str, int]
    trimmed_bytes: int


def saved_info(project: Project, target: Target) -> tuple[ImageInfo, Sizes]:
    """The layers of an image that the engine has, by way of an archive that is removed again."""
    with tempfile.TemporaryDirectory(prefix="record-", dir=project.build) as folder:
        archive = Path(folder, "image.tar")
        save_image(target.reference, target.tag, archive)
        opened = open_image(archive, platform=target.platform)
        return opened.info, sizes_of(opened)


def sizes_of(image: OpenImage) -> Sizes:
    """Read all layers of an image, each once.

    Raises:
        ImageError: a layer, or a TRIMMED.json, is damaged.
    """
    disk_bytes: Counter[str] = Counter()
    trimmed_bytes = 0
    for layer in distinct(image.info.layers):
        disk_bytes[layer.digest] = 0
        for entry, chunks in image.contents(layer):
            disk_bytes[layer.digest] += entry.size_bytes
            if entry.path.endswith(_TRIMMED):
                listed = parse_json(f"{image.place}: {entry.path}", b"".join(chunks))
                trimmed_bytes += sum(int(size) for size in listed.values())
    return Sizes(disk_bytes=dict(disk_bytes), trimmed_bytes=trimmed_bytes)


def expected_of(info: ImageInfo, sizes: Sizes, plan_digest: str, engine: str) -> Expected:
    """The record of an image."""
    names = layer_names(info)
    layers = tuple(
        RecordedLayer(
            name=names[one.digest],
            digest=one.digest,
            compressed_bytes=one.size_bytes,
            disk_bytes=sizes.disk_bytes[one.digest],
        )
        for one in info.layers
    )
    return Expected(
        digest=info.digest,
        config=info.config_digest,
        plan_digest=plan_digest,
        engine=engine,
        layers=layers,
        trimmed_bytes=sizes.trimmed_bytes,
    )


def write_record(project: Project, tag: str, bases: dict[str, Expected]) -> None:
    """Replace the record of a row."""
    path = record_path(project.locks, tag)
    text = record_json(tag, bases)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        say(f"{path}: unchanged")
        return
    write_file(path, text)
    say(f"{path}: written")
