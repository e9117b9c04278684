"""Compare what owners say of an image's files with what there is: OS packages by dpkg, and what our recipes add."""

import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from sparkbake.dpkg import INFO, Database, read_database
from sparkbake.errors import ImageError
from sparkbake.findings import Finding, Severity
from sparkbake.imageinfo import parse_json
from sparkbake.manifest import FILES, MANIFEST
from sparkbake.paths import follow
from sparkbake.surveyed import Seen, Survey

OwnerKind = Literal["os", "python", "ours", "generated", "unowned"]

_BUILD_ANEW = "build the image anew; if it was changed on purpose,"
_REMEDIES = {
    "file-changed": f"{_BUILD_ANEW} change it in a recipe, under a path that no package has",
    "file-missing": f"{_BUILD_ANEW} say so in matrix.yaml: trims, collisions, or removed",
    "file-unowned": f"{_BUILD_ANEW} add it in a recipe; what a package makes when it is installed stands in generated",
    "link-changed": f"{_BUILD_ANEW} make another link in a recipe",
    "link-dangling": "remove the link, or bring back what it points to; what is left out stands in removed",
    "package-unlisted": "build the image anew, with all of var/lib/dpkg/info",
    "record-unhashed": "take a wheel whose RECORD has a SHA-256 of every file",
    "rule-unused": "mend the pattern in matrix.yaml, or remove it",
    "trimmed-present": "build the image anew; if it is needed, remove the trim from matrix.yaml",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """That a file is of an owner.

    Attributes:
        owner: "bash", "torch".
        contents: as contents_of has them; the file must have one of these. Empty when the owner notes none.
    """

    owner: str
    contents: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What one kind of owner accounts for.

    Attributes:
        owned: path to whether its owner notes its content.
        missing: path and owner of what should be there.
    """

    kind: OwnerKind
    owned: Mapping[str, bool]
    missing: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()


def fault(id_: str, subject: str, *, found: str, expected: str, severity: Severity = "error") -> Finding:
    """A finding of an accounting, with its remedy."""
    return Finding(id=id_, severity=severity, subject=subject, found=found, expected=expected, remedy=_REMEDIES[id_])


# ---- paths and contents


def resolver(seen: Mapping[str, Seen]) -> Callable[[str], str]:
    """What gives the path of an image for one of a record: "usr/lib/x" for "lib/x" and for "usr/bin/../lib/x"."""

    @cache
    def folder(path: str) -> str:
        found = follow(seen, path)
        return path if found is None else found

    return lambda path: posixpath.join(folder(posixpath.dirname(path)), posixpath.basename(path))


def contents_of(seen: Mapping[str, Seen], path: str) -> tuple[str, ...]:
    """What there is to compare: "sha256:<hex>" and "md5:<hex>" of a file, "link:<target>" of a symbolic link."""
    one = seen[path]
    if one.entry.kind == "hardlink":
        one = seen.get(one.entry.target, one)
    if one.entry.kind == "file":
        return f"sha256:{one.entry.sha256}", f"md5:{one.md5}"
    return (f"{one.entry.kind}:{one.entry.target}",)


def changed(seen: Mapping[str, Seen], path: str, claim: Claim) -> Finding:
    """The finding on a file that is another than its owner notes; the digests are of one algorithm."""
    algorithm = claim.contents[0].partition(":")[0]
    there = contents_of(seen, path)
    found = next((one for one in there if one.startswith(f"{algorithm}:")), there[0])
    return fault("file-changed", path, found=found, expected=f"{' or '.join(claim.contents)} of {claim.owner}")


def check_claims(kind: OwnerKind, seen: Mapping[str, Seen], claims: Mapping[str, Sequence[Claim]]) -> Part:
    """Compare what is there with what is claimed; of several claims one has to be right."""
    owned, missing, findings = {}, [], []
    for path, some in claims.items():
        if path not in seen:
            missing.append((path, some[0].owner))
            continue
        noting = [one for one in some if one.contents]
        owned[path] = bool(noting)
        there = set(contents_of(seen, path))
        if noting and all(there.isdisjoint(one.contents) for one in noting):
            findings.append(changed(seen, path, noting[0]))
    return Part(kind=kind, owned=owned, missing=tuple(missing), findings=tuple(findings))


# ---- OS packages


def os_part(survey: Survey, real: Callable[[str], str]) -> Part:
    """What dpkg knows of: the files of packages, its own records of them, and the links of update-alternatives.

    Raises:
        ImageError: a file of dpkg's is damaged.
    """
    database = read_database(survey.texts)
    claims: dict[str, list[Claim]] = {}
    for path, claim in _os_claims(database):
        claims.setdefault(real(path), []).append(claim)
    # The records of one package, whatever they are; what else stands there is of nobody.
    for path in survey.seen:
        record = path.removeprefix(INFO).rpartition(".")[0]
        if path.startswith(INFO) and record in database.records:
            claims.setdefault(path, []).append(Claim(owner=record))
    for link in database.alternatives:
        if link.is_main or real(link.path) in survey.seen:
            contents = tuple(f"link:{target}" for target in link.targets)
            claims.setdefault(real(link.path), []).append(Claim(owner="update-alternatives", contents=contents))
    folders = _folders(survey.seen, claims)
    part = check_claims("os", survey.seen, {path: some for path, some in claims.items() if path not in folders})
    unlisted = (
        fault("package-unlisted", name, found="no list of its files", expected=f"{INFO}{name}.list")
        for name in database.unlisted
    )
    return Part(kind="os", owned=part.owned, missing=part.missing, findings=(*part.findings, *unlisted))


def _os_claims(database: Database) -> Iterator[tuple[str, Claim]]:
    for one in database.files:
        yield one.path, Claim(owner=one.package, contents=(f"md5:{one.md5}",) if one.md5 else ())


def _folders(seen: Mapping[str, Seen], claims: Mapping[str, Sequence[Claim]]) -> set[str]:
    """What of the listed is a folder, which dpkg does not say: it is one in the image, or something listed is in it."""
    known = {posixpath.dirname(path) for path in claims}
    known |= {path for path in claims if path in seen and seen[path].entry.kind == "folder"}
    return {path for path in known if not any(one.contents for one in claims.get(path, ()))}


# ---- what a recipe adds

# Where: the virtual environment, and the name of the CUDA folder in it; what `runtime` brings, whose content is held
# against the plan by `words`; and the way to the caches.
OUR_FOLDERS = ("opt/venv/", "usr/lib/sparkbake/", "usr/share/sparkbake/moe_configs/")
OUR_FILES = ("usr/local/cuda", "usr/local/bin/spark", "root/.cache")


def our_part(survey: Survey, taken: Collection[str]) -> Part:
    """What the recipe puts into an image itself, by the list that it makes of that; not what others have of it.

    Args:
        taken: paths of files that have an owner.

    Raises:
        ImageError: the list is damaged.
    """
    claims = {path: [Claim(owner="the recipe")] for path in (MANIFEST, FILES)}
    listed = parse_json(FILES, survey.texts[FILES]) if FILES in survey.texts else {}
    for path, content in listed.items():
        if not isinstance(content, str) or not content.startswith(("sha256:", "link:")):
            raise ImageError(f"{FILES}: {path}: got {content!r}, expected 'sha256:...' or 'link:...'; build it anew")
        if path.startswith(OUR_FOLDERS) or path in OUR_FILES:
            claims[path] = [Claim(owner="the recipe", contents=(content,))]
    return check_claims("ours", survey.seen, {path: some for path, some in claims.items() if path not in taken})
