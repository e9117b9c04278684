"""Gather what the release notes of a row say: its contents, what changed since another, what goes wrong, the way back.

A pure function of the matrix, locks, records, patches and known issues; `notespage` writes it down.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sparkbake.delta import Delta
from sparkbake.knownissues import Issue, is_about
from sparkbake.model import Environment, Matrix, Newer, Override, Pairs, Row, Strategy, Trim
from sparkbake.noteschanges import Record, Side, Update, bases_of, make_update
from sparkbake.patches import Series, Waiver, outcomes
from sparkbake.resolve import trims_of
from sparkbake.rules import CodeRule
from sparkbake.versions import admits


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedPatch:
    """A patch of vLLM's sources, as the series has it."""

    name: str
    reason: str
    upstream: str
    drop_when: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Back:
    """What one goes back to from a row.

    Attributes:
        tags: all of them: of the revision before, if that is not withdrawn, and `previous`.
        previous: the last row before it that somebody can have; None where there is none.
        digests: recorded of `previous`, by base.
        passed: tags between them that nobody can have: not published, and with pins that are open.
        update: what changed since `previous`, where the notes compare with a row that nobody has an image of.
    """

    tags: tuple[str, ...]
    previous: str | None
    is_published: bool
    digests: Pairs
    passed: tuple[str, ...]
    update: Update | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Notes:
    """All that the release notes of a row say.

    Attributes:
        repository: image name without a tag, "docker.io/sparks/spark-vllm".
        replaces: tag of the revision before; None of the first.
        withdrawn: why no moving tag names the row any more; None when one may.
        open_pins: what is not known yet; a compiled row cannot be built before it is.
        is_locked: whether packages, and what is left out of them, are known.
        foundation: name of what it stands on; `torch` and all below come with it.
        note: what is to be known of it alone; None when nothing is.
        limits: what is known not to work in it, a sentence each.
        update: since the row that was asked for; None of the first of its major.
        back: what to go back to.
        patches_why: why there are none; "" when there are.
        code: libraries whose device code is worse for the chip than that of the others.
    """

    tag: str
    replaces: str | None
    repository: str
    strategy: Strategy
    foundation: str
    note: str | None
    limits: tuple[str, ...]
    is_published: bool
    withdrawn: str | None
    open_pins: tuple[str, ...]
    is_locked: bool
    versions: Pairs
    records: tuple[Record, ...]
    update: Update | None
    back: Back
    overrides: tuple[Override, ...]
    newer: tuple[Newer, ...]
    patches: tuple[AppliedPatch, ...]
    patches_why: str
    trims: tuple[Trim, ...]
    issues: tuple[Issue, ...]
    code: tuple[CodeRule, ...]


def previous_row(row: Row, rows: Sequence[Row], *, without: Collection[str] = ()) -> Row | None:
    """The row before it in the matrix that has the same major of transformers; None of the first.

    Args:
        rows: all of the matrix, however they are made.
        without: tags that are passed over.
    """
    before = rows[: [one.tag for one in rows].index(row.tag)]
    same = [one for one in before if one.variant.major == row.variant.major and one.tag not in without]
    return same[-1] if same else None


def make_notes(
    matrix: Matrix,
    side: Side,
    *,
    since: Side | None,
    previous: Side | None,
    passed: Sequence[str] = (),
    series: Series,
    issues: Sequence[Issue],
    images: Delta | None = None,
) -> Notes:
    """Gather the release notes of a row.

    Args:
        since: what it is compared with; None of the first of its major.
        previous: what one goes back to, and `passed` the tags that are no way back.
        images: of `since` and of the row, held against each other.
    """
    row, release = side.row, side.row.release
    withdrawn = {one.tag: one.reason for one in matrix.tagging.withdrawn}
    applied, why = _patches(series, row)
    return Notes(
        tag=row.tag,
        replaces=row.replaces[0] if row.replaces else None,
        repository=_repository(matrix),
        strategy=release.strategy,
        foundation=row.foundation.name,
        note=row.variant.exceptions.note,
        limits=tuple(one.sentence for one in release.limits),
        is_published=release.published,
        withdrawn=withdrawn.get(row.tag),
        open_pins=side.open_pins,
        is_locked=side.environments is not None,
        versions=row.versions,
        records=side.records,
        update=make_update(matrix, side, since, images) if since else None,
        back=_back(matrix, side, since, previous, passed),
        overrides=row.overrides,
        newer=release.newer,
        patches=applied,
        patches_why=why,
        trims=_trims(matrix, side),
        issues=tuple(one for one in issues if is_about(one, row)),
        code=_code(matrix, row),
    )


def _back(matrix: Matrix, side: Side, since: Side | None, previous: Side | None, passed: Sequence[str]) -> Back:
    withdrawn = {one.tag for one in matrix.tagging.withdrawn}
    before = [one for one in side.row.replaces[:1] if one not in withdrawn]
    compared = previous if since and not since.can_be_had else None
    return Back(
        tags=(*before, *([previous.row.tag] if previous else [])),
        previous=previous.row.tag if previous else None,
        is_published=bool(previous and previous.row.release.published),
        digests=tuple((one.base, one.image.digest) for one in previous.records) if previous else (),
        passed=tuple(passed),
        update=make_update(matrix, side, compared, None) if compared else None,
    )


def _repository(matrix: Matrix) -> str:
    image = next(one for one in matrix.images if one.key == "vllm")
    return f"{matrix.project.registry}/{matrix.project.namespace}/{image.name}"


def _trims(matrix: Matrix, side: Side) -> tuple[Trim, ...]:
    """What is left out of an image that is installed from wheels; of a compiled one nothing is."""
    if side.row.release.strategy is Strategy.SOURCE:
        return ()
    found: Iterable[Environment | None] = map(side.environment, bases_of(matrix, side))
    environment = next((one for one in found if one), None)
    return trims_of(environment, matrix.trims) if environment else ()


def _code(matrix: Matrix, row: Row) -> tuple[CodeRule, ...]:
    """Rules that speak of what upstream compiles, and so of no compiled row."""
    if row.release.strategy is Strategy.SOURCE:
        return ()
    return tuple(one for one in matrix.rules.code if one.versions is None or admits(one.versions, row.release.vllm))


def _patches(series: Series, row: Row) -> tuple[tuple[AppliedPatch, ...], str]:
    """The patches of a row's sources, and why there are none."""
    version, component = row.release.vllm, series.component
    if row.release.strategy is Strategy.WHEELS:
        return (), f"the image has upstream's own wheel of {component}"
    if why := dict(series.pending).get(version):
        return (), f"nothing is claimed of {component} {version} yet: {why}"
    if all(one.version != version for one in series.releases):
        return (), f"no patch was tried on {component} {version}"
    variants = {one.name: one.variant for one in series.topics}
    found = [one for one in outcomes(series, version) if variants[one.topic] is None]
    applied = tuple(
        AppliedPatch(name=one.name, reason=one.reason, upstream=one.upstream, drop_when=one.drop_when)
        for one in found
        if not isinstance(one, Waiver)
    )
    return applied, "" if applied else f"{component} {version} needs none"
