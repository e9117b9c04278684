"""Push an image with what is said of it, sign that, and only then let tags name it."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparkbake.attest import MANIFEST_TYPE, Named, Part, read_named
from sparkbake.blobs import folder, open_blob
from sparkbake.checking import faults_of
from sparkbake.errors import ImageError, RegistryError, VerifyError
from sparkbake.images import OpenImage, open_image
from sparkbake.judging import is_all_signed, judge_tag, read_tag, said_of
from sparkbake.project import Project
from sparkbake.publishable import Candidate, immutable, is_there, packing_faults
from sparkbake.registry import Manifest, Repository
from sparkbake.saving import save_image
from sparkbake.signing import Signer, sign
from sparkbake.tables import say


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What came of a row.

    Attributes:
        names: digest of the index that its tag names now.
        sent_bytes: that the registry did not have.
    """

    names: str
    sent_bytes: int


def publish_row(project: Project, one: Candidate, repository: Repository, signer: Signer | None) -> Sent:
    """Push an image and its attestations without a tag, check and sign them, then tag them.

    A tag that names this image already, with attestations that hold and that this signer vouches for, stays as it is:
    those of this build say nothing more.
    """
    tag, present = one.target.tag, judge_tag(project, one, repository, signer)
    if present and is_there(one, present):
        if not present.is_signed:
            ensure_signed(repository, present.named, signer)
        say(f"{tag}: nothing to do, {repository} has {present.named.images[0][0]} under this tag")
        return Sent(names=present.named.digest, sent_bytes=0)
    if one.image is None:
        raise ImageError(f"{one.target.reference}: the engine has no such image any more")
    digest = one.image.digest
    with tempfile.TemporaryDirectory(prefix="publish-", dir=project.build) as place:
        sent_bytes = _ensure_image(one, digest, repository, Path(place))
        image = repository.manifest(digest)
        _check_packing(one, image.body)
        index, more_bytes = _push_attestations(one, image, repository, Path(place))
    named = read_named(f"{repository}@{index.digest}", index.digest, index.body)
    faults = "; ".join(faults_of(project, repository, tag, named))
    if faults:
        raise VerifyError(f"{one.target.reference}: whoever pulls it would find: {faults}; run {one.anew}")
    ensure_signed(repository, named, signer)
    names = _tag_row(project, one, repository, signer, index)
    return Sent(names=names.digest, sent_bytes=sent_bytes + more_bytes)


def ensure_signed(repository: Repository, named: Named, signer: Signer | None) -> None:
    """Sign an index and all that is in it, unless this signer has done so before."""
    if signer is not None and not is_all_signed(repository, named, signer):
        sign(signer, f"{repository}@{named.digest}")


# ---- the image


def _ensure_image(one: Candidate, digest: str, repository: Repository, place: Path) -> int:
    """Push the image if the registry does not have it; bytes sent."""
    if repository.has_manifest(digest):
        return 0
    archive = place / "image.tar"
    save_image(one.target.reference, one.target.tag, archive)
    return _push(open_image(archive, platform=one.target.platform), one, digest, repository)


def _push(image: OpenImage, one: Candidate, digest: str, repository: Repository) -> int:
    """Push an image by its digest, which no tag names then; bytes sent."""
    if image.info.digest != digest:
        raise ImageError(
            f"{one.target.reference}: the engine now has {image.info.digest} under this tag, expected {digest}, which "
            "was verified; publish it while nothing else builds"
        )
    with open_blob(image.locate, digest, str(image.place)) as blob:
        body = blob.read()
    _check_packing(one, body)
    sent_bytes = 0
    for number, layer in enumerate(image.info.layers, start=1):
        name = f"{one.target.tag}: layer {number} of {len(image.info.layers)}"
        sent_bytes += repository.put_blob(layer.digest, image.locate, size_bytes=layer.size_bytes, name=name)
    config = json.loads(body)["config"]
    sent_bytes += repository.put_blob(
        config["digest"], image.locate, size_bytes=int(config["size"]), name=f"{one.target.tag}: config"
    )
    media_type = str(json.loads(body).get("mediaType") or MANIFEST_TYPE)
    repository.put_manifest(digest, Manifest(digest=digest, media_type=media_type, body=body))
    return sent_bytes + len(body)


def _check_packing(one: Candidate, manifest: bytes) -> None:
    faults = "; ".join(packing_faults(manifest))
    if faults:
        raise VerifyError(f"{one.target.reference}: {faults}")


# ---- what is said of it


def _push_attestations(one: Candidate, image: Manifest, repository: Repository, place: Path) -> tuple[Part, int]:
    """Push all but the image; the index, and the bytes that were sent."""
    made, index = said_of(one, image)
    blobs = place / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    sent_bytes = 0
    for part in made.blobs:
        (blobs / part.digest.removeprefix("sha256:")).write_bytes(part.body)
        name = f"{one.target.tag}: attestation"
        sent_bytes += repository.put_blob(part.digest, folder(place), size_bytes=len(part.body), name=name)
    for part in (made.manifest, index):
        if not repository.has_manifest(part.digest):
            repository.put_manifest(part.digest, _manifest(part))
            sent_bytes += len(part.body)
    return index, sent_bytes


def _manifest(part: Part) -> Manifest:
    return Manifest(digest=part.digest, media_type=part.media_type, body=part.body)


# ---- tags


def _tag_row(project: Project, one: Candidate, repository: Repository, signer: Signer | None, index: Part) -> Named:
    """Let the tag of a row name an index; what it names then.

    That may be what another publisher has put there meanwhile, if it is of the same image, holds, and is vouched for.
    """
    tag, image = one.target.tag, one.image.digest if one.image else ""

    def is_free() -> None:
        found = read_tag(repository, tag)
        if found is not None and not found.is_of(image):
            raise RegistryError(f"another publisher was faster: {immutable(one, found, image)}")

    def settled() -> Named | None:
        found = judge_tag(project, one, repository, signer)
        if found is None or not is_there(one, found):
            return None
        if not found.is_signed:
            ensure_signed(repository, found.named, signer)
        return found.named

    present = settled()
    if present is not None and present.digest != index.digest:
        say(f"{tag}: another publisher has put the same image there")
    if present is not None:
        return present
    _set_tag(repository, tag, _manifest(index), is_free)
    present = settled()
    if present is None:
        raise _elsewhere(repository, tag, index.digest, repository.digest_of(tag))
    return present


def move_tag(repository: Repository, tag: str, digest: str) -> None:
    """Let a moving tag name what the registry has, and see that it does."""
    _set_tag(repository, tag, repository.manifest(digest), None)
    found = repository.digest_of(tag)
    if found != digest:
        raise _elsewhere(repository, tag, digest, found)


def _set_tag(repository: Repository, tag: str, manifest: Manifest, before: Callable[[], None] | None) -> None:
    """Set a tag; whoever calls looks right before, and again afterwards.

    A registry cannot be told to set a tag only if it is as it was.

    Args:
        before: raises when the tag must not be set.
    """
    present = repository.digest_of(tag)
    repository.put_manifest(tag, manifest, before=before)
    say(f"{repository}:{tag} names {manifest.digest}" + (f", no longer {present}" if present else ""))


def _elsewhere(repository: Repository, tag: str, digest: str, found: str | None) -> RegistryError:
    return RegistryError(
        f"{repository}: {tag} was given {digest} and now names {found or 'nothing'}: another publisher is at work; "
        "wait for it, and publish again"
    )
