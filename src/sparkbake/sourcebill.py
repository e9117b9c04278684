"""Say what a compiled image is made of: what was compiled for it, from which commits, and what was installed."""

from collections.abc import Mapping, Sequence

from packaging.metadata import parse_email
from packaging.utils import canonicalize_version

from sparkbake.bill import Bill, Component, Origin, Patch, purl
from sparkbake.dpkg import OsPackage
from sparkbake.errors import ImageError
from sparkbake.imageinfo import parse_json
from sparkbake.manifest import MANIFEST
from sparkbake.sbom import Info, bill_with, infos_of, label_of, licence_of, of_wheel
from sparkbake.sourceimage import CompiledImage
from sparkbake.sourcelabels import CONTEXT_DIGEST
from sparkbake.sourcemodel import GitSource
from sparkbake.sourcepins import VLLM
from sparkbake.surveyed import Survey


def compiled_bill(survey: Survey, image: CompiledImage, *, label_prefix: str, os_packages: Sequence[OsPackage]) -> Bill:
    """Say what a compiled image is made of.

    Args:
        label_prefix: of the image's own labels, "com.example".
        os_packages: of the dpkg status in the image, in any order.

    Raises:
        ImageError: the image is of another plan, or does not say of itself what all of ours do.
    """
    key = f"{label_prefix}.{CONTEXT_DIGEST}"
    said, planned = label_of(survey, key), dict(image.target.labels)[key]
    if said != planned:
        raise ImageError(
            f"{survey.image}: was made from the build context {said}, but that of {image.target.tag} is {planned}; "
            "expected that of the image: check out the commit that it was built from, or build it anew"
        )
    infos, patches = infos_of(survey.texts), _patches(survey)
    python = [of_wheel(survey, one, infos, ()) for one in image.wheels]
    compiled = [_of_source(survey, one, image.versions, infos, patches) for one in image.sources]
    return bill_with(survey, [*python, *compiled], os_packages, reference=image.target.reference)


def _of_source(
    survey: Survey, source: GitSource, versions: Mapping[str, str], infos: Mapping[Info, str], patches: Sequence[Patch]
) -> Component:
    """What was compiled from a repository, be it a package by itself or a part of another."""
    commit = source.commit or ""
    version = versions.get(source.name) or source.tag or commit
    metadata = infos.get((source.name, canonicalize_version(version), "METADATA"))
    said = parse_email(survey.texts[metadata])[0] if metadata else {}
    address = f"git+{source.repository}@{commit}"
    return Component(
        purl=purl("generic", source.name, version, vcs_url=address),
        name=source.name,
        version=version,
        wheel=None,
        licence=licence_of(said),
        summary=said.get("summary") or None,
        maintainer=None,
        origin=Origin(
            name=source.name,
            version=commit,
            repository=source.repository,
            purl=purl("generic", source.name, commit, vcs_url=address),
        ),
        patches=tuple(sorted(patches, key=lambda one: one.file)) if source.name == VLLM else (),
        trimmed=None,
    )


def _patches(survey: Survey) -> tuple[Patch, ...]:
    """The patches of vLLM that the image's manifest lists.

    Raises:
        ImageError: it is not there, or damaged.
    """
    try:
        body = parse_json(MANIFEST, survey.texts[MANIFEST])
        return tuple(
            Patch(component=VLLM, file=one["name"], sha256=one["digest"].removeprefix("sha256:"))
            for one in body["patches"]
        )
    except (KeyError, TypeError, AttributeError) as err:
        raise ImageError(f"{survey.image}: {MANIFEST} is not there, or damaged: {err!r}; make the image anew") from err
