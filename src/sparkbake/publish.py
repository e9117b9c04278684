"""Decide what is published: what becomes of which tag in a registry, and what is refused and why.

The tag of a row names one image for ever. A moving tag follows the rows: it belongs to the highest that it is about.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from packaging.version import Version

from sparkbake.model import Row
from sparkbake.publishable import Candidate, Present, immutable, is_taken, objections
from sparkbake.tagging import Tagging, tags_of


class Deed(StrEnum):
    """What becomes of a tag."""

    PUSH = "push"
    ATTEST = "attest"
    SIGN = "sign"
    DONE = "nothing to do"
    MOVE = "move"
    STAYS = "stays"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """The image of a row that is published in this run.

    Attributes:
        image: its digest.
        names: digest of the index that the tag of the row names; None before that is known.
    """

    image: str
    names: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What becomes of one tag, and why.

    Attributes:
        row: whose image it names, or is to name.
        digest: of that image, 'sha256:' + 64 hex; None when there is none.
        names: digest of the index with that image that the tag is to name; None while that is not known.
        present: what the tag names in the registry now, an index or an image; None when it is not there.
        why: "" where there is nothing to say.
    """

    tag: str
    row: str
    is_moving: bool
    deed: Deed
    digest: str | None
    names: str | None
    present: str | None
    why: str


# ---- where tags go


def own_step(one: Candidate, present: Present | None) -> Step:
    """What becomes of the tag of a row, or of a foundation.

    Args:
        present: what the tag has in the registry now.
    """
    digest = one.image.digest if one.image else None
    if present and is_taken(one, present.named):
        digest = present.named.images[0][0]
    deed, why = _own_deed(one, digest, present)
    now = present.named.digest if present else None
    stays = deed in (Deed.DONE, Deed.SIGN)
    return Step(
        tag=one.target.tag,
        row=one.target.tag,
        is_moving=False,
        deed=deed,
        digest=digest,
        names=now if stays else None,
        present=now,
        why=why,
    )


def _own_deed(one: Candidate, digest: str | None, present: Present | None) -> tuple[Deed, str]:
    if present and is_taken(one, present.named):
        return _said_deed(present, is_taken=True)
    why = "; ".join(objections(one, present.named if present else None))
    if why or digest is None:
        return Deed.REFUSED, why
    if present is None:
        # Nobody has measured how far compiling gives the same bytes, so that there is nothing to record.
        unrecorded = "compiled images have no recorded digest" if one.is_compiled else "its digest is not recorded"
        return Deed.PUSH, "" if one.recorded else unrecorded
    if not present.named.is_of(digest):
        return Deed.REFUSED, immutable(one, present.named, digest)
    if not present.named.is_attested:
        return Deed.ATTEST, "the registry has this image without a bill of materials and provenance"
    return _said_deed(present, is_taken=False)


def _said_deed(present: Present, *, is_taken: bool) -> tuple[Deed, str]:
    """What becomes of what the registry says of the right image: this signer signs nothing that others say of it.

    Args:
        is_taken: see `publishable.is_taken`; then there is nothing here to say in its place.
    """
    if present.faults:
        why = f"what the registry says of it does not hold: {'; '.join(present.faults)}"
    elif not present.is_vouched_for:
        why = "what the registry says of it was signed by nobody, or by others"
    else:
        return (Deed.DONE, "") if present.is_signed else (Deed.SIGN, "the registry has it without this signature")
    if is_taken:
        return Deed.REFUSED, f"{why}; publish it from where it was built, as the same signer, then this again"
    return Deed.ATTEST, f"{why}; it is replaced"


def rank(row: Row) -> tuple[Version, int, int]:
    """Release, major of transformers, and the number after -v at the end of the tag: the higher, the later."""
    _tag, _v, number = row.tag.rpartition("-v")
    return Version(row.release.vllm), row.variant.major, int(number) if _v and number.isdigit() else 1


def moving_tags(row: Row, tagging: Tagging) -> tuple[str, ...]:
    """The moving tags that may name a row."""
    return tags_of(tagging, row.tag, release=row.release.vllm, major=row.variant.major)


def contenders(tag: str, rows: Sequence[Row], tagging: Tagging) -> tuple[Row, ...]:
    """The rows that a moving tag may name, the highest first."""
    return tuple(sorted((one for one in rows if tag in moving_tags(one, tagging)), key=rank, reverse=True))


def ranked_tags(tag: str, rows: Sequence[Row], tagging: Tagging) -> tuple[str, ...]:
    """What a moving tag may name, the highest first: tags of rows, each before those that it replaces."""
    withdrawn = {one.tag for one in tagging.withdrawn}
    ranked = (name for row in contenders(tag, rows, tagging) for name in (row.tag, *row.replaces))
    return tuple(name for name in ranked if name not in withdrawn)


def moving_steps(
    published: Mapping[str, Published], rows: Sequence[Row], tagging: Tagging, present: Mapping[str, str | None]
) -> tuple[Step, ...]:
    """What becomes of each moving tag that may name one of the rows being published.

    A tag that belongs to a row which is published already, and is not asked for now, stays: only what was held against
    its verify report in this run is given a tag.

    Args:
        published: tag to image of the rows that are published in this run.
        rows: of the whole matrix.
        present: digest that a tag has in the registry, of moving tags and of all rows that they may name.
    """
    asked = [one for one in rows if one.tag in published]
    names = dict.fromkeys(name for row in asked for name in moving_tags(row, tagging))
    return tuple(_moving_step(name, ranked_tags(name, rows, tagging), published, present) for name in names)


def _moving_step(
    name: str, ranked: Sequence[str], published: Mapping[str, Published], present: Mapping[str, str | None]
) -> Step:
    highest = next(one for one in ranked if one in published or present.get(one))
    now, why = present.get(name), ""
    if highest in published:
        digest: str | None = published[highest].image
        names = published[highest].names
        deed = Deed.DONE if now is not None and now == names else Deed.MOVE
    else:
        digest = names = present.get(highest)
        why = f"{highest} is in the registry and ranks above; it moves when that row is published"
        deed = Deed.STAYS
        if now == names:
            why = f"it names {highest}, which ranks above"
    return Step(tag=name, row=highest, is_moving=True, deed=deed, digest=digest, names=names, present=now, why=why)


def tags_to_read(tags: Sequence[str], rows: Sequence[Row], tagging: Tagging) -> tuple[str, ...]:
    """All tags that must be known of a registry before some rows are published; each once."""
    names = dict.fromkeys(name for row in rows if row.tag in tags for name in moving_tags(row, tagging))
    ranked = (contender for name in names for contender in _above(name, tags, rows, tagging))
    return tuple(dict.fromkeys((*tags, *names, *ranked)))


def _above(name: str, tags: Sequence[str], rows: Sequence[Row], tagging: Tagging) -> Iterator[str]:
    """What a moving tag would rather name than the highest of the rows that are asked for."""
    for tag in ranked_tags(name, rows, tagging):
        if tag in tags:
            return
        yield tag
