"""What CMake is told of a chip, and the trace in which it tells what it did: input and output of `cmakerun`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sparkbake.errors import LockError, UsageError

_ARCH = re.compile(r"(\d+)\.(\d)([af]?)(\+PTX)?")
_TRACE = {"major": 1, "minor": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One command that CMake executed, with its arguments expanded.

    Attributes:
        path: of the file it stands in, "cmake/utils.cmake"; as CMake gives it outside of the sources.
        text: as it stands there, unexpanded.
    """

    command: str
    arguments: tuple[str, ...]
    path: str
    line: int
    text: str


def gencode_flags(arch: str) -> str:
    """What torch's CMake files make of TORCH_CUDA_ARCH_LIST: "-gencode arch=compute_120f,code=sm_120f".

    Source: cmake/Modules_CUDA_fix/upstream/FindCUDA/select_compute_arch.cmake of torch; of its names of generations
    none is known here, and its mistake with 12.1 (pytorch#173754) is of builds without that variable alone.

    Args:
        arch: architectures with ";" or " " between them: "12.0f", "12.1a", "9.0+PTX".

    Raises:
        UsageError: that is none.
    """
    flags = []
    for one in arch.replace(";", " ").split() or [arch]:
        found = _ARCH.fullmatch(one)
        if found is None:
            raise UsageError(f"--arch: got '{one}', expected what TORCH_CUDA_ARCH_LIST can be: 12.0f, 12.1 or 12.1a")
        number = f"{found[1]}{found[2]}{found[3]}"
        flags += [f"-gencode arch=compute_{number},code=sm_{number}"]
        flags += [f"-gencode arch=compute_{number},code=compute_{number}"] if found[4] else []
    return " ".join(flags)


def read_trace(where: str, trace: str, *, root: str, texts: Mapping[str, str]) -> tuple[Call, ...]:
    """The calls in a trace of `cmake --trace-expand --trace-format=json-v1` that say something of architectures.

    Format: https://cmake.org/cmake/help/latest/manual/cmake.1.html#cmdoption-cmake-trace-format.

    Args:
        where: the release, for messages.
        root: folder of the sources, as CMake gives it in the trace.
        texts: path in that folder to content, of the build files.

    Raises:
        LockError: it is no such trace.
    """
    lines = trace.splitlines()
    try:
        version = json.loads(lines[0])["version"] if lines else {}
        known = version.get("major") == _TRACE["major"] and version.get("minor", 0) >= _TRACE["minor"]
        found = [json.loads(line) for line in lines[1:]]
        calls = tuple(_call(one, root, texts) for one in found if one["cmd"] not in ("function", "macro"))
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise LockError(f"{where}: CMake's trace is not as its format has it: {err!r}") from err
    if not known:
        raise LockError(f"{where}: CMake's trace has the format {version}, expected {_TRACE}; use CMake 3.26 or newer")
    return calls


def _call(said: Mapping[str, object], root: str, texts: Mapping[str, str]) -> Call:
    path = str(said["file"]).removeprefix(root).lstrip("/")
    first = int(str(said["line"]))
    last = int(str(said.get("line_end", first)))
    arguments = said["args"]
    return Call(
        command=str(said["cmd"]),
        arguments=tuple(str(one) for one in arguments) if isinstance(arguments, list) else (),
        path=path,
        line=first,
        text="\n".join(texts.get(path, "").split("\n")[first - 1 : last]),
    )
