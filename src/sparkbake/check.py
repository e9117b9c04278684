"""Hold what a registry has under a tag against what is said of it: index, bill of materials, provenance, labels.

What a signature is worth, `signing` knows; here is what must agree whoever signed it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from packaging.utils import canonicalize_name, canonicalize_version

from sparkbake.attest import SLSA, SPDX, STATEMENT, Named, described_image
from sparkbake.errors import ImageError
from sparkbake.expected import Expected
from sparkbake.labels import OCI
from sparkbake.model import Component, Pairs
from sparkbake.sourcelabels import CONTEXT_DIGEST
from sparkbake.statements import Said, body_of, dependencies, objects, packages, wheels

# The labels that all images of this project have, below OCI's prefix and below our own.
_OCI_LABELS = ("version", "revision", "source", "created", "licenses", "base.name", "base.digest")
_OWN_LABELS = ("lock_digest", "torch_version", "overrides")
# And those that images have beside them which are installed from wheels, and which are compiled.
_WHEELS_LABELS = ("vllm_version", "trimmed")
_COMPILED_LABELS = (CONTEXT_DIGEST, "nccl_version", "torch_commit")


class Verdict(StrEnum):
    """What came of a check."""

    OK = "ok"
    FAILED = "failed"
    OPEN = "not checked"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        told: what was found; of one that failed, what was expected, too; of one that is open, why.
    """

    name: str
    verdict: Verdict
    told: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What was read of an image in a registry.

    Attributes:
        tag: that it was asked for by; None when by its digest.
        named: what that names.
        image: digest of the image in it.
        platform: what that is for, by its config.
        labels: of its config.
        annotations: of its manifest.
        own: what the image says of itself in usr/share/sparkbake/manifest.json; None when that could not be read.
    """

    tag: str | None
    named: Named
    image: str
    platform: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    own: Mapping[str, Any] | None
    statements: tuple[Said, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What this checkout knows.

    Attributes:
        platform: of its images, "linux/arm64".
        label_prefix: of their own labels, "com.example".
        rows: tags that the tag may stand for: itself, of a row or of a foundation, or those that a moving tag may name;
            empty where it is none of them.
        recorded: of the row that the labels name, on the base that they name; None when nothing is recorded.
    """

    platform: str
    label_prefix: str
    components: tuple[Component, ...]
    rows: tuple[str, ...]
    recorded: Expected | None


def image_in(where: str, named: Named, platform: str) -> str:
    """The digest of the one image for a platform.

    Raises:
        ImageError: there is not exactly one.
    """
    fitting = [digest for digest, found in named.images if found in ("", platform)]
    if len(fitting) != 1:
        listed = ", ".join(f"{digest} ({found})" for digest, found in named.images) or "no image"
        raise ImageError(f"{where}: has {listed}, expected one for {platform}; it is not as this project publishes")
    return fitting[0]


def checks(facts: Facts, known: Known) -> Iterator[Check]:
    """Every check but that of signatures."""
    yield _index(facts, known)
    yield _labels(facts, known)
    yield _tag(facts, known)
    yield _own(facts)
    bill, provenance = (_predicate(facts, kind) for kind in (SPDX, SLSA))
    yield _verdict("bill of materials", _bill_faults(facts, known, bill), _counted(bill))
    yield _verdict("provenance", _provenance_faults(facts, known, provenance, bill), _built_by(provenance))
    yield _record(facts, known)


def _verdict(name: str, faults: Iterator[str], told: str) -> Check:
    found = "; ".join(faults)
    return Check(name=name, verdict=Verdict.FAILED if found else Verdict.OK, told=found or told)


# ---- index, labels, tag


def _index(facts: Facts, known: Known) -> Check:
    def faults() -> Iterator[str]:
        if facts.platform != known.platform:
            yield f"the image is for {facts.platform}, expected {known.platform}"
        others = [digest for digest, _platform in facts.named.images if digest != facts.image]
        if others:
            yield f"it has further images: {', '.join(others)}"
        if not facts.named.is_attested:
            yield "nothing is said of the image: it has no attestations"
        for one, about in facts.named.attestations:
            if about != facts.image:
                yield f"attestation {one} is about {about}, expected {facts.image}"

    return _verdict("index", faults(), f"of one image, {facts.image}, and what is said of it")


def _labels(facts: Facts, known: Known) -> Check:
    own = (*_OWN_LABELS, *(_COMPILED_LABELS if _is_compiled(facts, known) else _WHEELS_LABELS))
    wanted = [OCI + one for one in _OCI_LABELS] + [f"{known.label_prefix}.{one}" for one in own]

    def faults() -> Iterator[str]:
        missing = [one for one in wanted if not facts.labels.get(one)]
        if missing:
            yield f"missing: {', '.join(missing)}"
        for key, value in sorted(facts.annotations.items()):
            if facts.labels.get(key, value) != value:
                yield f"{key}: the manifest has '{value}', the label '{facts.labels[key]}'"

    return _verdict("labels", faults(), f"{len(facts.labels)} labels, and the manifest's annotations say the same")


def _is_compiled(facts: Facts, known: Known) -> bool:
    """Whether it says of itself that it was compiled."""
    return f"{known.label_prefix}.{CONTEXT_DIGEST}" in facts.labels


def _tag(facts: Facts, known: Known) -> Check:
    said = facts.labels.get(OCI + "version", "")
    if facts.tag is None:
        return Check(name="tag", verdict=Verdict.OPEN, told="asked for by digest")
    if not known.rows:
        return Check(name="tag", verdict=Verdict.OPEN, told=f"this checkout knows no tag {facts.tag}")
    fault = f"{facts.tag} names the image of {said or 'no row'}, expected that of {' or '.join(known.rows)}"
    return _verdict("tag", iter(() if said in known.rows else (fault,)), f"the image is that of {said}")


def _own(facts: Facts) -> Check:
    """What lies in the image beside its packages: written by its build, covered by its digest."""
    if facts.own is None:
        return Check(name="manifest in the image", verdict=Verdict.FAILED, told="it has no layer with one")
    said = facts.own.get("labels")
    differing = sorted(
        key for key, value in (said.items() if isinstance(said, dict) else ()) if facts.labels.get(key) != value
    )
    faults = [f"it has other labels than the image: {', '.join(differing)}"] if differing else []
    faults += [] if isinstance(said, dict) else ["it has no labels"]
    return _verdict("manifest in the image", iter(faults), f"plan {facts.own.get('plan_digest')}")


# ---- what is said


def _of_type(facts: Facts, kind: str) -> tuple[Said, ...]:
    """The statements of a type, as the manifest has it or as they say themselves."""
    return tuple(one for one in facts.statements if kind in (one.kind, one.body.get("predicateType")))


def _predicate(facts: Facts, kind: str) -> Said | None:
    """The statement of a type; None where there is none, or where one may contradict the other."""
    found = _of_type(facts, kind)
    return found[0] if len(found) == 1 else None


def _statement_faults(facts: Facts, said: Said | None, kind: str) -> Iterator[str]:
    if said is None:
        count = len(_of_type(facts, kind))
        yield (
            f"there are {count} statements of type {kind}, expected one"
            if count
            else f"there is no statement of type {kind}"
        )
        return
    if (said.body.get("_type"), said.body.get("predicateType")) != (STATEMENT, kind):
        yield f"it is a {said.body.get('predicateType')} in a {said.body.get('_type')}, expected {kind} in {STATEMENT}"
    subjects = [(one.get("digest") or {}).get("sha256") for one in objects(said.body, "subject")]
    if subjects != [facts.image.removeprefix("sha256:")]:
        about = ", ".join(str(one) for one in subjects) or "nothing"
        yield f"it is about {about}, expected {facts.image.removeprefix('sha256:')}"


def _bill_faults(facts: Facts, known: Known, said: Said | None) -> Iterator[str]:
    yield from _statement_faults(facts, said, SPDX)
    document = body_of(said)
    about = described_image(document)
    if about.get("versionInfo") != facts.image:
        yield f"the document describes {about.get('versionInfo')}, expected {facts.image}"
    lines = str(about.get("comment")).splitlines()[1:]
    labels = dict(one.partition("=")[::2] for one in lines)
    differing = sorted({key for key, _value in set(labels.items()) ^ set(facts.labels.items())})
    if differing:
        yield f"it has other labels than the image: {', '.join(differing)}"
    versions = {str(canonicalize_name(name)): version for name, version in packages(document)}
    for key, value in component_versions(facts.labels, known):
        # "13.0.3" and "13.0.3.0" are one version.
        if key in versions and canonicalize_version(versions[key]) != canonicalize_version(value):
            yield f"it has {key} {versions[key]}, the label says {value}"


def component_versions(labels: Mapping[str, str], known: Known) -> Pairs:
    """Distribution to version, of each label that says one."""
    found = ((one, labels.get(f"{known.label_prefix}.{one.name}_version")) for one in known.components)
    return tuple((canonicalize_name(one.distribution), value) for one, value in found if value)


def _provenance_faults(facts: Facts, known: Known, said: Said | None, bill: Said | None) -> Iterator[str]:
    yield from _statement_faults(facts, said, SLSA)
    found = dependencies(said)
    base = facts.labels.get(OCI + "base.digest", "")
    wanted = {
        "plan": str((facts.own or {}).get("plan_digest")),
        "lock": facts.labels.get(f"{known.label_prefix}.lock_digest", ""),
        "base": base,
    }
    for name, digest in wanted.items():
        if found.get(name) != digest.removeprefix("sha256:"):
            yield f"{name}: it says {found.get(name)}, the image {digest or 'nothing'}"
    unknown = sorted(name for name, digest in wheels(body_of(bill)).items() if found.get(name) != digest)
    if unknown:
        yield f"of {len(unknown)} packages of the bill it knows no such file: {', '.join(unknown[:5])}"


def _record(facts: Facts, known: Known) -> Check:
    if known.recorded is None:
        told = "this checkout has recorded no digest of this image"
        if _is_compiled(facts, known):
            told = "there are no records of compiled images: how far compiling gives the same bytes nobody has measured"
        return Check(name="record", verdict=Verdict.OPEN, told=told)
    digest = known.recorded.digest
    fault = f"locks/digests has {digest} of this row, the registry {facts.image}"
    return _verdict("record", iter(() if digest == facts.image else (fault,)), f"locks/digests has {digest}, too")


# ---- how it is told


def _counted(said: Said | None) -> str:
    return f"of this image, {len(objects(body_of(said), 'packages'))} packages"


def _built_by(said: Said | None) -> str:
    details = body_of(said).get("runDetails")
    builder = (details.get("builder") or {}).get("id") if isinstance(details, dict) else None
    return f"of this image, built by {json.dumps(builder)} of {len(dependencies(said))} inputs"
