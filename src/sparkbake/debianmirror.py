"""What a Debian mirror has: where it is, its verified package index, and how far it has moved on from a lock."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from sparkbake import process
from sparkbake.baselock import BaseLock, DebianPackage
from sparkbake.errors import BaseError, ProcessError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_APT_TIMEOUT_S = 900.0
_TRANSPORT_OPTION = re.compile(r'Acquire::https?::(\S+::)?(Proxy|CaInfo)\S* "', re.IGNORECASE)
_INSTALLED = re.compile(r"^Inst (\S+) (?:\[[^\]]*\] )?\((\S+) ", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """What a mirror has for one architecture.

    Attributes:
        packages: name to all versions of it.
        folders: name to its folder in the pool, "pool/main/c/curl".
        release_epoch: seconds since 1970; the date of the newest suite's Release file.
        environment: variables that let apt look into this index instead of the machine's own.
    """

    packages: Mapping[str, tuple[DebianPackage, ...]]
    folders: Mapping[str, str]
    release_epoch: int
    environment: Mapping[str, str]


# The address


def find_mirror(configured: str | None) -> str | None:
    """Return the address of the Debian mirror to use.

    Args:
        configured: what mirrors.yaml says, or None.

    Returns:
        `configured` as it is; else the main archive that this machine's own apt uses, when it runs Debian; else None,
        which means mmdebstrap's own default.
    """
    if configured is not None:
        return configured
    form = "$(COMPONENT)|$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    try:
        listed = process.run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"], timeout_s=60)
    except ProcessError:
        return None  # No apt here, so this is no Debian.
    known = re.search(r"^main\|Debian\|Debian\|((?:https?|copy|file):.*)$", listed, re.MULTILINE)
    # apt knows origin and label only after an update; before it, the archive's customary path has to do.
    found = known or re.search(r"^main\|\|\|((?:https?|copy|file):.*/debian/)$", listed, re.MULTILINE)
    return found[1].rstrip("/") if found else None


def mirror_address(mirror: str | None) -> str:
    """Return the address that sources name for what find_mirror returned."""
    if mirror is None:
        return default_mirror()
    # apt reads `file:` in place, but mmdebstrap needs the packages inside the root.
    return re.sub("^file:", "copy:", mirror.rstrip("/"))


def default_mirror() -> str:
    """Return the address that mmdebstrap itself uses when none is given, so that it stands nowhere in this project.

    Raises:
        BaseError: mmdebstrap is missing or names none.
    """
    program = shutil.which("mmdebstrap")
    text = Path(program).read_text(encoding="utf-8", errors="replace") if program else ""
    match = re.search(r"\$mirror\s*=\s*'(https?://[^']+)'", text)
    if match is None:
        raise BaseError(
            f"{program}: no default mirror found in it; expected the line `my $mirror = ...` of mmdebstrap 1.3 to 1.5"
        )
    return match[1]


def source_lines(architecture: str, suites: Sequence[str], mirror: str) -> list[str]:
    """Return the lines of a sources.list, one per suite."""
    # check-valid-until: snapshot archives are past their date for good, and what counts as right is the lock.
    options = f"arch={architecture} signed-by={KEYRING} check-valid-until=no"
    return [f"deb [{options}] {mirror} {suite} main" for suite in suites]


def transport_options() -> list[str]:
    """Return the machine's own apt settings on proxies and certificates, without which a mirror may not be reached."""
    dump = process.run(
        ["apt-config", "dump", "--no-empty", "--format", '%f "%v"%n', "Acquire::http", "Acquire::https"], timeout_s=60
    )
    return [line for line in dump.splitlines() if _TRANSPORT_OPTION.match(line)]


# The index


def fetch_index(root: Path, architecture: str, suites: Sequence[str], *, mirror: str) -> Index:
    """Fetch and verify the mirror's index into a private apt directory, so that the machine's own stays as it is.

    Args:
        root: the private directory; must not exist.
        mirror: as mirror_address returns it.

    Raises:
        BaseError: the mirror has no index of a suite, or does not answer.
    """
    environment = _private_apt(root, architecture, source_lines(architecture, suites, mirror))
    try:
        process.run(["apt-get", "-qq", "update", "--error-on=any"], timeout_s=_APT_TIMEOUT_S, env=environment)
    except ProcessError as err:
        raise BaseError(
            f"{mirror}: no package index of {', '.join(suites)} for {architecture}:\n{err.output or err}\n"
            "Name a Debian mirror or snapshot archive that this machine reaches as `debian:` in mirrors.yaml."
        ) from err
    targets = process.run(
        ["apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages"], timeout_s=60, env=environment
    )
    # apt keeps indexes compressed in its own ways.
    texts = [
        process.run(["/usr/lib/apt/apt-helper", "cat-file", file], timeout_s=120, env=environment)
        for file in targets.split()
    ]
    text = "\n\n".join(texts)
    return Index(
        packages=parse_packages(text),
        folders=parse_folders(text),
        release_epoch=_release_epoch(root),
        environment=environment,
    )


def _private_apt(root: Path, architecture: str, sources: Sequence[str]) -> dict[str, str]:
    for folder in (
        *("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d"),
        *("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg"),
    ):
        (root / folder).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "etc/apt/sources.list").write_text("\n".join(sources) + "\n", encoding="utf-8")
    options = (
        f'APT::Architecture "{architecture}"',
        f'APT::Architectures {{ "{architecture}"; }}',
        f'Dir "{root}/"',
        f'Dir::State::Status "{root}/var/lib/dpkg/status"',
        'APT::Sandbox::User "root"',
        'APT::Install-Recommends "false"',
        'Acquire::Languages "none"',
        # apt counts itself as essential; mmdebstrap's variant does not, and the two must agree.
        'pkgCacheGen::ForceEssential ","',
        *transport_options(),
    )
    config = root / "apt.conf"
    config.write_text("".join(f"{option};\n" for option in options), encoding="utf-8")
    return {"APT_CONFIG": str(config), "LC_ALL": "C.UTF-8"}


def _release_epoch(root: Path) -> int:
    texts = [file.read_text(encoding="utf-8") for file in (root / "var/lib/apt/lists").glob("*Release")]
    dates = re.findall(r"^Date: (.+)$", "\n".join(texts), re.MULTILINE)
    return max(int(parsedate_to_datetime(date).timestamp()) for date in dates)


def parse_packages(text: str) -> dict[str, tuple[DebianPackage, ...]]:
    """Read a Packages index into all versions of each package, in its order."""
    found: dict[str, tuple[DebianPackage, ...]] = {}
    for fields in read_stanzas(text, "Package", "Version", "Architecture", "Size", "SHA256"):
        package = DebianPackage(
            name=fields["Package"],
            version=fields["Version"],
            architecture=fields["Architecture"],
            sha256=fields["SHA256"],
            size_bytes=int(fields["Size"]),
        )
        found[package.name] = (*found.get(package.name, ()), package)
    return found


def parse_folders(text: str) -> dict[str, str]:
    """Read from a Packages index in which folder of the pool each package lies."""
    found = read_stanzas(text, "Package", "Filename")
    return {fields["Package"]: fields["Filename"].rpartition("/")[0] for fields in found}


def read_stanzas(text: str, *names: str) -> Iterator[dict[str, str]]:
    """Read those fields of each stanza of Debian control data (stanzas separated by empty lines) that are named."""
    starts = tuple(f"{name}: " for name in names)
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if line.startswith(starts))
        if fields:
            yield fields


# What to install


def resolve_packages(index: Index, include: Sequence[str]) -> tuple[DebianPackage, ...]:
    """Return what mmdebstrap would install, sorted by name.

    In its two steps: what is essential first, for an alternative (`mawk | gawk`) must be chosen there as it does.

    Raises:
        BaseError: the mirror lacks a package.
    """
    essential = _simulate(index, ["?essential"])
    chosen = _simulate(index, [*(f"{name}={version}" for name, version in essential), "apt", *include])
    by_version = {(package.name, package.version): package for each in index.packages.values() for package in each}
    return tuple(by_version[key] for key in sorted(chosen))


def _simulate(index: Index, wanted: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, version) of all that apt would install into an empty root for `wanted`."""
    argv = ["apt-get", "--simulate", "--yes", "install", *wanted]
    try:
        text = process.run(argv, timeout_s=_APT_TIMEOUT_S, env=index.environment)
    except ProcessError as err:
        raise BaseError(
            f"the mirror has not all that is to be installed:\n{err.output or err}\n"
            "Correct the packages asked for, or name another mirror as `debian:` in mirrors.yaml."
        ) from err
    return _INSTALLED.findall(text)


def list_drifted(
    lock: BaseLock, architecture: str, index: Mapping[str, tuple[DebianPackage, ...]]
) -> tuple[DebianPackage, ...]:
    """Return the locked packages of one architecture that the mirror's index does not have as locked."""
    return tuple(locked for locked in lock.packages_of(architecture) if locked not in index.get(locked.name, ()))


def describe_drift(locked: DebianPackage, index: Mapping[str, tuple[DebianPackage, ...]]) -> str:
    """Say what the index has in place of a locked package.

    Returns:
        "NAME ARCH: locked VERSION (sha256 12 HEX DIGITS), mirror has VERSION".
    """
    has = ", ".join(
        f"{other.version} (sha256 {other.sha256[:12]})" if other.version == locked.version else other.version
        for other in index.get(locked.name, ())
    )
    return (
        f"{locked.name} {locked.architecture}: locked {locked.version} (sha256 {locked.sha256[:12]}), "
        f"mirror has {has or 'none'}"
    )
