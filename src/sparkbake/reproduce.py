"""The command `reproduce`: build an image from nothing twice, or once and hold it against what was published."""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sparkbake.bases import Chosen
from sparkbake.build import Output, build, exclusive, write_contexts
from sparkbake.buildx import BakeOptions
from sparkbake.compare import Difference, differences, differences_json
from sparkbake.comparing import open_source, print_differences, source_of
from sparkbake.engine import default_builder, engine_state
from sparkbake.errors import UsageError
from sparkbake.estimate import estimate
from sparkbake.expected import Built, Expected, Standing, load_expected, standing
from sparkbake.forgetting import forgetting
from sparkbake.frozen import candidates
from sparkbake.imageinfo import ImageInfo
from sparkbake.images import OpenImage, open_image
from sparkbake.mirrors import Mirrors
from sparkbake.model import Plan, Row
from sparkbake.preflight import ca_bundle
from sparkbake.project import Project, open_project
from sparkbake.ready import check_machine, ready_base
from sparkbake.tables import say

_DIFFERENT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Circumstances:
    """What an image must not depend on, as one build has it.

    Attributes:
        folder: of the build contexts, below the one of the comparison.
        cold: whether uv begins with an empty cache.
    """

    name: str
    folder: str
    umask: int
    time_zone: str
    cold: bool


FIRST = Circumstances(name="first", folder="one", umask=0o022, time_zone="UTC", cold=True)
SECOND = Circumstances(
    name="second", folder="two/further down", umask=0o077, time_zone="Pacific/Kiritimati", cold=False
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of two images that are held against each other; `opened` is None when it is in a registry."""

    name: str
    info: ImageInfo
    opened: OpenImage | None


def reproduce(options: argparse.Namespace) -> int:
    """Build some rows twice from nothing, or one once against another image.

    Returns:
        1 when any two digests differ, or an image of the recorded inputs is not the recorded one.
    """
    project = open_project(options.root)
    rows = project.select(options.tags)
    if options.against and len(rows) != 1:
        raise UsageError(f"--against: got {len(rows)} tags, expected one")
    if options.against:
        source_of(options.against, [row.tag for row in project.rows])
    for row in rows:
        # A damaged record must not be found after a whole build.
        load_expected(project.locks, row.tag)
    verdicts = [_reproduce(project, row, options) for row in rows]
    if options.json:
        print(json.dumps(verdicts, indent=2))
    return (
        0 if all(one["identical"] and one["standing"] != _json(Standing.DIFFERENT) for one in verdicts) else _DIFFERENT
    )


def _json(standing: Standing) -> str:
    """A standing for machines: "as-recorded", "repacked", "different", "outdated", "unknown"."""
    return standing.name.lower().replace("_", "-")


def _reproduce(project: Project, row: Row, options: argparse.Namespace) -> dict[str, object]:
    plan = project.plan([row], candidates(options.base, project.matrix)[0])
    state = engine_state()
    # What the cache holds spares a build from nothing no disk. Two archives lie beside it, and no image is unpacked.
    check_machine(plan, replace(state, cached_bytes=0), disk_bytes=estimate(plan).disk_bytes)
    mirrors = project.mirrors(options.mirrors)
    chosen = ready_base(project, options, mirrors, [state.architecture])
    plan = project.plan([row], chosen.base)
    with (
        ExitStack() as stack,
        # Another build of this checkout would lose what it adds to the cache meanwhile.
        exclusive(project.build),
        _workplace(project.build, keep=options.keep) as (folder, keep),
    ):
        # First, since a wrong name must not be found after a whole build.
        other = _against(project, plan, options.against, stack) if options.against else None
        first = _from_nothing(plan, chosen, mirrors, project=project, folder=folder, how=FIRST)
        second = other or _from_nothing(plan, chosen, mirrors, project=project, folder=folder, how=SECOND)
        found = _differences(first, second)
        known = load_expected(project.locks, row.tag).get(chosen.base.name)
        stands = _standing(project, plan, first, known, engine=state.version)
        if found or stands is Standing.DIFFERENT:
            keep()
    _tell(plan, first, second, found, as_json=options.json)
    _tell_standing(plan, stands, known, engine=state.version)
    return {
        "tag": row.tag,
        "base": chosen.base.name,
        "identical": first.info.digest == second.info.digest,
        "standing": _json(stands),
        "digests": {"first": first.info.digest, "second": second.info.digest},
        "recorded": known.digest if known else None,
        "differences": differences_json(found),
    }


@contextmanager
def _workplace(build: Path, *, keep: bool) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder for contexts and archives, removed at the end unless it is to be kept, or turns out to be worth it.

    After an error it goes, too: what it holds has gigabytes.
    """
    build.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="reproduce-", dir=build))
    wanted, ended = [keep], False
    try:
        yield folder, lambda: wanted.append(True)
        ended = True
    finally:
        if ended and any(wanted):
            say(f"the images lie in {folder}; remove it when you have seen enough")
        else:
            shutil.rmtree(folder)


def _from_nothing(
    plan: Plan, chosen: Chosen, mirrors: Mirrors, *, project: Project, folder: Path, how: Circumstances
) -> Side:
    """Build into an archive without the build cache, and remove what that added to the cache."""
    (target,) = plan.targets
    say(
        f"{target.tag}: {how.name} build from nothing: TZ={how.time_zone}, umask {how.umask:03o}, "
        f"{'an empty' if how.cold else 'the usual'} package cache"
    )
    began = time.monotonic()
    archive = folder / f"{how.name}.oci.tar"
    builder = default_builder()
    with forgetting(builder, namespace=folder.name), _circumstances(how):
        root = folder / how.folder
        write_contexts(plan, project.contexts(plan), root / "build")
        result = build(
            plan,
            chosen,
            mirrors,
            BakeOptions(
                builder=builder,
                no_cache=True,
                secrets={},
                # A namespace of its own gives cache mounts that nobody has filled.
                arguments={"BUILDKIT_CACHE_MOUNT_NS": folder.name} if how.cold else {},
            ),
            Output(oci=archive),
            root=root,
            ca=ca_bundle(os.environ),
            say=say,
        )
    say(f"{target.tag}: {how.name} build: {result.digests[target.name]}, {time.monotonic() - began:.0f} s")
    opened = open_image(archive, platform=target.platform)
    return Side(name=how.name, info=opened.info, opened=opened)


@contextmanager
def _circumstances(how: Circumstances) -> Iterator[None]:
    zone = os.environ.get("TZ")
    umask = os.umask(how.umask)
    os.environ["TZ"] = how.time_zone
    try:
        yield
    finally:
        os.umask(umask)
        if zone is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = zone


def _against(project: Project, plan: Plan, asked: str, stack: ExitStack) -> Side:
    source = source_of(asked, [row.tag for row in project.rows])
    named = open_source(project, asked, source, platform=plan.targets[0].platform, stack=stack)
    return Side(name=asked, info=named.info, opened=named.opened)


def _differences(first: Side, second: Side) -> tuple[Difference, ...]:
    if first.info.digest == second.info.digest:
        return ()
    if first.opened is None or second.opened is None:
        return differences(first.info, second.info, None, None)
    return differences(first.info, second.info, first.opened.entries, second.opened.entries)


def _standing(project: Project, plan: Plan, side: Side, known: Expected | None, *, engine: str) -> Standing:
    (target,) = plan.targets
    built = Built(
        digest=side.info.digest,
        config=side.info.config_digest,
        plan_digest=project.plan_digest(target),
        engine=engine,
    )
    return standing(built, known)


def _tell(plan: Plan, first: Side, second: Side, found: tuple[Difference, ...], *, as_json: bool) -> None:
    (target,) = plan.targets
    if first.info.digest == second.info.digest:
        say(f"{target.tag} on {target.base.name}: identical: {first.info.digest}")
        return
    say(f"{target.tag} on {target.base.name}: different: {first.name} {first.info.digest}, "
        f"{second.name} {second.info.digest}")  # fmt: skip
    if not as_json:
        print_differences(found)


def _tell_standing(plan: Plan, stands: Standing, known: Expected | None, *, engine: str) -> None:
    (target,) = plan.targets
    told = str(stands)
    if known and stands is not Standing.AS_RECORDED:
        told += f" ({known.digest})"
    if known and stands is Standing.DIFFERENT:
        told += (
            f", though the inputs are the same: recorded with engine {known.engine}, this is {engine}; hold it against "
            f"what was published: `nox -s reproduce -- {target.tag} --base {target.base.name} --against IMAGE`"
        )
    say(f"{target.tag} on {target.base.name}: {told}")
