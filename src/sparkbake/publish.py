"""Decide what is published: which image may go to a registry, which tags name it there, and what is refused and why.

The tag of a row names one image for ever. A moving tag follows the rows: it belongs to the highest that it is about.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from packaging.version import Version

from sparkbake.expected import Expected
from sparkbake.model import LocalImage, Row, Target
from sparkbake.tagging import Tagging, tags_of


class Deed(StrEnum):
    """What becomes of a tag."""

    PUSH = "push"
    DONE = "nothing to do"
    MOVE = "move"
    STAYS = "stays"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A row that is to be published, with all that speaks for and against it.

    Attributes:
        target: as this checkout would build it, on the base that the image has.
        image: that the engine has under its tag; None when it has none.
        trimmed: what the image's label says is left out, and what the plan leaves out.
        report: the text of its verify report; None when there is none.
        is_clean: what `verify.is_clean_report` says of it.
        plan_digest, checks_digest: of this checkout; see `manifest.plan_digest` and `verifying`.
        recorded: None when nothing is recorded of the row on its base.
    """

    target: Target
    image: LocalImage | None
    trimmed: tuple[str, str]
    report: str | None
    is_clean: bool
    plan_digest: str
    checks_digest: str
    recorded: Expected | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What becomes of one tag, and why.

    Attributes:
        row: whose image it names, or is to name.
        digest: of that image, 'sha256:' + 64 hex; None when there is none.
        present: what the tag names in the registry now; None when it is not there.
        why: "" where there is nothing to say.
    """

    tag: str
    row: str
    is_moving: bool
    deed: Deed
    digest: str | None
    present: str | None
    why: str


# ---- what may be published


def objections(one: Candidate) -> Iterator[str]:
    """Why the image of a row may not be published: each with what was found, what is expected, and the remedy."""
    tag, base = one.target.tag, one.target.base.name
    build, verify = f"`nox -s build -- {tag} --base {base}`", f"`nox -s verify -- {tag}`"
    if one.image is None:
        yield f"the engine has no such image; run {build}"
        return
    said, planned = one.trimmed
    if said != planned:
        yield f"its label says that it lacks files of '{said}', expected '{planned}'; run {build} without --no-trim"
        return
    yield from _unverified(one, one.image.digest, build=build, verify=verify)
    if one.recorded and one.recorded.digest != one.image.digest:
        yield (
            f"the engine has {one.image.digest}, locks/digests has {one.recorded.digest}; build what is recorded, or "
            f"record what is found clean: `nox -s build -- {tag} --base {base} --record`"
        )


def _unverified(one: Candidate, digest: str, *, build: str, verify: str) -> Iterator[str]:
    """How its report fails to say that just this image was found clean by just these checks, its programs run."""
    body = _report(one.report)
    if body is None:
        yield f"{'not verified' if one.report is None else 'its verify report is damaged'}; run {verify}"
        return
    if body.get("digest") != digest:
        yield f"verified was {body.get('digest')}, the engine has {digest}; run {verify}"
    elif body.get("plan_digest") != one.plan_digest:
        yield (
            "it was verified as an image of other inputs (recipes, lock or matrix have changed): plan "
            f"{body.get('plan_digest')}, now {one.plan_digest}; run {build}"
        )
    elif body.get("checks_digest") != one.checks_digest:
        yield f"it was verified by other checks than those of this checkout; run {verify}"
    elif body.get("clean") is not True:
        yield f"verify found {_errors(body)} errors in it; `nox -s verify -- {one.target.tag}` lists them"
    elif body.get("programs") not in ("natively", "under emulation"):
        yield f"its programs were not run when it was verified; run {verify} without --no-run"
    elif not one.is_clean:
        yield f"it no longer counts as clean: a waiver has expired; run {verify}"


def _report(text: str | None) -> dict[str, Any] | None:
    try:
        body = json.loads(text or "")
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _errors(body: Mapping[str, Any]) -> int:
    found = body.get("findings")
    return sum(isinstance(one, dict) and one.get("severity") == "error" for one in found or ())


def packing_faults(manifest: bytes) -> Iterator[str]:
    """How the layers of an image are not packed as published images are."""
    try:
        layers = json.loads(manifest)["layers"]
        kinds = [str(one["mediaType"]) for one in layers]
    except (ValueError, KeyError, TypeError) as err:
        yield f"its manifest is that of no image: {err!r}"
        return
    for kind in sorted({one for one in kinds if not one.endswith("+zstd")}):
        count = f"{kinds.count(kind)} of its {len(kinds)} layers"
        yield f"{count} are '{kind}', expected all to be zstd; build it without --compression"


# ---- where tags go


def own_step(one: Candidate, present: str | None) -> Step:
    """What becomes of the tag of a row.

    Args:
        present: digest that the tag has in the registry now.
    """
    digest = one.image.digest if one.image else None
    why = "; ".join(objections(one))
    if why:
        deed = Deed.REFUSED
    elif present is None:
        deed, why = Deed.PUSH, "" if one.recorded else "its digest is not recorded"
    else:
        deed = Deed.DONE if present == digest else Deed.REFUSED
        why = "" if present == digest else immutable(one.target.tag, present, digest)
    return Step(
        tag=one.target.tag, row=one.target.tag, is_moving=False, deed=deed, digest=digest, present=present, why=why
    )


def immutable(tag: str, present: str, digest: str | None) -> str:
    """Why a tag of a row is not changed, with the remedy."""
    return (
        f"the registry has {present} under {tag}, this image is {digest}: the tag of a row never changes; build what "
        "is published (check out the commit it was built from), or make a row of its own of what differs"
    )


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


def moving_steps(
    published: Mapping[str, str], rows: Sequence[Row], tagging: Tagging, present: Mapping[str, str | None]
) -> tuple[Step, ...]:
    """What becomes of each moving tag that may name one of the rows being published.

    A tag that belongs to a row which is published already, and is not asked for now, stays: only what was held against
    its verify report in this run is given a tag.

    Args:
        published: tag to digest of the rows that are published in this run.
        rows: of the whole matrix.
        present: digest that a tag has in the registry, of moving tags and of all rows that they may name.
    """
    asked = [one for one in rows if one.tag in published]
    names = dict.fromkeys(name for row in asked for name in moving_tags(row, tagging))
    return tuple(_moving_step(name, contenders(name, rows, tagging), published, present) for name in names)


def _moving_step(
    name: str, ranked: Sequence[Row], published: Mapping[str, str], present: Mapping[str, str | None]
) -> Step:
    highest = next(one.tag for one in ranked if one.tag in published or present.get(one.tag))
    now = present.get(name)
    if highest not in published:
        why = f"{highest} is in the registry and ranks above; it moves when that row is published"
        digest, deed = present.get(highest), Deed.STAYS
        if now == digest:
            why = f"it names {highest}, which ranks above"
    else:
        digest, why = published[highest], ""
        deed = Deed.DONE if now == digest else Deed.MOVE
    return Step(tag=name, row=highest, is_moving=True, deed=deed, digest=digest, present=now, why=why)


def tags_to_read(tags: Sequence[str], rows: Sequence[Row], tagging: Tagging) -> tuple[str, ...]:
    """All tags that must be known of a registry before some rows are published; each once."""
    names = dict.fromkeys(name for row in rows if row.tag in tags for name in moving_tags(row, tagging))
    ranked = (contender.tag for name in names for contender in _above(name, tags, rows, tagging))
    return tuple(dict.fromkeys((*tags, *names, *ranked)))


def _above(name: str, tags: Sequence[str], rows: Sequence[Row], tagging: Tagging) -> Iterator[Row]:
    """The rows that a moving tag would rather name than the highest of those that are asked for."""
    for row in contenders(name, rows, tagging):
        if row.tag in tags:
            return
        yield row
