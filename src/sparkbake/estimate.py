"""Say before a build what it will cost: bytes to fetch, and disk that it takes."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sparkbake.model import Plan, Wheel
from sparkbake.sourceresolve import SourcePlan

# Measured on 0.32.0-t5 (4.14 GB of wheels), from an empty engine to the verified image: uv's cache, the laid-out
# environment, its copy in layers, the compressed layers, and the image unpacked to run (CONTRIBUTING.md, "Disk").
DISK_PER_WHEEL_BYTE = 9.0
_BASE_DISK_BYTES = 3 * 10**9
_GB = 10**9


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a build costs at most, when nothing is cached.

    Attributes:
        download_bytes: wheels and installer; the base is not counted.
        disk_bytes: in the engine's data folder.
    """

    download_bytes: int
    disk_bytes: int


def estimate(plan: Plan) -> Estimate:
    """Add up the files of a plan; a file that several targets share is fetched once."""
    download = _total(wheel for one in plan.targets for wheel in (*one.environment.wheels, *one.installer[:1]))
    environments = _total(wheel for one in plan.targets for wheel in one.environment.wheels)
    return Estimate(download_bytes=download, disk_bytes=int(environments * DISK_PER_WHEEL_BYTE) + _BASE_DISK_BYTES)


def estimate_compiled(plan: SourcePlan, present: Collection[str], disk_gb: Mapping[str, str]) -> int:
    """Bytes that compiling takes in the engine's data folder, at most.

    Args:
        present: names of targets that are there already.
        disk_gb: of a source, as the matrix has it (`Sources.disk_gb`).
    """
    missing = [one for one in plan.targets if one.name not in present]
    wheels = [
        wheel
        for one in missing
        for some in (
            *(some for _name, some in one.build_requirements),
            one.environment.wheels if one.environment else (),
        )
        for wheel in some
    ]
    checkouts = {source.commit for one in missing for source in one.sources}
    fetched = {fetch.source.commit for one in missing for fetch in one.fetches}
    return (
        int(_total(wheels) * DISK_PER_WHEEL_BYTE)
        + len(missing) * _BASE_DISK_BYTES
        + len(checkouts) * int(disk_gb["compiled"]) * _GB
        + len(fetched - checkouts) * int(disk_gb["fetched"]) * _GB
    )


def _total(wheels: Iterable[Wheel]) -> int:
    return sum({one.sha256: one.size_bytes for one in wheels}.values())
