"""Turn the matrix and the locks of what is compiled into targets: two for each foundation, one for each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sparkbake.errors import LockError
from sparkbake.layers import difference
from sparkbake.model import Foundation, ImageKind, Matrix, Pairs, Row
from sparkbake.openpins import CLAIM, open_patches, unlockable
from sparkbake.patches import Series, select
from sparkbake.sourceconsistency import IMAGE_SOURCES, TRANSFORMERS
from sparkbake.sourcedata import Digests
from sparkbake.sourcelabels import foundation_labels, source_labels
from sparkbake.sourcelock import FoundationLock, Requirements, SourceLock, source_base
from sparkbake.sourcemodel import CompiledPatch, Fetch, GitSource, SourceTarget
from sparkbake.sourcepins import VLLM, Pin, sources_of
from sparkbake.variants import arch_list, check_variant
from sparkbake.versions import admits, variant_tag

DEV, RUNTIME = "pytorch-dev", "pytorch"
_RECIPE = "vllm-source"
_NOT_IN_FOUNDATIONS = ("triton",)


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceLocks:
    """The locks of some compiled rows.

    Attributes:
        foundations: by name; rows: by tag; siblings: by tag, of the other rows of the same releases that have one.
        apt_snapshot: archive snapshot for OS packages.
    """

    foundations: Mapping[str, FoundationLock]
    rows: Mapping[str, SourceLock]
    siblings: Mapping[str, SourceLock]
    apt_snapshot: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePlan:
    """What a build of compiled rows will do.

    Attributes:
        targets: in build order, parents first.
        reusable: names of those that need not be built where an image with the same lock digest is there: the
            foundations.
        open_pins: what is not known of them, each as a user is told; no build begins with any.
        by_hand: those of them that `lock` cannot fill, to what fills them.
    """

    targets: tuple[SourceTarget, ...]
    reusable: tuple[str, ...]
    open_pins: tuple[str, ...]
    by_hand: Pairs


def resolve_source(
    matrix: Matrix, rows: Sequence[Row], locks: SourceLocks, series: Series, *, variant: str | None = None
) -> SourcePlan:
    """Plan the images of some compiled rows, and of the foundations that they stand on.

    Args:
        variant: another way to compile vLLM, of all these rows; foundations are the same in each.

    Raises:
        UsageError: there is no such variant, or not of a row.
    """
    if variant is not None:
        check_variant(matrix, rows, series, variant)
    foundations = tuple(dict.fromkeys(row.foundation for row in rows))
    targets: list[SourceTarget] = []
    pins: list[str] = []
    by_hand: list[tuple[str, str]] = []
    for foundation in foundations:
        lock = locks.foundations[foundation.name]
        targets += _foundation_targets(matrix, foundation, lock, locks.apt_snapshot)
        pins += [f"{foundation.name}: {one}" for one in lock.open_pins]
    reusable = tuple(one.name for one in targets)
    for row in rows:
        targets.append(_row_target(matrix, row, locks, series, variant=variant))
        pins += [f"{row.tag}: {one}" for one in locks.rows[row.tag].open_pins]
        by_hand += [(f"{row.tag}: {what}", how) for what, how in unlockable(matrix, row, locks.rows[row.tag])]
        for one in open_patches(series, row.release.vllm):
            pins.append(f"{row.tag}: {one}")
            by_hand.append((pins[-1], CLAIM))
    return SourcePlan(targets=tuple(targets), reusable=reusable, open_pins=tuple(pins), by_hand=tuple(by_hand))


def _image(matrix: Matrix, key: str) -> ImageKind:
    return next(one for one in matrix.images if one.key == key)


def _name(image: ImageKind, tag: str) -> str:
    # Bake takes a dot in a name for a step into a mapping.
    return f"{image.name}-{tag}".replace(".", "_")


def _reference(image: Digests) -> str:
    return f"{image.reference}@{image.index}" if image.index else image.reference


def _foundation_targets(
    matrix: Matrix, foundation: Foundation, lock: FoundationLock, snapshot: str
) -> list[SourceTarget]:
    versions = tuple((name, one) for name, one in foundation.versions if name not in _NOT_IN_FOUNDATIONS)
    shared = partial(_target, matrix, foundation_lock=lock, apt_snapshot=snapshot, tag=foundation.name)
    devel, runtime = lock.images
    dev, run = _image(matrix, DEV), _image(matrix, RUNTIME)
    labels = partial(foundation_labels, matrix, lock, versions=versions)
    sources = tuple(git_source(matrix, one) for one in lock.pins)
    return [
        shared(
            image=dev,
            recipe=DEV,
            sources=sources,
            requires=lock.requires,
            versions=versions,
            labels=labels(image=dev, base=devel),
        ),
        shared(
            image=run,
            recipe=RUNTIME,
            parents=(("dev", _name(dev, foundation.name)),),
            sources=sources,
            requires=tuple((name, wheels) for name, wheels in lock.requires if name == "runtime"),
            versions=versions,
            labels=labels(image=run, base=runtime),
        ),
    ]


def _row_target(matrix: Matrix, row: Row, locks: SourceLocks, series: Series, *, variant: str | None) -> SourceTarget:
    lock, foundation = locks.rows[row.tag], locks.foundations[row.foundation.name]
    image, own = _image(matrix, VLLM), sources_of(matrix)
    tag = variant_tag(row.tag, variant) if variant else row.tag
    patches = compiled_patches(series, row.release.vllm, variant)
    labels = source_labels(
        matrix,
        lock,
        foundation,
        image=image,
        tag=tag,
        variant=variant,
        versions=row.versions,
        overrides=row.overrides,
        patches=[one.name for one in patches],
        note=row.variant.exceptions.note,
    )
    compiled = tuple(one for one in lock.pins if one.name in (*IMAGE_SOURCES, TRANSFORMERS))
    rust = admits(own.rust, row.release.vllm)
    target = _target(
        matrix,
        foundation_lock=foundation,
        apt_snapshot=locks.apt_snapshot,
        image=image,
        recipe=_RECIPE,
        tag=tag,
        sources=tuple(git_source(matrix, one) for one in compiled),
        requires=lock.requires,
        versions=row.versions,
        labels=labels,
    )
    return replace(
        target,
        row=row.tag,
        variant=variant,
        parents=_parents(matrix, row),
        build_os_packages=tuple(sorted({*own.build_os_packages, *(own.rust_os_packages if rust else ())})),
        source_date_epoch=max(lock.source_date_epoch, foundation.source_date_epoch),
        fetches=tuple(_fetch(matrix, one) for one in lock.pins if one not in compiled),
        patches=patches,
        vllm_arch_list=arch_list(matrix, variant),
        environment=lock.environment,
        existing_torch=_by_version(own.existing_torch, row.release.vllm),
        rust=rust,
        differing=_differing(row, lock, locks.siblings),
        overrides=row.overrides,
        limits=row.release.limits,
        settings=tuple(one for one in own.settings if admits(one.versions, row.release.vllm)),
    )


def _parents(matrix: Matrix, row: Row) -> Pairs:
    keys = (("dev", DEV), ("runtime", RUNTIME))
    return tuple((name, _name(_image(matrix, key), row.foundation.name)) for name, key in keys)


def _differing(row: Row, lock: SourceLock, locks: Mapping[str, SourceLock]) -> tuple[str, ...]:
    """Names of the packages that a sibling row has otherwise."""
    siblings = [
        one.environment.wheels
        for tag, one in locks.items()
        if tag != row.tag and tag.rpartition("-t")[0] == row.release.vllm
    ]
    return tuple(sorted(difference(lock.environment.wheels, siblings)))


def _target(
    matrix: Matrix,
    *,
    foundation_lock: FoundationLock,
    apt_snapshot: str,
    image: ImageKind,
    recipe: str,
    tag: str,
    sources: tuple[GitSource, ...],
    requires: Requirements,
    versions: Pairs,
    labels: Pairs,
    parents: Pairs = (),
) -> SourceTarget:
    """A target as a foundation has it; the image of a row has more."""
    own, project, (devel, runtime) = sources_of(matrix), matrix.project, foundation_lock.images
    return SourceTarget(
        name=_name(image, tag),
        recipe=recipe,
        row=tag,
        variant=None,
        tag=tag,
        reference=f"{project.registry}/{project.namespace}/{image.name}:{tag}",
        platform=matrix.chip.platform,
        base=source_base(matrix),
        cuda_devel=_reference(devel),
        cuda_runtime=_reference(runtime),
        parents=parents,
        apt_snapshot=apt_snapshot,
        os_packages=tuple(sorted({*matrix.os_packages, *own.runtime_os_packages})),
        build_os_packages=tuple(sorted(own.build_os_packages)),
        source_date_epoch=foundation_lock.source_date_epoch,
        sources=sources,
        fetches=(),
        patches=(),
        build_requirements=requires,
        environment=None,
        installer=foundation_lock.installer,
        torch_arch_list=own.torch_arch,
        vllm_arch_list=own.vllm_arch,
        nccl_gencode=own.nccl_gencode,
        jit_arch=matrix.chip.jit_arch,
        existing_torch="",
        rust=False,
        gib_per_job=own.gib_per_job,
        differing=(),
        versions=versions,
        overrides=(),
        labels=labels,
    )


def _by_version(table: Pairs, version: str) -> str:
    found = next((what for some, what in table if admits(some, version)), None)
    if found is None:
        raise LockError(f"matrix.yaml: source.existing_torch: has nothing for vLLM {version}; add it")
    return found


def git_source(matrix: Matrix, pin: Pin) -> GitSource:
    """A pin with where its repository is, as recipes have it."""
    repository = sources_of(matrix).repository(pin.name)
    return GitSource(
        name=pin.name,
        repository=repository.url,
        tag=pin.tag,
        commit=pin.commit,
        submodules=repository.submodules,
    )


def _fetch(matrix: Matrix, pin: Pin) -> Fetch:
    repository = sources_of(matrix).repository(pin.name)
    return Fetch(source=git_source(matrix, pin), variable=repository.variable or "", folder=repository.folder)


def compiled_patches(series: Series, version: str, variant: str | None = None) -> tuple[CompiledPatch, ...]:
    """The patches of a release in order; none of one that nothing is claimed of yet, see `open_patches`.

    Raises:
        UsageError: there is no such variant of the release.
    """
    if variant is None and version in dict(series.pending):
        return ()
    chosen = select(series, version, variant).patches
    return tuple(CompiledPatch(name=one.name, text=one.text, checks=one.effects) for one in chosen)
