"""The command `bump`: put a vLLM release into the matrix, with its locks, or show what that would be."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from sparkbake.bump import (
    Candidate,
    Proposal,
    Upstream,
    as_of,
    check_version,
    highest,
    newest_published,
    propose,
    waiting,
    would_override,
)
from sparkbake.bumpask import Asker
from sparkbake.bumplocks import change_rows, lock_changes, summary
from sparkbake.bumpnotes import (
    Before,
    Note,
    mentions,
    patch_notes,
    release_before,
    rule_notes,
    trim_notes,
)
from sparkbake.bumptext import unified_diff, with_proposal
from sparkbake.errors import LockError, UsageError
from sparkbake.lock import Index, Locker
from sparkbake.lockfile import lock_path, lock_to_json
from sparkbake.matrix import rows
from sparkbake.model import Environment, Lock, Matrix, Pairs
from sparkbake.noteschanges import Update
from sparkbake.project import Project, open_project, write_file
from sparkbake.series import load_series
from sparkbake.tables import print_table, say
from sparkbake.versions import major


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bump:
    """A release with all that is to be written of it.

    Attributes:
        before, text: of matrix.yaml, as it was read and as it is to be.
        overriding: what else could be taken, and what it would override.
        notes: what to look at.
        changes: tag of each lock to what it has otherwise than that of the row before.
    """

    proposal: Proposal
    upstream: Upstream
    before: str
    text: str
    diff: str
    locks: tuple[Lock, ...]
    overriding: Pairs
    notes: tuple[Note, ...]
    changes: tuple[tuple[str, Update], ...]


def bump(options: argparse.Namespace) -> int:
    """Propose the rows of a release and lock them; write both, unless it is a dry run."""
    if bool(options.release) == options.newest:
        raise UsageError("bump: expected either a release of vLLM or --newest")
    if options.older_than_days < 0:
        raise UsageError(f"--older-than-days: got {options.older_than_days}, expected 0 or more")
    project = open_project(options.root)
    index = Index(url=project.mirrors(options.mirrors).package_index)
    asker = Asker(matrix=project.matrix, index=index, say=say)
    today = datetime.now(UTC).date()
    candidate = _candidate(project, asker, options, today)
    if candidate is None:
        return _nothing_new(project, options)
    day = as_of(candidate, today=today, older_than_days=options.older_than_days)
    wait = waiting(candidate, day, older_than_days=options.older_than_days)
    found = _prepare(project, index, asker.read_upstream(candidate.version, day, wait))
    if not options.dry_run:
        _write(project, found)
    _show(found, candidate, options)
    return 0


def _candidate(project: Project, asker: Asker, options: argparse.Namespace, today: date) -> Candidate | None:
    if options.newest:
        published = newest_published(today=today, older_than_days=options.older_than_days)
        return asker.find_newest(highest(project.matrix), published)
    check_version(project.matrix, options.release)
    found = asker.find_release(options.release)
    if found.version != options.release:
        raise UsageError(f"'{options.release}': the package index calls it {found.version}; write that")
    return found


def _nothing_new(project: Project, options: argparse.Namespace) -> int:
    above = highest(project.matrix)
    if options.json:
        print(json.dumps({"release": None, "above": above, "written": False}, indent=2))
    else:
        days = options.older_than_days
        print(f"nothing to do: the package index has no release of vLLM above {above} of {days} or more days of age")
    return 0


def _prepare(project: Project, index: Index, upstream: Upstream) -> _Bump:
    path = project.root / "matrix.yaml"
    before = path.read_bytes().decode()
    proposal = propose(project.matrix, upstream)
    text, matrix = with_proposal(before, project.matrix, proposal, name=path.name)
    chosen = [row for row in rows(matrix) if row.release.vllm == proposal.version]
    locks = Locker(matrix=matrix, index=index, say=say).lock_release(chosen)
    return _Bump(
        proposal=proposal,
        upstream=upstream,
        before=before,
        text=text,
        diff=unified_diff(before, text, path.name),
        locks=locks,
        overriding=would_override(project.matrix, upstream, proposal),
        notes=tuple(_notes(project, matrix, proposal, locks, before)),
        changes=tuple(lock_changes(project, matrix, locks)),
    )


def _notes(project: Project, matrix: Matrix, proposal: Proposal, locks: Sequence[Lock], text: str) -> Iterator[Note]:
    version = proposal.version
    before = release_before(project.matrix, version)
    yield from patch_notes(load_series(project.root / "patches" / "vllm"), version, before)
    yield from rule_notes(matrix, version, before)
    environment = locks[-1].environments[0]
    if before:
        last = Before(version=before, environment=_environment(project, before, environment.base))
        yield from trim_notes(matrix, environment, last)
    yield from mentions(text, version)
    triton = dict(proposal.foundation.versions).get("triton")
    tool = Path("tools", "requirements", f"moe-{triton}.in")
    if proposal.is_new and triton and not (project.root / tool).exists():
        yield Note(
            kind="tools", subject=str(tool), text="is missing; `nox -s moe -- --compile` needs it for this Triton"
        )


def _environment(project: Project, release: str, base: str) -> Environment | None:
    """The environment of a release's highest major, if it is locked."""
    *_lower, row = sorted(
        (one for one in project.rows if one.release.vllm == release), key=lambda one: one.variant.major
    )
    try:
        return project.lock(row).environment(base)
    except LockError as err:
        say(f"nothing is compared with {row.tag}: {err}")
        return None


# ---- writing


def _write(project: Project, found: _Bump) -> None:
    """Write locks and matrix, or leave all as it was."""
    files = {lock_path(project.locks, one.tag): lock_to_json(one) for one in found.locks}
    matrix = project.root / "matrix.yaml"
    files[matrix] = found.text
    if matrix.read_bytes().decode() != found.before:
        raise LockError(f"{matrix}: was changed while this resolved; nothing is written, run it again")
    with _undone(files):
        for path, text in files.items():
            try:
                write_file(path, text)
            except OSError as err:
                raise LockError(f"{path}: cannot be written: {err}; matrix and locks are as they were") from err
            say(f"{path}: written")


@contextmanager
def _undone(files: Mapping[Path, str]) -> Iterator[None]:
    """Put files back as they were, unless all goes well."""
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    done = False
    try:
        yield
        done = True
    finally:
        for path, content in () if done else before.items():
            if content is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != content:
                write_file(path, content.decode())


# ---- showing


def _show(found: _Bump, candidate: Candidate, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(_json(found, candidate, written=not options.dry_run), indent=2))
        return
    print(found.diff)
    print_table(("", ""), _facts(found, candidate), title=f"vLLM {found.proposal.version}")
    for tag, update in found.changes:
        headers = ("package", "before", "now", "MB")
        print_table(headers, change_rows(update), title=summary(tag, update))
    if found.overriding:
        print_table(("not taken", "would override"), found.overriding, title="What the release does not admit")
    if found.notes:
        rows_ = [(one.kind, one.subject, one.text) for one in found.notes]
        print_table(("what", "which", "note"), rows_, title="To look at")
    if options.dry_run:
        print("nothing was written, as --dry-run asks")
        return
    tags = " ".join(one.tag for one in found.locks)
    print(
        f"next: `nox -s tests -- --update-golden`, `nox -s docs`, read the diff; then `nox -s build -- {tags} --record`"
    )


def _facts(found: _Bump, candidate: Candidate) -> Iterator[tuple[str, str]]:
    proposal = found.proposal
    yield "published", f"{candidate.published}; packages as of {proposal.as_of}"
    yield (
        "commit",
        f"{found.upstream.commit}, as its wheel says" + ("" if proposal.commit else "; the full one is open"),
    )
    versions = ", ".join(f"{name} {version}" for name, version in proposal.foundation.versions)
    yield "foundation", f"{proposal.foundation.name}, {'new' if proposal.is_new else 'as it is'}: {versions}"
    for package, specifier in proposal.declares:
        yield "declares", f"{package} {specifier}"
    yield "transformers", ", ".join(f"t{major(one)}: {one}" for one in proposal.transformers)
    yield "overrides", "none: the release admits all of this"
    for one in found.locks:
        for environment in one.environments:
            size = sum(wheel.size_bytes for wheel in environment.wheels)
            yield f"lock {one.tag}", f"{environment.base}: {len(environment.wheels)} packages, {size / 1e9:.2f} GB"


def _json(found: _Bump, candidate: Candidate, *, written: bool) -> dict[str, object]:
    proposal = found.proposal
    return {
        "release": proposal.version,
        "published": candidate.published.isoformat(),
        "as_of": proposal.as_of,
        "wheel_commit": found.upstream.commit,
        "foundation": {
            "name": proposal.foundation.name,
            "new": proposal.is_new,
            "versions": dict(proposal.foundation.versions),
        },
        "declares": dict(proposal.declares),
        "flashinfer": proposal.flashinfer,
        "tags": [one.tag for one in found.locks],
        "transformers": {f"t{major(one)}": one for one in proposal.transformers},
        "would_override": dict(found.overriding),
        "notes": [{"kind": one.kind, "subject": one.subject, "text": one.text} for one in found.notes],
        "locks": {tag: asdict(update) for tag, update in found.changes},
        "diff": found.diff,
        "written": written,
    }
