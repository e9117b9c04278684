"""What the entries of a tuned config take of a chip once they are compiled, and what of that a GB10 does not have.

`moecompile` has them compiled; the limits are those of `moecheck`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sparkbake.findings import Finding
from sparkbake.moecheck import GB10_SHARED_BYTES

COLUMNS = ("batches", "tiles M, N, K", "group", "warps", "stages", "shared", "registers", "spills", "verdict")

_RETUNE = "tune it anew with vLLM's benchmark_moe.py, or take the file out"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What a kernel takes.

    Attributes:
        shared_bytes: shared memory of a block.
        registers: of a thread.
        spill_bytes: what a thread stores of its registers in local memory, of which it has too few.
        threads: of a block.
    """

    shared_bytes: int
    registers: int
    spill_bytes: int
    threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """One way in which vLLM launches the kernel with an entry.

    Attributes:
        name: "w13 sorted scale/blocks": which matrix of an expert, how tokens come, and what has a scale.
        seconds: that it took to compile.
        resources: None when it cannot be compiled.
        error: "" when it can.
    """

    name: str
    seconds: float
    resources: Resources | None
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """An entry, as it stands for one or more numbers of tokens.

    Attributes:
        keys: these numbers, as in the file.
        entry: its parameters, as canonical JSON.
        triton, ptxas: versions of what compiled it; "" when the compiler died of it.
    """

    keys: tuple[str, ...]
    entry: str
    triton: str
    ptxas: str
    launches: tuple[Launch, ...]


def parse_answer(keys: tuple[str, ...], entry: str, text: str) -> Compiled:
    """What tools/moe/compile.py wrote; Triton may have written above it."""
    answer = json.loads(text.strip().rpartition("\n")[2])
    return Compiled(
        keys=keys,
        entry=entry,
        triton=answer["triton"],
        ptxas=answer["ptxas"],
        launches=tuple(_launch(one) for one in answer["launches"]),
    )


def _launch(said: dict[str, Any]) -> Launch:
    error = said.get("error", "")
    resources = None
    if not error:
        resources = Resources(
            shared_bytes=said["shared_bytes"],
            registers=said["registers"],
            spill_bytes=said["spill_store_bytes"],
            threads=said["threads"],
        )
    return Launch(name=said["name"], seconds=said["seconds"], resources=resources, error=error)


# ---- what that says


def worst(compiled: Compiled) -> Resources | None:
    """The most of each that a launch takes; None when one cannot be compiled."""
    some = [one.resources for one in compiled.launches if one.resources]
    if len(some) < len(compiled.launches) or not some:
        return None
    return Resources(
        shared_bytes=max(one.shared_bytes for one in some),
        registers=max(one.registers for one in some),
        spill_bytes=max(one.spill_bytes for one in some),
        threads=max(one.threads for one in some),
    )


def findings_of(path: str, compiled: Sequence[Compiled]) -> list[Finding]:
    """What a GB10 cannot run; vLLM ends with Triton's OutOfResources, or its CompilationError, at such a batch."""
    found = []
    for one in compiled:
        where = f"for {'batch' if len(one.keys) == 1 else 'batches'} {', '.join(one.keys)}"
        most = worst(one)
        if most is None:
            failed = next(launch for launch in one.launches if launch.error)
            said = f"{reason(failed.error)} ({failed.name}) {where}"
            found.append(
                _finding("moe-compile", path, said, "an entry that Triton compiles for compute capability 12.1")
            )
        elif most.shared_bytes > GB10_SHARED_BYTES:
            said = f"{most.shared_bytes} bytes of shared memory {where}"
            found.append(_finding("moe-shared-memory", path, said, f"at most {GB10_SHARED_BYTES}"))
    return found


def reason(error: str) -> str:
    """The kind of an error of Triton's and its last line; before that stands the kernel, after it how to repeat it."""
    kind, _colon, rest = error.partition(": ")
    lines = [one.strip() for one in rest.splitlines() if one.strip() and not one.startswith("Repro command")]
    return f"{kind}: {lines[-1]}" if lines else error


def _finding(kind: str, path: str, found: str, expected: str) -> Finding:
    return Finding(id=kind, severity="error", subject=path, found=found, expected=expected, remedy=_RETUNE)


def rows(compiled: Sequence[Compiled]) -> list[tuple[str, ...]]:
    """A line for each entry, under COLUMNS; shared memory and spills in bytes."""
    return [_row(one) for one in compiled]


def _row(compiled: Compiled) -> tuple[str, ...]:
    entry, most = json.loads(compiled.entry), worst(compiled)
    tiles = ", ".join(str(entry.get(f"BLOCK_SIZE_{side}", "?")) for side in "MNK")
    said = tuple(str(entry.get(key, "?")) for key in ("GROUP_SIZE_M", "num_warps", "num_stages"))
    if most is None:
        return (" ".join(compiled.keys), tiles, *said, "-", "-", "-", "does not compile")
    took = (str(most.shared_bytes), str(most.registers), str(most.spill_bytes))
    verdict = "fits" if most.shared_bytes <= GB10_SHARED_BYTES else "too much shared memory"
    return (" ".join(compiled.keys), tiles, *said, *took, verdict)
