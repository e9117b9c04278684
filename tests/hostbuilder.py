"""Hosts for tests: those of tests/data/hosts, each marked as recorded or invented, and what is made of them."""

import json
from dataclasses import replace
from typing import Any

from tests.builders import ROOT

from sparkbake.doctorneeds import load_standards, needs_of
from sparkbake.hostvalues import Answer, Folder, Host, Needs, Port, Token

# The ids of all checks, in the order of the answer.
KINDS = [
    "system", "gpu", "driver", "compute-capability", "cuda", "gpu-memory", "nvcc", "docker", "container-toolkit",
    "container-gpu", "disk-images", "disk-models", "memory", "shm", "swap", "roce", "time", "hf-token", "hf-cache",
    "cache-file-system", "port",
]  # fmt: skip
HOSTS = ROOT / "tests" / "data" / "hosts"


def make_needs(**changes: Any) -> Needs:
    """What 0.32.0-t5 asks of a host, with doctor.yaml as it is."""
    needs = needs_of(
        load_standards(ROOT / "doctor.yaml"),
        compute_capability="12.1",
        cuda="13.0.3",
        packed_bytes=4_140_000_000,
        ports=(8000,),
    )
    return replace(needs, **changes)


def load_host(name: str) -> Host:
    """A host of tests/data/hosts, as `doctor --json` writes it."""
    said = json.loads((HOSTS / f"{name}.json").read_text(encoding="utf-8"))["host"]
    return Host(
        **{
            **said,
            "answers": {key: Answer(**one) for key, one in said["answers"].items()},
            "nvccs": {key: Answer(**one) for key, one in said["nvccs"].items()},
            "images": _folder(said["images"]) if said["images"] else None,
            "models": _folder(said["models"]),
            "token": Token(**said["token"]) if said["token"] else None,
            "rdma": None if said["rdma"] is None else tuple(Port(**one) for one in said["rdma"]),
        }
    )


def with_answers(host: Host, **answers: Answer) -> Host:
    """The same host with other answers; their names have `_` for `-`."""
    return replace(host, answers={**host.answers, **{key.replace("_", "-"): one for key, one in answers.items()}})


def _folder(said: dict[str, Any]) -> Folder:
    return Folder(**{**said, "foreign": tuple(said["foreign"])})
