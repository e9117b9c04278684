"""Hold what an image's own programs say of it against its plan, and put together what is reported of an image."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sparkbake.errors import VerifyError
from sparkbake.findings import Finding, Waived, of_build
from sparkbake.model import Component, Pairs, Target
from sparkbake.sourcemodel import SourceTarget
from sparkbake.versions import is_same_cuda, same_version

SCHEMA = 1

Programs = Literal["natively", "under emulation", "not run"]
# What recipes/scripts/probe.py prints: check to {"value": ...} or {"error": ...}, and "seconds".
Probe = Mapping[str, Mapping[str, Any]]

MACHINES = {"linux/arm64": "aarch64", "linux/amd64": "x86_64"}
# Checks of the probe whose value is fact enough: they must only not fail.
MUST_RUN = ("gcc", "g++", "python_headers", "ray_command", "libraries", "linkable", "nvcc", "ptxas_for_chip")


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """What the programs of an image are to say of themselves, whichever way it is made.

    Attributes:
        tag: of the row that makes it anew.
        runs: checks of the probe that must not fail.
        says: check to what it must say; Python and ptxas may be of a later patch level.
        packages: normalised name to version, of all that are installed.
        versions: component to version.
        modules: what must import; sorted, each once.
    """

    tag: str
    runs: tuple[str, ...]
    says: Pairs
    packages: Mapping[str, str]
    versions: Mapping[str, str]
    modules: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What was looked at and what was wrong with it; clean without findings that are errors.

    Attributes:
        name: of the target.
        reference: the image, or the file that it was read from.
        digest: of its manifest, 'sha256:' + 64 hex.
        plan_digest: of what this checkout would build it from.
        checks_digest: of all that looked at it; see verifying.
        programs: how its programs ran.
        facts: check to what was seen, for people.
    """

    tag: str
    name: str
    reference: str
    digest: str
    plan_digest: str
    checks_digest: str
    programs: Programs
    facts: Pairs
    findings: tuple[Finding, ...]
    waived: tuple[Waived, ...]

    @property
    def errors(self) -> int:
        return sum(one.severity == "error" for one in self.findings)


def judge_probe(target: Target, probe: Probe, components: Sequence[Component]) -> tuple[Finding, ...]:
    """Hold what recipes/scripts/probe.py printed inside an image against its plan."""
    return (*judge_promise(_promise(target), probe), *_components(target, probe, components), *_trims(target, probe))


def judge_promise(promise: Promise, probe: Probe) -> tuple[Finding, ...]:
    """Hold what recipes/scripts/probe.py printed inside an image against what it is to print, in any image."""
    return (
        *_programs(promise, probe),
        *_packages(promise, probe),
        *_torch(promise, probe),
        *_imports(promise, probe),
    )


def _promise(target: Target) -> Promise:
    versions = dict(target.versions)
    return Promise(
        tag=target.tag,
        runs=MUST_RUN,
        says=(
            ("machine", MACHINES[target.platform]),
            ("import_vllm", versions["vllm"]),
            ("vllm_command", versions["vllm"]),
            ("python", target.environment.python),
            ("ptxas", versions["cuda"]),
        ),
        packages={one.name: one.version for one in target.environment.wheels},
        versions=versions,
        modules=modules_of(target),
    )


def judge_identity(target: Target | SourceTarget, digest: str, built_digest: str | None) -> tuple[Finding, ...]:
    """Hold the image that is looked at against the build that is being verified.

    Args:
        built_digest: None when an image that was found is verified.
    """
    if built_digest is None or digest == built_digest:
        return ()
    return (of_build("digest", target.reference, tag=target.tag, found=digest, expected=built_digest),)


def parse_probe(output: str, reference: str) -> Probe:
    """The probe's report: the last line of what it printed.

    Raises:
        VerifyError: there is none.
    """
    try:
        said = json.loads(output.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError) as err:
        raise VerifyError(f"{reference}: the probe inside the image printed no report:\n{output[-500:]}") from err
    if not isinstance(said, dict):
        raise VerifyError(f"{reference}: the probe inside the image printed {type(said).__name__}, expected an object")
    return said


def report_json(report: Report) -> str:
    """A report for machines, as report.schema.json has it."""
    body = {"schema": SCHEMA, **asdict(report), "facts": dict(report.facts), "clean": not report.errors}
    return json.dumps(body, indent=2) + "\n"


def is_clean_report(text: str, *, digest: str, checks_digest: str, today: str) -> bool:
    """Whether a report says that just this image was found clean by just these checks, its programs run.

    Args:
        today: YYYY-MM-DD; a waiver may have expired since.
    """
    try:
        body = json.loads(text)
    except json.JSONDecodeError:
        return False
    wanted = {"schema": SCHEMA, "digest": digest, "checks_digest": checks_digest, "clean": True}
    return (
        isinstance(body, dict)
        and all(body.get(key) == value for key, value in wanted.items())
        and body.get("programs") != "not run"
        and all(one["expires"] >= today for one in body["waived"])
    )


def _programs(promise: Promise, probe: Probe) -> Iterator[Finding]:
    for name in promise.runs:
        if "value" not in probe.get(name, {}):
            yield of_build("program", name, tag=promise.tag, found=_value(probe, name), expected="runs")
    for name, expected in promise.says:
        found = _value(probe, name)
        if found != expected and not (name in ("python", "ptxas") and _same_minor(found, expected)):
            yield of_build("program", name, tag=promise.tag, found=found, expected=expected)


def _packages(promise: Promise, probe: Probe) -> Iterator[Finding]:
    """Every locked package at its version, and no other."""
    installed = probe.get("distributions", {}).get("value")
    if not isinstance(installed, dict):
        found = _value(probe, "distributions")
        yield of_build("program", "distributions", tag=promise.tag, found=found, expected="a list of packages")
        return
    locked = promise.packages
    for name in sorted({*locked, *installed}):
        if not _agree(installed.get(name), locked.get(name)):
            found, expected = installed.get(name, "nothing"), locked.get(name, "nothing")
            yield of_build("package", name, tag=promise.tag, found=found, expected=expected)


def _components(target: Target, probe: Probe, components: Sequence[Component]) -> Iterator[Finding]:
    """Every version label equals what the package in the image says of itself."""
    installed = probe.get("distributions", {}).get("value") or {}
    versions = dict(target.versions)
    for one in components:
        found, expected = installed.get(one.distribution), versions[one.name]
        if not _agree(found, expected):
            yield of_build("component", one.name, tag=target.tag, found=found or "nothing", expected=expected)


def _torch(promise: Promise, probe: Probe) -> Iterator[Finding]:
    said = probe.get("torch", {}).get("value")
    if not isinstance(said, dict):
        yield of_build("program", "torch", tag=promise.tag, found=_value(probe, "torch"), expected="imports")
        return
    versions, version = promise.versions, str(said.get("version"))
    faults = {
        "version": (version, versions["torch"], not _agree(version, versions["torch"])),
        # Cubins of sm_120 run on compute capability 12.1: the same major, an equal or lower minor.
        "architectures": (
            " ".join(said.get("arches", [])) or "none",
            "sm_120 or sm_121 among them",
            not any(arch.startswith(("sm_120", "sm_121")) for arch in said.get("arches", [])),
        ),
    }
    # torch leaves out what it did not find when it was compiled.
    for name, what in (("cudnn", "cuDNN"), ("lapack", "LAPACK")):
        faults[what] = ("none", "compiled in", not said.get(name))
    if "nccl" in versions:
        nccl = str(said.get("nccl"))
        faults["NCCL"] = (nccl, versions["nccl"], not _agree(nccl, versions["nccl"]))
    if not said.get("cuda") or "+cpu" in version:
        faults["build"] = (f"CPU-only, {version}", "a CUDA build", True)
    else:
        cuda = str(said["cuda"])
        faults["CUDA"] = (cuda, versions["cuda"], not is_same_cuda(cuda, versions["cuda"]))
    for subject, (found, expected, wrong) in faults.items():
        if wrong:
            yield of_build("torch", subject, tag=promise.tag, found=found, expected=expected)


def modules_of(target: Target) -> tuple[str, ...]:
    """What must import in an image although some files of its package are trimmed; sorted, each once."""
    return tuple(sorted({module for one in target.trims for module in one.imports}))


def _trims(target: Target, probe: Probe) -> Iterator[Finding]:
    """The image lacks files of just the packages that the plan trims."""
    said = probe.get("trimmed", {}).get("value")
    if not isinstance(said, dict):
        yield of_build("program", "trimmed", tag=target.tag, found=_value(probe, "trimmed"), expected="runs")
        return
    planned = {one.package for one in target.trims if not one.cubins}
    states = {True: "some files are left out", False: "whole"}
    for name in sorted(planned.symmetric_difference(said)):
        yield of_build("trim", name, tag=target.tag, found=states[name in said], expected=states[name in planned])


def _imports(promise: Promise, probe: Probe) -> Iterator[Finding]:
    """What uses what is left of packages imports, and what is compiled here does."""
    tried = probe.get("imports", {}).get("value")
    if not isinstance(tried, dict):
        yield of_build("program", "imports", tag=promise.tag, found=_value(probe, "imports"), expected="runs")
        return
    for name in promise.modules:
        if tried.get(name) != "imports":
            found = str(tried.get(name, "not tried"))
            yield of_build("import", name, tag=promise.tag, found=found, expected="imports")


def probe_facts(probe: Probe) -> Pairs:
    """What the programs of an image said, for people."""
    facts = []
    for name in probe:
        value = probe[name].get("value")
        shown = f"{len(value)} packages" if name == "distributions" and isinstance(value, dict) else _value(probe, name)
        if name == "trimmed" and isinstance(value, dict):
            shown = f"{sum(one['bytes'] for one in value.values()) / 1e6:.0f} MB of {len(value)} packages"
        if name == "imports" and isinstance(value, dict):
            shown = f"{sum(one == 'imports' for one in value.values())} of {len(value)} modules"
        if name == "torch" and isinstance(value, dict):
            shown = f"{value['version']}, CUDA {value['cuda']}, NCCL {value['nccl']}, {' '.join(value['arches'])}"
        facts.append((name, f"{shown} ({probe[name].get('seconds', 0)} s)"))
    return tuple(facts)


def _value(probe: Probe, name: str) -> str:
    one = probe.get(name, {})
    return str(one["value"]) if "value" in one else str(one.get("error", "no such check in the report"))


def _agree(found: str | None, expected: str | None) -> bool:
    if found is None or expected is None:
        return found == expected
    return found == expected or same_version(expected, found)


def _same_minor(found: str, expected: str) -> bool:
    return found.split(".")[:2] == expected.split(".")[:2]
