"""A small project in a folder of its own, and images as its recipes would make them: complete, clean, or tampered with.

Every image is of one row on the registry base: an operating system of four packages in two layers, the skeleton, the
locked Python packages in the layers of the plan, and what the image says of itself.
"""

import base64
import copy
import csv
import hashlib
import io
import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.builders import SMALL_MATRIX, link_inputs, make_lock, make_wheel, write_base_locks
from tests.cudabuilder import make_container, make_entry, make_program
from tests.elfbuilder import make_library
from tests.moebuilder import FOLDER, PLAIN, make_config
from tests.ocibuilder import SITE, Member, copied, make_file, make_folder, make_link, write_layout
from tests.ocibuilder import MadeLayer as Layer

from sparkbake.lockfile import lock_path, lock_to_json
from sparkbake.matrix import parse_matrix, rows
from sparkbake.model import Lock, Matrix, Plan, Row, Target
from sparkbake.project import Project, open_project
from sparkbake.pruning import prune
from sparkbake.runtime import FOLDER as RUNTIME_FOLDER

TAG = "0.20.2-t4"
BASE = "ubuntu-24.04"
BUILD_ID = bytes.fromhex(20 * "ab")  # as builders.make_lock has it
STATUS = "var/lib/dpkg/status"
INFO = "var/lib/dpkg/info"
MANIFEST = "usr/share/sparkbake/manifest.json"
FILES = "usr/share/sparkbake/files.json"
LIBC = "usr/lib/aarch64-linux-gnu/libc.so.6"
CUDA = f"{SITE}/nvidia/cu13"
PTXAS = "nvidia/cu13/bin/ptxas"
TUNED = f"{FOLDER.removeprefix(SITE)[1:]}/{PLAIN}"
CODEC = "vllm/libtorchcodec_core4.so"
# What the recipe sets for programs, in its order.
ENV = (
    "PATH=/opt/venv/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "VIRTUAL_ENV=/opt/venv",
    "CUDA_HOME=/usr/local/cuda",
    "CUDACXX=/usr/local/cuda/bin/nvcc",
    "LD_LIBRARY_PATH=/usr/local/cuda/lib64",
    "TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas",
    "TRITON_PTXAS_BLACKWELL_PATH=/usr/local/cuda/bin/ptxas",
    "TORCH_CUDA_ARCH_LIST=12.1a",
    "FLASHINFER_CUDA_ARCH_LIST=12.1a",
    "MAX_JOBS=4",
    "XDG_CACHE_HOME=/cache",
    "CUDA_CACHE_PATH=/cache/nv",
    "CUDA_CACHE_MAXSIZE=4294967296",
    "CUPY_CACHE_DIR=/cache/cupy",
    "CUTE_DSL_CACHE_DIR=/cache/cute-dsl",
    "DG_JIT_CACHE_DIR=/cache/deep_gemm",
    "FLASHINFER_WORKSPACE_BASE=/cache/flashinfer",
    "HUMMING_CACHE_DIR=/cache/humming/cache",
    "HUMMING_TMP_DIR=/cache/humming/tmp",
    "QUACK_CACHE_DIR=/cache/quack",
    "TIKTOKEN_CACHE_DIR=/cache/tiktoken",
    "TIKTOKEN_RS_CACHE_DIR=/cache/tiktoken",
    "TILELANG_CACHE_DIR=/cache/tilelang",
    "TORCHINDUCTOR_CACHE_DIR=/cache/torchinductor",
    "TRITON_CACHE_DIR=/cache/triton",
    "TVM_FFI_CACHE_DIR=/cache/tvm-ffi",
    "VLLM_TUNED_CONFIG_FOLDER=/usr/share/sparkbake/moe_configs",
    "NVIDIA_VISIBLE_DEVICES=all",
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    "LANG=C.UTF-8",
)
# The uppermost layer.
LAST = "manifest"

SASS_120 = make_container(make_entry("sass", 120))
SASS_90A = make_container(make_entry("sass", 90, "a"))
PTX_80 = make_container(make_entry("ptx", 80))

# Each component is a package of the lock, each rule is about something in an image, and the waiver lasts.
MATRIX = (
    SMALL_MATRIX.replace("components:\n", "components:\n  nccl: {distribution: nvidia-nccl}\n")
    .replace('    cuda: "13.0.2"\n', '    cuda: "13.0.2"\n    nccl: "2.28.9"\n')
    .replace("paths: [etc/passwd, ", f"paths: [etc/passwd, {STATUS}, ")
    .replace("2027-11-01", "2099-12-31")
)

Layers = dict[str, list[Member]]


# ---- the project


def make_checkout(root: Path, *edits: tuple[str, str]) -> Project:
    """Write matrix, locks and recipes.

    Args:
        edits: old and new text of the matrix; each old one stands there once.
    """
    text = MATRIX
    for old, new in edits:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} stands {text.count(old)} times in the matrix, expected once")
        text = text.replace(old, new)
    matrix = parse_matrix(text, "matrix.yaml")
    root.mkdir(parents=True, exist_ok=True)
    (root / "matrix.yaml").write_text(text, encoding="utf-8")
    write_base_locks(root / "locks", matrix)
    for row in rows(matrix):
        lock_path(root / "locks", row.tag).write_text(lock_to_json(_lock(row, matrix)), encoding="utf-8")
    link_inputs(root)
    return open_project(root)


def _lock(row: Row, matrix: Matrix) -> Lock:
    versions = {**dict(row.versions), "ray": "1.0"}
    names = {**{one.name: one.distribution for one in matrix.components}, "ray": "ray"}
    return make_lock(
        row, matrix, wheels=[make_wheel(names[one], versions[one]) for one in sorted(names, key=lambda one: names[one])]
    )


@cache
def target_of(project: Project, *, trim: bool = True) -> Target:
    base = next(one for one in project.matrix.bases if one.name == BASE)
    (target,) = project.plan(project.select([TAG]), base, trim=trim).targets
    return target


@cache
def manifest_of(project: Project, target: Target) -> bytes:
    """What a build of the target puts into the image."""
    files = project.contexts(Plan(targets=(target,)))[target.name]
    return next(one.content for one in files if one.path.name == "manifest.json").encode()


# ---- Python packages


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A Python package to be installed.

    Attributes:
        files: path below site-packages to content, as its wheel has them.
        trimmed: paths that the image lacks; None of a package that is left whole.
        pruned: paths whose cubins the image lacks, if they are for other chips.
    """

    version: str
    files: Mapping[str, bytes]
    trimmed: tuple[str, ...] | None = None
    pruned: tuple[str, ...] = ()

    def having(self, files: Mapping[str, bytes | None]) -> "Package":
        """The same with some files more, others, or (None) without them: an honest wheel of other content."""
        changed = {path: content for path, content in {**self.files, **files}.items() if content is not None}
        return replace(self, files=changed)


def torch_version(version: str = "2.11.0+cu130", cuda: str | None = "13.0") -> bytes:
    """As setup.py of torch writes it."""
    return (
        "from typing import Optional\n\n__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']\n"
        f"__version__ = {version!r}\ndebug = False\ncuda: Optional[str] = {cuda!r}\n"
        "git_version = '0123456789'\nhip: Optional[str] = None\n"
    ).encode()


def make_packages() -> dict[str, Package]:
    """Those of the lock; some have no more than metadata."""
    bare = {"cuda-toolkit": "13.0.2", "flashinfer-python": "0.6.8.post1", "transformers": "4.57.6"}
    return {
        **{name: Package(version=version, files={}) for name, version in bare.items()},
        "torch": Package(
            version="2.11.0",
            files={
                "torch/__init__.py": b"import torch.version\n",
                "torch/version.py": torch_version(),
                "torch/lib/libtorch.so": make_library(
                    "libtorch.so", needed=["libc.so.6"], defined=["at_add"], undefined=["malloc"], note=BUILD_ID
                ),
                "torch/lib/libtorch_cuda.so": make_program(SASS_120),
                "torch/lib/libold.so": make_program(PTX_80),
                "torch/lib/libstatic.a": b"!<arch>\n",
            },
            trimmed=("torch/lib/libstatic.a",),
        ),
        "nvidia-nccl": Package(
            version="2.28.9",
            files={
                "nvidia/nccl/lib/libnccl.so.2": make_library("libnccl.so.2", needed=["libc.so.6"], note=b"\x01"),
                PTXAS: make_library(needed=["libc.so.6"], undefined=["malloc"]),
            },
        ),
        "ray": Package(
            version="1.0",
            files={"ray/__init__.py": b"import ray._raylet\n", "../../../bin/ray": b"#!/opt/venv/bin/python\n"},
        ),
        "vllm": Package(
            version="0.20.2",
            files={
                "vllm/__init__.py": b"",
                "vllm/_C.abi3.so": make_library(
                    needed=["libtorch.so"], runpath="$ORIGIN/../torch/lib", undefined=["at_add", "malloc"]
                ),
                CODEC: make_library(needed=["libavutil.so.58"]),
                TUNED: make_config(),
            },
        ),
    }


def changed(name: str, files: Mapping[str, bytes | None]) -> dict[str, Package]:
    """The packages, with files of one that its wheel has otherwise, so that all records are honest."""
    packages = make_packages()
    return {**packages, name: packages[name].having(files)}


def installed(name: str, package: Package) -> list[Member]:
    """The files of a package, its METADATA and RECORD, and what recipes/scripts/layout.py leaves of it."""
    info = f"{name.replace('-', '_')}-{package.version}.dist-info"
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {package.version}\nLicense-Expression: MIT\n"
    files = {**package.files, f"{info}/METADATA": metadata.encode()}
    rows = [(path, record_digest(content), str(len(content))) for path, content in files.items()]
    kept = {path: content for path, content in files.items() if path not in (package.trimmed or ())}
    kept[f"{info}/RECORD"] = _csv([*rows, (f"{info}/RECORD", "", "")])
    if package.trimmed is not None:
        kept[f"{info}/TRIMMED.json"] = _json({path: len(files[path]) for path in package.trimmed})
    if package.pruned:
        left = {path: without_foreign(files[path]) for path in package.pruned}
        kept |= {path: content for path, (content, _gone) in left.items()}
        kept[f"{info}/PRUNED.json"] = _json(
            {
                path: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": gone}
                for path, (content, gone) in left.items()
            }
        )
    return [make_file(below_site(path), content, mode=mode_of(path)) for path, content in kept.items()]


def without_foreign(program: bytes) -> tuple[bytes, int]:
    """A program without the cubins that a GB10 cannot load, and how many bytes these took."""
    file = io.BytesIO(program)
    gone = prune("it", file, 121)
    return file.getvalue(), gone


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def record_digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def below_site(path: str) -> str:
    return posixpath.normpath(f"{SITE}/{path}")


def mode_of(path: str) -> int:
    return 0o755 if "/bin/" in path else 0o644


# ---- the operating system


def os_package(
    name: str, files: Mapping[str, bytes | str], *, left_out: Sequence[str] = ()
) -> tuple[str, list[Member]]:
    """A paragraph of dpkg's status, and the files of a package with dpkg's records of them.

    Args:
        files: path to content; text is the target of a link.
        left_out: further paths that it lists.
    """
    contents = {path: content for path, content in files.items() if isinstance(content, bytes)}
    sums = "".join(f"{md5(content)}  {path}\n" for path, content in contents.items())
    listed = "".join(f"/{path}\n" for path in ("usr", *files, *left_out))
    members = [make_file(path, content, mode=mode_of(path)) for path, content in contents.items()]
    members += [make_link(path, target) for path, target in files.items() if isinstance(target, str)]
    members += [
        make_file(f"{INFO}/{name}.list", f"/.\n{listed}".encode()),
        make_file(f"{INFO}/{name}.md5sums", sums.encode()),
    ]
    status = f"Package: {name}\nStatus: install ok installed\nArchitecture: arm64\nVersion: 1.0-1\n"
    return f"{status}Maintainer: Somebody <somebody@example.com>\n", members


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def make_system(names: Sequence[str] = ("python3", "curl")) -> Layers:
    """Two layers: what the base has, and what the recipe installs on it, which also removes something.

    Args:
        names: of the packages that the recipe installs; each has a program of its name.
    """
    program = make_library(needed=["libc.so.6"], undefined=["malloc"])
    release = b'ID=ubuntu\nNAME="Ubuntu"\nVERSION_ID="24.04"\n'
    base = [
        os_package(
            "base-files", {"lib": "usr/lib", "usr/lib/os-release": release, "etc/os-release": "../usr/lib/os-release"}
        ),
        os_package(
            "libc6", {LIBC: make_library("libc.so.6", defined=["malloc"])}, left_out=["usr/share/man/man1/ldd.1"]
        ),
    ]
    more = [os_package(name, {f"usr/bin/{name}": program}) for name in names]
    return {
        "base": [
            *(make_folder(path) for path in ("etc", "usr", "usr/bin", "usr/lib", "var")),
            *(member for _status, members in base for member in members),
            make_file("etc/passwd", b"root:x:0:0\n"),
            make_file("etc/removed/by.recipe", b""),
            _status(base),
        ],
        "system": [
            *(member for _status, members in more for member in members),
            make_file("etc/ssl/certs/ca-certificates.crt", b"-----BEGIN CERTIFICATE-----\n"),
            make_file("etc/removed/.wh.by.recipe"),
            _status([*base, *more]),
        ],
    }


def _status(packages: Iterable[tuple[str, Sequence[Member]]]) -> Member:
    return make_file(STATUS, "\n".join(status for status, _members in packages).encode())


# ---- the image


def make_layers(project: Project, packages: Mapping[str, Package] | None = None, *, trim: bool = True) -> Layers:
    """An image of the project as its recipe makes it, layer by layer.

    Args:
        packages: what is installed, whatever the lock says; those of the lock when left out.
        trim: whether the plan leaves files out.
    """
    target, packages = target_of(project, trim=trim), packages or make_packages()
    layer_of = {wheel.name: layer.name for layer in target.layers for wheel in layer.wheels}
    skeleton = [
        make_link("opt/venv/bin/python", "/usr/bin/python3"),
        make_file("opt/venv/pyvenv.cfg", b"home = /usr/bin\n"),
        make_link(f"{CUDA}/lib64", "lib"),
        make_folder(f"{CUDA}/lib"),
        make_link("usr/local/cuda", f"/{CUDA}"),
        make_folder("workspace"),
        make_link("root/.cache", "/cache"),
        make_folder("cache", mode=0o1777),
        make_folder("root", mode=0o700),
    ]
    runtime = [
        make_file(
            one.path.relative_to(RUNTIME_FOLDER).as_posix(),
            one.content.encode(),
            mode=0o755 if one.content.startswith("#!") else 0o644,
        )
        for one in project.runtime(target)
    ]
    layers: Layers = {
        **make_system(),
        "skeleton": skeleton,
        **{one.name: [] for one in target.layers},
        "runtime": runtime,
    }
    for name, package in packages.items():
        layers[layer_of.get(name, target.layers[-1].name)] += installed(name, package)
    layers[LAST] = [make_file(MANIFEST, manifest_of(project, target)), described(layers)]
    return layers


def described(layers: Layers) -> Member:
    """The list of the recipe's own files, as `describe` of recipes/scripts/layout.py writes it."""
    noted = [
        one for members in layers.values() for one in members if one[0].name.endswith(("/TRIMMED.json", "/PRUNED.json"))
    ]
    own = {
        info.name: _content(info.linkname, content)
        for info, content in (*layers["skeleton"], *layers["runtime"], *noted)
        if not info.isdir()
    }
    return make_file(FILES, _json(own))


def _content(target: str, content: bytes) -> str:
    return f"link:{target}" if target else f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def with_member(layers: Layers, member: Member, layer: str = LAST) -> Layers:
    """The same with one more member, which takes the place of what has its path."""
    made = without(layers, member[0].name)
    return {**made, layer: [*made[layer], member]}


def with_content(layers: Layers, path: str, content: bytes) -> Layers:
    """The same with other content of a file, where it stands."""
    layer, (info, _old) = _find(layers, path)
    info = copy.copy(info)
    info.size = len(content)
    return {**layers, layer: [(info, content) if one[0].name == path else one for one in layers[layer]]}


def content_of(layers: Layers, path: str) -> bytes:
    return _find(layers, path)[1][1]


def without(layers: Layers, path: str) -> Layers:
    return {name: [one for one in members if one[0].name != path] for name, members in layers.items()}


def _find(layers: Layers, path: str) -> tuple[str, Member]:
    return next((name, one) for name, some in reversed(layers.items()) for one in some if one[0].name == path)


def config_of(target: Target, **labels: str | None) -> dict[str, Any]:
    """What a recipe sets of an image's config; labels are as planned but for these, None of which is left out."""
    said = {**dict(target.labels), **labels}
    return {
        "Env": list(ENV),
        "WorkingDir": "/workspace",
        "Entrypoint": ["/usr/local/bin/spark"],
        "Healthcheck": {
            "Test": ["CMD", "/usr/local/bin/spark", "health"],
            "Interval": 30_000_000_000,
            "Timeout": 10_000_000_000,
            "StartPeriod": 1_800_000_000_000,
            "Retries": 3,
        },
        "Cmd": ["/bin/bash"],
        "Shell": ["/bin/bash", "-euo", "pipefail", "-c"],
        "Labels": {key: value for key, value in said.items() if value is not None},
    }


def write_image(folder: Path, layers: Layers, config: Mapping[str, Any], **more: Any) -> Path:
    """An image as a layout.

    Args:
        more: further keys of its config, such as architecture.
    """
    made = [
        Layer(members=members) if name in ("base", "system") else copied(name, members)
        for name, members in layers.items()
    ]
    return write_layout(folder, made, config=config, **more)
