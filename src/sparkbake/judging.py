"""Judge what a registry has under a tag already, before `publish` leaves it there or signs it.

Whoever may push can put anything beside an image. A signature of ours says that we stand for all of it, so that it goes
on nothing but what was made here, or was signed by the same one before.
"""

import json

from sparkbake.attest import (
    MANIFEST_TYPE,
    SLSA,
    SPDX,
    Attestation,
    Named,
    Part,
    attest,
    described_image,
    index_of,
    read_named,
)
from sparkbake.checking import faults_of
from sparkbake.project import Project
from sparkbake.publishable import Candidate, Present, is_about, is_explained
from sparkbake.registry import Manifest, Repository
from sparkbake.signing import Signer, is_signed


def read_tag(repository: Repository, tag: str) -> Named | None:
    """What a tag names; None when there is no such tag."""
    digest = repository.digest_of(tag)
    if digest is None:
        return None
    # By its digest, since the tag may move meanwhile.
    return read_named(f"{repository}:{tag}", digest, repository.manifest(digest).body)


def judge_tag(project: Project, one: Candidate, repository: Repository, signer: Signer | None) -> Present | None:
    """What the tag of an image has, held against what a consumer would check, and against who signs.

    Raises:
        RegistryError: the registry does not answer.
        ProcessError: cosign cannot tell whether it is signed.
    """
    named = read_tag(repository, one.target.tag)
    if named is None or not is_about(one, named):
        return None if named is None else Present(named=named)
    has_signature = signer is None or is_signed(signer, f"{repository}@{named.digest}")
    return Present(
        named=named,
        faults=faults_of(project, repository, one.target.tag, named),
        is_vouched_for=has_signature or _is_own(one, named, repository),
        is_signed=signer is None or (has_signature and is_all_signed(repository, named, signer)),
    )


def is_all_signed(repository: Repository, named: Named, signer: Signer) -> bool:
    """Whether an index and each manifest in it is signed: cosign signs one after the other, and may have been ended."""
    return all(is_signed(signer, f"{repository}@{digest}") for digest in named.digests)


def _is_own(one: Candidate, named: Named, repository: Repository) -> bool:
    if one.image is None or not is_explained(one) or not named.is_of(one.image.digest):
        return False
    return said_of(one, repository.manifest(one.image.digest))[1].digest == named.digest


# ---- what this checkout says of an image


def said_of(one: Candidate, image: Manifest) -> tuple[Attestation, Part]:
    """The bill of materials and the provenance of an image, and the index of both."""
    bill = json.loads(one.bill or "")
    purl = described_image(bill)["externalRefs"][0]["referenceLocator"]
    provenance = json.loads(one.provenance or "")["predicate"]
    made = attest({SPDX: bill, SLSA: provenance}, name=purl, digest=image.digest)
    media_type = str(json.loads(image.body).get("mediaType") or MANIFEST_TYPE)
    described = Part(digest=image.digest, media_type=media_type, body=image.body)
    return made, index_of(described, made.manifest, platform=one.target.platform)
