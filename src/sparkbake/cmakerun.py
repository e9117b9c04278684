"""Have CMake run a vLLM release's own build files, patched or not, as far as they say what is compiled for what."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sparkbake import process
from sparkbake.cmaketrace import gencode_flags, read_trace
from sparkbake.errors import PreflightError, ProcessError
from sparkbake.kernels import Kernels, kernels_of
from sparkbake.patches import Selection
from sparkbake.patching import apply
from sparkbake.sources import read_members

_TIMEOUT_S = 120


def patched_files(sdist: Path, selection: Selection) -> dict[str, str]:
    """The build files of a source distribution as they are with patches.

    Raises:
        BuildError: a patch does not apply.
    """
    touched = {file for one in selection.patches for file in one.touches}
    files = read_members(sdist, lambda path: is_build_file(path) or path in touched)
    with tempfile.TemporaryDirectory(prefix="sparkbake-patched-") as name:
        tree = Path(name)
        _write(files, tree)
        apply(selection, tree)
        return {path: (tree / path).read_text(encoding="utf-8") for path in files if is_build_file(path)}


def _write(files: Mapping[str, str], folder: Path) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def is_build_file(path: str) -> bool:
    return path == "CMakeLists.txt" or (path.startswith("cmake/") and path.endswith(".cmake"))


def follow(root: Path, vllm: str, files: Mapping[str, str], *, arch: str, cuda: str) -> Kernels:
    """Have CMake run build files, patched or not, as far as they say what is compiled for which architecture.

    Args:
        root: of the project, which has the driver.
        files: path to content: CMakeLists.txt and cmake/**/*.cmake.
        arch: TORCH_CUDA_ARCH_LIST, "12.0f".
        cuda: version of the compiler, "13.0".

    Raises:
        PreflightError: CMake is missing or too old.
        ProcessError: upstream's build files end with an error.
        LockError: nothing is found in its trace.
    """
    cmake = shutil.which("cmake")
    if cmake is None:
        raise PreflightError(
            ["cmake: not found on PATH; vLLM's build files want 3.26 or newer: `uv tool install cmake`"]
        )
    with tempfile.TemporaryDirectory(prefix="sparkbake-kernels-") as name:
        folder = Path(name).resolve()
        sources, work = folder / "sources", folder / "work"
        work.mkdir()
        _write(files, sources)
        trace = folder / "trace.json"
        argv: list[str | Path] = [cmake, "--trace-expand", "--trace-format=json-v1", f"--trace-redirect={trace}"]
        argv += [f"-DCUDA_COMPILER={cuda}", f"-DGENCODE={gencode_flags(arch)}", f"-DWORK={work}"]
        argv += ["-P", root / "tools" / "kernels" / "driver.cmake"]
        try:
            process.run(argv, timeout_s=_TIMEOUT_S, cwd=sources)
        except ProcessError as err:
            raise _not_followed(vllm, arch, err) from err
        text = trace.read_text(encoding="utf-8", errors="replace")
        calls = read_trace(f"vllm {vllm}", text, root=str(sources), texts=files)
    return kernels_of(vllm, calls, arch=arch, cuda=cuda)


def _not_followed(vllm: str, arch: str, err: ProcessError) -> ProcessError | PreflightError:
    old = re.search(r"CMake ([\d.]+) or higher is required\.\s+You are running version ([\d.]+)", err.output)
    if old:
        return PreflightError(
            [f"cmake: got {old[2]}, vLLM {vllm} wants {old[1]} or newer: `uv tool install cmake`, first on PATH"]
        )
    return ProcessError(
        f"vllm {vllm}: its build files end with an error for TORCH_CUDA_ARCH_LIST={arch}:\n{err.output or err}",
        returncode=err.returncode,
        output=err.output,
    )
