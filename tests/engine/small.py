"""A checkout like this one whose images are small: the same recipes and base, other packages.

Every component is carried by a small package of the same shape; CUDA is the real thing, since the recipes make
/usr/local/cuda of it. `chardet` stands for transformers: it has a major 4 and a major 5.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sparkbake.lock import Index, Locker
from sparkbake.lockfile import canonical, entry_digest, lock_path, lock_to_json, sha256_of
from sparkbake.matrix import load_matrix, rows
from sparkbake.model import Environment, Lock

ROOT = Path(__file__).parents[2]
NAMESPACE = "sparkbake-test"
CARRIERS = {
    "nccl": ("packaging", "25.0"),
    "torch": ("markupsafe", "3.0.2"),
    "torchvision": ("click", "8.1.8"),
    "torchaudio": ("colorama", "0.4.6"),
    "triton": ("pluggy", "1.6.0"),
}
RELEASE: dict[str, Any] = {
    "strategy": "wheels",
    "foundation": "3.0.2-cu130",
    "flashinfer": "2.1.0",
    "as_of": "2026-10-25",
    "git": {"tag": "v1.17.0", "commit": "0" * 40},
    "transformers": {"t4": {"version": "4.0.0"}, "t5": {"version": "5.2.0"}},
}
TRIM: dict[str, Any] = {
    "package": "pip",
    "paths": ["pip/_vendor/tomli/*"],
    "saves_bytes": "10000",
    "imports": ["pip"],
    "reason": "reads TOML for Python before 3.11, of which the image has none",
}


@dataclass(frozen=True, kw_only=True)
class Small:
    """The small checkout.

    Attributes:
        root: its folder.
        name: of its images.
    """

    root: Path
    name: str = "small"

    def reference(self, tag: str) -> str:
        return f"docker.io/{NAMESPACE}/{self.name}:{tag}"

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "sparkbake.cli", "--root", str(self.root), *words]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT / "src")}

    def run(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words),
            env={**self.environment(), **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )

    def edit_lock(self, tag: str, old: str, new: str) -> None:
        """Change the lock of a row as a person could not: with its digest made right again."""
        path = lock_path(self.root / "locks", tag)
        text = path.read_text(encoding="utf-8")
        assert old in text
        body = json.loads(text.replace(old, new))
        body.pop("digest")
        path.write_text(json.dumps({**body, "digest": sha256_of(canonical(body))}), encoding="utf-8")


def make_small(
    root: Path,
    *,
    name: str = "small",
    platform: str = "linux/arm64",
    extras: Sequence[str] = (),
    variants: Sequence[str] = ("t4", "t5"),
) -> Small:
    """Write the small checkout: its matrix from the real one, its locks from the package index.

    Args:
        name: of its images; another for each platform, so that none takes the other's place in the engine.
        platform: what they run on.
        extras: requirements of packages that they have as well.
        variants: which of the rows there are.
    """
    shutil.copytree(ROOT / "recipes", root / "recipes")
    shutil.copytree(ROOT / "moe_configs", root / "moe_configs")
    shutil.copyfile(ROOT / "doctor.yaml", root / "doctor.yaml")
    shutil.copytree(ROOT / "locks" / "bases", root / "locks" / "bases")
    (root / "matrix.yaml").write_text(
        small_matrix(name=name, platform=platform, extras=extras, variants=variants), encoding="utf-8"
    )
    matrix = load_matrix(root / "matrix.yaml")
    locker = Locker(matrix=matrix, index=Index(), say=lambda _text: None)
    preferred: str | None = None
    for row in rows(matrix):
        environments = []
        for base in matrix.bases:
            resolved = locker._resolve_row(row, base, preferred if base.name == "debian-13" else None)
            preferred = resolved.pylock if base.name == "debian-13" else preferred
            environments.append(Environment(base=base.name, python=base.python, wheels=resolved.wheels))
        lock = Lock(
            tag=row.tag,
            entry_digest=entry_digest(matrix, row),
            source_date_epoch=1_790_000_000,
            wheel_commit="0" * 9,
            build_ids=(),
            installer=locker.installer(),
            environments=tuple(environments),
        )
        lock_path(root / "locks", row.tag).write_text(lock_to_json(lock), encoding="utf-8")
    return Small(root=root, name=name)


def small_matrix(*, name: str, platform: str, extras: Sequence[str], variants: Sequence[str]) -> str:
    """The real matrix with small packages in the place of large ones."""
    # BaseLoader gives strings for all scalars, and no objects.
    body = yaml.load((ROOT / "matrix.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    body["project"]["namespace"] = NAMESPACE
    body["chip"]["platform"] = platform
    body["images"]["vllm"]["name"] = name
    for component, (distribution, _version) in CARRIERS.items():
        body["components"][component] = {"distribution": distribution}
    body["components"] |= {
        "flashinfer": {"distribution": "iniconfig"},
        "transformers": {"distribution": "chardet"},
        "vllm": {"distribution": "six"},
    }
    body["extras"] = [{"requirement": one, "reason": "as in the real one"} for one in ("pip", *extras)]
    body["trims"] = [TRIM]
    # Nothing in it is compiled.
    body.pop("source", None)
    # What is borne of large packages is not in these images.
    del body["checks"]["device_code"]["allow"], body["checks"]["waivers"]
    versions = {component: version for component, (_distribution, version) in CARRIERS.items()}
    body["foundations"] = {"3.0.2-cu130": {"cuda": "13.0.3", **versions}}
    transformers = {one: RELEASE["transformers"][one] for one in variants}
    body["releases"] = {"1.17.0": {**RELEASE, "transformers": transformers}}
    return yaml.safe_dump(body, default_style='"', sort_keys=False)


def inspect(reference: str) -> dict[str, Any]:
    """What `docker inspect` says of an image; fails when the engine does not have it."""
    done = subprocess.run(["docker", "inspect", reference], capture_output=True, text=True, check=True)
    body: dict[str, Any] = json.loads(done.stdout)[0]
    return body


def docker_run(reference: str, *words: str, user: str = "0:0") -> "subprocess.CompletedProcess[str]":
    """Run a program in a container of an image, without a network."""
    argv = ["docker", "run", "--rm", "--network", "none", "--platform", "linux/arm64", "--user", user]
    return subprocess.run([*argv, reference, *words], capture_output=True, text=True, check=False, timeout=600)


def exists(reference: str) -> bool:
    return subprocess.run(["docker", "inspect", reference], capture_output=True, check=False).returncode == 0


def remove(reference: str) -> None:
    subprocess.run(["docker", "image", "rm", "--force", reference], capture_output=True, check=False)


def digest_in(output: str) -> str:
    found = re.search(r": (sha256:[0-9a-f]{64})", output)
    assert found, output
    return found[1]
