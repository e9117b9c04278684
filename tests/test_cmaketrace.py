"""Claims about what CMake is told of a chip, and about reading the trace of what it did."""

import json

import pytest

from sparkbake.cmaketrace import Call, gencode_flags, read_trace
from sparkbake.errors import LockError, UsageError

VERSION = {"version": {"major": 1, "minor": 2}}
SET = {"args": ["A", "1;2"], "cmd": "set", "file": "/src/cmake/utils.cmake", "frame": 2, "line": 2, "line_end": 3}
TEXTS = {"cmake/utils.cmake": '# first\nset(A\n  "${B}")\n# last\n'}


def trace(*records: object) -> str:
    return "".join(f"{json.dumps(one)}\n" for one in records)


def read(text: str) -> tuple[Call, ...]:
    return read_trace("vllm 0.32.0", text, root="/src", texts=TEXTS)


@pytest.mark.parametrize(
    ("arch", "flags"),
    [
        ("12.0f", "-gencode arch=compute_120f,code=sm_120f"),
        ("12.1", "-gencode arch=compute_121,code=sm_121"),
        ("12.1a", "-gencode arch=compute_121a,code=sm_121a"),
        ("9.0+PTX", "-gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90"),
        ("12.0f;12.1f", "-gencode arch=compute_120f,code=sm_120f -gencode arch=compute_121f,code=sm_121f"),
        ("8.0 12.0", "-gencode arch=compute_80,code=sm_80 -gencode arch=compute_120,code=sm_120"),
    ],
)
def test_an_architecture_becomes_the_flags_that_torch_makes_of_it(arch: str, flags: str) -> None:
    assert gencode_flags(arch) == flags


@pytest.mark.parametrize(
    "arch", ["12.0x", "120f", "12", "12.0ff", "Blackwell", "", "12.0f,12.1f", "-DX=1", "12.0f+ptx"]
)
def test_what_is_no_architecture_is_refused(arch: str) -> None:
    with pytest.raises(UsageError, match=r"^--arch: got '.*', expected what TORCH_CUDA_ARCH_LIST can be: 12\.0f"):
        gencode_flags(arch)


def test_a_call_has_its_arguments_and_the_text_it_stands_in() -> None:
    (call,) = read(trace(VERSION, SET))
    assert call == Call(
        command="set", arguments=("A", "1;2"), path="cmake/utils.cmake", line=2, text='set(A\n  "${B}")'
    )


def test_a_call_outside_of_the_sources_keeps_its_path() -> None:
    (call,) = read(trace(VERSION, {**SET, "file": "/usr/share/cmake/x.cmake"}))
    assert (call.path, call.text) == ("usr/share/cmake/x.cmake", "")


def test_definitions_are_no_calls() -> None:
    assert read(trace(VERSION, {**SET, "cmd": "function"}, {**SET, "cmd": "macro"})) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the format \{\}, expected .*use CMake 3.26 or newer"),
        (trace({"version": {"major": 1, "minor": 1}}), "the format .*'minor': 1.*use CMake 3.26 or newer"),
        (trace({"version": {"major": 2, "minor": 0}}), "the format .*'major': 2"),
        ("CMake Error: no such option\n", "CMake's trace is not as its format has it: JSONDecodeError"),
        (trace(VERSION, {"cmd": "set"}), "CMake's trace is not as its format has it: KeyError"),
        (trace([1]), "CMake's trace is not as its format has it: TypeError"),
    ],
)
def test_what_is_no_trace_is_refused(text: str, message: str) -> None:
    with pytest.raises(LockError, match=f"^vllm 0.32.0: .*{message}"):
        read(text)
