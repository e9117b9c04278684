"""Compute something with each component on the GPU and hold it against a reference; prints JSON to attach to a report.

Runs with the image's Python. Each check is a process of its own: one that fails says so and hides no other, though it
leave the GPU unusable for its process, abort, or never end.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MANIFEST = Path("/usr/share/sparkbake/manifest.json")
NEEDS = Path(__file__).resolve().parents[1] / "needs.json"
SCHEMA = 1
_SIZE = 1024
# Of the largest value of the reference. Operands are exact, sums are made in float32; only the result is rounded, to
# bfloat16 with 8 bits of mantissa. An H200 was off by 0.0031 with both types.
_ERROR = 0.01
_TIMEOUT_S = 60
# Of a check: FlashInfer compiles, on a machine where nothing is cached yet.
_LIMIT_S = 900


def device() -> dict[str, Any]:
    import torch  # noqa: PLC0415

    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU; start the container with --gpus all")
    found = ".".join(str(one) for one in torch.cuda.get_device_capability())
    free, total = torch.cuda.mem_get_info()
    facts = {
        "name": torch.cuda.get_device_name(),
        "compute_capability": found,
        "free_gib": round(free / 2**30, 1),
        "total_gib": round(total / 2**30, 1),
    }
    expected = os.environ.get("TORCH_CUDA_ARCH_LIST", "").rstrip("af")
    if found != expected:
        raise RuntimeError(f"{facts['name']} has compute capability {found}, the image is for {expected}")
    return facts


def driver() -> dict[str, Any]:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    found, needs = done.stdout.strip(), json.loads(NEEDS.read_text(encoding="utf-8"))
    # The chip's own, and the first one of the image's major release of CUDA.
    first = [driver for cuda, driver in needs["drivers"] if _numbers(cuda)[:1] == _numbers(needs["cuda"])[:1]][:1]
    least = max([needs["least_driver"], *first], key=_numbers)
    # A line for each GPU; they have one driver.
    if _numbers(found.partition("\n")[0]) < _numbers(least):
        raise RuntimeError(f"driver {found!r}, expected {least} or newer")
    return {"version": found.partition("\n")[0], "at_least": least}


def _numbers(version: str) -> list[int]:
    return [int(one) for one in re.findall(r"\d+", version)]


def matmul_bf16() -> dict[str, Any]:
    import torch  # noqa: PLC0415

    left, right = _operands(torch.bfloat16)
    return _compared((left.cuda() @ right.cuda()).cpu(), left, right)


def matmul_fp8() -> dict[str, Any]:
    import torch  # noqa: PLC0415

    left, right = _operands(torch.float8_e4m3fn)
    one = torch.ones((), device="cuda")
    # cuBLAS wants the second operand in columns.
    columns = right.cuda().t().contiguous().t()
    product = torch._scaled_mm(left.cuda(), columns, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)  # noqa: SLF001
    return _compared(product.cpu(), left, right)


def _operands(dtype: Any) -> tuple[Any, Any]:  # noqa: ANN401  (torch is not there where this is checked)
    import torch  # noqa: PLC0415

    torch.manual_seed(1)
    left, right = (torch.randn(_SIZE, _SIZE).to(dtype) for _one in range(2))
    return left, right


def _compared(found: Any, left: Any, right: Any) -> dict[str, Any]:  # noqa: ANN401
    """How far a product is from that of the same operands in float64, on the CPU."""
    import torch  # noqa: PLC0415

    reference = left.to(torch.float64) @ right.to(torch.float64)
    error = float((found.to(torch.float64) - reference).abs().max() / reference.abs().max())
    if not error <= _ERROR:  # also when it is no number
        raise RuntimeError(f"relative error {error:.4g}, expected {_ERROR} at most")
    return {"relative_error": error, "at_most": _ERROR}


def nccl() -> dict[str, Any]:
    import torch  # noqa: PLC0415
    from torch import distributed  # noqa: PLC0415

    store = distributed.HashStore()
    distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
    try:
        value = torch.full((1 << 20,), 3.0, device="cuda")
        distributed.all_reduce(value)
        torch.cuda.synchronize()
        if not bool((value == 3.0).all()):  # noqa: PLR2004
            raise RuntimeError("all_reduce over one rank changed the values")
    finally:
        distributed.destroy_process_group()
    return {"version": ".".join(str(one) for one in torch.cuda.nccl.version())}


def triton_kernel() -> dict[str, Any]:
    import torch  # noqa: PLC0415
    import triton  # noqa: PLC0415
    from selftest_kernel import add  # noqa: PLC0415

    count = 98_432
    left, right = (torch.rand(count, device="cuda") for _one in range(2))
    found = torch.empty_like(left)
    add[(triton.cdiv(count, 1024),)](left, right, found, count, BLOCK=1024)
    torch.testing.assert_close(found, left + right)
    return {"version": triton.__version__}


def flashinfer_call() -> dict[str, Any]:
    import flashinfer  # noqa: PLC0415
    import torch  # noqa: PLC0415

    torch.manual_seed(1)
    value, weight = torch.randn(64, 4096).to(torch.bfloat16), torch.randn(4096).to(torch.bfloat16)
    found = flashinfer.norm.rmsnorm(value.cuda(), weight.cuda(), eps=1e-6).cpu().to(torch.float64)
    wide = value.to(torch.float64)
    reference = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6) * weight.to(torch.float64)
    torch.testing.assert_close(found, reference, rtol=_ERROR, atol=_ERROR)
    return {"version": flashinfer.__version__}


CHECKS: tuple[Callable[[], dict[str, Any]], ...] = (
    device,
    driver,
    matmul_bf16,
    matmul_fp8,
    nccl,
    triton_kernel,
    flashinfer_call,
)


def attempt(check: Callable[[], dict[str, Any]], limit_s: int = _LIMIT_S) -> dict[str, Any]:
    """Run a check in a process of its own, and return what it found, or how it ended."""
    began = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(limit_s)
            os.write(writer, json.dumps(_outcome(check)).encode())
            sys.stdout.flush()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as answer:
        text = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = json.loads(text) if text else {"ok": False, "error": _end(status, limit_s)}
    return {**found, "seconds": round(time.monotonic() - began, 2)}


def _outcome(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"ok": True, **check()}
    except Exception as err:  # noqa: BLE001  (whatever a component does wrong is the answer)
        return {"ok": False, "error": f"{type(err).__name__}: {err}"[:2000]}


def _end(status: int, limit_s: int) -> str:
    if status == -signal.SIGALRM:
        return f"no end after {limit_s} s"
    return f"its process was ended by {signal.Signals(-status).name}" if status < 0 else "its process ended by itself"


def report() -> dict[str, Any]:
    body = json.loads(MANIFEST.read_text(encoding="utf-8"))
    results = {}
    for check in CHECKS:
        print(f"spark: selftest: {check.__name__}", file=sys.stderr, flush=True)
        results[check.__name__] = attempt(check)
    return {
        "schema": SCHEMA,
        "image": body["reference"],
        "plan_digest": body["plan_digest"],
        "time": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "ok": all(one["ok"] for one in results.values()),
        "checks": results,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="selftest", description="Compute on the GPU with each component; JSON.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="(default: the standard output)")
    options = parser.parse_args()
    if options.output:
        try:
            # Opened, and not only looked at: the checks take their time, and permissions do not say all.
            os.close(os.open(options.output, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o644))
        except OSError as err:
            parser.error(f"--output {options.output}: cannot be written: {err.strerror}")
    # What libraries print to the standard output must not end up in the report.
    out = os.dup(1)
    os.dup2(2, 1)
    found = report()
    text = json.dumps(found, indent=2) + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        os.write(out, text.encode())
    for name, one in found["checks"].items():
        if not one["ok"]:
            print(f"spark: selftest: {name}: {one['error']}", file=sys.stderr)
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
