"""Whether a GPU computes the same with libraries whose cubins for other chips are overwritten: torch and NCCL.

Needs a GPU, nvcc, and a torch for CUDA whose wheels may lie anywhere. torch and NCCL are copied beside it three times:
whole, pruned for the GPU that is here, and, to see that the pruned ones were the ones that ran, pruned for a chip that
is not (by default 12.1, which no kernel of another major version survives). Each runs the same operations from the same
seeds, on all GPUs for what NCCL does; a digest of every result is compared. A program with SASS for another chip and
PTX beside it, compiled here, must run from the PTX when the SASS is overwritten. Exit status 1: a result differs or
fails, or the third way gave a result. Libraries of vLLM that `--extension` names are tried, too: FlashAttention 2 has
SASS for 8.0, so that other chips compile its PTX, as a GB10 does.

    PYTHONPATH=src python3 benchmarks/pruned_code.py
    PYTHONPATH=src python3 benchmarks/pruned_code.py --extension _vllm_fa2_C.abi3.so
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sparkbake.devicecode import chip_number
from sparkbake.pruning import prune

LIBRARIES = ("torch/lib/libtorch_cuda.so", "nvidia/nccl/lib/libnccl.so.2")
# What of these is loaded must be the copy.
LOADED = ("libtorch_cuda.so", "libnccl.so.2")
PROGRAM = """
__global__ void square(int *values) { values[threadIdx.x] *= values[threadIdx.x]; }
extern "C" int run(int *values, int count) {
    int *there;
    cudaMalloc(&there, count * sizeof(int));
    cudaMemcpy(there, values, count * sizeof(int), cudaMemcpyHostToDevice);
    square<<<1, count>>>(there);
    int error = cudaDeviceSynchronize();
    cudaMemcpy(values, there, count * sizeof(int), cudaMemcpyDeviceToHost);
    return error ? error : cudaGetLastError();
}
"""
RUN = "import ctypes, sys; x = (ctypes.c_int * 4)(1, 2, 3, 4); print(ctypes.CDLL(sys.argv[1]).run(x, 4), *x)"
RAN = "0 1 4 9 16"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--absent", default="12.1", help="compute capability of a chip that is not here")
    parser.add_argument(
        "--extension", dest="extensions", type=Path, action="append", default=[],
        help="vllm/_C_stable_libtorch.abi3.so or vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so of a wheel for this torch",
    )  # fmt: skip
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(compute(options.extensions)))
        return 0
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        parser.error("found no torch; run it with a Python that has torch for CUDA")
    site = Path(spec.origin).parents[1]
    here = subprocess.run(
        [sys.executable, "-c", "import torch; print(*torch.cuda.get_device_capability(), sep='.')"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    jit = from_ptx(here)
    print(f"PTX beside SASS of another chip: {jit}")
    ways = {"whole": None, f"pruned for {here}": here, f"pruned for {options.absent}": options.absent}
    found = {}
    with tempfile.TemporaryDirectory(prefix="sparkbake-pruned-") as folder:
        for number, (way, capability) in enumerate(ways.items()):
            copy = copied(site, Path(folder, str(number)))
            extensions = [Path(shutil.copy(one, copy)) for one in options.extensions]
            libraries = [*(copy / one for one in LIBRARIES), *extensions]
            sizes = {one.name: pruned(one, capability) for one in libraries} if capability else {}
            told = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
            began = time.monotonic()
            found[way] = child(copy, extensions)
            print(f"{way}: {told or 'as it is'}; {time.monotonic() - began:.1f} s", flush=True)
            shutil.rmtree(copy)
    return report(*found.values()) or int(jit != RAN)


def from_ptx(here: str) -> str:
    """What a program prints whose SASS is of another chip and overwritten, so that just its PTX can run."""
    other = "75" if here.startswith("8.") else "80"
    with tempfile.TemporaryDirectory(prefix="sparkbake-pruned-") as folder:
        source, library = Path(folder, "it.cu"), Path(folder, "it.so")
        source.write_text(PROGRAM, encoding="utf-8")
        codes = f"arch=compute_{other},code=[sm_{other},compute_{other}]"
        argv = ["nvcc", "-shared", "-Xcompiler", "-fPIC", "-gencode", codes, str(source), "-o", str(library)]
        subprocess.run(argv, check=True)
        if not pruned(library, here):
            sys.exit(f"{library}: nothing was pruned of it")
        done = subprocess.run([sys.executable, "-c", RUN, str(library)], capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.stderr.strip()


def copied(site: Path, folder: Path) -> Path:
    """A folder like site-packages: torch and NCCL copied, all else linked."""
    (folder / "nvidia").mkdir(parents=True)
    shutil.copytree(site / "torch", folder / "torch")
    shutil.copytree(site / "nvidia/nccl", folder / "nvidia/nccl")
    for one in site.iterdir():
        if one.name not in ("torch", "nvidia"):
            (folder / one.name).symlink_to(one)
    for one in (site / "nvidia").iterdir():
        if one.name != "nccl":
            (folder / "nvidia" / one.name).symlink_to(one)
    return folder


def pruned(library: Path, capability: str) -> int:
    with library.open("r+b") as file:
        return prune(str(library), file, chip_number(capability))


def child(site: Path, extensions: Sequence[Path]) -> dict[str, str]:
    """Operation to the digest of its result, or to why there is none."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", *(f"--extension={one}" for one in extensions)],
        # Without CUDA's cache, each way compiles what there is PTX of.
        env={**os.environ, "CUDA_CACHE_DISABLE": "1", "PYTHONPATH": os.pathsep.join([str(site), *sys.path[1:]])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{site}: {done.stderr[-2000:]}")
    answer: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    for name in LOADED:
        if not answer.pop(name).startswith(str(site)):
            sys.exit(f"{name} was not loaded from {site}")
    return answer


def report(whole: dict[str, str], here: dict[str, str], absent: dict[str, str]) -> int:
    same = [name for name, digest in whole.items() if digest.startswith("sha256:") and here[name] == digest]
    for name in whole:
        shown = "the same" if name in same else f"DIFFERENT: {whole[name][:200]} and {here[name][:200]}"
        print(f"  {name:<24} {shown}; pruned for another chip: {absent[name].splitlines()[0][:90]}")
    # Without a kernel of torch's own no operation begins: its inputs are made by one.
    ran = [name for name, told in absent.items() if told.startswith("sha256:")]
    print(f"{len(same)} of {len(whole)} operations gave the same; {len(ran)} ran with code for another chip alone")
    return 0 if len(same) == len(whole) and not ran else 1


# ---- in the child


def compute(extensions: Sequence[Path]) -> dict[str, str]:
    """Run everything; how each ended, and where the libraries were loaded from."""
    import torch  # noqa: PLC0415  (of the copy that this process is given)

    found = {}
    for one in extensions:
        torch.ops.load_library(str(one))
    for name, operation in {**operations(torch), **of_vllm(torch)}.items():
        torch.manual_seed(1)
        try:
            found[name] = digest(torch, operation())
        except Exception as err:  # noqa: BLE001  (whatever an operation says is its result here)
            found[name] = f"{type(err).__name__}: {err}"
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    places = [line.split()[-1] for line in maps.splitlines()]
    return {**found, **{name: next((one for one in places if one.endswith(name)), "") for name in LOADED}}


def digest(torch: Any, tensor: Any) -> str:  # noqa: ANN401  (torch is there at run time alone)
    data = tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes()
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def operations(torch: Any) -> dict[str, Callable[[], Any]]:  # noqa: ANN401
    """Kernels of torch's own: compiled for several chips, one chip alone ("a"), by CUTLASS, in linked libraries."""
    functional = torch.nn.functional

    def made(*shape: int, dtype: Any = torch.float32) -> Any:  # noqa: ANN401
        return torch.randn(*shape, device="cuda", dtype=torch.float32).to(dtype)

    def attention(dtype: Any) -> Any:  # noqa: ANN401
        backend = torch.nn.attention.SDPBackend
        with torch.nn.attention.sdpa_kernel([backend.FLASH_ATTENTION, backend.EFFICIENT_ATTENTION]):
            inputs = [made(2, 8, 512, 64, dtype=dtype) for _ in range(3)]
            return functional.scaled_dot_product_attention(*inputs, is_causal=True)

    def rowwise() -> Any:  # noqa: ANN401
        one, other = made(512, 256).to(torch.float8_e4m3fn), made(384, 256).to(torch.float8_e4m3fn)
        scales = (torch.ones(512, 1, device="cuda"), torch.ones(1, 384, device="cuda"))
        return torch._scaled_mm(one, other.t(), *scales, out_dtype=torch.bfloat16)  # noqa: SLF001

    def grouped() -> Any:  # noqa: ANN401
        ends = torch.tensor([64, 192, 256], device="cuda", dtype=torch.int32)
        one, other = made(256, 128, dtype=torch.bfloat16), made(3, 128, 64, dtype=torch.bfloat16)
        return torch._grouped_mm(one, other, offs=ends)  # noqa: SLF001

    return {
        "random": lambda: made(1 << 20),
        "elementwise bf16": lambda: torch.nn.functional.gelu(made(1 << 20, dtype=torch.bfloat16)),
        "matmul bf16": lambda: made(512, 512, dtype=torch.bfloat16) @ made(512, 512, dtype=torch.bfloat16),
        "softmax": lambda: made(256, 4096).softmax(-1),
        "layer norm": lambda: functional.layer_norm(made(256, 4096), (4096,)),
        "rms norm": lambda: functional.rms_norm(made(256, 4096), (4096,)),
        "sum": lambda: made(4096, 4096).sum(0),
        "sort": lambda: made(1 << 20).sort().values,
        "topk": lambda: made(64, 32000).topk(50).values,
        "cumsum": lambda: made(64, 32000).cumsum(-1),
        "unique": lambda: torch.randint(0, 1000, (1 << 20,), device="cuda").unique(),
        "embedding": lambda: functional.embedding(torch.arange(1000, device="cuda"), made(1000, 512)),
        "index select": lambda: made(1000, 512).index_select(0, torch.randperm(1000, device="cuda")),
        "attention bf16": lambda: attention(torch.bfloat16),
        "attention fp32": lambda: attention(torch.float32),
        "convolution": lambda: functional.conv2d(made(4, 16, 64, 64), made(32, 16, 3, 3)),
        "scaled matmul fp8": rowwise,
        "grouped matmul bf16": grouped,
        "int8 quantise": lambda: torch.quantize_per_tensor(made(4096), 0.1, 0, torch.qint8).int_repr(),
        "cholesky": lambda: torch.linalg.cholesky(torch.eye(64, device="cuda").expand(8, 64, 64) * 2),
        "NCCL all-reduce": lambda: reduced(torch),
        "fft": lambda: torch.view_as_real(torch.fft.rfft(made(64, 4096))),
    }


def of_vllm(torch: Any) -> dict[str, Callable[[], Any]]:  # noqa: ANN401
    """Operations of the extensions that are loaded, as vLLM 0.25 calls them."""
    found: dict[str, Callable[[], Any]] = {}

    def made(*shape: int) -> Any:  # noqa: ANN401
        return torch.randn(*shape, device="cuda").to(torch.bfloat16)

    def attention(causal: bool) -> Any:  # noqa: ANN401, FBT001
        query, key, value = made(1024, 16, 128), made(1024, 4, 128), made(1024, 4, 128)
        ends = torch.tensor([0, 100, 1024], device="cuda", dtype=torch.int32)
        shape = (924, 924, 0.0, 128**-0.5, False, causal, -1, -1, 0.0, False, 0, None)
        nothing = (None, None, None, None)
        return torch.ops._vllm_fa2_C.varlen_fwd(query, key, value, None, ends, ends, *nothing, *shape)[0]  # noqa: SLF001

    def norm() -> Any:  # noqa: ANN401
        inputs = made(512, 4096)
        out = torch.empty_like(inputs)
        torch.ops._C.rms_norm(out, inputs, made(4096), 1e-6)  # noqa: SLF001
        return out

    def quantised() -> Any:  # noqa: ANN401
        inputs = made(512, 4096)
        out = torch.empty(512, 4096, device="cuda", dtype=torch.float8_e4m3fn)
        scales = torch.empty(512, 1, device="cuda")
        torch.ops._C.dynamic_per_token_scaled_fp8_quant(out, inputs, scales, None)  # noqa: SLF001
        return out

    def activated() -> Any:  # noqa: ANN401
        inputs = made(512, 4096)
        out = made(512, 2048)
        torch.ops._C.silu_and_mul(out, inputs)  # noqa: SLF001
        return out

    if hasattr(torch.ops._vllm_fa2_C, "varlen_fwd"):  # noqa: SLF001
        found |= {"vLLM attention": lambda: attention(False), "vLLM causal attention": lambda: attention(True)}  # noqa: FBT003
    if hasattr(torch.ops._C, "silu_and_mul"):  # noqa: SLF001
        found |= {"vLLM rms norm": norm, "vLLM fp8 quantise": quantised, "vLLM activation": activated}
    return found


def reduced(torch: Any) -> Any:  # noqa: ANN401
    """What NCCL sums over all GPUs; one by itself reduces with itself."""
    count = torch.cuda.device_count()
    inputs = [torch.randn(1 << 20, device=f"cuda:{index}") for index in range(count)]
    outputs = [torch.empty_like(one) for one in inputs]
    torch.cuda.nccl.all_reduce(inputs, outputs)
    return torch.cat([one.to("cuda:0") for one in outputs])


if __name__ == "__main__":
    sys.exit(main())
