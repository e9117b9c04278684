"""A checkout whose compiled rows are of stand-ins, and the mirrors.yaml that leads to all that they are built from.

The matrix is the real one with other repositories, CUDA images and small requirements; patches and locks are of those.
"""

import contextlib
import functools
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from tests.builders import ROOT
from tests.engine.apart import Apart
from tests.engine.rustpart import MULTIMODAL, checksum, rust_vllm, served_crates
from tests.engine.small import remove
from tests.engine.upstreams import (
    ARCHITECTURE,
    ASKED,
    IMAGE_HEADERS,
    IMAGE_LIBRARIES,
    LACKING,
    RUST_PACKAGES,
    Upstreams,
    make_cuda_images,
    make_packages,
    real_base,
    served,
)
from tests.sourcebuilder import FETCHED, HOST, PATCH, TAGS, VERSIONS, WITH_SUBMODULES, make_patch

from sparkbake.lock import Index, Locker
from sparkbake.lockfile import lock_path
from sparkbake.matrix import load_matrix, rows
from sparkbake.model import Environment, Wheel
from sparkbake.sourcelock import (
    FOUNDATION_REQUIRES,
    IMAGE_REQUIRES,
    FoundationLock,
    SourceLock,
    foundation_digest,
    foundation_path,
    foundation_to_json,
    row_digest,
    source_base,
    source_lock_to_json,
)
from sparkbake.sourcepins import cuda_images, foundation_pins, row_pins

FOUNDATION = "2.10.0-rc6-cu131"
# The second differs in vLLM alone.
FIRST, SECOND = "0.14.1", "0.14.2"
NAMESPACE = "sparkbake-test"
COMPILED = (
    "build-nccl.sh",
    "build-llvm.sh",
    "build-torch.sh",
    "build-torchvision.sh",
    "build-triton.sh",
    "build-vllm.sh",
)
_CUDA = "cuda.example/nvidia/cuda:{cuda}"
_EPOCH = 1_790_000_000
_TOGETHER = ("nccl", "torch", "torchvision", "torchaudio", "triton", "vllm")


@dataclass(frozen=True, kw_only=True)
class StandIns:
    """The checkout.

    Attributes:
        mirrors: its mirrors.yaml.
        name: what the names of its images begin with, so that no other checkout has them.
    """

    root: Path
    mirrors: Path
    name: str

    def reference(self, image: str, tag: str) -> str:
        return f"docker.io/{NAMESPACE}/{self.name}-{image}:{tag}"

    @property
    def references(self) -> tuple[str, ...]:
        foundations = [self.reference(image, FOUNDATION) for image in ("pytorch-dev", "pytorch")]
        return (*foundations, *(self.reference("vllm", f"{release}-t4") for release in (FIRST, SECOND)))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "sparkbake.cli", "--root", str(self.root), *words]

    def build(
        self, *words: str, mirrors: Path | None = None, apart: Apart | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Build by the command line.

        Args:
            apart: the engine that builds, and whose network the command is in; None for this machine's.
        """
        argv = self.command("build", *words, "--mirrors", str(mirrors or self.mirrors), "--progress", "plain")
        return self.run(*argv, apart=apart)

    def run(self, *argv: str, apart: Apart | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            apart.command(*argv) if apart else argv,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **(apart.environment() if apart else {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )


@contextlib.contextmanager
def serving_stand_ins(root: Path, *, whole: bool = False) -> Iterator[StandIns]:
    """Write the checkout to a folder, and serve all that it takes; its images go in the end.

    Args:
        whole: with all that a bundle can have: packages that CUDA's images lack, and a part in Rust.
    """
    for name in ("cuda", "git"):
        (root / name).mkdir()
    upstreams = Upstreams(folder=root / "git")
    upstreams.make()
    cuda = make_cuda_images(root / "cuda", real_base())
    with (
        served(upstreams.folder) as git,
        served_wheels(root / "wheels") as index,
        served_crates(root / "crates") if whole else contextlib.nullcontext() as crates,
    ):
        made = make_stand_ins(
            root / "checkout",
            upstreams,
            cuda,
            name=f"stand-in-{secrets.token_hex(4)}",
            git=git,
            wheels=root / "wheels",
            index=index,
            packages=make_packages(root / "apt", cuda["cuda-devel"]) if whole else None,
            crates=crates,
        )
        yield made
    for reference in made.references:
        remove(reference)


def ran(text: str, *, stopped: bool = False) -> set[str]:
    """The scripts that compile and were executed; of what came from the cache nothing is said to be done.

    Args:
        stopped: count what was stopped, too: of a step that two targets have BuildKit may end one and go on with the
            other, of which it then says that it was cached.
    """
    ends = (": done, ", ": stopped, ") if stopped else (": done, ",)
    steps = [line for line in text.splitlines() if any(end in line for end in ends)]
    return {name for name in COMPILED if any(f"/dev/sparkbake/{name}" in line for line in steps)}


def make_stand_ins(
    root: Path,
    upstreams: Upstreams,
    cuda: Mapping[str, str],
    *,
    name: str,
    git: str,
    wheels: Path,
    index: str,
    packages: Path | None = None,
    crates: str | None = None,
) -> StandIns:
    """Write the checkout.

    Args:
        cuda: as `make_cuda_images` gives it.
        git: address that the repositories are served at.
        wheels: folder that gets what its locks name, so that it can be served at `index`.
        packages: as `make_packages` makes it; with it the rows ask for what CUDA's images lack.
        crates: address of an index with the crate of the stand-ins; with it the first release has a part in Rust.
    """
    for folder in ("recipes", "moe_configs"):
        shutil.copytree(ROOT / folder, root / folder)
    shutil.copytree(ROOT / "locks" / "bases", root / "locks" / "bases")
    shutil.copyfile(ROOT / "doctor.yaml", root / "doctor.yaml")
    _write_patches(root / "patches" / "vllm")
    images = {kind: place.removeprefix("oci-layout://") for kind, place in cuda.items()}
    digests = {kind.removeprefix("cuda-"): place.rpartition("@")[2] for kind, place in images.items()}
    later = upstreams.change("vllm", "vllm/later.py", "LATER = True\n", "later")
    first = upstreams.commits["vllm"]
    if crates:
        multimodal = upstreams.commit("llm-multimodal", MULTIMODAL, {})
        first = upstreams.commit("vllm", rust_vllm(multimodal, checksum()), {}, "rust")
    body = _matrix(name, {**upstreams.commits, "vllm": first, SECOND: later}, digests)
    if crates:
        body["source"]["rust"] = {"versions": f"=={FIRST}", "os_packages": list(RUST_PACKAGES)}
    if packages:
        body["source"]["build_os_packages"].append(LACKING[0])
        body["source"]["runtime_os_packages"].append(LACKING[1])
        body["source"]["rust"]["os_packages"].append(LACKING[2])
    (root / "matrix.yaml").write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
    _write_locks(root, wheels)
    asked = _CUDA.replace("{cuda}", VERSIONS["cuda"])
    mirrors: dict[str, Any] = {
        "schema": "1",
        "git": {f"{HOST}/": f"{git}/"},
        "images": {f"{asked}-{kind.removeprefix('cuda-')}": f"oci-layout:{place}" for kind, place in images.items()},
        "package_index": index,
    }
    mirrors |= {"apt": str(packages)} if packages else {}
    mirrors |= {"crates": crates} if crates else {}
    (root / "mirrors.yaml").write_text(yaml.safe_dump(mirrors), encoding="utf-8")
    return StandIns(root=root, mirrors=root / "mirrors.yaml", name=name)


def _matrix(name: str, commits: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, Any]:
    # BaseLoader gives strings for all scalars, and no objects.
    body = yaml.load((ROOT / "matrix.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    body["project"]["namespace"] = NAMESPACE
    body["chip"]["platform"] = f"linux/{ARCHITECTURE}"
    for key, image in body["images"].items():
        image["name"] = f"{name}-{key}"
    body["extras"] = [{"requirement": "pip", "reason": "as in the real one"}]
    del body["trims"]
    del body["checks"]["device_code"]["allow"], body["checks"]["waivers"]
    body["source"] |= {
        "base": "debian-13",
        "devel": f"{_CUDA}-devel",
        "runtime": f"{_CUDA}-runtime",
        "digests": {
            f"{_CUDA}-{kind}".replace("{cuda}", VERSIONS["cuda"]): {"index": digest, "manifest": digest}
            for kind, digest in digests.items()
        },
        "variants": {},
        "existing_torch": {">=0.14": "use_existing_torch.py"},
        "build_os_packages": ["ccache", "git", "make", *IMAGE_HEADERS],
        "runtime_os_packages": list(IMAGE_LIBRARIES),
        "gib_per_job": dict.fromkeys(("nccl", "torch", "llvm", "triton", "vllm"), "1"),
        # A few files each: what is asked for is the room of images alone.
        "disk_gb": {"compiled": "0", "fetched": "0"},
        "repositories": _repositories(commits),
        "requires": [
            {"component": component, "requires": _pinned(ASKED[component])}
            for component in (*FOUNDATION_REQUIRES, *IMAGE_REQUIRES)
        ],
    }
    together = ("cuda", "nccl", "torch", "torchvision", "torchaudio", "triton")
    body["foundations"] = {FOUNDATION: {**{one: VERSIONS[one] for one in together}, "as_of": "2026-10-25"}}
    body["releases"] = {
        FIRST: _release(commits["vllm"], FIRST),
        SECOND: _release(commits[SECOND], SECOND),
    }
    return dict(body)


def _release(commit: str, version: str) -> dict[str, Any]:
    return {
        "strategy": "source",
        "foundation": FOUNDATION,
        "flashinfer": "0.6.2",
        "as_of": "2026-10-25",
        "git": {"tag": f"v{version}", "commit": commit},
        "transformers": {"t4": {"version": "4.57.6"}},
    }


def _repositories(commits: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in (*_TOGETHER, "nccl-tests", "llvm", "transformers", *FETCHED):
        found[name] = {"url": f"{HOST}/{name}.git", "submodules": name in WITH_SUBMODULES}
    for name in ("nccl", "torch", "torchvision", "torchaudio", "triton"):
        found[name] |= {"tag": "v{version}", "commits": {f"v{VERSIONS[name]}": commits[name]}}
    tag = TAGS["nccl-tests"]
    found["nccl-tests"] |= {"of": "nccl", "at": {">=2": tag}, "commits": {tag: commits["nccl-tests"]}}
    found["llvm"] |= {"of": "triton", "at": {">=3": commits["llvm"]}}
    for name, (variable, folder) in FETCHED.items():
        found[name] |= {"of": "vllm", "at": {">=0": commits[name]}, "variable": variable}
        found[name] |= {"folder": folder} if folder else {}
    return found


def _pinned(names: Sequence[str]) -> list[str]:
    """Packages at the versions that stand-ins.txt has."""
    lines = (ROOT / "tests/engine/stand-ins.txt").read_text(encoding="utf-8").splitlines()
    versions = dict(line.split()[0].split("==") for line in lines if line and not line.startswith("#"))
    return [f"{name}=={versions[name]}" for name in names]


def _write_patches(folder: Path) -> None:
    patch = make_patch()
    folder.mkdir(parents=True)
    header = "Subject: the stand-in has an empty list\nUpstream: none: a stand-in\nDrop-When: never\n\n"
    (folder / patch.name).write_text(header + PATCH, encoding="utf-8")
    asserts = [{"file": one.file, "text": one.text, "count": str(one.count)} for one in patch.checks]
    series = {
        "schema": "1",
        "topics": {"lists": {"title": "lists of architectures"}},
        "releases": {release: {"source": "sdist"} for release in (FIRST, SECOND)},
        "patches": [
            {
                "file": patch.name,
                "topic": "lists",
                "releases": ">=0.14,<0.15",
                "upstream": "none: a stand-in",
                "drop_when": "never",
                "reason": "the stand-in has an empty list",
                "asserts": asserts,
            }
        ],
    }
    (folder / "series.yaml").write_text(yaml.safe_dump(series), encoding="utf-8")


def _write_locks(root: Path, folder: Path) -> None:
    """Lock against the package index, and keep all that the locks name in a folder."""
    matrix = load_matrix(root / "matrix.yaml")
    base = source_base(matrix)
    locker = Locker(matrix=matrix, index=Index(), say=lambda _text: None)
    resolved = locker.compile(
        sorted({one for names in ASKED.values() for one in _pinned(names)}),
        overrides=[],
        architecture=ARCHITECTURE,
        base=base,
        options=["--no-deps"],
        preferred=None,
        what="stand-ins",
    )
    _keep(folder, resolved.wheels, resolved.urls)
    wheels = {
        component: tuple(one for one in resolved.wheels if one.name in names) for component, names in ASKED.items()
    }
    (foundation,) = matrix.foundations
    lock = FoundationLock(
        name=foundation.name,
        entry_digest=foundation_digest(matrix, foundation),
        source_date_epoch=_EPOCH,
        metadata_of=VERSIONS["torch"],
        images=cuda_images(matrix, foundation),
        pins=foundation_pins(matrix, foundation),
        requires=tuple((component, wheels[component]) for component in FOUNDATION_REQUIRES),
        installer=wheels["installer"],
    )
    assert not lock.open_pins
    path = foundation_path(root / "locks", foundation.name)
    path.parent.mkdir()
    path.write_text(foundation_to_json(lock), encoding="utf-8")
    for row in rows(matrix):
        own = SourceLock(
            tag=row.tag,
            entry_digest=row_digest(matrix, row),
            source_date_epoch=_EPOCH,
            metadata_of=row.release.vllm,
            pins=row_pins(matrix, row),
            requires=tuple((component, wheels[component]) for component in IMAGE_REQUIRES),
            environment=Environment(base=base.name, python=base.python, wheels=wheels["environment"]),
        )
        assert not own.open_pins
        lock_path(root / "locks", row.tag).write_text(source_lock_to_json(own), encoding="utf-8")


def _keep(folder: Path, wheels: Sequence[Wheel], urls: Mapping[str, str]) -> None:
    """Lay wheels out as an index: https://packaging.python.org/en/latest/specifications/simple-repository-api/."""
    for one in wheels:
        place = folder / "simple" / one.name
        place.mkdir(parents=True)
        with urllib.request.urlopen(urls[one.name], timeout=120) as answer:  # noqa: S310  (of the index)
            (place / one.file).write_bytes(answer.read())
        assert hashlib.sha256((place / one.file).read_bytes()).hexdigest() == one.sha256
        (place / "index.html").write_text(f'<a href="{one.file}#sha256={one.sha256}">{one.file}</a>', encoding="utf-8")


@contextlib.contextmanager
def served_wheels(folder: Path) -> Iterator[str]:
    """Serve a folder that `make_stand_ins` fills; gives the address of the index."""
    (folder / "simple").mkdir(parents=True)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()
