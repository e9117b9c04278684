"""Hold all that was read of an image against its plan, without running any of its programs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sparkbake.accounting import Accounts, account
from sparkbake.claims import OUR_FILES, OUR_FOLDERS
from sparkbake.devicecode import VERDICTS, Verdict
from sparkbake.dpkg import read_database
from sparkbake.findings import Finding, of_build
from sparkbake.inventory import DeviceFile, Inventory, inventory_of
from sparkbake.libraries import Ptxas, RuntimeLibrary, duplicates, missing_ptxas, runtime_libraries, which_ptxas
from sparkbake.linkage import Linkage, unresolved
from sparkbake.model import Component, Pairs, Target, Trim
from sparkbake.moe import is_shipped
from sparkbake.moecheck import check_config
from sparkbake.paths import below_site
from sparkbake.pruned import is_among, judge_pruned
from sparkbake.rules import CodeRule, FileRule, Rules
from sparkbake.sourcemodel import SourceTarget
from sparkbake.surveyed import Survey
from sparkbake.versions import admits, is_same_cuda, same_version
from sparkbake.words import judge_words

_TORCH_VERSION = re.compile(r"^(__version__|cuda)\b[^=]*= *(?:'([^']*)'|None)", re.MULTILINE)
# An engine gives the file of a hard link the mode that the link has. Links have none.
# Folders that are not as all others: root's, as the base has it, and that of the caches, which any user may write to.
_OWN_MODES = {"root": 0o700, "cache": 0o1777}
_MODES = {"file": (0o644, 0o755), "hardlink": (0o644, 0o755), "folder": (0o755,)}
_CAPABILITY = "SCHILY.xattr.security.capability"
# Names of symbols in a finding; the rest is counted.
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """What came out.

    Attributes:
        facts: what was looked at, and how much of it, for people.
    """

    findings: tuple[Finding, ...]
    facts: Pairs


def examine(
    survey: Survey,
    target: Target,
    *,
    context: Mapping[str, str],
    os_packages: Mapping[str, str] | None,
    rules: Rules,
    trims: Sequence[Trim],
    components: Sequence[Component],
    label_prefix: str,
) -> Examined:
    """Look for everything that is wrong with an image.

    Args:
        context: path to content of the build context that the plan has for it.
        os_packages: name to version of the packages that its base consists of; None where that is not locked.
        trims: of the matrix, whether the image is trimmed or not.
        label_prefix: of the labels with versions, "org.example".

    Raises:
        ImageError: what the image says of its own files is damaged.
    """
    inventory = inventory_of(survey, compute_capability=target.compute_capability)
    accounts = account(
        survey,
        collisions=target.collisions,
        generated=_on_base(rules.generated, target),
        removed=_on_base(rules.removed, target),
    )
    linkage = unresolved(survey)
    libraries = runtime_libraries(survey)
    assemblers = which_ptxas(survey)
    release = dict(target.versions)["vllm"]
    findings = [
        *judge_words(survey, target, context, label_prefix),
        *judge_os_packages(survey, target.tag, target.os_packages, os_packages),
        *_modes(survey, target),
        *accounts.findings,
        *_device_code(inventory, rules, trims, release),
        *judge_pruned(survey, inventory, target.tag, target.trims),
        *duplicates(libraries),
        *_build_ids(survey, target, components, label_prefix),
        *missing_ptxas(assemblers),
        *judge_torch(survey, target),
        *judge_linkage(linkage, target),
        *judge_tuning(survey),
    ]
    facts = (_accounted(accounts), *facts_of(inventory, linkage, libraries, assemblers))
    return Examined(findings=tuple(findings), facts=facts)


def _on_base(rules: Sequence[FileRule], target: Target) -> tuple[FileRule, ...]:
    return tuple(one for one in rules if not one.bases or target.base.name in one.bases)


def _accounted(accounts: Accounts) -> tuple[str, str]:
    kinds = ", ".join(f"{one.files} {one.kind} ({one.checked} checked)" for one in accounts.shares if one.files)
    return "files accounted for", kinds


def facts_of(
    inventory: Inventory, linkage: Linkage, libraries: Sequence[RuntimeLibrary], assemblers: Sequence[Ptxas]
) -> Pairs:
    """What was looked at of any image, for people."""
    worst = {verdict: sum(one.verdict == verdict for one in inventory.files) for verdict in VERDICTS}
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in worst.items() if count)
    stems = dict.fromkeys(one.stem for one in libraries)
    torch = [one for one in inventory.files if one.path.endswith("/torch/lib/libtorch_cuda.so")]
    return (
        ("files with device code", f"{verdicts}, of {inventory.elf_files} ELF files"),
        ("torch's kernels", " ".join(tally.name for one in torch for tally in (*one.sass, *one.ptx)) or "none"),
        ("files linked", f"{linkage.checked} files; {len(linkage.preloaded)} libraries must be loaded before"),
        *((f"copies of {stem}", "; ".join(_described(one) for one in libraries if one.stem == stem)) for stem in stems),
        *((one.variable, one.path or "nothing") for one in assemblers),
    )


def _described(library: RuntimeLibrary) -> str:
    of = f"{library.package} {library.version}" if library.package else "no package"
    return f"of {of}, Build-ID {library.build_id or 'none'}: {', '.join(library.paths)}"


def judge_os_packages(
    survey: Survey, tag: str, names: Sequence[str], locked: Mapping[str, str] | None
) -> Iterator[Finding]:
    """The packages that are asked for are there; of a locked base just its packages, each at its version."""
    installed = {one.name: one.version for one in read_database(survey.texts).packages}
    wanted = dict.fromkeys(names, "any version") if locked is None else dict(locked)
    for name in sorted(wanted if locked is None else {*wanted, *installed}):
        found, expected = installed.get(name, "nothing"), wanted.get(name, "nothing")
        if found == "nothing" or (found != expected and locked is not None):
            yield of_build("os-package", name, tag=tag, found=found, expected=expected)


def _modes(survey: Survey, target: Target) -> Iterator[Finding]:
    """What our recipes put into an image is of root, with one of the modes that they give, without capabilities."""
    for path, one in survey.seen.items():
        entry = one.entry
        if one.layer_name in ("base", "system") and not path.startswith((*OUR_FOLDERS, *OUR_FILES)):
            continue
        wanted = (_OWN_MODES[path],) if path in _OWN_MODES else _MODES.get(entry.kind, (entry.mode,))
        is_capable = _CAPABILITY in dict(entry.headers)
        if entry.mode not in wanted or (entry.uid, entry.gid) != (0, 0) or is_capable:
            found = f"{entry.mode:o} of {entry.uid}:{entry.gid}{', with capabilities' if is_capable else ''}"
            expected = " or ".join(f"{mode:o}" for mode in wanted)
            yield of_build("file-mode", path, tag=target.tag, found=found, expected=f"{expected} of 0:0")


# ---- what is for the chip


def _device_code(inventory: Inventory, rules: Rules, trims: Sequence[Trim], release: str) -> Iterator[Finding]:
    """Files whose device code is worse for the chip than the rules allow, and patterns that no such file matches.

    Args:
        trims: of the matrix; what they name is there in images that were built with --no-trim, and needs no rule.
    """
    trimmed = [(one.package, path) for one in trims if not one.cubins for path in one.paths]
    about = [one for one in rules.code if one.versions is None or admits(one.versions, release)]
    files = [one for one in inventory.files if not is_among(one.package, below_site(one.path), trimmed)]
    yield from judge_code(files, about, rules.least)
    worse = [below_site(one.path) for one in files if not _is_as_good(one.verdict, rules.least)]
    used = {path for one in about for path in one.paths for below in worse if fnmatchcase(below, path)}
    for path in (path for one in about for path in one.paths if path not in used):
        yield Finding(
            id="rule-unused",
            severity="error",
            subject=f"device_code: {path}",
            found="no file whose device code needs it",
            expected="a file that is worse than checks.device_code.least",
            remedy="correct or remove the pattern in matrix.yaml",
        )
    yield from judge_unread(inventory)


def judge_code(files: Sequence[DeviceFile], about: Sequence[CodeRule], least: Verdict) -> Iterator[Finding]:
    """Files whose device code is worse for the chip than the rules allow.

    Args:
        about: the rules for the image; the first that matches a file counts.
    """
    for file in files:
        below = below_site(file.path)
        fitting = (one.verdict for one in about for path in one.paths if fnmatchcase(below, path))
        allowed = least if _is_as_good(file.verdict, least) else next(fitting, least)
        if not _is_as_good(file.verdict, allowed):
            yield Finding(
                id="device-code",
                severity="error",
                subject=file.path,
                found=f"{file.verdict} ({file.package})",
                expected=f"{allowed} or better",
                remedy="what needs it fails or is compiled anew on this chip: trim it, or allow it with a reason under "
                "checks.device_code in matrix.yaml",
            )


def judge_unread(inventory: Inventory) -> Iterator[Finding]:
    """Files that begin as ELF files do, and are damaged."""
    for one in inventory.unread:
        yield Finding(
            id="elf-unread",
            severity="error",
            subject=one.path,
            found=one.why,
            expected="an ELF file that can be read",
            remedy="if its package has it so, tell us; else build the image anew",
        )


def _is_as_good(verdict: Verdict, least: Verdict) -> bool:
    return VERDICTS.index(verdict) <= VERDICTS.index(least)


def _build_ids(survey: Survey, target: Target, components: Sequence[Component], label_prefix: str) -> Iterator[Finding]:
    """The libraries whose Build-ID a label says have it."""
    labels = dict(target.labels)
    for one in components:
        expected = labels.get(f"{label_prefix}.{one.name}_build_id")
        if one.library is None or expected is None:
            continue
        found = [binary.build_id for path, binary in survey.binaries.items() if below_site(path) == one.library]
        if found != [expected]:
            shown = ", ".join(map(str, found)) or "no ELF file of that name"
            yield of_build("build-id", one.library, tag=target.tag, found=shown, expected=expected)


def judge_torch(survey: Survey, target: Target | SourceTarget) -> Iterator[Finding]:
    """Torch says of itself that it is the CUDA build of the plan's version."""
    said = [text for path, text in survey.texts.items() if below_site(path) == "torch/version.py"]
    found: dict[str, str] = dict(_TORCH_VERSION.findall(said[0].decode(errors="replace"))) if len(said) == 1 else {}
    if "__version__" not in found:
        shown = "nothing" if len(said) == 1 else f"{len(said)} such files"
        yield of_build("torch", "version.py", tag=target.tag, found=shown, expected="one file that says its version")
        return
    versions, version, cuda = dict(target.versions), found["__version__"], found.get("cuda", "")
    if not same_version(versions["torch"], version):
        yield of_build("torch", "version", tag=target.tag, found=version, expected=versions["torch"])
    if not cuda or "+cpu" in version:
        yield of_build("torch", "build", tag=target.tag, found=f"CPU-only, {version}", expected="a CUDA build")
    elif not is_same_cuda(cuda, versions["cuda"]):
        yield of_build("torch", "CUDA", tag=target.tag, found=cuda, expected=versions["cuda"])


# ---- what starts


def judge_linkage(linkage: Linkage, target: Target | SourceTarget) -> Iterator[Finding]:
    """What the dynamic linker would not find; what only other files have is a warning."""
    if not linkage.checked:
        yield of_build("program", "all", tag=target.tag, found="none for its machine", expected="some hundreds")
    for one in linkage.unresolved:
        shown = ", ".join(one.names[:_SHOWN]) + (f" and {one.count - _SHOWN} more" if one.count > _SHOWN else "")
        where = f", which {', '.join(one.providers[:_SHOWN])} has" if one.providers else ""
        yield Finding(
            id=one.kind,
            severity="warning" if one.kind == "elsewhere" else "error",
            subject=one.path,
            found=f"{shown}{where}",
            expected="in what it needs",
            remedy="the packages do not belong together, or an OS package is missing: see os_packages in matrix.yaml; "
            "what is never loaded may be waived with a reason under checks.waivers",
        )


def judge_tuning(survey: Survey) -> Iterator[Finding]:
    """What is wrong with the tuned configs that vLLM brings."""
    for path, text in survey.texts.items():
        if is_shipped(path):
            yield from check_config(path, text)
