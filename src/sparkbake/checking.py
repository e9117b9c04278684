"""The command that looks at a published image as whoever pulls it would: `check`."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from sparkbake.attest import IN_TOTO_TYPE, PREDICATE, Named, descriptors, read_named
from sparkbake.blobs import folder
from sparkbake.check import Check, Facts, Known, Verdict, checks, image_in
from sparkbake.errors import ImageError, RegistryError, UsageError
from sparkbake.expected import Expected, load_expected
from sparkbake.imageinfo import ImageInfo, checked_digest, is_last_step, parse_image, parse_json, platform_of
from sparkbake.images import OpenImage
from sparkbake.labels import OCI
from sparkbake.manifest import MANIFEST
from sparkbake.model import Strategy
from sparkbake.places import repository_of
from sparkbake.project import Project, open_project
from sparkbake.publish import ranked_tags
from sparkbake.registry import NOT_FOUND, Repository
from sparkbake.signing import Trust, why_not
from sparkbake.statements import Said
from sparkbake.tables import print_table, say

SCHEMA = 1
# The layer with what an image says of itself has two small files; a larger one is not of ours, and is not fetched.
_MOST_LAYER_BYTES = 16_000_000


def check(options: argparse.Namespace) -> int:
    """Check an image of a registry; 1 when a check fails, else 0.

    Raises:
        UsageError: the reference is none, or whose signature counts is half said.
        RegistryError: the registry does not answer, or has no such image.
        ImageError: what it has is no image, or not in the form of one.
        ProcessError: cosign is missing, or cannot know whether a signature is good.
    """
    project = open_project(options.root)
    trust = _trust(options)
    tags = {one.tag for one in project.rows}
    reference = _reference_of_row(project, options.reference) if options.reference in tags else options.reference
    repository, tag, digest = repository_of(project, reference)
    facts, looked = _looked(project, repository, tag, _named(repository, tag, digest))
    found = (*_signatures(repository, facts, trust), *looked)
    _show(str(repository), facts, found, as_json=options.json)
    failed = [one.name for one in found if one.verdict is Verdict.FAILED]
    open_ = [one.name for one in found if one.verdict is Verdict.OPEN]
    say(f"{reference}: " + (f"failed: {', '.join(failed)}" if failed else "all that was checked is well"))
    if open_:
        say(f"not checked: {', '.join(open_)}")
    return 1 if failed else 0


def _trust(options: argparse.Namespace) -> Trust | None:
    """Whose signature counts; None when nobody is named."""
    if bool(options.identity) != bool(options.issuer) or (options.key and options.identity):
        raise UsageError("expected --key FILE, or --identity ID with --issuer URL, or none of them")
    if options.key and not options.key.startswith("env://") and not Path(options.key).is_file():
        raise UsageError(f"--key: no file {options.key}; expected the public key of who publishes")
    if options.key or options.identity:
        return Trust(key=options.key, identity=options.identity, issuer=options.issuer)
    return None


def _reference_of_row(project: Project, tag: str) -> str:
    (row,) = project.select([tag])
    return project.reference(row)


def _named(repository: Repository, tag: str | None, digest: str | None) -> Named:
    """What is asked for; a digest goes before a tag."""
    found = digest or repository.digest_of(str(tag))
    if found is None:
        raise RegistryError(f"{repository}: has no tag {tag}; see which there are, or log in if it is private")
    where = f"{repository}@{digest}" if digest else f"{repository}:{tag}"
    return read_named(where, found, repository.manifest(found).body)


# ---- reading


def faults_of(project: Project, repository: Repository, tag: str, named: Named) -> tuple[str, ...]:
    """What a consumer's checks find wrong with what a registry has, but for signatures; each with the check's name.

    Args:
        tag: that names it, or is to name it.

    Raises:
        RegistryError: the registry does not answer, or refuses.
    """
    try:
        _facts, found = _looked(project, repository, tag, named)
    except ImageError as err:
        return (str(err),)
    except RegistryError as err:
        if err.status == NOT_FOUND:
            return (str(err),)
        raise
    return tuple(f"{one.name}: {one.told}" for one in found if one.verdict is Verdict.FAILED)


def _looked(project: Project, repository: Repository, tag: str | None, named: Named) -> tuple[Facts, tuple[Check, ...]]:
    """What was read, and every check but that of signatures."""
    try:
        facts = read_facts(repository, tag, named, project.matrix.chip.platform)
        return facts, tuple(checks(facts, _known(project, facts)))
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        # Whoever filled the registry need not keep to any format.
        raise ImageError(
            f"{repository}@{named.digest}: not in the form of an image and of what is said of one: {err!r}; it is not "
            "as this project publishes"
        ) from err


def read_facts(repository: Repository, tag: str | None, named: Named, platform: str) -> Facts:
    """Read all that is said of an image, and what it says of itself."""
    where = f"{repository}@{named.digest}"
    image = image_in(where, named, platform)
    manifest = parse_json(where, repository.manifest(image).body)
    config_digest = checked_digest(where, (manifest.get("config") or {}).get("digest"))
    config = parse_json(where, repository.blob(config_digest, name="the config"))
    info = parse_image(where, image, manifest, config)
    return Facts(
        tag=tag,
        named=named,
        image=image,
        platform=platform_of(config),
        labels=dict(info.labels),
        annotations=manifest.get("annotations") or {},
        own=_own_manifest(repository, info),
        statements=tuple(one for digest, _about in named.attestations for one in _statements(repository, digest)),
    )


def _statements(repository: Repository, digest: str) -> Iterator[Said]:
    where = f"{repository}: attestation {digest}"
    for one in descriptors(where, parse_json(where, repository.manifest(digest).body), "layers"):
        if one.get("mediaType") == IN_TOTO_TYPE:
            kind = str((one.get("annotations") or {}).get(PREDICATE))
            its = checked_digest(where, one.get("digest"))
            yield Said(kind=kind, body=parse_json(where, repository.blob(its, name=f"statement {kind}")))


def _own_manifest(repository: Repository, info: ImageInfo) -> dict[str, object] | None:
    """What an image says of itself, from the layer that has it; None when there is no such layer.

    It is the last one: compiled images have that of the foundation that they are made from, too.
    """
    layer = next((one for one in reversed(info.layers) if is_last_step(one.created_by)), None)
    if layer is None or layer.size_bytes > _MOST_LAYER_BYTES:
        return None
    body = repository.blob(layer.digest, name="the layer that describes it")
    with tempfile.TemporaryDirectory(prefix="sparkbake-") as place:
        path = Path(place, "blobs", "sha256", layer.digest.removeprefix("sha256:"))
        path.parent.mkdir(parents=True)
        path.write_bytes(body)
        for entry, chunks in OpenImage(place=Path(place), info=info, locate=folder(Path(place))).contents(layer):
            # A small layer may unpack to one without an end.
            if entry.path == MANIFEST and entry.size_bytes <= _MOST_LAYER_BYTES:
                return parse_json(f"{repository}: {MANIFEST}", b"".join(chunks))
    return None


def _known(project: Project, facts: Facts) -> Known:
    return Known(
        platform=project.matrix.chip.platform,
        label_prefix=project.matrix.project.label_prefix,
        components=project.matrix.components,
        rows=_rows_of(project, facts.tag),
        recorded=_recorded(project, facts),
    )


def _rows_of(project: Project, tag: str | None) -> tuple[str, ...]:
    """The rows, or the foundation, that a tag may stand for."""
    foundations = {row.foundation.name for row in project.rows if row.release.strategy is Strategy.SOURCE}
    if tag is None or tag in foundations or _is_of_a_row(project, tag):
        return () if tag is None else (tag,)
    return ranked_tags(tag, project.rows, project.matrix.tagging)


def _is_of_a_row(project: Project, tag: str | None) -> bool:
    """Whether it is the tag of a row, or of an earlier revision of one."""
    return any(tag in (one.tag, *one.replaces) for one in project.rows)


def _recorded(project: Project, facts: Facts) -> Expected | None:
    tag, named = (facts.labels.get(OCI + key) for key in ("version", "base.name"))
    base = next((one.name for one in project.matrix.bases if named is not None and named in (one.name, one.image)), "")
    return load_expected(project.locks, str(tag)).get(base) if _is_of_a_row(project, tag) else None


# ---- signatures


def _signatures(repository: Repository, facts: Facts, trust: Trust | None) -> Iterator[Check]:
    """Of the index, which covers all that is in it, and of the image, for whoever pulls that by its digest."""
    for name, digest in {"signature": facts.named.digest, "signature of the image": facts.image}.items():
        if trust is None:
            told = "say whose counts: --key FILE, or --identity ID and --issuer URL"
            yield Check(name=name, verdict=Verdict.OPEN, told=told)
            continue
        why = why_not(trust, f"{repository}@{digest}")
        by = trust.key or f"{trust.identity}, says {trust.issuer}"
        told = f"{digest}: {why}, expected one by {by}" if why else f"{digest} is signed by {by}"
        yield Check(name=name, verdict=Verdict.FAILED if why else Verdict.OK, told=told)


# ---- how it looks


def _show(repository: str, facts: Facts, found: tuple[Check, ...], *, as_json: bool) -> None:
    if as_json:
        body = {
            "schema": SCHEMA,
            "repository": repository,
            "tag": facts.tag,
            "digest": facts.named.digest,
            "image": facts.image,
            "ok": all(one.verdict is not Verdict.FAILED for one in found),
            "checks": [asdict(one) for one in found],
        }
        sys.stdout.write(json.dumps(body, indent=2, sort_keys=True) + "\n")
        return
    named = f":{facts.tag} names {facts.named.digest}" if facts.tag else f"@{facts.named.digest}"
    rows = [(one.name, one.verdict.value, one.told) for one in found]
    print_table(("check", "result", "found"), rows, title=f"{repository}{named}")
