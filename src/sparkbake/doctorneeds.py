"""Read doctor.yaml: what a host should have that the matrix does not say."""

from dataclasses import dataclass
from pathlib import Path

from sparkbake.fields import Fields, read_fields, read_text
from sparkbake.hostvalues import Needs, Trouble

_DRIVER = r"\d+(\.\d+)+"
_NUMBER = r"\d{1,9}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standards:
    """doctor.yaml.

    Attributes:
        per_packed_byte: bytes on disk for each byte of an image as it is pulled.
        image_bytes: on disk, of an image whose size is not known.
    """

    least_driver: str
    drivers: tuple[tuple[str, str], ...]
    troubles: tuple[Trouble, ...]
    per_packed_byte: int
    image_bytes: int
    models_bytes: int
    utilization: float
    shm_bytes: int
    held_bytes: int
    roce_mtu: int
    clock_not_before: str


def load_standards(path: Path) -> Standards:
    """Read and check doctor.yaml.

    Raises:
        MatrixError: with every fault of the file.
    """
    root = read_fields(read_text(path), path.name)
    root.text("schema", pattern="1", expected="'1', the version of this format")
    driver, disk, memory, roce = (root.mapping(key) for key in ("driver", "disk", "memory", "roce"))
    standards = Standards(
        least_driver=driver.text("least", pattern=_DRIVER, expected="a driver such as 580.95"),
        drivers=tuple(_release(one) for one in driver.items("releases")),
        troubles=tuple(_trouble(one) for one in driver.items_or_empty("troubles")),
        per_packed_byte=_number(disk, "per_packed_byte"),
        image_bytes=_number(disk, "image_gb") * 10**9,
        models_bytes=_number(disk, "models_gb") * 10**9,
        utilization=float(memory.text("utilization", pattern=r"0\.\d+", expected="a share such as 0.9") or "0"),
        shm_bytes=_number(memory, "shm_gb") * 10**9,
        held_bytes=_number(memory, "held_gb") * 10**9,
        roce_mtu=_number(roce, "mtu"),
        clock_not_before=root.text("clock_not_before", pattern=r"\d{4}-\d\d-\d\d", expected="a date, 2026-11-01"),
    )
    for one in (driver, disk, memory, roce, root):
        one.done()
    root.raise_faults()
    return standards


def _release(item: Fields) -> tuple[str, str]:
    cuda = item.text("cuda", pattern=r"\d+\.\d+", expected="a release such as 13.0")
    driver = item.text("driver", pattern=_DRIVER, expected="a driver such as 580.95")
    item.done()
    return cuda, driver


def _trouble(item: Fields) -> Trouble:
    series = item.text("series", pattern=r"\d+(\.\d+)*", expected="the beginning of a driver's version, 590")
    trouble = Trouble(series=series, what=item.text("what"), source=item.text("source"))
    item.done()
    return trouble


def _number(fields: Fields, key: str) -> int:
    return int(fields.text(key, pattern=_NUMBER, expected="a number") or "0")


def needs_of(
    standards: Standards, *, compute_capability: str, cuda: str, packed_bytes: int | None, ports: tuple[int, ...]
) -> Needs:
    """What a host is held against.

    Args:
        cuda: release of CUDA in the image.
        packed_bytes: of the image as it is pulled; None when nothing is recorded of it.
    """
    unknown = packed_bytes is None
    return Needs(
        compute_capability=compute_capability,
        cuda=cuda,
        least_driver=standards.least_driver,
        drivers=standards.drivers,
        troubles=standards.troubles,
        image_bytes=standards.image_bytes if unknown else (packed_bytes or 0) * standards.per_packed_byte,
        models_bytes=standards.models_bytes,
        utilization=standards.utilization,
        shm_bytes=standards.shm_bytes,
        held_bytes=standards.held_bytes,
        roce_mtu=standards.roce_mtu,
        clock_not_before=standards.clock_not_before,
        ports=ports,
    )
