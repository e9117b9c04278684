"""Compile the entries of tuned configs as vLLM would launch them on a GB10, and say what each takes of the chip.

Triton compiles without a chip; `tools/moe/compile.py` does it, in an environment of its own with the Triton of a row.
Where that comes from and which version of it is pinned: tools/requirements/moe-<Triton>.txt.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uv

from sparkbake import process
from sparkbake.errors import LockError, ProcessError, UsageError
from sparkbake.moe import NO_RUNG, Shape, read_entries
from sparkbake.moeresources import Compiled, Launch, parse_answer
from sparkbake.sources import fetch_sdist, read_members

# dtypes whose experts go through this kernel with the tiles of the config; None is bfloat16.
COMPILED_DTYPES = (None, "fp8_w8a8", "float32")

_CAPABILITY = 121
_KERNEL = "vllm/model_executor/layers/fused_moe/fused_moe.py"
# What its launcher asks: settings, and which way of the kernel is for which chip.
_SOURCES = (_KERNEL, "vllm/model_executor/layers/fused_moe/utils.py", "vllm/envs.py")
# Of the model and not in the name of a config. Triton tells sizes that 16 divides from others, and these are such.
_HIDDEN, _TOP_K = 2048, 8
_INSTALL_TIMEOUT_S = 900
_COMPILE_TIMEOUT_S = 600
# What a compiler ends itself with, as an assertion of LLVM does; that says something of the entry. SIGKILL does not:
# the machine may have had too little memory.
_OWN_SIGNALS = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)


# ---- the environment and the sources


def known_tritons(root: Path) -> tuple[str, ...]:
    """The versions of Triton that an environment is pinned for."""
    return tuple(sorted(one.stem.removeprefix("moe-") for one in _requirements(root).glob("moe-*.txt")))


def prepare(triton: str, root: Path, cache: Path) -> Path:
    """The Python of an environment with this Triton; made at the first call, which takes some 250 MB of downloads.

    Args:
        triton: version, as a row has it.
        root: of the project.
        cache: of this user (`project.cache_folder()`); the environment is in its folder "moe".

    Raises:
        UsageError: none is pinned for this version.
        LockError: it cannot be installed.
    """
    file = _requirements(root) / f"moe-{triton}.txt"
    if not file.is_file():
        known = ", ".join(known_tritons(root)) or "none"
        raise UsageError(
            f"Triton {triton}: has no {file.name} in tools/requirements, only {known}; add one with "
            f"'triton=={triton}', as the others are"
        )
    about = f"{sys.version_info.major}.{sys.version_info.minor} {file.read_text(encoding='utf-8')}"
    place = cache / "moe" / f"triton-{triton}-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as name:
            made = Path(name) / "environment"
            _install(triton, file, made)
            # Another call may have made it meanwhile; then that one is taken.
            if not place.is_dir():
                shutil.move(made, place)
    return place / "bin" / "python"


def _requirements(root: Path) -> Path:
    return root / "tools" / "requirements"


def _install(triton: str, file: Path, place: Path) -> None:
    tool = uv.find_uv_bin()
    argv: list[str | Path] = [tool, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    argv += ["--require-hashes", "--python", place / "bin" / "python", "--requirement", file]
    try:
        process.run([tool, "venv", "--quiet", "--python", sys.executable, place], timeout_s=_INSTALL_TIMEOUT_S)
        process.run(argv, timeout_s=_INSTALL_TIMEOUT_S)
    except ProcessError as err:
        raise LockError(
            f"Triton {triton}: its environment cannot be made from {file.name}:\n{err.output or err}"
        ) from err


@contextmanager
def kernel_sources(vllm: str, cache: Path) -> Iterator[Path]:
    """A folder with those files of a release that its kernel for experts and the launcher of it are in.

    Raises:
        LockError: the package index has no source distribution of it, or that has no such kernel.
    """
    found = read_members(fetch_sdist("vllm", vllm, cache), lambda path: path in _SOURCES)
    if _KERNEL not in found:
        raise LockError(f"vllm {vllm}: its source distribution has no {_KERNEL}: this release has its kernel elsewhere")
    with tempfile.TemporaryDirectory(prefix="sparkbake-moe-") as name:
        folder = Path(name)
        for path, text in found.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        yield folder


# ---- compiling


def compile_config(shape: Shape, text: bytes, *, python: Path, sources: Path, root: Path) -> tuple[Compiled, ...]:
    """Compile all entries of a config, equal ones once.

    Args:
        shape: what its name says; its dtype is one of COMPILED_DTYPES.
        text: of a config without errors (`moecheck.check_config`).
        python: of `prepare`.
        sources: of `kernel_sources`.
        root: of the project.

    Returns:
        In the order of the file.

    Raises:
        UsageError: experts of this dtype are run by another kernel, or with other tiles than the config's.
        ProcessError: the environment does not work, or the compiler is ended from outside.
    """
    if shape.dtype not in COMPILED_DTYPES:
        raise UsageError(
            f"dtype {shape.dtype}: vLLM runs it with another kernel; expected "
            f"{', '.join(one or 'none' for one in COMPILED_DTYPES)}"
        )
    groups: dict[str, list[str]] = {}
    for key, entry in read_entries(text)[0].items():
        if key != NO_RUNG:
            groups.setdefault(json.dumps(entry, sort_keys=True), []).append(key)

    def compile_one(entry: str) -> Compiled:
        job = _job(shape, json.loads(entry), int(groups[entry][0]), sources)
        return _compile(tuple(groups[entry]), entry, job, [python, "-I", root / "tools" / "moe" / "compile.py"])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return tuple(pool.map(compile_one, groups))


def _job(shape: Shape, entry: dict[str, Any], tokens: int, sources: Path) -> dict[str, Any]:
    return {
        "sources": str(sources),
        "capability": _CAPABILITY,
        "entry": entry,
        "experts": shape.experts,
        "intermediate": shape.intermediate,
        "hidden": _HIDDEN,
        "top_k": _TOP_K,
        "tokens": tokens,
        "dtype": shape.dtype or "bf16",
        "block_shape": shape.block_shape,
    }


def _compile(keys: tuple[str, ...], entry: str, job: dict[str, Any], argv: Sequence[str | Path]) -> Compiled:
    try:
        text = process.run(argv, timeout_s=_COMPILE_TIMEOUT_S, stdin=json.dumps(job))
    except ProcessError as err:
        if err.returncode is None or -err.returncode not in _OWN_SIGNALS:
            raise
        said = f"the compiler ended with signal {-err.returncode}: {err.output[-300:] or 'it said nothing'}"
        died = Launch(name="any", seconds=0.0, resources=None, error=said)
        return Compiled(keys=keys, entry=entry, triton="", ptxas="", launches=(died,))
    return parse_answer(keys, entry, text)
