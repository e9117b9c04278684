"""A small project with a compiled row, and its three images as the recipes would make them: clean, or tampered with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.builders import ROOT, link_inputs, write_base_locks
from tests.compiledbuilder import (
    COMMIT,
    COMPILED_MATRIX,
    FOUNDATION,
    MANIFEST,
    T4,
    make_foundation_lock,
    make_source_lock,
)
from tests.cudabuilder import make_container, make_entry, make_program
from tests.elfbuilder import make_library
from tests.imagebuilder import Layers, Package, installed, make_system, torch_version
from tests.ocibuilder import MadeLayer, Member, make_file, make_folder, make_link, write_layout

from sparkbake.lockfile import lock_path
from sparkbake.looks import compiled_images
from sparkbake.manifest import MANIFEST as DESCRIPTION
from sparkbake.matrix import parse_matrix, rows
from sparkbake.model import Matrix, Row
from sparkbake.project import Project, open_project
from sparkbake.sourceimage import CompiledImage
from sparkbake.sourcelock import (
    foundation_digest,
    foundation_path,
    foundation_to_json,
    row_digest,
    source_lock_to_json,
)
from sparkbake.sourcepins import cuda_images, foundation_pins, row_pins

TAG = T4.tag
DEV, RUNTIME, VLLM = "spark-pytorch-dev", "spark-pytorch", "spark-vllm"
NCCL = "opt/nccl/lib/libnccl.so.2.29.2"
CORE = "vllm/_C.abi3.so"
# Everything is known of it, unlike of the one in compiledbuilder.
_MATRIX = (
    COMPILED_MATRIX.replace("commits: {v2.19.6: null}", f"commits: {{v2.19.6: {COMMIT}}}")
    .replace("manifest: null", f'manifest: "{MANIFEST}"')
    .replace(
        'gib_per_job: {torch: "4", vllm: "8"}',
        'gib_per_job: {llvm: "2", nccl: "2", torch: "4", triton: "2", vllm: "8"}',
    )
)
# What CUDA's images have set.
_CUDA = (
    "NVARCH=sbsa",
    "CUDA_VERSION=13.1.0",
    "NV_CUDA_LIB_VERSION=13.1.0-1",
    "LIBRARY_PATH=/usr/local/cuda/lib64/stubs",
)
_OS = {
    RUNTIME: ("python3", "curl", "libblas3"),
    DEV: ("python3", "curl", "libblas3", "git", "make"),
    VLLM: ("python3", "curl", "libblas3"),
}
# As BuildKit tells the last step of recipes/vllm-source.Dockerfile.j2, and that of the two of foundations.
_STEP = "RUN |2 APT_SNAPSHOT= FILE_EPOCH=1 /bin/sh -c /dev/sparkbake/settled.sh {} # buildkit"
_DESCRIBED = "/dev/sparkbake/describe.sh"
_INSTALLED = "install -D --mode=644 -t /usr/share/sparkbake /dev/sparkbake/manifest.json"
SASS_121A = make_container(make_entry("sass", 121, "a"))
SASS_120F = make_container(make_entry("sass", 120, "f"))


def make_compiled_checkout(root: Path) -> Project:
    """Write matrix, locks, recipes and patches."""
    matrix = parse_matrix(_MATRIX, "matrix.yaml")
    root.mkdir(parents=True, exist_ok=True)
    (root / "matrix.yaml").write_text(_MATRIX, encoding="utf-8")
    write_base_locks(root / "locks", matrix)
    foundation = replace(
        make_foundation_lock(),
        entry_digest=foundation_digest(matrix, FOUNDATION),
        pins=foundation_pins(matrix, FOUNDATION),
        images=cuda_images(matrix, FOUNDATION),
    )
    path = foundation_path(root / "locks", FOUNDATION.name)
    path.parent.mkdir(parents=True)
    path.write_text(foundation_to_json(foundation), encoding="utf-8")
    for row in (one for one in rows(matrix) if one.release.vllm == T4.release.vllm):
        lock_path(root / "locks", row.tag).write_text(_row_lock(matrix, row), encoding="utf-8")
    link_inputs(root)
    (root / "patches").symlink_to(ROOT / "patches")
    return open_project(root)


def _row_lock(matrix: Matrix, row: Row) -> str:
    lock = replace(make_source_lock(row), entry_digest=row_digest(matrix, row), pins=row_pins(matrix, row))
    return source_lock_to_json(lock)


@cache
def image_of(project: Project, name: str = VLLM, variant: str | None = None) -> CompiledImage:
    """What the image of a kind (`DEV`, `RUNTIME`, `VLLM`) should be."""
    found = compiled_images(project, project.select([TAG]), variant)
    return next(one for one in found if one.target.name.startswith(f"{name}-{one.target.tag[0]}"))


# ---- what is in an image


def make_compiled_packages(image: CompiledImage) -> dict[str, Package]:
    """Those of the plan; most have no more than metadata."""
    patched: dict[str, bytes] = {}
    for _name, check in image.effects:
        patched[check.file] = patched.get(check.file, b"") + check.count * check.text.encode()
    files: Mapping[str, Mapping[str, bytes]] = {
        "torch": {
            "torch/version.py": torch_version("2.10.0", "13.1"),
            "torch/lib/libtorch_cuda.so": make_program(SASS_121A),
            "torch/lib/libtorch.so": make_library(
                "libtorch.so", needed=["libc.so.6", "libnccl.so.2"], defined=["at_add"], undefined=["malloc"]
            ),
        },
        "vllm": {**patched, CORE: make_program(SASS_120F)},
    }
    return {
        name: Package(version=version, files=files.get(name, {})) for name, version in sorted(image.packages.items())
    }


def make_compiled_layers(
    project: Project,
    name: str = VLLM,
    packages: Mapping[str, Package] | None = None,
    system: Sequence[str] | None = None,
    variant: str | None = None,
) -> Layers:
    """An image of the project, layer by layer.

    Args:
        packages, system: what is installed, whatever the plan says; of Python, and of the operating system.
    """
    image = image_of(project, name, variant)
    runtime = {
        path.removeprefix("runtime/"): text for path, text in image.context.items() if path.startswith("runtime/")
    }
    return {
        **make_system(system or _OS[name]),
        "nccl": [
            make_file(NCCL, make_library("libnccl.so.2", needed=["libc.so.6"], undefined=["malloc"])),
            make_link("opt/nccl/lib/libnccl.so.2", "libnccl.so.2.29.2"),
            make_file("usr/local/cuda/bin/ptxas", make_library(needed=["libc.so.6"]), mode=0o755),
            # Of CUDA's own images.
            make_file("usr/local/cuda/lib64/libcufftw.so.12", make_program(make_container(make_entry("sass", 75)))),
            make_file("opt/nvidia/nsight-compute/ncu", make_library(needed=["libQt6Core.so.6"])),
            make_file("opt/nvidia/nsight-compute/injection.so", b"\x7fELF of another machine"),
        ],
        "environment": [
            member
            for package, content in (packages or make_compiled_packages(image)).items()
            for member in installed(package, content)
        ],
        "manifest": [
            make_folder("workspace"),
            make_file("usr/share/sparkbake/manifest.json", image.context["manifest.json"].encode()),
            *(_own(path, text) for path, text in runtime.items()),
        ],
    }


def _own(path: str, text: str) -> Member:
    return make_file(path, text.encode(), mode=0o755 if text.startswith("#!") else 0o644)


def write_compiled(
    folder: Path,
    image: CompiledImage,
    layers: Layers,
    *,
    labels: Mapping[str, str | None] | None = None,
    **config: object,
) -> Path:
    """An image as a layout, its layers as the steps of a recipe make them.

    Args:
        labels: those that are others than planned; None of one that is left out.
        config: keys of its config that are others than planned.
    """
    said = {**dict(image.target.labels), **(labels or {})}
    env = image.settings["Env"]
    own = {
        **image.settings,
        "Env": [*_CUDA, *(env if isinstance(env, list) else [])],
        "Labels": {"maintainer": "CUDA", **{key: value for key, value in said.items() if value is not None}},
    }
    steps = {"manifest": _STEP.format(_INSTALLED if image.is_foundation else _DESCRIBED)}
    made = [MadeLayer(members=members, step=steps.get(name, "")) for name, members in layers.items()]
    if not image.is_foundation:
        # That of the foundation, which a recipe begins with and the image's own lies over.
        inherited = make_file(DESCRIPTION, b'{"labels": {"of": "the foundation"}}')
        made.insert(0, MadeLayer(members=[inherited], step=_STEP.format(_INSTALLED)))
    return write_layout(folder, made, config={**own, **config})
