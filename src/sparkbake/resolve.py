"""Turn the matrix and its locks into a plan: all decisions are made here, templates only write them down."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sparkbake.errors import LockError, MatrixError, UsageError
from sparkbake.labels import image_labels
from sparkbake.layers import difference, split
from sparkbake.model import Base, Environment, ImageKind, Layer, Lock, Matrix, Plan, Row, Target, Trim, Wheel
from sparkbake.versions import admits

_IMAGE = "vllm"


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenBase:
    """A base with what its lock says: its name for labels, the digest of its manifest for the
    target's architecture, and its archive snapshot.
    """

    base: Base
    reference: str
    digest: str
    apt_snapshot: str | None


def select(rows: Sequence[Row], patterns: Sequence[str]) -> tuple[Row, ...]:
    """The rows whose tag equals or matches one of the patterns (`*`, `?`, `[...]`), in the order of the matrix.

    Raises:
        UsageError: no pattern is given, or one matches nothing; the message lists the nearest tags.
    """
    tags = [row.tag for row in rows]
    if not patterns:
        raise UsageError(f"no tag given; expected one or more of {', '.join(tags)}, or a pattern such as '0.20.*-t5'")
    for pattern in patterns:
        if not any(fnmatchcase(tag, pattern) for tag in tags):
            later = next((row.tag for row in rows if pattern in row.replaces), None)
            raise UsageError(_replaced(pattern, later) if later else _no_such_tag(pattern, tags))
    return tuple(row for row in rows if any(fnmatchcase(row.tag, pattern) for pattern in patterns))


def _replaced(tag: str, later: str) -> str:
    return (
        f"'{tag}': {later} replaced it, and is what this checkout has; name that, or check out the commit that the "
        "old one was built from"
    )


def _no_such_tag(pattern: str, tags: Sequence[str]) -> str:
    if not pattern.strip():
        return "got an empty tag or pattern; `nox -s list` lists the tags"
    near = difflib.get_close_matches(pattern, tags, n=3, cutoff=0.4)
    hint = f"the nearest are {', '.join(near)}; " if near else ""
    kind = "pattern matches no tag" if any(one in pattern for one in "*?[") else "no such tag"
    return f"'{pattern}': {kind}; {hint}`nox -s list` lists all"


def resolve(
    matrix: Matrix,
    rows: Sequence[Row],
    locks: Mapping[str, Lock],
    frozen: FrozenBase,
    siblings: Mapping[str, Lock],
    *,
    trim: bool = True,
) -> Plan:
    """Plan the images of some rows on one base.

    Args:
        locks: tag to lock, of all these rows.
        siblings: tag to lock, of the other rows of the same releases; what differs from them goes into a last layer.
        trim: whether images do without what the matrix's trims name.

    Raises:
        LockError: an environment cannot be put into layers.
    """
    return Plan(targets=tuple(_target(matrix, row, locks[row.tag], frozen, siblings, trim=trim) for row in rows))


def siblings_of(row: Row, rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows of the same release with another transformers major."""
    return tuple(one for one in rows if one.release.vllm == row.release.vllm and one.tag != row.tag)


def reference_of(matrix: Matrix, row: Row) -> str:
    """What the image of any row is called, "docker.io/scitrera/dgx-spark-vllm:0.32.0-t5"."""
    project = matrix.project
    return f"{project.registry}/{project.namespace}/{_image(matrix).name}:{row.tag}"


def _image(matrix: Matrix) -> ImageKind:
    image = next((one for one in matrix.images if one.key == _IMAGE), None)
    if image is None:
        raise MatrixError([f"matrix.yaml: images: has no '{_IMAGE}', which every release is built as; add it"])
    return image


def _target(
    matrix: Matrix, row: Row, lock: Lock, frozen: FrozenBase, siblings: Mapping[str, Lock], *, trim: bool
) -> Target:
    image = _image(matrix)
    environment = _environment(lock, frozen.base)
    others = [
        _environment(other, frozen.base).wheels
        for tag, other in siblings.items()
        if tag != row.tag and tag.rpartition("-t")[0] == row.release.vllm
    ]
    trims = trims_of(environment, matrix.trims) if trim else ()
    return Target(
        name=f"{image.name}-{row.tag}".replace(".", "_"),
        tag=row.tag,
        reference=reference_of(matrix, row),
        platform=matrix.chip.platform,
        base=frozen.base,
        base_reference=frozen.reference,
        base_digest=frozen.digest,
        apt_snapshot=frozen.apt_snapshot,
        os_packages=tuple(sorted(matrix.os_packages)),
        compute_capability=matrix.chip.compute_capability,
        jit_arch=matrix.chip.jit_arch,
        source_date_epoch=lock.source_date_epoch,
        environment=environment,
        installer=lock.installer,
        layers=_layers(matrix, row, environment, others),
        collisions=matrix.collisions,
        trims=trims,
        versions=row.versions,
        overrides=row.overrides,
        labels=image_labels(
            matrix, row, lock, image=image, base_name=frozen.reference, base_digest=frozen.digest, trims=trims
        ),
    )


def _layers(
    matrix: Matrix, row: Row, environment: Environment, siblings: Sequence[Sequence[Wheel]]
) -> tuple[Layer, ...]:
    differing = difference(environment.wheels, siblings)
    try:
        return split(environment.wheels, matrix.groups, differing, own_layer_bytes=matrix.own_layer_bytes)
    except LockError as err:
        raise LockError(f"{row.tag}: {err}") from err


def trims_of(environment: Environment, trims: Sequence[Trim]) -> tuple[Trim, ...]:
    """The trims that are about a package of this environment, in its version."""
    versions = {one.name: one.version for one in environment.wheels}
    return tuple(
        one
        for one in trims
        if one.package in versions and (one.versions is None or admits(one.versions, versions[one.package]))
    )


def _environment(lock: Lock, base: Base) -> Environment:
    environment = lock.environment(base.name)
    if environment is None:
        raise LockError(f"the lock of {lock.tag} has no environment for {base.name}; run `nox -s lock -- {lock.tag}`")
    return environment
