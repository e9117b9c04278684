"""Say of one image whether it may be published: what speaks for it, what against it, each with the remedy.

`publish` goes on from here to the tags.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sparkbake.attest import Named, digest_in_bill
from sparkbake.expected import Expected
from sparkbake.model import LocalImage, Pairs, Target
from sparkbake.sourcemodel import SourceTarget


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An image of a row, or of a foundation that one stands on, with all that speaks for and against publishing it.

    Attributes:
        target: as this checkout would build it, on the base that the image has.
        row: what `build` and `verify` are given for it: its tag, of a foundation that of a row that stands on it.
        image: that the engine has under its tag; None when it has none.
        trimmed: what the image's label says is left out, and what the plan leaves out.
        report: the text of its verify report; None when there is none.
        is_clean: what `verify.is_clean_report` says of it.
        plan_digest, checks_digest: of this checkout; see `manifest.plan_digest` and `verifying`.
        recorded: None when nothing is recorded of the row on its base, as of no image that is compiled.
        recorded_on: the other bases on which something is recorded of the row.
        bill, provenance: the texts that `verify` and `build` keep; None when there is none.
        made_into: reference of each image to be published with it that was made from it, and the digest by which the
            provenance of that one names it; none of the image of a row.
    """

    target: Target | SourceTarget
    row: str
    image: LocalImage | None
    trimmed: tuple[str, str]
    report: str | None
    is_clean: bool
    plan_digest: str
    checks_digest: str
    recorded: Expected | None
    recorded_on: tuple[str, ...]
    bill: str | None
    provenance: str | None
    made_into: Pairs

    @property
    def is_compiled(self) -> bool:
        return isinstance(self.target, SourceTarget)

    @property
    def is_foundation(self) -> bool:
        return isinstance(self.target, SourceTarget) and self.target.is_foundation

    @property
    def build(self) -> str:
        """The command that builds it."""
        base = "" if self.is_compiled else f" --base {self.target.base.name}"
        return f"`nox -s build -- {self.row}{base}`"

    @property
    def anew(self) -> str:
        """The commands that build it where the engine has one: of a foundation no build makes another then."""
        return f"`docker image rm {self.target.reference}`, then {self.build}" if self.is_foundation else self.build

    @property
    def verify(self) -> str:
        """The command that verifies it; that for a row does so with its foundations, too."""
        return f"`nox -s verify -- {self.row}`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Present:
    """What a tag has in a registry, and what speaks for leaving it there; `judging` finds that out.

    Attributes:
        faults: what a consumer would find wrong with it, but for signatures.
        is_vouched_for: whether what it says of the image is said by who signs now, or by this checkout; True where
            nobody signs, since nothing is vouched for then.
        is_signed: whether all in it is signed by who signs now; True where nobody does.
    """

    named: Named
    faults: tuple[str, ...] = ()
    is_vouched_for: bool = False
    is_signed: bool = False


def is_there(one: Candidate, present: Present) -> bool:
    """Whether a registry has an image with what is rightly said of it, so that at most a signature is missing."""
    return is_about(one, present.named) and present.is_vouched_for and not present.faults


def is_about(one: Candidate, present: Named) -> bool:
    """Whether a registry has an image, and says something of it, be that true or not."""
    is_ours = one.image is not None and present.is_of(one.image.digest)
    return present.is_attested and (is_ours or is_taken(one, present))


def is_taken(one: Candidate, present: Named) -> bool:
    """Whether a foundation is that of the registry: what is published was made from it, and there is no other here.

    A build that takes it from there does not bring it into the engine, and knows it by the digest of its index.
    """
    if one.image is not None and one.image.digest != present.digest:
        return False
    images = [digest for digest, _platform in present.images]
    named = {digest for _reference, digest in one.made_into}
    return present.is_attested and len(images) == 1 and bool(named) and named <= {present.digest, *images}


# ---- what speaks against it


def objections(one: Candidate, present: Named | None = None) -> Iterator[str]:
    """Why an image may not be published: each with what was found, what is expected, and the remedy.

    Args:
        present: what its tag has in the registry now; None when nothing.
    """
    if one.image is None:
        yield _missing(one)
        return
    said, planned = one.trimmed
    if said != planned:
        yield f"its label says that '{said}' is trimmed, expected '{planned}'; run {one.build} without --no-trim"
        return
    unverified = tuple(_unverified(one, one.image.digest))
    yield from unverified or _unexplained(one, one.image.digest)
    # A build that takes an image from a registry knows it by the digest of its index.
    known_as = (one.image.digest, *((present.digest,) if present and present.is_of(one.image.digest) else ()))
    for reference, digest in one.made_into:
        if digest not in known_as:
            yield f"{reference} was made from {digest}, the engine has {one.image.digest}; run {one.build}"
    if one.recorded and one.recorded.digest != one.image.digest:
        yield (
            f"the engine has {one.image.digest}, locks/digests has {one.recorded.digest}; build what is recorded, or "
            f"record what is found clean: {one.build.rstrip('`')} --record`"
        )
    if one.recorded is None and one.recorded_on:
        bases = " and ".join(one.recorded_on)
        yield (
            f"locks/digests has the row on {bases} and not on {one.target.base.name}, so that no page would name this "
            f"image; build on what is recorded: `nox -s build -- {one.row} --base {one.recorded_on[0]}`, or record "
            f"this: {one.build.rstrip('`')} --record`"
        )


def _missing(one: Candidate) -> str:
    if not one.made_into:
        return f"the engine has no such image; run {one.build}"
    made, digests = (", ".join(dict.fromkeys(some)) for some in zip(*one.made_into, strict=True))
    return (
        f"the engine has no such image, and this registry not the one that {made} was made from, {digests}; copy that "
        "one there (`docker buildx imagetools create`), or publish from where it was built"
    )


def _unverified(one: Candidate, digest: str) -> Iterator[str]:
    """How its report fails to say that just this image was found clean by just these checks, its programs run."""
    body = _json_object(one.report)
    if body is None:
        yield f"{'not verified' if one.report is None else 'its verify report is damaged'}; run {one.verify}"
        return
    if body.get("digest") != digest:
        yield f"verified was {body.get('digest')}, the engine has {digest}; run {one.verify}"
    elif body.get("plan_digest") != one.plan_digest:
        yield (
            "it was verified as an image of other inputs (recipes, lock or matrix have changed): plan "
            f"{body.get('plan_digest')}, now {one.plan_digest}; run {one.anew}"
        )
    elif body.get("checks_digest") != one.checks_digest:
        yield f"it was verified by other checks than those of this checkout; run {one.verify}"
    elif body.get("clean") is not True:
        yield f"verify found {_errors(body)} errors in it; {one.verify} lists them"
    elif body.get("programs") not in ("natively", "under emulation"):
        yield f"its programs were not run when it was verified; run {one.verify} without --no-run"
    elif not one.is_clean:
        yield f"it no longer counts as clean: a waiver has expired; run {one.verify}"


def _unexplained(one: Candidate, digest: str) -> Iterator[str]:
    """What cannot be said of just this image, and is to be said of each that is published."""
    if digest_in_bill(one.bill or "") != digest:
        yield f"there is no bill of materials of it; run {one.verify}"
    if not is_provenance_of(one.provenance, digest):
        yield f"it is not known how it was built; run {one.anew}, which takes from its cache what it has"


def is_explained(one: Candidate) -> bool:
    """Whether this checkout has what is to be said of the engine's image."""
    return one.image is not None and not any(_unexplained(one, one.image.digest))


def is_provenance_of(text: str | None, digest: str) -> bool:
    """Whether what a build has kept is about an image."""
    return (_json_object(text) or {}).get("digest") == digest


def _json_object(text: str | None) -> dict[str, Any] | None:
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


def immutable(one: Candidate, present: Named, digest: str) -> str:
    """Why a tag of an image is not changed, with the remedy.

    Args:
        digest: of the image that was to have it.
    """
    tag = one.target.tag
    there = " and ".join(found for found, _platform in present.images) or "no image"
    told = f"the registry has {there} under {tag}, this image is {digest}: the tag of a"
    if one.is_foundation:
        return (
            f"{told} foundation never changes; build on what is published ({one.anew}), or, where that was made from "
            "something else, give the foundation another name in matrix.yaml"
        )
    return (
        f"{told} row never changes; build what is published (check out the commit it was built from), or give the row "
        "a higher `revision` in matrix.yaml"
    )
