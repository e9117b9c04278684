"""The command that publishes images: pushes what was verified by its digest, then gives it its tag, then moves tags.

Of compiled rows the foundations go first, each kind to a repository of its own.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sparkbake.candidates import candidates_of
from sparkbake.errors import RegistryError
from sparkbake.judging import judge_tag
from sparkbake.places import repository_of_row
from sparkbake.project import Project, open_project
from sparkbake.publish import Deed, Published, Step, moving_steps, own_step, tags_to_read
from sparkbake.publishable import Candidate
from sparkbake.pushing import Sent, move_tag, publish_row
from sparkbake.registry import Repository
from sparkbake.signing import Signer, signer_of
from sparkbake.tables import print_table, say

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """A repository, and what is published there.

    Attributes:
        steps: what becomes of its tags.
        sent_bytes: so far.
    """

    repository: Repository
    candidates: tuple[Candidate, ...]
    steps: tuple[Step, ...] = ()
    sent_bytes: int = 0


def publish(options: argparse.Namespace) -> int:
    """Publish some rows; 1 when any of them is refused, and then nothing is sent, else 0.

    Raises:
        RegistryError: the registry does not answer or refuses, or another publisher was there meanwhile.
        UsageError: it is not said who signs, or where to is no place.
        ProcessError: cosign cannot sign.
        VerifyError: an image is packed otherwise than published ones are, or the engine does not answer.
        ImageError: the engine has another image than when the command began.
    """
    project = open_project(options.root)
    shelves = _shelves(project, candidates_of(project, project.select(options.tags)), options.registry)
    signer = _signer(options)
    shelves = [replace(one, steps=_plan(project, one, signer)) for one in shelves]
    is_refused = any(step.deed is Deed.REFUSED for one in shelves for step in one.steps)
    if options.dry_run or is_refused:
        _show(shelves, options)
        say("nothing was sent" + ("" if options.dry_run else ": an image is refused"))
        return 1 if is_refused else 0
    # What is made from others comes after them, so that no tag names an image whose foundation is not there.
    done = [_send(project, one, signer) for one in shelves]
    _show(done, options)
    for one in done:
        tags = ", ".join(each.target.tag for each in one.candidates)
        say(f"published in {one.repository}: {tags}; sent {one.sent_bytes / 1e6:.1f} MB")
    return 0


def _shelves(project: Project, candidates: Iterable[Candidate], place: str | None) -> list[Shelf]:
    """The repositories that images go to, in the order of those.

    Args:
        place: see `repository_of_row`.
    """
    found: dict[str, list[Candidate]] = {}
    for one in candidates:
        found.setdefault(one.target.reference.rpartition(":")[0], []).append(one)
    return [
        Shelf(repository=repository_of_row(project, place, some[0].target.reference), candidates=tuple(some))
        for some in found.values()
    ]


def _send(project: Project, shelf: Shelf, signer: Signer | None) -> Shelf:
    """Push what a repository lacks, then move its tags; what became of it."""
    repository = shelf.repository
    try:
        sent = {one.target.tag: publish_row(project, one, repository, signer) for one in shelf.candidates}
        moved = _move_tags(project, _published(shelf.candidates, sent), repository)
    except KeyboardInterrupt:
        say(f"interrupted: no tag names what is not complete in {repository}; the next run goes on from there")
        raise
    own = (replace(one, names=sent[one.tag].names) for one in shelf.steps if not one.is_moving)
    return replace(shelf, steps=(*own, *moved), sent_bytes=sum(one.sent_bytes for one in sent.values()))


def _signer(options: argparse.Namespace) -> Signer | None:
    """Who signs; a dry run need not say it."""
    if options.dry_run and not (options.sign_key or options.keyless):
        return None
    return signer_of(options.sign_key, keyless=options.keyless, unsigned=options.no_sign)


# ---- what becomes of tags


def _plan(project: Project, shelf: Shelf, signer: Signer | None) -> tuple[Step, ...]:
    repository = shelf.repository
    tags = [one.target.tag for one in shelf.candidates]
    own = tuple(own_step(one, judge_tag(project, one, repository, signer)) for one in shelf.candidates)
    present = {**_present(project, tags, repository), **{one.tag: one.present for one in own}}
    published = {
        one.tag: Published(image=one.digest, names=one.names)
        for one in own
        if one.digest and one.deed is not Deed.REFUSED
    }
    return (*own, *moving_steps(published, project.rows, project.matrix.tagging, present))


def _present(project: Project, tags: Sequence[str], repository: Repository) -> Mapping[str, str | None]:
    names = tags_to_read(tags, project.rows, project.matrix.tagging)
    return {name: repository.digest_of(name) for name in names}


# ---- tags that move


def _published(candidates: Sequence[Candidate], sent: Mapping[str, Sent]) -> dict[str, Published]:
    images = {one.target.tag: one.image.digest for one in candidates if one.image}
    return {tag: Published(image=digest, names=sent[tag].names) for tag, digest in images.items()}


def _move_tags(project: Project, published: Mapping[str, Published], repository: Repository) -> tuple[Step, ...]:
    """Move what belongs to the rows that are published now, as the registry is now; see afterwards that it still does.

    Raises:
        RegistryError: also when another publisher put a higher row there meanwhile, so that a tag was moved back.
    """

    def looked() -> tuple[Step, ...]:
        present = _present(project, list(published), repository)
        return moving_steps(published, project.rows, project.matrix.tagging, present)

    steps = looked()
    moving = [one for one in steps if one.deed is Deed.MOVE]
    for one in moving:
        move_tag(repository, one.tag, str(one.names))
    wrong = [one for one in looked() if one.names != one.present and one.tag in {each.tag for each in moving}]
    if wrong:
        told = "; ".join(f"{one.tag} names {one.present} and belongs to {one.row} ({one.names})" for one in wrong)
        again = " ".join(dict.fromkeys(one.row for one in wrong))
        raise RegistryError(
            f"{repository}: another publisher is at work: {told}; wait for it, then `nox -s publish -- {again}`"
        )
    return steps


# ---- how it looks


def _show(shelves: Sequence[Shelf], options: argparse.Namespace) -> None:
    if options.json:
        *foundations, rows = [{"repository": str(one.repository), "tags": _tags(one)} for one in shelves]
        body = {
            "schema": SCHEMA,
            "dry_run": options.dry_run,
            "sent_bytes": sum(one.sent_bytes for one in shelves),
            "foundations": foundations,
            **rows,
        }
        print(json.dumps(body, indent=2, sort_keys=True))
        return
    for shelf in shelves:
        _show_table(shelf)


def _tags(shelf: Shelf) -> list[dict[str, object]]:
    return [asdict(one) for one in shelf.steps]


def _show_table(shelf: Shelf) -> None:
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
            for one in shelf.steps
        ],
        title=str(shelf.repository),
    )
