"""Compare the files of Python packages in an image with their RECORDs, and with what our recipes leave out of them.

Spec: https://packaging.python.org/en/latest/specifications/recording-installed-packages/.
"""

import base64
import csv
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sparkbake.claims import Claim, Part, changed, contents_of, fault
from sparkbake.errors import ImageError
from sparkbake.findings import Finding
from sparkbake.imageinfo import parse_json
from sparkbake.model import Collision
from sparkbake.ownership import is_record, record_text
from sparkbake.surveyed import Survey
from sparkbake.versions import normalise

# Beside a RECORD, which lists all that the wheel holds: what recipes/scripts/layout.py left out, path to size in bytes.
_TRIMMED = "TRIMMED.json"
# Which files it changed, by overwriting cubins: path to {"sha256": of the file as it is, "bytes": overwritten}.
_PRUNED = "PRUNED.json"
_HEX = re.compile("[0-9a-f]{64}")
# Beside RECORD itself: by the specification these need no digest, and neither does compiled bytecode.
_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """What is written down of the files of an installed package; paths are of the image.

    Attributes:
        name: normalised.
        site: the folder site-packages that it is in.
        rows: of RECORD: path, and "sha256:" + 64 hex digits or "" without one; of a pruned file as it is pruned.
        unhashed: path to what RECORD has in place of a SHA-256 that should be there.
        trimmed: what was left out.
    """

    name: str
    site: str
    rows: tuple[tuple[str, str], ...]
    unhashed: tuple[tuple[str, str], ...]
    trimmed: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunedFile:
    """What a PRUNED.json says of a file.

    Attributes:
        path: of the image, but for links on the way.
        content: "sha256:" + 64 hex digits of the file as it is.
        gone_bytes: of cubins that are overwritten; more than 0.
    """

    path: str
    content: str
    gone_bytes: int


def pruned_files(texts: Mapping[str, bytes], note: str) -> Iterator[PrunedFile]:
    """What one PRUNED.json says; nothing where there is none.

    Args:
        texts: path to content.
        note: its path.

    Raises:
        ImageError: it is no JSON object, or does not say of each file what it should.
    """
    site = posixpath.dirname(posixpath.dirname(note))
    for path, said in (parse_json(note, texts[note]) if note in texts else {}).items():
        facts = said if isinstance(said, dict) else {}
        digest, gone = str(facts.get("sha256")), facts.get("bytes")
        # True is an int, too.
        if not _HEX.fullmatch(digest) or type(gone) is not int or gone <= 0:
            raise ImageError(
                f"{note}: {path}: got {said!r}, expected the sha256 of the file, 64 hex digits, and bytes, more than 0"
            )
        yield PrunedFile(path=posixpath.normpath(f"{site}/{path}"), content=f"sha256:{digest}", gone_bytes=gone)


def is_pruned_note(path: str) -> bool:
    """Whether a file of an image is a PRUNED.json."""
    return path.endswith(f".dist-info/{_PRUNED}")


def read_distribution(texts: Mapping[str, bytes], record: str, real: Callable[[str], str]) -> Distribution:
    """What is known of the package with a RECORD.

    Args:
        texts: path to content.
        record: path of its RECORD.
        real: claims.resolver.

    Raises:
        ImageError: RECORD is no CSV in UTF-8, or TRIMMED.json or PRUNED.json is not as it should be.
    """
    info = posixpath.dirname(record)
    site = posixpath.dirname(info)
    pruned = {real(one.path): one.content for one in pruned_files(texts, f"{info}/{_PRUNED}")}
    rows, unhashed = [], []
    for row, digest in _rows(record, record_text(texts[record], record)):
        path = real(posixpath.join("/", site, row).lstrip("/"))
        content = _sha256(digest)
        rows.append((path, pruned.get(path, content)))
        may_lack = path.endswith(".pyc") or path in [f"{info}/{name}" for name in _UNHASHED]
        if not content and (digest or not may_lack):
            unhashed.append((path, digest or "no digest"))
    note = f"{info}/{_TRIMMED}"
    trimmed = parse_json(note, texts[note]) if note in texts else {}
    return Distribution(
        name=normalise(posixpath.basename(info).removesuffix(".dist-info").rpartition("-")[0]),
        site=site,
        rows=tuple(rows),
        unhashed=tuple(unhashed),
        trimmed=frozenset(real(f"{site}/{path}") for path in trimmed),
    )


def _rows(record: str, text: str) -> Iterator[tuple[str, str]]:
    """Path and digest, as written."""
    try:
        for row in csv.reader(text.splitlines(keepends=True), strict=True):
            if row:
                yield row[0], row[1] if len(row) > 1 else ""
    except csv.Error as err:
        raise ImageError(f"{record}: is no CSV: {err}; expected the RECORD of an installed distribution") from err


def _sha256(digest: str) -> str:
    """A digest of RECORD ("sha256=" + base64) as "sha256:" + 64 hex digits; "" of anything else."""
    algorithm, _equals, value = digest.partition("=")
    try:
        content = base64.b64decode(f"{value}=", altchars=b"-_", validate=True)  # RECORD has it without the padding
    except ValueError:
        return ""
    return f"sha256:{content.hex()}" if algorithm == "sha256" and len(content) == 32 else ""  # noqa: PLR2004


# ---- claims


def python_part(
    survey: Survey, real: Callable[[str], str], collisions: Sequence[Collision], taken: Collection[str]
) -> Part:
    """What the RECORDs list, each file with the content that one of them has.

    Args:
        real: claims.resolver.
        collisions: of the matrix; the first that matches a path counts, as in recipes/scripts/layout.py.
        taken: paths of files that have an owner; a RECORD of an OS package is one of its files, and no more.

    Raises:
        ImageError: a record is damaged.
    """
    records = [path for path in survey.texts if is_record(path) and path not in taken]
    found = [read_distribution(survey.texts, path, real) for path in records]
    claims: dict[str, list[Claim]] = {}
    for one in found:
        for path, content in one.rows:
            claims.setdefault(path, []).append(Claim(owner=one.name, contents=(content,) if content else ()))
    trimmed = {(path, one.name) for one in found for path in one.trimmed}
    sites = {one.site for one in found}
    owned, missing = {}, list[tuple[str, str]]()
    findings = [*_unhashed(found), *_trimmed_present(survey, found)]
    for path, some in claims.items():
        if path in taken:
            continue
        if path in survey.seen:
            owned[path] = any(one.contents for one in some)
            there = contents_of(survey.seen, path)
            wrong = [one for one in some if one.contents and one.contents[0] not in there]
            if wrong and not _is_kept(some, there, _rule_of(collisions, path, sites)):
                findings.append(changed(survey.seen, path, wrong[0]))
        elif not _is_left_out(some, _rule_of(collisions, path, sites)):
            missing += [(path, one.owner) for one in some if (path, one.owner) not in trimmed][:1]
    return Part(kind="python", owned=owned, missing=tuple(missing), findings=tuple(findings))


def _rule_of(collisions: Sequence[Collision], path: str, sites: Collection[str]) -> Collision | None:
    return next((one for one in collisions if any(fnmatchcase(path, f"{site}/{one.path}") for site in sites)), None)


def _is_kept(some: Sequence[Claim], there: Collection[str], rule: Collision | None) -> bool:
    """Whether a file is as that package has it which a rule keeps, so that it may be another than others have."""
    return rule is not None and any(one.owner == rule.keep and not set(one.contents).isdisjoint(there) for one in some)


def _is_left_out(some: Sequence[Claim], rule: Collision | None) -> bool:
    """Whether a rule leaves out a file for which several packages have different contents; one of them alone stays."""
    return rule is not None and rule.keep is None and len({one.contents for one in some}) > 1


def _unhashed(found: Sequence[Distribution]) -> Iterator[Finding]:
    for one in found:
        for path, digest in one.unhashed:
            yield fault("record-unhashed", path, found=digest, expected=f"sha256=... in the RECORD of {one.name}")


def _trimmed_present(survey: Survey, found: Sequence[Distribution]) -> Iterator[Finding]:
    for one in found:
        for path in sorted(one.trimmed & survey.seen.keys()):
            size = survey.seen[path].entry.size_bytes
            yield fault(
                "trimmed-present", path, found=f"{size} bytes", expected=f"left out, by {_TRIMMED} of {one.name}"
            )
