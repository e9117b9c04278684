"""The command that publishes images: pushes what was verified by its digest, then gives it its tag, then moves tags."""

import argparse
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from sparkbake.blobs import open_blob
from sparkbake.engine import local_image
from sparkbake.errors import ImageError, RegistryError, UsageError, VerifyError
from sparkbake.exchange import login_of
from sparkbake.expected import load_expected
from sparkbake.images import OpenImage, open_image
from sparkbake.model import Row
from sparkbake.project import Project, open_project
from sparkbake.publish import (
    Candidate,
    Deed,
    Step,
    immutable,
    moving_steps,
    own_step,
    packing_faults,
    tags_to_read,
)
from sparkbake.registry import Manifest, Repository
from sparkbake.saving import save_image
from sparkbake.tables import print_table, say
from sparkbake.verify import is_clean_report
from sparkbake.verifying import checks_digest, report_path, target_of, today

SCHEMA = 1

_PLACE = re.compile(r"([a-z0-9]+(?:[.-][a-z0-9]+)*(?::\d+)?)/([a-z0-9]+(?:[._/-][a-z0-9]+)*)")
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def publish(options: argparse.Namespace) -> int:
    """Publish some rows; 1 when any of them is refused, and then nothing is sent, else 0.

    Raises:
        RegistryError: the registry does not answer or refuses, or another publisher was there meanwhile.
        VerifyError: an image is packed otherwise than published ones are, or the engine does not answer.
        ImageError: the engine has another image than when the command began.
    """
    project = open_project(options.root)
    candidates = [_candidate(project, row) for row in project.select(options.tags)]
    repository = _repository(project, options.registry, candidates[0].target.reference)
    steps = _plan(project, candidates, repository)
    is_refused = any(one.deed is Deed.REFUSED for one in steps)
    if options.dry_run or is_refused:
        _show(steps, repository, options, sent_bytes=0)
        say("nothing was sent" + ("" if options.dry_run else ": an image is refused"))
        return 1 if is_refused else 0
    try:
        sent_bytes = sum(_publish_row(project, one, repository) for one in candidates)
        moved = _move_tags(project, candidates, repository)
    except KeyboardInterrupt:
        say(f"interrupted: no tag names what is not complete in {repository}; the next run goes on from there")
        raise
    _show((*(one for one in steps if not one.is_moving), *moved), repository, options, sent_bytes=sent_bytes)
    say(f"published in {repository}: {', '.join(one.target.tag for one in candidates)}; sent {sent_bytes / 1e6:.1f} MB")
    return 0


# ---- what there is


def _candidate(project: Project, row: Row) -> Candidate:
    reference = project.plan([row], project.matrix.bases[0]).targets[0].reference
    image = local_image(reference)
    labels = image.labels if image else ()
    base = target_of(project, row, labels).base
    (target,) = project.plan([row], base).targets
    path = report_path(project, target)
    report = path.read_text(encoding="utf-8") if path.exists() else None
    checks = checks_digest(project, target)
    key = f"{project.matrix.project.label_prefix}.trimmed"
    return Candidate(
        target=target,
        image=image,
        trimmed=(dict(labels).get(key, ""), dict(target.labels)[key]),
        report=report,
        is_clean=bool(report and image)
        and is_clean_report(report or "", digest=image.digest if image else "", checks_digest=checks, today=today()),
        plan_digest=project.plan_digest(target),
        checks_digest=checks,
        recorded=load_expected(project.locks, target.tag).get(base.name),
    )


def _repository(project: Project, place: str | None, reference: str) -> Repository:
    """Where images go.

    Args:
        place: "<host>/<namespace>"; None for that of the matrix.
        reference: of an image as the matrix names it.
    """
    named = project.matrix.project
    found = _PLACE.fullmatch(f"{named.registry}/{named.namespace}" if place is None else place)
    if found is None:
        raise UsageError(
            f"--registry: got '{place}', expected HOST/NAMESPACE such as {named.registry}/{named.namespace}"
        )
    registry, namespace = found.groups()
    name = f"{namespace}/{reference.rpartition('/')[2].partition(':')[0]}"
    host = dict(project.matrix.tagging.hosts).get(registry, registry)
    return Repository(host, name, shown=f"{registry}/{name}", login=login_of(registry), say=say)


def _plan(project: Project, candidates: Sequence[Candidate], repository: Repository) -> tuple[Step, ...]:
    tags = [one.target.tag for one in candidates]
    present = _present(project, tags, repository)
    own = tuple(own_step(one, present[one.target.tag]) for one in candidates)
    published = {one.tag: one.digest for one in own if one.digest and one.deed is not Deed.REFUSED}
    return (*own, *moving_steps(published, project.rows, project.matrix.tagging, present))


def _present(project: Project, tags: Sequence[str], repository: Repository) -> Mapping[str, str | None]:
    names = tags_to_read(tags, project.rows, project.matrix.tagging)
    return {name: repository.digest_of(name) for name in names}


# ---- rows


def _publish_row(project: Project, one: Candidate, repository: Repository) -> int:
    """Push an image without a tag, then tag it; bytes sent."""
    if one.image is None:
        raise ImageError(f"{one.target.reference}: the engine has no such image any more")
    tag, digest = one.target.tag, one.image.digest
    if repository.digest_of(tag) == digest:
        say(f"{tag}: nothing to do, {repository} has {digest} under this tag")
        return 0
    sent_bytes = 0
    if repository.digest_of(digest) is None:
        with tempfile.TemporaryDirectory(prefix="publish-", dir=project.build) as folder:
            archive = Path(folder, "image.tar")
            save_image(one.target.reference, tag, archive)
            sent_bytes = _push(open_image(archive, platform=one.target.platform), one, digest, repository)
    manifest = repository.manifest(digest)
    _check_packing(one, manifest.body)
    _tag(repository, tag, manifest, is_moving=False)
    return sent_bytes


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
    media_type = str(json.loads(body).get("mediaType") or _MANIFEST_TYPE)
    repository.put_manifest(digest, Manifest(digest=digest, media_type=media_type, body=body))
    return sent_bytes + len(body)


def _check_packing(one: Candidate, manifest: bytes) -> None:
    faults = "; ".join(packing_faults(manifest))
    if faults:
        raise VerifyError(f"{one.target.reference}: {faults}")


# ---- tags


def _tag(repository: Repository, tag: str, manifest: Manifest, *, is_moving: bool) -> None:
    """Let a tag name what the registry has; a row's own only where there is none yet, or the same.

    A registry cannot be told to set a tag only if it is as it was: so look right before, and again afterwards.
    """
    present = repository.digest_of(tag)

    def is_free() -> None:
        found = repository.digest_of(tag)
        if found not in (None, manifest.digest):
            raise RegistryError(f"another publisher was faster: {immutable(tag, found, manifest.digest)}")

    repository.put_manifest(tag, manifest, before=None if is_moving else is_free)
    found = repository.digest_of(tag)
    if found != manifest.digest:
        raise RegistryError(
            f"{repository}: {tag} was given {manifest.digest} and now names {found or 'nothing'}: another publisher is "
            "at work; wait for it, and publish again"
        )
    say(f"{repository}:{tag} names {manifest.digest}" + (f", no longer {present}" if present else ""))


def _move_tags(project: Project, candidates: Sequence[Candidate], repository: Repository) -> tuple[Step, ...]:
    """Move what belongs to the rows that are published now, as the registry is now; see afterwards that it still does.

    Raises:
        RegistryError: also when another publisher put a higher row there meanwhile, so that a tag was moved back.
    """
    published = {one.target.tag: one.image.digest for one in candidates if one.image}

    def looked() -> tuple[Step, ...]:
        present = _present(project, list(published), repository)
        return moving_steps(published, project.rows, project.matrix.tagging, present)

    steps = looked()
    moving = [one for one in steps if one.deed is Deed.MOVE]
    for one in moving:
        _tag(repository, one.tag, repository.manifest(str(one.digest)), is_moving=True)
    wrong = [one for one in looked() if one.digest != one.present and one.tag in {each.tag for each in moving}]
    if wrong:
        told = "; ".join(f"{one.tag} names {one.present} and belongs to {one.row} ({one.digest})" for one in wrong)
        again = " ".join(dict.fromkeys(one.row for one in wrong))
        raise RegistryError(
            f"{repository}: another publisher is at work: {told}; wait for it, then `nox -s publish -- {again}`"
        )
    return steps


# ---- how it looks


def _show(steps: Sequence[Step], repository: Repository, options: argparse.Namespace, *, sent_bytes: int) -> None:
    if options.json:
        body = {
            "schema": SCHEMA,
            "repository": str(repository),
            "dry_run": options.dry_run,
            "sent_bytes": sent_bytes,
            "tags": [asdict(one) for one in steps],
        }
        print(json.dumps(body, indent=2, sort_keys=True))
        return
    print_table(
        ("tag", "kind", "what", "image", "in the registry before", "why"),
        [
            (
                one.tag,
                f"moving, now {one.row}" if one.is_moving else "own",
                one.deed.value,
                one.digest or "none",
                one.present or "nothing",
                one.why,
            )
            for one in steps
        ],
        title=str(repository),
    )
