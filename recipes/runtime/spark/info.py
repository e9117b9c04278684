"""What this image is, and what the machine offers it."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkbake.errors import ProcessError
from sparkbake.hostfacts import rdma_ports
from sparkbake.process import run

MANIFEST = Path("/usr/share/sparkbake/manifest.json")
_QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
_TIMEOUT_S = 10
_SETTINGS = (
    "HF_HOME", "XDG_CACHE_HOME", "CUDA_CACHE_PATH", "TRITON_CACHE_DIR", "VLLM_TUNED_CONFIG_FOLDER",
    "TORCH_CUDA_ARCH_LIST", "MAX_JOBS", "NCCL_IB_HCA", "NCCL_SOCKET_IFNAME", "VLLM_HOST_IP",
)  # fmt: skip


def info(environment: Mapping[str, str], *, manifest: Path = MANIFEST, root: Path = Path("/")) -> dict[str, Any]:
    """Versions of the image as its labels have them, and what is here now; keys are stable."""
    body = json.loads(manifest.read_text(encoding="utf-8"))
    labels = body["labels"]
    prefix = next(key for key in labels if key.endswith(".vllm_version")).rpartition(".")[0]
    ours = {key.removeprefix(f"{prefix}."): value for key, value in labels.items() if key.startswith(f"{prefix}.")}
    return {
        "image": body["reference"],
        "plan_digest": body["plan_digest"],
        "versions": {key.removesuffix("_version"): value for key, value in ours.items() if key.endswith("_version")},
        "labels": {key: value for key, value in ours.items() if not key.endswith("_version")},
        "machine": _machine(root),
        "caches": _cache(Path(environment.get("XDG_CACHE_HOME") or "/root/.cache")),
        "settings": {name: environment[name] for name in _SETTINGS if environment.get(name)},
    }


def _machine(root: Path) -> dict[str, Any]:
    try:
        gpus = run(_QUERY, timeout_s=_TIMEOUT_S).strip().splitlines()
    except ProcessError as err:
        gpus = []
        why = (err.output or str(err)).strip().splitlines()[0]
        if shutil.which(_QUERY[0]) is None:
            why = "no nvidia-smi here; start the container with --gpus all"
    else:
        why = "" if gpus else "nvidia-smi lists none"
    memory = dict(
        line.split(":", 1) for line in (root / "proc/meminfo").read_text(encoding="utf-8").splitlines() if ":" in line
    )
    ports = rdma_ports(root) or ()
    return {
        "architecture": os.uname().machine,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": _gib(memory.get("MemTotal", "")),
        "available_gib": _gib(memory.get("MemAvailable", "")),
        "gpus": gpus,
        "no_gpu_because": why,
        "rdma": [f"{one.device}:{one.number} {one.state} {one.interface} {one.rate}".strip() for one in ports],
    }


def _gib(text: str) -> float:
    words = text.split()
    return round(int(words[0]) / 2**20, 1) if words else 0.0


def _cache(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        return {"folder": str(folder), "state": "not there"}
    state = "writable" if os.access(folder, os.W_OK | os.X_OK) else "not writable by this user"
    return {
        "folder": str(folder),
        "state": state,
        "kept": "yes, a volume"
        if os.path.ismount(folder)
        else "no: lost with the container; add -v spark-cache:/cache",
        "holds": sorted(one.name for one in folder.iterdir()) if os.access(folder, os.R_OK) else [],
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    shown = [found["image"]]
    for key in ("versions", "labels", "machine", "caches", "settings"):
        shown += ["", key]
        shown += [f"  {name:<26} {_text(value)}" for name, value in found[key].items() if value not in ("", [])]
    return shown


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
