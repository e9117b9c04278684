"""Which kernels a vLLM release builds for which architectures, read from CMake's trace of its own build files.

`cmakerun` has CMake run them, `kernelrun` prints what is found here. Upstream intersects a list of architectures for
each family of kernels with those of the chip; a family whose list comes out empty is left out of the build without a
word, and its users get another kernel, or none.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from sparkbake.cmaketrace import Call
from sparkbake.devicecode import Verdict, chip_number, verdict_of
from sparkbake.errors import LockError
from sparkbake.fatbin import Code, Suffix
from sparkbake.findings import Finding
from sparkbake.model import Pairs

# Where upstream's functions on lists of architectures are, and how their names begin.
_FUNCTIONS = "cmake/utils.cmake"
_EXTERNAL = "cmake/external_projects/"
_INTERSECT = "cuda_archs_loose_intersection"
_INTERSECTS = "cuda_archs_"
_COMPILE = "set_gencode_flags_for_srcs"
_FETCH = ("FetchContent_Declare", "FetchContent_Populate")
# The list of all sources that have none of their own; the others are intersected with what comes of it.
REST = "CUDA_ARCHS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Kernels that are compiled for one list of architectures.

    Attributes:
        name: of upstream's variable without "_ARCHS", and with the generation where one variable has the lists of
            several in turn: "MARLIN_MOE", "SCALED_MM_SM120". Names last over releases as far as upstream's do.
        place: where the list is intersected, "CMakeLists.txt:514".
        wanted: upstream's list, as it stands there: ("8.0+PTX", "12.0f"); empty where it is made of other lists.
        archs: what comes of it for the chip: ("12.0f",). Empty: not built.
        sources: files as the build files name them; a pattern stands for files that are generated while configuring.
    """

    name: str
    place: str
    wanted: tuple[str, ...]
    archs: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernels:
    """What a release builds.

    Attributes:
        vllm: "0.32.0".
        arch: TORCH_CUDA_ARCH_LIST, "12.0f".
        cuda: version of the compiler, "13.0".
        families: in upstream's order.
        fetched: projects that are fetched while configuring; lists in CMake files of their own are not known here.
        as_released: its sources were upstream's; else they had `patches`, be there any for it.
        spared: names of families that it is to be without, each with the reason.
    """

    vllm: str
    arch: str
    cuda: str
    families: tuple[Family, ...]
    fetched: tuple[str, ...]
    as_released: bool = True
    patches: tuple[str, ...] = ()
    spared: Pairs = ()


Computed = Kernels | str


# ---- what comes out


def kernels_of(vllm: str, calls: Sequence[Call], *, arch: str, cuda: str) -> Kernels:
    """Put the families of kernels together.

    Raises:
        LockError: upstream's build files are not as they are known here: no list, or sources without a list.
    """
    intersections = list(_intersections(calls))
    compiled = list(_compiled(vllm, calls))
    if not any(one.variable == REST for one in intersections) or not compiled:
        raise LockError(
            f"vllm {vllm}: its CMakeLists.txt could not be followed: {len(intersections)} lists of architectures and "
            f"{len(compiled)} groups of sources were seen; see how it calls {_INTERSECT} and {_COMPILE}"
        )
    return Kernels(
        vllm=vllm,
        arch=arch,
        cuda=cuda,
        families=tuple(_families(intersections, compiled)),
        fetched=tuple(sorted({one.arguments[0].lower() for one in calls if one.command in _FETCH})),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    """A list as it is after an intersection, or as sources are compiled for it; at: number of the call."""

    at: int
    place: str
    variable: str
    wanted: tuple[str, ...]
    archs: tuple[str, ...]
    sources: tuple[str, ...]


def _intersections(calls: Sequence[Call]) -> Iterator[_Step]:
    starts = [i for i, one in enumerate(calls) if one.command.startswith(_INTERSECTS) and one.path != _FUNCTIONS]
    for i, end in zip(starts, [*starts, len(calls)][1:], strict=True):
        variable = calls[i].arguments[0]
        inner = [one for one in calls[i:end] if one.command == _INTERSECT]
        results = [one for one in calls[i:end] if one.path == _FUNCTIONS and _sets(one, variable)]
        if inner and results:
            yield _Step(
                at=i,
                place=f"{calls[i].path}:{calls[i].line}",
                variable=variable,
                wanted=_split(inner[0].arguments[1]),
                archs=_split(*results[0].arguments[1:-1]),
                sources=(),
            )


def _sets(call: Call, variable: str) -> bool:
    return call.command == "set" and call.arguments[:1] == (variable,) and call.arguments[-1] == "PARENT_SCOPE"


def _compiled(vllm: str, calls: Sequence[Call]) -> Iterator[_Step]:
    for i, one in enumerate(calls):
        if one.command != _COMPILE:
            continue
        place = f"{one.path}:{one.line}"
        named = re.search(r'\bCUDA_ARCHS\s+"?\$\{(\w+)\}', one.text)
        if named is None:
            raise LockError(
                f"vllm {vllm}: {place}: {_COMPILE} names no variable for CUDA_ARCHS, which gives the family"
            )
        given = _keywords(one.arguments)
        yield _Step(at=i, place=place, variable=named[1], wanted=(), archs=given[REST], sources=given["SRCS"])


def _keywords(arguments: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {"SRCS": (), REST: ()}
    keyword = ""
    for one in arguments:
        if one in ("SRCS", REST, "BUILD_PTX_FOR_ARCH"):
            keyword = one
        else:
            found[keyword] = (*found.get(keyword, ()), *_split(one))
    return found


def _split(*lists: str) -> tuple[str, ...]:
    """The members of CMake lists, each once."""
    return tuple(dict.fromkeys(one for text in lists for one in text.split(";") if one))


def _families(intersections: Sequence[_Step], compiled: Sequence[_Step]) -> Iterator[Family]:
    """Every list with the sources that are compiled for it, and every list of sources that was made in other ways."""
    counts = Counter(one.variable for one in intersections)
    users: dict[int, list[_Step]] = {one.at: [] for one in intersections}
    others: dict[str, list[_Step]] = {}
    for one in compiled:
        before = [step.at for step in intersections if step.variable == one.variable and step.at < one.at]
        (users[before[-1]] if before else others.setdefault(one.variable, [])).append(one)
    for step in intersections:
        yield _family(step, users[step.at], ambiguous=counts[step.variable] > 1)
    for some in others.values():
        yield _family(some[0], some, ambiguous=False)


def _family(step: _Step, compiled: Sequence[_Step], *, ambiguous: bool) -> Family:
    """What sources are compiled for counts: upstream may change a list after it was intersected."""
    name = step.variable if step.variable == REST else step.variable.removesuffix("_ARCHS")
    return Family(
        name=f"{name}{_generation(step.wanted)}" if ambiguous else name,
        place=step.place,
        wanted=step.wanted,
        archs=_split(*(arch for one in compiled for arch in one.archs)) if compiled else step.archs,
        sources=_split(*(source for one in compiled for source in one.sources)),
    )


def _generation(wanted: Sequence[str]) -> str:
    """As upstream names its own files: "_SM120" of 12.0f and 12.1a, "_SM100" of 10.0f and 11.0f."""
    majors = sorted({int(one.partition(".")[0]) for one in wanted})
    return f"_SM{majors[0]}0" if majors else ""


# ---- what is wrong with it


def findings_of(found: Kernels, compute_capability: str) -> tuple[Finding, ...]:
    """What a chip would not get of the kernels that upstream has for its major version.

    Args:
        compute_capability: of the chip, "12.1".
    """
    chip = chip_number(compute_capability)
    checked = [_finding(found, one, chip) for one in found.families]
    return tuple(one for one in checked if one is not None)


def _finding(found: Kernels, family: Family, chip: int) -> Finding | None:
    own = [one for one in family.wanted if _major(one) == chip // 10]
    if not own:
        return None
    if not family.archs:
        kind, said = "kernels-missing", "nothing"
    elif all(arch_verdict(arch, chip) == "none" for arch in family.archs):
        kind, said = "kernels-of-other-chip", ";".join(family.archs)
    elif any(one[-1] in "af" for one in own) and not any(arch[-1] in "af" for arch in family.archs):
        # Block-scaled MMA and conversion to FP4 are refused for a plain sm_121: ptxas 13.0, "Feature not supported".
        kind, said = "kernels-without-features", ";".join(family.archs)
    else:
        return None
    # Upstream compiles a fetched project for just one chip of the family: not the fault of what was asked for.
    pinned = kind == "kernels-of-other-chip" and set(family.archs) <= set(own) and family.place.startswith(_EXTERNAL)
    spared = dict(found.spared).get(family.name) if kind == "kernels-missing" else None
    remedy = "patch upstream's list, or go without" if pinned else "build with 12.0f, or patch upstream's list"
    return Finding(
        id=kind,
        severity="warning" if pinned or spared else "error",
        subject=f"vllm {found.vllm}: {family.name} ({family.place})",
        found=f"{said} for TORCH_CUDA_ARCH_LIST={found.arch}, CUDA {found.cuda}",
        expected=f"code for compute capability {chip // 10}.{chip % 10} out of {';'.join(family.wanted)}",
        remedy=f"none: {spared}" if spared else remedy,
    )


def arch_verdict(arch: str, chip: int) -> Verdict:
    """How a chip can run what is compiled for one architecture of a list, "12.0f" or "8.0+PTX"."""
    number, _plus, ptx = arch.partition("+")
    suffix: Suffix = next((one for one in get_args(Suffix) if one and number.endswith(one)), "")
    code = Code(
        kind="ptx" if ptx and chip_number(number.rstrip("af")) // 10 != chip // 10 else "sass",
        number=0,
        architecture=chip_number(number.rstrip("af")),
        suffix=suffix,
        stored_bytes=0,
    )
    return verdict_of(code, chip)


def _major(arch: str) -> int:
    return int(arch.partition(".")[0])


# ---- how it looks in a document


def markdown_kernels(computed: Mapping[str, Computed], compute_capability: str) -> str:
    """The tables of docs/kernels.md.

    Args:
        computed: release to what it builds, or to why that is not known.
        compute_capability: of the chip, "12.1".
    """
    known = [one for one in computed.values() if isinstance(one, Kernels)]
    chip = chip_number(compute_capability)
    everything = {family.name: family for one in known for family in one.families}
    own = sorted({family.name for one in known for family in one.families if _is_for(family, chip)})
    lines = [f"| family | {' | '.join(one.vllm for one in known)} |", "|---" * (len(known) + 1) + "|"]
    for name in sorted(own, key=lambda name: (name != REST, name)):
        cells = [_cell(one, name) for one in known]
        lines += [f"| {name} | {' | '.join(cells)} |"]
    others = ", ".join(sorted(set(everything) - set(own))) or "none"
    lines += ["", f"In the build files, but never for this chip: {others}.", ""]
    lines += ["| release | CUDA | sources | fetched: not here | findings |", "|---|---|---|---|---|"]
    lines += [_release_line(vllm, found, compute_capability) for vllm, found in computed.items()]
    return "\n".join(lines) + "\n"


def _is_for(family: Family, chip: int) -> bool:
    return bool(family.archs) or any(_major(one) == chip // 10 for one in family.wanted)


def _cell(found: Kernels, name: str) -> str:
    """Empty: the release has no such family; a dash: it has, and does not build it."""
    cells = dict.fromkeys(", ".join(one.archs) or "-" for one in found.families if one.name == name)
    return " / ".join(cells)


def _release_line(vllm: str, found: Computed, compute_capability: str) -> str:
    if isinstance(found, str):
        return f"| {vllm} | - | - | - | not computed: {found} |"
    findings = findings_of(found, compute_capability)
    said = "; ".join(f"{one.severity}: {one.id}: {one.subject.partition(': ')[2]}" for one in findings)
    numbers = ", ".join(one.partition("-")[0] for one in found.patches)
    sources = "as released" if found.as_released else f"patches: {numbers or 'none'}"
    return f"| {vllm} | {found.cuda} | {sources} | {', '.join(found.fetched)} | {said or 'none'} |"
