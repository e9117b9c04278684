"""Say whether a chip can run a piece of device code, and count what a file has of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sparkbake.fatbin import Code

Verdict = Literal["native", "family", "same-major", "ptx", "none"]

# Best first.
VERDICTS: tuple[Verdict, ...] = ("native", "family", "same-major", "ptx", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """The pieces of one architecture in a file.

    Attributes:
        name: "sm_120f", "compute_80", "kind 8 of 121".
        size_bytes: what they take in the file, most often compressed.
    """

    name: str
    count: int
    size_bytes: int


def verdict_of(code: Code, chip: int) -> Verdict:
    """How a chip can run one piece of code, if at all.

    1. SASS runs on its own architecture and, without suffix, on those of the same major version and a higher minor one:
       CUDA C++ Programming Guide, "Binary Compatibility"; sm_120 on 12.1 so, but sm_80 not on 12.1.
    2. With "f" it runs in its family: the same major version and an equal or higher minor one; with "a" on just its
       own: the guide, "Compute Capabilities", "Feature Availability", and NVIDIA's blog on the family-specific features
       of CUDA 12.9. So sm_120a does not load on 12.1; that sm_120f does was seen on GB10: vllm#52708.
    3. PTX is compiled when the program starts, for any equal or later architecture: the guide, "PTX Compatibility";
       with "f" only within the family, with "a" only for just that architecture: PTX ISA, ".target".
    4. All else is not loaded as it is: NVVM IR has to be linked first. Nor is what is overwritten with zeros.

    Args:
        chip: its compute capability, 121 for 12.1.
    """
    if code.is_emptied:
        return "none"
    in_family = code.architecture // 10 == chip // 10 and code.architecture <= chip
    if code.kind == "sass":
        if code.architecture == chip:
            return "native"
        if not in_family or code.suffix == "a":
            return "none"
        return "family" if code.suffix == "f" else "same-major"
    if code.kind == "ptx":
        fits = {"": code.architecture <= chip, "f": in_family, "a": code.architecture == chip}
        return "ptx" if fits[code.suffix] else "none"
    return "none"


def best_verdict(some: Iterable[Verdict]) -> Verdict:
    """The best of several; "none" of none at all."""
    return min(some, key=VERDICTS.index, default="none")


def verdicts_of(containers: Sequence[Sequence[Code]], chip: int) -> tuple[tuple[Verdict, int], ...]:
    """How many containers have which verdict, best first: a container has the same kernels for several chips.

    A file has as many containers as it was compiled from files, and may be built for other chips in each of them. One
    without SASS and PTX is not counted: it is no kernel that the chip lacks (libcufft has 15,000 of NVVM IR).
    """
    asked = [one for one in containers if any(code.kind != "other" for code in one)]
    found = [best_verdict(verdict_of(code, chip) for code in one) for one in asked]
    return tuple((verdict, found.count(verdict)) for verdict in VERDICTS if verdict in found)


def tallies(codes: Iterable[Code]) -> tuple[Tally, ...]:
    """Count by architecture, the lowest first."""
    found: dict[tuple[int, str, str], list[int]] = {}
    for one in codes:
        found.setdefault((one.architecture, one.suffix, one.name), []).append(one.stored_bytes)
    return tuple(Tally(name=key[2], count=len(sizes), size_bytes=sum(sizes)) for key, sizes in sorted(found.items()))


def chip_number(compute_capability: str) -> int:
    """A compute capability as architectures are numbered: 121 of "12.1"."""
    major, _dot, minor = compute_capability.partition(".")
    return int(major) * 10 + int(minor)
