"""Say which NVIDIA runtime libraries an image has, whether one is there twice, and which ptxas Triton gets."""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sparkbake.errors import ImageError
from sparkbake.findings import Finding, Severity
from sparkbake.inventory import layer_contents, packages
from sparkbake.ownership import versions
from sparkbake.paths import real_path
from sparkbake.surveyed import Binary, Survey

# The name of a library and its major version. auditwheel puts eight hex digits of the content behind the name of what
# it copies into a wheel: libcudart-1b2c3d4e.so.13.0.48.
_LIBRARY = re.compile(
    r"(lib(?:nccl[\w.-]*?|cudart|cublas|cublasLt|cudnn|nvrtc[\w.-]*?))(?:-[0-9a-f]{8})?\.so(?:\.(\d+)[\d.]*)?"
)
_ASSEMBLER = "ptxas"
_NCCL = "libnccl.so"
# Read by Triton: https://github.com/triton-lang/triton, python/triton/knobs.py.
PTXAS_VARIABLES = ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH")
_MACHINES = {"arm64": 183, "amd64": 62}  # e_machine by the architecture of a config
_TAKES_ONE = "uninstall, or trim in matrix.yaml, all but the one that torch is linked to"


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeLibrary:
    """A library (or the program ptxas) as it is in an image; files of equal content are one.

    Attributes:
        stem: the same for all copies of a library, whatever their version within the major one: "libcudart.so.13",
            "libnccl.so.2", "ptxas".
        paths: sorted; links do not count.
        package: the Python distribution that the first path is of; None of one that no RECORD lists.
        version: of that package; None without one.
    """

    stem: str
    paths: tuple[str, ...]
    soname: str | None
    build_id: str | None
    size_bytes: int
    sha256: str
    package: str | None
    version: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ptxas:
    """The assembler that a variable of the image names for Triton.

    Attributes:
        variable: one of PTXAS_VARIABLES.
        named: its value.
        path: where that leads, with links followed; None of what is not there.
        is_program: whether it is an ELF file for the image's machine that may be executed.
    """

    variable: str
    named: str
    path: str | None
    is_program: bool


# ---- what the config says, and where links lead


def image_machine(survey: Survey) -> int:
    """The e_machine of the image's own programs.

    Raises:
        ImageError: its architecture is not known here.
    """
    architecture = json.loads(survey.config).get("architecture")
    if architecture not in _MACHINES:
        raise ImageError(f"{survey.image}: is for {architecture!r}, expected one of {', '.join(_MACHINES)}")
    return _MACHINES[architecture]


def environment(survey: Survey) -> dict[str, str]:
    """The variables that the image's config sets."""
    pairs = (json.loads(survey.config).get("config") or {}).get("Env") or []
    return {name: value for name, _equals, value in (str(pair).partition("=") for pair in pairs)}


# ---- the libraries


def runtime_libraries(survey: Survey) -> tuple[RuntimeLibrary, ...]:
    """The runtime libraries for the image's own machine, by stem, then by path.

    Stubs, against which programs are linked where there is no driver, are none: they lie in folders of that name.

    Raises:
        ImageError: the image's architecture is not known here, or a RECORD is damaged.
    """
    machine = image_machine(survey)
    copies: dict[tuple[str, str], list[Binary]] = {}
    for path, one in sorted(survey.binaries.items()):
        stem = _stem(path, one)
        if stem and one.machine == machine and posixpath.basename(posixpath.dirname(path)) != "stubs":
            copies.setdefault((stem, survey.seen[path].entry.sha256), []).append(one)
    owners, released = packages(survey), versions(layer_contents(survey))
    found = [_library(survey, stem, some, owners, released) for (stem, _sha256), some in copies.items()]
    return tuple(sorted(found, key=lambda one: (one.stem, one.paths)))


def _stem(path: str, binary: Binary) -> str | None:
    """What a file is a copy of; its soname says which major version where its name does not."""
    name = posixpath.basename(path)
    if name == _ASSEMBLER:
        return name
    found = _LIBRARY.fullmatch(name)
    if not found:
        return None
    soname = _LIBRARY.fullmatch((binary.dynamic and binary.dynamic.soname) or "")
    major = found.group(2) or (soname and soname.group(2))
    return f"{found.group(1)}.so" + (f".{major}" if major else "")


def _library(
    survey: Survey, stem: str, some: Sequence[Binary], owners: Mapping[str, str], released: Mapping[str, str]
) -> RuntimeLibrary:
    first = some[0]
    entry = survey.seen[first.path].entry
    version = released.get(owners[first.path])
    return RuntimeLibrary(
        stem=stem,
        paths=tuple(one.path for one in some),
        soname=first.dynamic.soname if first.dynamic else None,
        build_id=first.build_id,
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
        package=owners[first.path] if version else None,
        version=version,
    )


def duplicates(libraries: Sequence[RuntimeLibrary]) -> tuple[Finding, ...]:
    """A finding for each library of which the image has several contents.

    Two NCCL in one process do not share their communicators; of others, what is loaded first serves all. Several ptxas
    are no fault: it is a program, and a variable says which is run (see which_ptxas).
    """
    by_stem: dict[str, list[RuntimeLibrary]] = {}
    for one in libraries:
        if one.stem != _ASSEMBLER:
            by_stem.setdefault(_NCCL if one.stem.startswith(f"{_NCCL}.") else one.stem, []).append(one)
    return tuple(_duplicate(stem, some) for stem, some in sorted(by_stem.items()) if len(some) > 1)


def _duplicate(stem: str, some: Sequence[RuntimeLibrary]) -> Finding:
    severity: Severity = "error" if stem == _NCCL else "warning"
    return Finding(
        id="two-nccl" if stem == _NCCL else "two-copies",
        severity=severity,
        subject=", ".join(path for one in some for path in one.paths),
        found=", ".join(map(_described, some)),
        expected=f"one {stem}",
        remedy=_TAKES_ONE,
    )


def _described(one: RuntimeLibrary) -> str:
    """As "nvidia-nccl-cu13 1.2.3 (Build-ID 0123abcd)"."""
    owner = f"{one.package} {one.version}" if one.package else "of no package"
    return f"{owner} (Build-ID {one.build_id or 'none'})"


# ---- the assembler


def which_ptxas(survey: Survey) -> tuple[Ptxas, ...]:
    """What each variable that the image sets for it names; nothing when it sets none, and Triton takes its own.

    Raises:
        ImageError: the image's architecture is not known here.
    """
    given = environment(survey)
    return tuple(_ptxas(survey, name, given[name]) for name in PTXAS_VARIABLES if given.get(name))


def _ptxas(survey: Survey, variable: str, named: str) -> Ptxas:
    path = real_path(survey.seen, named)
    binary = survey.binaries.get(path) if path else None
    is_program = binary is not None and binary.machine == image_machine(survey)
    may_run = path is not None and bool(survey.seen[path].entry.mode & 0o111)
    return Ptxas(variable=variable, named=named, path=path, is_program=is_program and may_run)


def missing_ptxas(some: Iterable[Ptxas]) -> tuple[Finding, ...]:
    """A finding for each variable that names no program which the image can run: Triton compiles nothing then."""
    return tuple(
        Finding(
            id="ptxas-missing",
            severity="error",
            subject=one.variable,
            found=f"{one.named}, which is {f'{one.path}, no program for this machine' if one.path else 'not there'}",
            expected="a ptxas for the image's own machine",
            remedy="install nvidia-cuda-nvcc, or set the variable in recipes/ to where its ptxas is",
        )
        for one in some
        if not one.is_program
    )
