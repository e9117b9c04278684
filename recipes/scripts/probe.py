"""Runs inside an image, without a network or a GPU: reports what is there, as one JSON object on the last line.

Each check stands alone: one that fails says so and hides no other. The arguments are modules that must import.
"""

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def command(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=1200)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
    return done.stdout.strip() or done.stderr.strip()


def cuda_tool(path: str) -> str:
    found = re.search(r"release [\d.]+, V([\d.]+)", command(path, "--version"))
    if found is None:
        raise RuntimeError(f"{path} --version names no version")
    return found[1]


def ptxas_for_chip() -> str:
    """Whether the assembler that Triton takes knows the chip: an empty kernel is assembled for it."""
    chip = "sm_" + os.environ["TORCH_CUDA_ARCH_LIST"].replace(".", "")
    kernel = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry empty() { ret; }\n"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "empty.ptx")
        source.write_text(kernel, encoding="utf-8")
        command(
            os.environ["TRITON_PTXAS_PATH"], f"--gpu-name={chip}", "-o", str(source.with_suffix(".cubin")), str(source)
        )
    return chip


def torch_facts() -> dict[str, Any]:
    import torch  # noqa: PLC0415

    nccl = ".".join(str(one) for one in torch.cuda.nccl.version())
    arches = torch._C._cuda_getArchFlags()  # noqa: SLF001  (torch.cuda.get_arch_list() wants a GPU)
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "nccl": nccl,
        "arches": (arches or "").split(),
        "cudnn": torch.backends.cudnn.version(),
        "lapack": bool(torch._C.has_lapack),  # noqa: SLF001
    }


def import_vllm() -> str:
    import vllm  # noqa: PLC0415

    return str(vllm.__version__)


def distributions() -> dict[str, str]:
    return {normal_name(one): one.version for one in importlib.metadata.distributions()}


def python_headers() -> str:
    import sysconfig  # noqa: PLC0415

    header = os.path.join(sysconfig.get_paths()["include"], "Python.h")  # noqa: PTH118
    if not os.path.exists(header):  # noqa: PTH110
        raise RuntimeError(f"{header} is missing")
    return header


# Without a GPU vLLM's command line cannot tell a device and refuses to build its own parser; `--version` needs none.
# So a device is stated, and then the very script that `vllm` is, is run.
WITHOUT_GPU = """
import runpy, sys
from vllm import platforms
from vllm.platforms.interface import UnspecifiedPlatform
stated = UnspecifiedPlatform()
stated.device_type = "cpu"
platforms._current_platform = stated
script = sys.argv[1]
sys.argv = [script, "--version"]
runpy.run_path(script, run_name="__main__")
"""


def vllm_command() -> str:
    if os.path.exists("/dev/nvidiactl"):  # noqa: PTH110
        return command("vllm", "--version").split()[-1]
    script = shutil.which("vllm")
    if script is None:
        raise RuntimeError("no `vllm` on PATH")
    with open(script, encoding="utf-8") as file:  # noqa: PTH123
        interpreter = file.readline().removeprefix("#!").strip()
    if not os.access(interpreter, os.X_OK):
        raise RuntimeError(f"{script} names the interpreter {interpreter}, which does not run")
    return command(sys.executable, "-c", WITHOUT_GPU, script).split()[-1]


def libraries() -> list[str]:
    """What NCCL and vLLM load by name, from the operating system."""
    names = ["libibverbs.so.1", "libmlx5.so.1", "librdmacm.so.1", "libnuma.so.1", "libgomp.so.1"]
    for name in names:
        ctypes.CDLL(name)
    return names


def trimmed() -> dict[str, dict[str, int]]:
    """Package to what it lacks, as the image says; what it says it lacks must not be there."""
    found = {}
    for one in importlib.metadata.distributions():
        text = one.read_text("TRIMMED.json")
        if text is not None:
            gone = json.loads(text)
            if there := [path for path in gone if os.path.lexists(str(one.locate_file(path)))]:
                raise RuntimeError(f"{one.metadata['Name']}: {there[0]} is there, but TRIMMED.json says that it is not")
            found[normal_name(one)] = {"files": len(gone), "bytes": sum(gone.values())}
    return found


def normal_name(one: importlib.metadata.Distribution) -> str:
    return re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower()


def imports() -> dict[str, str]:
    """Module to "imports", or why it does not."""
    state_driver(sys.argv[1:])
    said = {}
    for name in sys.argv[1:]:
        try:
            importlib.import_module(name)
            said[name] = "imports"
        except BaseException as err:  # noqa: BLE001  (a module may end in anything; the others must still be tried)
            said[name] = f"{type(err).__name__}: {err}"[:300]
    return said


def state_driver(modules: list[str]) -> None:
    """Without a GPU there is no driver, and what is linked to it does not load: then one is stated that has no device.

    Every function of it that a library asks for answers CUDA_ERROR_NO_DEVICE (100).
    """
    with contextlib.suppress(OSError):
        ctypes.CDLL("libcuda.so.1")
        return
    wanted: set[str] = set()
    for top in {name.partition(".")[0] for name in modules}:
        spec = importlib.util.find_spec(top)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for library in libraries_below(Path(folder)):
                if "[libcuda.so.1]" in command("readelf", "--dynamic", "--wide", str(library)):
                    symbols = command("readelf", "--dyn-syms", "--wide", str(library))
                    wanted |= set(re.findall(r"UND (cu[A-Z]\w*)", symbols))
    with tempfile.TemporaryDirectory() as place:
        source, library = Path(place, "driver.c"), Path(place, "libcuda.so.1")
        source.write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in sorted(wanted)), encoding="utf-8")
        command("gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(library), str(source))
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def libraries_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.so*"):
        if path.is_file() and path.open("rb").read(4) == b"\x7fELF":
            yield path


def linkable() -> list[str]:
    """CUDA libraries as a linker names them (-lcudart), for what is compiled when the image runs."""
    folder = Path(os.environ["CUDA_HOME"], "lib64")
    names = {re.sub(r"\.so\.[\d.]+$", ".so", one.name) for one in folder.glob("*.so.*")}
    if missing := sorted(name for name in names if not (folder / name).exists()):
        raise RuntimeError(f"{folder} has no {', '.join(missing)}")
    if "libcudart.so" not in names:
        raise RuntimeError(f"{folder} has no libcudart at all")
    return sorted(names)


CHECKS: dict[str, Callable[[], Any]] = {
    "machine": platform.machine,
    "python": platform.python_version,
    "distributions": distributions,
    "torch": torch_facts,
    "import_vllm": import_vllm,
    "vllm_command": vllm_command,
    "ptxas": lambda: cuda_tool(os.environ["TRITON_PTXAS_PATH"]),
    "ptxas_for_chip": ptxas_for_chip,
    "nvcc": lambda: cuda_tool(os.environ["CUDACXX"]),
    "gcc": lambda: command("gcc", "-dumpfullversion"),
    "g++": lambda: command("g++", "-dumpfullversion"),
    "python_headers": python_headers,
    "ray_command": lambda: command("ray", "--version").split()[-1],
    "libraries": libraries,
    "linkable": linkable,
    "trimmed": trimmed,
    # Last: it changes what the interpreter has loaded.
    "imports": imports,
}


def judge(check: Callable[[], Any]) -> dict[str, Any]:
    began = time.monotonic()
    try:
        verdict: dict[str, Any] = {"value": check()}
    except BaseException as err:  # noqa: BLE001  (a check may end in SystemExit; the others must still run)
        verdict = {"error": f"{type(err).__name__}: {err}"}
    return {**verdict, "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    # What an import prints must not get between the lines of the report.
    with contextlib.redirect_stdout(sys.stderr), ThreadPoolExecutor(2) as pool:
        # The slowest runs beside all others; these share one interpreter and stay in order.
        slowest = pool.submit(judge, CHECKS["vllm_command"])
        report = {name: judge(check) for name, check in CHECKS.items() if name != "vllm_command"}
        report["vllm_command"] = slowest.result()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
