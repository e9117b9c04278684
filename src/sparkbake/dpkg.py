"""Read what dpkg notes inside an image: which packages it has, whose each file is, and which alternatives were chosen.

Formats: deb822(5), deb-md5sums(5), deb-conffiles(5), dpkg-divert(1), update-alternatives(1); what no manual describes
is as dpkg of Debian 13 writes it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sparkbake.errors import ImageError
from sparkbake.model import Pairs

STATUS = "var/lib/dpkg/status"
DIVERSIONS = "var/lib/dpkg/diversions"
INFO = "var/lib/dpkg/info/"
ALTERNATIVES = "var/lib/dpkg/alternatives/"
# One paragraph a file, as images without dpkg have it: https://github.com/GoogleContainerTools/distroless.
_STATUS_FOLDER = "var/lib/dpkg/status.d/"

# "triggers-awaited" and "triggers-pending" mean that all files are there, and a package has more to do: dpkg(1).
_INSTALLED = ("installed", "triggers-awaited", "triggers-pending")
_FIELD = re.compile(r"([!-9;-~]+):[ \t]*(.*)")
_SOURCE = re.compile(r"(\S+)(?: \((\S+)\))?")
_CONFFILE = re.compile(r" /(.+?) ([0-9a-f]{32}|newconffile)(?: obsolete)?(?: remove-on-upgrade)?")
_MD5SUM = re.compile(r"([0-9a-f]{32})  (?:\./)?/?(.+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class OsPackage:
    """An installed package.

    Attributes:
        architecture: "arm64", or "all".
        source, source_version: of the source package it was built from; most often its own name and version.
        maintainer: "Name <address>"; "" when it does not say.
        conffiles: path without leading slash and MD5, 32 hex digits, of each configuration file as the package has it.
    """

    name: str
    architecture: str
    version: str
    source: str
    source_version: str
    maintainer: str
    conffiles: Pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Diversion:
    """A path at which the file of a package stands elsewhere, since another package has put its own there.

    Attributes:
        path, diverted: without leading slash; all packages but `package` have their file at `diverted`.
        package: ":" when an administrator asked for it, and so it is of none.
    """

    path: str
    diverted: str
    package: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AlternativeLink:
    """A link that update-alternatives makes, and that no package lists.

    Attributes:
        path: without leading slash.
        targets: as a link has them; one of these it must be.
        is_main: whether it must be there; the others exist where the chosen alternative has them.
    """

    path: str
    targets: tuple[str, ...]
    is_main: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """A path that a package lists: a file, a link or a folder, which dpkg does not tell apart.

    Attributes:
        path: without leading slash, as dpkg has it, diversions applied: "lib/x" of an image with "usr/lib/x", too.
        md5: 32 hex digits; "" when dpkg notes none: of links, folders, and files of some packages.
    """

    path: str
    package: str
    md5: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Database:
    """All that dpkg notes.

    Attributes:
        packages: by name and architecture.
        files: package by package.
        records: what the names of a package's own files in var/lib/dpkg/info begin with: "bash", "libc6:arm64".
        unlisted: names of packages that have no list of their files.
    """

    packages: tuple[OsPackage, ...]
    files: tuple[ListedFile, ...]
    records: frozenset[str]
    unlisted: tuple[str, ...]
    alternatives: tuple[AlternativeLink, ...]


def read_database(texts: Mapping[str, bytes]) -> Database:
    """Put together what dpkg notes; all of it may be absent.

    Args:
        texts: path to content of files of an image: Survey.texts.

    Raises:
        ImageError: one of them is damaged.
    """
    found = {path: _decode(path, content) for path, content in texts.items() if path.startswith("var/lib/dpkg/")}
    installed = parse_status(found.get(STATUS, ""))
    records = {one: _record_of(one, found) for one in installed}
    bare = [
        (package, path)
        for path, text in found.items()
        if path.startswith(_STATUS_FOLDER) and not path.endswith(".md5sums")
        for package in parse_status(text, path)
    ]
    files = [one for package, record in records.items() if record for one in _files(package, record, found)]
    files += [one for package, path in bare for one in _files_beside(package, path, found)]
    named = {path.removeprefix(ALTERNATIVES): text for path, text in found.items() if path.startswith(ALTERNATIVES)}
    packages = (*installed, *(package for package, _path in bare))
    return Database(
        packages=tuple(sorted(packages, key=lambda one: (one.name, one.architecture))),
        files=tuple(files),
        records=frozenset(record for record in records.values() if record),
        unlisted=tuple(sorted(package.name for package, record in records.items() if not record)),
        alternatives=tuple(link for name, text in named.items() for link in parse_alternative(name, text)),
    )


def _decode(path: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as err:
        raise ImageError(f"{path}: is not UTF-8: {err}; expected what dpkg writes; build the image anew") from err


def _record_of(package: OsPackage, found: Mapping[str, str]) -> str | None:
    """What the names of its files in INFO begin with; of some that is with the architecture, whether or not foreign."""
    names = f"{package.name}:{package.architecture}", package.name
    return next((one for one in names if f"{INFO}{one}.list" in found), None)


def _files(package: OsPackage, record: str, found: Mapping[str, str]) -> Iterator[ListedFile]:
    place = f"{INFO}{record}.md5sums"
    # A file that another package replaced is still in the sums, but not in the list.
    sums = {**dict(package.conffiles), **parse_md5sums(found.get(place, ""), place)}
    diversions = parse_diversions(found.get(DIVERSIONS, ""))
    elsewhere = {one.path: one.diverted for one in diversions if one.package != package.name}
    for path in parse_list(found[f"{INFO}{record}.list"]):
        yield ListedFile(path=elsewhere.get(path, path), package=package.name, md5=sums.get(path, ""))


def _files_beside(package: OsPackage, path: str, found: Mapping[str, str]) -> Iterator[ListedFile]:
    """Those of a package of an image without dpkg, which has no lists."""
    for one, md5 in parse_md5sums(found.get(f"{path}.md5sums", ""), f"{path}.md5sums").items():
        yield ListedFile(path=one, package=package.name, md5=md5)


# ---- packages


def parse_status(text: str, where: str = STATUS) -> tuple[OsPackage, ...]:
    """The packages that are installed, in the order of the file.

    Args:
        where: the file, for messages.

    Raises:
        ImageError: a paragraph is damaged; names it.
    """
    found = []
    for number, paragraph in enumerate(re.split(r"\n(?:[ \t]*\n)+", text.strip("\n")) if text.strip() else (), start=1):
        fields = _fields(f"{where}: paragraph {number}", paragraph)
        place = f"{where}: paragraph {number} ({fields.get('Package', 'of no package')})"
        # status.d has no Status: what stands there is installed.
        if fields.get("Status", "installed").rpartition(" ")[2] in _INSTALLED:
            found.append(_package(place, fields))
    return tuple(found)


def _fields(place: str, paragraph: str) -> dict[str, str]:
    """Name to value of the fields of a paragraph; further lines of a value keep the white space they begin with."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.split("\n"):
        begins = _FIELD.fullmatch(line)
        if begins and begins.group(1) not in fields:
            name = begins.group(1)
            fields[name] = begins.group(2)
        elif name and line[:1] in (" ", "\t"):
            fields[name] += f"\n{line}"
        else:
            raise ImageError(f"{place}: got {line[:80]!r}, expected a new field; build the image anew")
    return fields


def _package(place: str, fields: Mapping[str, str]) -> OsPackage:
    if missing := [name for name in ("Package", "Version", "Architecture") if not fields.get(name)]:
        raise ImageError(f"{place}: has no {' and no '.join(missing)}; build the image anew")
    source = _SOURCE.fullmatch(fields.get("Source", fields["Package"]))
    if source is None:
        raise ImageError(f"{place}: got Source {fields['Source']!r}, expected 'NAME (VERSION)'; build the image anew")
    return OsPackage(
        name=fields["Package"],
        architecture=fields["Architecture"],
        version=fields["Version"],
        source=source.group(1),
        source_version=source.group(2) or fields["Version"],
        maintainer=fields.get("Maintainer", ""),
        conffiles=tuple(_conffiles(place, fields.get("Conffiles", ""))),
    )


def _conffiles(place: str, value: str) -> Iterator[tuple[str, str]]:
    for line in value.split("\n")[1:]:
        found = _CONFFILE.fullmatch(line)
        if found is None:
            raise ImageError(f"{place}: got the conffile {line!r}, expected ' /PATH MD5'; build the image anew")
        if found.group(2) != "newconffile":
            yield found.group(1), found.group(2)


# ---- files


def parse_list(text: str) -> tuple[str, ...]:
    """The paths of a package's list, without leading slash and without the top folder."""
    paths = (line.lstrip("/").rstrip("/") for line in text.split("\n"))
    return tuple(path for path in paths if path not in ("", "."))


def parse_md5sums(text: str, where: str) -> dict[str, str]:
    """Path without leading slash to MD5, 32 hex digits.

    Raises:
        ImageError: a line is damaged.
    """
    sums = {}
    for line in text.splitlines():
        found = _MD5SUM.fullmatch(line)
        if found is None:
            raise ImageError(f"{where}: got {line[:80]!r}, expected 32 hex digits and a path; build the image anew")
        sums[found.group(2)] = found.group(1)
    return sums


def parse_diversions(text: str) -> tuple[Diversion, ...]:
    """The diversions; three lines each.

    Raises:
        ImageError: the number of lines says that some are missing.
    """
    lines = text.splitlines()
    if len(lines) % 3:
        raise ImageError(f"{DIVERSIONS}: {len(lines)} lines, expected three for each diversion; build the image anew")
    groups = zip(lines[::3], lines[1::3], lines[2::3], strict=True)
    return tuple(
        Diversion(path=path.lstrip("/"), diverted=diverted.lstrip("/"), package=package)
        for path, diverted, package in groups
    )


def parse_alternative(name: str, text: str) -> tuple[AlternativeLink, ...]:
    """The links of one group of alternatives: two for the group, and two for each further link that goes with it.

    Args:
        name: of the file, which is that of the group: "awk".
        text: "auto" or "manual"; the link; name and link of each further one; an empty line; then of each alternative
            its path, its priority and a line for each further link, empty where it has none; an empty line.

    Raises:
        ImageError: it ends too early.
    """
    _mode, *lines = text.split("\n")
    end = lines.index("") if "" in lines else 0
    links = [(name, lines[0]), *zip(lines[1:end:2], lines[2:end:2], strict=False)] if end else []
    # The last line is followed by an empty one, and that by the end.
    choices = lines[end + 1 : -2]
    width = len(links) + 1
    if end != 2 * len(links) - 1 or not choices or len(choices) % width:
        raise ImageError(f"{ALTERNATIVES}{name}: is not whole, expected links and alternatives; build the image anew")
    found = []
    for at, (one, link) in enumerate(links):
        # Path and priority stand first, so the further links of an alternative begin at its third line.
        column = at + 1 if at else 0
        targets = tuple(target for target in choices[column::width] if target)
        ends = (link.lstrip("/"), (f"/etc/alternatives/{one}",)), (f"etc/alternatives/{one}", targets)
        found += [AlternativeLink(path=path, targets=some, is_main=at == 0) for path, some in ends]
    return tuple(found)
