"""Look inside an image and hold it against its plan: labels, versions, packages, and whether the programs start."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sparkbake.errors import VerifyError
from sparkbake.model import Component, LocalImage, Target
from sparkbake.versions import cuda_short, same_version

_MACHINES = {"linux/arm64": "aarch64", "linux/amd64": "x86_64"}
# Checks of the probe whose value is fact enough: they must only not fail.
_MUST_RUN = ("gcc", "g++", "python_headers", "ray_command", "libraries", "linkable", "nvcc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something in the image that is not as the plan says.

    Attributes:
        check: what was looked at, "label dev.scitrera.torch_version".
    """

    check: str
    found: str
    expected: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What was looked at and what was wrong with it; clean when there are no findings.

    Attributes:
        probe_digest: of the script that looked inside, 'sha256:' + 64 hex.
        emulated: whether the image's programs ran under emulation.
        facts: check to what was seen, for people.
    """

    tag: str
    reference: str
    digest: str
    probe_digest: str
    emulated: bool
    facts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]


def compare(
    target: Target,
    image: LocalImage,
    probe: Mapping[str, Mapping[str, Any]],
    *,
    components: tuple[Component, ...],
    built_digest: str | None,
    probe_digest: str,
    emulated: bool,
) -> Report:
    """Hold an image against its plan.

    Args:
        probe: what recipes/scripts/probe.py printed inside the image.
        built_digest: of the build that is being verified; None when an image found in the engine is.
    """
    findings = [*_identity(target, image, built_digest), *_labels(target, image)]
    findings += _programs(target, probe)
    findings += _packages(target, probe)
    findings += _components(target, probe, components)
    findings += _torch(target, probe)
    findings += _trims(target, probe)
    return Report(
        tag=target.tag,
        reference=target.reference,
        digest=image.digest,
        probe_digest=probe_digest,
        emulated=emulated,
        facts=_facts(image, probe),
        findings=tuple(findings),
    )


def parse_probe(output: str, reference: str) -> Mapping[str, Mapping[str, Any]]:
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
    return json.dumps({**asdict(report), "facts": dict(report.facts), "clean": not report.findings}, indent=2) + "\n"


def is_clean_report(text: str, *, digest: str, probe_digest: str) -> bool:
    """Whether a report says that just this image was found clean by just this probe."""
    try:
        body = json.loads(text)
    except json.JSONDecodeError:
        return False
    wanted = {"digest": digest, "probe_digest": probe_digest, "clean": True}
    return isinstance(body, dict) and all(body.get(key) == value for key, value in wanted.items())


def _identity(target: Target, image: LocalImage, built_digest: str | None) -> list[Finding]:
    findings = []
    if built_digest is not None and image.digest != built_digest:
        findings.append(Finding(check="digest", found=image.digest, expected=built_digest))
    architecture = target.platform.partition("/")[2]
    if image.architecture != architecture:
        findings.append(Finding(check="architecture", found=image.architecture, expected=architecture))
    return findings


def _labels(target: Target, image: LocalImage) -> list[Finding]:
    found = dict(image.labels)
    return [
        Finding(check=f"label {key}", found=found.get(key, "nothing"), expected=value)
        for key, value in target.labels
        if found.get(key) != value
    ]


def _programs(target: Target, probe: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    findings = [
        Finding(check=name, found=str(probe.get(name, {}).get("error", "no such check in the report")), expected="runs")
        for name in _MUST_RUN
        if "value" not in probe.get(name, {})
    ]
    versions = dict(target.versions)
    wanted = {
        "machine": _MACHINES[target.platform],
        "import_vllm": versions["vllm"],
        "vllm_command": versions["vllm"],
        "python": target.environment.python,
        "ptxas": versions["cuda"],
    }
    for name, expected in wanted.items():
        found = _value(probe, name)
        good = found == expected or (name in ("python", "ptxas") and _same_minor(found, expected))
        if not good:
            findings.append(Finding(check=name, found=found, expected=expected))
    return findings


def _packages(target: Target, probe: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Every locked package at its version, and no other."""
    installed = probe.get("distributions", {}).get("value")
    if not isinstance(installed, dict):
        return [Finding(check="distributions", found=_value(probe, "distributions"), expected="a list of packages")]
    locked = {one.name: one.version for one in target.environment.wheels}
    return [
        Finding(check=f"package {name}", found=installed.get(name, "nothing"), expected=locked.get(name, "nothing"))
        for name in sorted({*locked, *installed})
        if not _agree(installed.get(name), locked.get(name))
    ]


def _components(
    target: Target, probe: Mapping[str, Mapping[str, Any]], components: tuple[Component, ...]
) -> list[Finding]:
    """Every version label equals what the package in the image says of itself."""
    installed = probe.get("distributions", {}).get("value") or {}
    versions = dict(target.versions)
    return [
        Finding(
            check=f"component {one.name}", found=installed.get(one.distribution, "nothing"), expected=versions[one.name]
        )
        for one in components
        if not _agree(installed.get(one.distribution), versions[one.name])
    ]


def _torch(target: Target, probe: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    said = probe.get("torch", {}).get("value")
    if not isinstance(said, dict):
        return [Finding(check="import torch", found=_value(probe, "torch"), expected="runs")]
    versions = dict(target.versions)
    findings = []
    if not said.get("cuda") or "+cpu" in str(said.get("version")):
        findings.append(Finding(check="torch build", found=f"CPU-only, {said.get('version')}", expected="a CUDA build"))
    elif cuda_short(str(said["cuda"])) != cuda_short(versions["cuda"]):
        findings.append(Finding(check="torch.version.cuda", found=str(said["cuda"]), expected=versions["cuda"]))
    if not _agree(str(said.get("version")), versions["torch"]):
        findings.append(Finding(check="torch.__version__", found=str(said.get("version")), expected=versions["torch"]))
    if not _agree(str(said.get("nccl")), versions["nccl"]):
        findings.append(Finding(check="NCCL in torch", found=str(said.get("nccl")), expected=versions["nccl"]))
    # Cubins of sm_120 run on compute capability 12.1: the same major, an equal or lower minor.
    if not any(arch.startswith(("sm_120", "sm_121")) for arch in said.get("arches", [])):
        found = " ".join(said.get("arches", [])) or "none"
        findings.append(Finding(check="torch architectures", found=found, expected="sm_120 or sm_121 among them"))
    return findings


def modules_of(target: Target) -> tuple[str, ...]:
    """What must import in an image although some files of its package are trimmed; sorted, each once."""
    return tuple(sorted({module for one in target.trims for module in one.imports}))


def _trims(target: Target, probe: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """The image lacks files of just the packages that the plan trims, and what uses the rest of them imports."""
    said, tried = (probe.get(name, {}).get("value") for name in ("trimmed", "imports"))
    findings = [
        Finding(check=name, found=_value(probe, name), expected="runs")
        for name, value in (("trimmed", said), ("imports", tried))
        if not isinstance(value, dict)
    ]
    if findings or not isinstance(said, dict) or not isinstance(tried, dict):
        return findings
    planned = {one.package for one in target.trims}
    findings += [
        Finding(
            check=f"trimmed {name}",
            found="some files are left out" if name in said else "whole",
            expected="some files are left out" if name in planned else "whole",
        )
        for name in sorted(planned.symmetric_difference(said))
    ]
    return findings + [
        Finding(check=f"import {name}", found=str(tried.get(name, "not tried")), expected="imports")
        for name in modules_of(target)
        if tried.get(name) != "imports"
    ]


def _facts(image: LocalImage, probe: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    facts = [("digest", image.digest), ("size in the engine", f"{image.size_bytes / 1e9:.2f} GB")]
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


def _value(probe: Mapping[str, Mapping[str, Any]], name: str) -> str:
    one = probe.get(name, {})
    return str(one["value"]) if "value" in one else str(one.get("error", "no such check in the report"))


def _agree(found: str | None, expected: str | None) -> bool:
    if found is None or expected is None:
        return found == expected
    return found == expected or same_version(expected, found)


def _same_minor(found: str, expected: str) -> bool:
    return found.split(".")[:2] == expected.split(".")[:2]
