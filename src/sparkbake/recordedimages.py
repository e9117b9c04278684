"""Images as records and locks know them, where contents cannot be read: layers with their sizes, packages by layer."""

from sparkbake.delta import LockedLayers
from sparkbake.deltaread import Named
from sparkbake.errors import ImageError
from sparkbake.expected import Expected, load_expected
from sparkbake.imageinfo import ImageInfo, LayerInfo, layer_step
from sparkbake.labels import OCI
from sparkbake.model import Base, Row, Strategy
from sparkbake.project import Project

_LOCK_LABEL = "lock_digest"
_LOCKED = ("yes", "open")


def recorded_bases(project: Project, row: Row) -> tuple[Base, ...]:
    """The bases on which a row is recorded, in the order of the matrix.

    Raises:
        LockError: the record is damaged.
    """
    found = load_expected(project.locks, row.tag)
    return tuple(one for one in project.matrix.bases if one.name in found)


def recorded_image(project: Project, row: Row, base: Base) -> Named:
    """A recorded image, as far as record and lock know it: layers without the digests of their tars, and no labels.

    Raises:
        ImageError: it is not recorded.
    """
    found = load_expected(project.locks, row.tag).get(base.name)
    if found is None:
        raise ImageError(f"{row.tag} on {base.name}: is not recorded; run `nox -s build -- {row.tag} --record`")
    layers = tuple(
        LayerInfo(
            digest=one.digest,
            diff_id="",
            media_type="",
            size_bytes=one.compressed_bytes,
            created_by=layer_step(one.name) if one.name not in ("base", "system") else "",
        )
        for one in found.layers
    )
    return Named(
        name=row.tag,
        info=ImageInfo(digest=found.digest, config_digest=found.config, config="", labels=(), layers=layers),
        opened=None,
        # Of other inputs than are here now its lock is not known.
        locked=_layers(project, row, base) if _is_current(project, row, base, found) else None,
        disk_bytes={one.digest: one.disk_bytes for one in found.layers if one.disk_bytes is not None},
    )


def _is_current(project: Project, row: Row, base: Base, recorded: Expected) -> bool:
    if project.lock_state(row) not in _LOCKED:
        return False
    (target,) = project.plan([row], base).targets
    return recorded.plan_digest == project.plan_digest(target)


def labelled_layers(project: Project, info: ImageInfo) -> LockedLayers | None:
    """How an image has its packages in layers, by its labels; None when it is of no row, or of another lock of it."""
    labels = dict(info.labels)
    key = f"{project.matrix.project.label_prefix}.{_LOCK_LABEL}"
    row = next((one for one in project.rows if one.tag == labels.get(f"{OCI}version")), None)
    if row is None or row.release.strategy is Strategy.SOURCE or project.lock_state(row) not in _LOCKED:
        return None
    for base in project.matrix.bases:
        (target,) = project.plan([row], base).targets
        wanted = dict(target.labels)
        if all(labels.get(one) == wanted.get(one) for one in (key, f"{OCI}base.name")):
            return _layers(project, row, base)
    return None


def _layers(project: Project, row: Row, base: Base) -> LockedLayers:
    (target,) = project.plan([row], base).targets
    return {one.name: one.wheels for one in target.layers}
