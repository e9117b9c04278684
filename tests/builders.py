"""Values for tests: a small valid matrix with each key of the format, faulty ones made from it, locks, and plans."""

import base64
import hashlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType

from tests.debian import make_lock as debian_lock

from sparkbake.bake import bake_file
from sparkbake.baselock import base_lock_to_json
from sparkbake.errors import MatrixError
from sparkbake.lockfile import base_lock_path, entry_digest, image_lock_to_json, load_lock, parse_image_lock
from sparkbake.matrix import load_matrix, parse_matrix, rows
from sparkbake.model import Environment, ImageLock, Lock, Matrix, Plan, Row, Strategy, Wheel
from sparkbake.render import render_target
from sparkbake.resolve import FrozenBase, resolve

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
RECIPES = ROOT / "recipes"
INDEX = "sha256:" + 64 * "4"  # of the small matrix's debian-13

SMALL_MATRIX = """\
schema: "1"
project:
  registry: registry.example:5000
  namespace: sparks
  label_prefix: dev.example
  vendor: Example
  url: https://example.com/sparks
publish:
  base: debian-13
  moving:
    - tag: "{minor}-{variant}"
      reason: fixes and no new features
    - tag: latest
      reason: what docker takes when nobody says a tag
  withdrawn:
    - tag: 0.32.0-t5
      reason: it answers slowly
  hosts:
    registry.example:5000: api.registry.example
chip:
  platform: linux/arm64
  compute_capability: "12.1"
  jit_arch: "12.1a"
images:
  vllm:
    name: spark-vllm
    title: vLLM
    description: vLLM for one chip
    source: https://example.com/vllm
    licenses: Apache-2.0
bases:
  ubuntu-24.04:
    image: registry.example/library/ubuntu:24.04
    python: "3.12"
    manylinux: manylinux_2_39
  debian-13:
    suites: [trixie]
    python: "3.13"
    manylinux: manylinux_2_40
os_packages: [curl, python3]
uv: "0.13.8"
components:
  cuda: {distribution: cuda-toolkit, extras: [nvcc]}
  torch: {distribution: torch, library: torch/lib/libtorch.so}
  flashinfer: {distribution: flashinfer-python}
  transformers: {distribution: transformers}
  vllm: {distribution: vllm}
extras:
  - requirement: ray
    reason: two Sparks need it
own_layer_bytes: "2000000"
layers:
  - name: torch
    packages: [torch, nvidia-*]
  - name: rest
    packages: ["*"]
  - name: vllm
    packages: [vllm]
collisions:
  - path: build_backend.py
    reason: two packages carry it
  - path: shared/*
    keep: torch
    reason: torch writes it last
trims:
  - package: torch
    versions: ">=2.11"
    paths: [torch/lib/*.a]
    cubins: false
    saves_bytes: "1000"
    imports: [torch.linalg]
    reason: nothing links to them
checks:
  device_code:
    least: same-major
    allow:
      - paths: [torch/lib/libold.so]
        verdict: ptx
        versions: ">=0.20"
        reason: upstream has PTX of it alone
  generated:
    - paths: [etc/passwd, "etc/ssl/certs/*"]
      reason: made when packages are installed
  removed:
    - paths: ["usr/share/man/*"]
      bases: [ubuntu-24.04]
      reason: nobody reads them in an image
  waivers:
    - finding: missing-library
      subject: "*/libtorchcodec_core4.so"
      versions: ">=0.20"
      bases: [ubuntu-24.04]
      expires: "2027-11-01"
      reason: for another FFmpeg
foundations:
  2.11.0-cu130:
    cuda: "13.0.2"
    torch: "2.11.0"
releases:
  "0.20.2":
    strategy: wheels
    foundation: 2.11.0-cu130
    flashinfer: "0.6.8.post1"
    as_of: "2026-05-17"
    newer:
      fastsafetensors:
        as_of: "2026-08-01"
        reason: no wheel before
    git: {tag: v0.20.2, commit: 0123456789abcdef0123456789abcdef01234567}
    declares:
      torch: "==2.10.0"
      flashinfer-python: "==0.6.8.post1"
      transformers: ">=4.56.0,<5"
    overrides:
      torch: the foundation has a fix that 2.10.0 lacks
    published: false
    transformers:
      t4:
        version: "4.57.6"
      t5:
        version: "5.8.0"
        overrides: {transformers: models of today need it}
  "0.32.0":
    strategy: wheels
    foundation: 2.11.0-cu130
    flashinfer: "0.7.0.post1"
    as_of: "2026-10-25"
    git: {tag: v0.32.0, commit: null}
    declares:
      flashinfer-python: "==0.7.0.post1"
    transformers:
      t5: {version: "5.19.0"}
"""


def edited(old: str, new: str) -> str:
    """The small matrix with one place changed; `old` must stand there exactly once."""
    found = SMALL_MATRIX.count(old)
    if found != 1:
        raise ValueError(f"{old!r} stands {found} times in the small matrix, expected once")
    return SMALL_MATRIX.replace(old, new)


# ---- values


@cache
def make_matrix(old: str = "", new: str = "") -> Matrix:
    """The small matrix, with `old` replaced by `new`."""
    return parse_matrix(edited(old, new) if old else SMALL_MATRIX, "matrix.yaml")


def with_strategy(vllm: str, strategy: Strategy) -> Matrix:
    """The small matrix with a release of another strategy, for what looks at nothing else of it."""
    matrix = make_matrix()
    releases = (replace(one, strategy=strategy) if one.vllm == vllm else one for one in matrix.releases)
    return replace(matrix, releases=tuple(releases))


def faults_of(text: str) -> tuple[str, ...]:
    """What is wrong with a matrix; empty when it is valid."""
    try:
        parse_matrix(text, "matrix.yaml")
    except MatrixError as err:
        return err.faults
    return ()


def make_row(tag: str = "0.20.2-t4", matrix: Matrix | None = None) -> Row:
    return next(one for one in rows(matrix or make_matrix()) if one.tag == tag)


def make_wheel(name: str = "torch", version: str = "1.0", *, content: str = "", size_bytes: int = 1000) -> Wheel:
    """A wheel; wheels of other `content` are other files of the same name."""
    file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    sha256 = hashlib.sha256(f"{file} {content}".encode()).hexdigest()
    return Wheel(name=name, version=version, file=file, sha256=sha256, size_bytes=size_bytes)


WHEELS = (make_wheel("nvidia-nccl"), make_wheel("ray"), make_wheel("torch", "2.11.0"), make_wheel("vllm", "0.20.2"))


def make_lock(
    row: Row | None = None,
    matrix: Matrix | None = None,
    *,
    wheels: Sequence[Wheel] = WHEELS,
    bases: Sequence[str] = ("ubuntu-24.04", "debian-13"),
) -> Lock:
    row, matrix = row or make_row(), matrix or make_matrix()
    return Lock(
        tag=row.tag,
        entry_digest=entry_digest(matrix, row),
        source_date_epoch=1_700_000_000,
        wheel_commit="0123456",
        build_ids=(("torch", 20 * "ab"),),
        installer=(make_wheel("uv", "0.13.8", content="arm64"), make_wheel("uv", "0.13.8", content="amd64")),
        environments=tuple(Environment(base=base, python="3.12", wheels=tuple(wheels)) for base in bases),
    )


def make_image_lock() -> ImageLock:
    return ImageLock(
        name="ubuntu-24.04",
        reference="registry.example/library/ubuntu:24.04",
        index="sha256:" + 64 * "1",
        manifests=(("amd64", "sha256:" + 64 * "2"), ("arm64", "sha256:" + 64 * "3")),
        apt_snapshot="20260916T000000Z",
    )


def make_frozen(name: str = "debian-13", matrix: Matrix | None = None, snapshot: str | None = None) -> FrozenBase:
    """A base whose digest is as good as any other, so that nothing here depends on the real one."""
    base = next(one for one in (matrix or make_matrix()).bases if one.name == name)
    return FrozenBase(base=base, reference=base.image or name, digest="sha256:" + 64 * "d", apt_snapshot=snapshot)


def make_plan(*tags: str, matrix: Matrix | None = None, frozen: FrozenBase | None = None) -> Plan:
    """Some rows of the small matrix; every row has the same four packages."""
    matrix = matrix or make_matrix()
    chosen = [make_row(tag, matrix) for tag in tags or ("0.20.2-t4",)]
    locks = {row.tag: make_lock(row, matrix) for row in chosen}
    return resolve(matrix, chosen, locks, frozen or make_frozen(matrix=matrix), {})


def write_base_locks(locks: Path, matrix: Matrix) -> None:
    """Locks of both bases of the small matrix."""
    texts = {
        "ubuntu-24.04": image_lock_to_json(make_image_lock()),
        "debian-13": base_lock_to_json(
            debian_lock(include=matrix.os_packages, index_digest=INDEX, manifests=(("arm64", "sha256:" + 64 * "5"),))
        ),
    }
    for base in matrix.bases:
        path = base_lock_path(locks, base)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[base.name], encoding="utf-8")


def load_script(name: str, path: str | None = None) -> ModuleType:
    """A script of recipes/, which is no part of the package; without leaving compiled files beside it.

    Args:
        path: below recipes/; that of the name when left out.
    """
    path = path or f"scripts/{name}.py"
    spec = importlib.util.spec_from_file_location(name, RECIPES / path)
    if spec is None or spec.loader is None:
        raise ValueError(f"recipes/{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


# ---- what BuildKit says with `--progress rawjson`


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def make_vertex(name: str, state: str = "started", *, error: str = "") -> str:
    """A line about one step; `state` is "known", "started", "completed" or "cached"."""
    vertex: dict[str, object] = {"digest": _digest(name), "inputs": [_digest("input")], "name": name}
    if state != "known":
        vertex["started"] = "2026-11-21T04:50:51.198438667Z"
    if state in ("completed", "cached"):
        vertex["completed"] = "2026-11-21T04:50:52.213772861Z"
    if state == "cached":
        vertex["cached"] = True
    if error:
        vertex["error"] = error
    return json.dumps({"vertexes": [vertex]})


def make_log(name: str, text: str | bytes) -> str:
    """A line with what one step printed."""
    data = base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()
    entry = {"vertex": _digest(name), "stream": 2, "data": data, "timestamp": "2026-11-21T04:50:51.488342699Z"}
    return json.dumps({"logs": [entry]})


def make_status(name: str) -> str:
    """A line about a transfer."""
    status = {"id": "transferring context:", "vertex": _digest(name), "current": 477, "total": 0}
    return json.dumps({"statuses": [status]})


# ---- the real matrix


@cache
def real_matrix() -> Matrix:
    return load_matrix(ROOT / "matrix.yaml")


@cache
def real_plan(base: str) -> Plan:
    """Every row of matrix.yaml that is installed from wheels, with its real lock, on a base with a fixed digest."""
    matrix = real_matrix()
    all_rows = [one for one in rows(matrix) if one.release.strategy is Strategy.WHEELS]
    locks = {row.tag: load_lock(LOCKS, matrix, row) for row in all_rows}
    return resolve(matrix, all_rows, locks, make_frozen(base, matrix), locks)


def real_registry_base() -> ImageLock:
    path = LOCKS / "bases" / "ubuntu-24.04.json"
    return parse_image_lock(path.read_text(encoding="utf-8"), path.name, "restore it")


def real_files(base: str = "debian-13") -> dict[str, str]:
    """All that a build of the whole matrix is made from: path to content."""
    plan, registry = real_plan(base), real_registry_base()
    files = {
        f"{target.tag}/{file.path}": file.content
        for target in plan.targets
        for file in render_target(target, registry, RECIPES, ())
    }
    outputs = {target.name: "type=image,unpack=true" for target in plan.targets}
    return files | {"docker-bake.json": bake_file(plan, outputs, {base: "oci-layout://BASE@sha256:" + 64 * "d"})}


def link_inputs(root: Path) -> None:
    """Give a checkout made by a test what it does not change: recipes, tuned configs, the doctor's standards."""
    for name in ("doctor.yaml", "moe_configs", "recipes"):
        (root / name).symlink_to(ROOT / name)


# ---- faulty matrices


@dataclass(frozen=True, kw_only=True, slots=True)
class BadMatrix:
    """The small matrix with one fault.

    Attributes:
        fault: the whole message.
        in_schema: whether matrix.schema.json refuses it, too.
    """

    name: str
    text: str
    fault: str
    in_schema: bool


def _bad(name: str, old: str, new: str, message: str, *, at: str = "@@", in_schema: bool = True) -> BadMatrix:
    """Replace `old` by `new`.

    Args:
        message: what the error says after the place.
        at: text that stands once in the result, where the fault is; the mark @@ is removed.
    """
    text = edited(old, new)
    if text.count(at) != 1:
        raise ValueError(f"{name}: {at!r} stands {text.count(at)} times, expected once")
    before = text[: text.index(at)]
    line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
    fault = f"matrix.yaml:{line}:{column}: {message}"
    return BadMatrix(name=name, text=text.replace("@@", ""), fault=fault, in_schema=in_schema)


_PROJECT = SMALL_MATRIX[SMALL_MATRIX.index("project:") : SMALL_MATRIX.index("chip:")]
_CHIP = SMALL_MATRIX[SMALL_MATRIX.index("chip:") : SMALL_MATRIX.index("images:")]
_COLLISIONS = SMALL_MATRIX[SMALL_MATRIX.index("collisions:") : SMALL_MATRIX.index("trims:")]
_RELEASE = SMALL_MATRIX[SMALL_MATRIX.index('  "0.32.0":') :]
_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_DIGITS = 4 * "1234567890"
_OLDER = 'releases."0.20.2"'
_NEWER = 'releases."0.32.0"'
_START = 'strategy: wheels\n    foundation: 2.11.0-cu130\n    flashinfer: "0.6'
_NAMED = "expected a name in lower case such as debian-13; rename it"
_TEXT = "a string that is not empty"
_LATEST = '    transformers:\n      t5: {version: "5.19.0"}\n'

BAD_SCALARS = (
    _bad(
        "float",
        'uv: "0.13.8"',
        "uv: @@2.10",
        'uv: got 2.10 unquoted, which YAML reads as a float; write "2.10"',
    ),
    _bad(
        "CUDA version that is a float",
        'cuda: "13.0.2"',
        "cuda: @@13.0",
        'foundations."2.11.0-cu130".cuda: got 13.0 unquoted, which YAML reads as a float; write "13.0"',
    ),
    _bad(
        "integer",
        'schema: "1"',
        "schema: @@1",
        'schema: got 1 unquoted, which YAML reads as an integer; write "1"',
    ),
    _bad(
        "number in base 60",
        "vendor: Example",
        "vendor: @@1:30",
        'project.vendor: got 1:30 unquoted, which YAML reads as an integer; write "1:30"',
    ),
    _bad(
        "date",
        'as_of: "2026-05-17"',
        "as_of: @@2026-05-17",
        f'{_OLDER}.as_of: got 2026-05-17 unquoted, which YAML reads as a date; write "2026-05-17"',
    ),
    _bad(
        "word that is a boolean",
        "vendor: Example",
        "vendor: @@on",
        'project.vendor: got on unquoted, which YAML reads as a boolean; write "on"',
    ),
    _bad("null", "vendor: Example", "vendor: @@null", f"project.vendor: got null, expected {_TEXT}; write it"),
    _bad("nothing", "vendor: Example", "vendor:@@", f"project.vendor: got nothing, expected {_TEXT}; write it"),
    _bad("empty string", "vendor: Example", 'vendor: @@""', f"project.vendor: got '', expected {_TEXT}"),
    _bad(
        "commit of digits alone",
        f"commit: {_COMMIT}",
        f"commit: @@{_DIGITS}",
        f'{_OLDER}.git.commit: got {_DIGITS} unquoted, which YAML reads as an integer; write "{_DIGITS}"',
    ),
    _bad(
        "string for a boolean",
        "published: false",
        'published: @@"yes"',
        f"{_OLDER}.published: got 'yes', expected true or false",
    ),
    _bad(
        "boolean of YAML 1.1",
        "published: false",
        "published: @@on",
        f"{_OLDER}.published: got 'on', expected true or false",
        in_schema=False,
    ),
)

BAD_KEYS = (
    _bad(
        "duplicate at the top",
        'uv: "0.13.8"\n',
        'uv: "0.13.8"\n@@uv: "0.13.9"\n',
        "the key 'uv' stands twice, expected once; remove one of them",
        in_schema=False,
    ),
    _bad(
        "duplicate inside",
        "  vendor: Example\n",
        "  vendor: Example\n  @@vendor: Other\n",
        "project: the key 'vendor' stands twice, expected once; remove one of them",
        in_schema=False,
    ),
    _bad(
        "duplicate release",
        _RELEASE,
        _RELEASE + "  @@" + _RELEASE.lstrip(),
        "releases: the key '0.32.0' stands twice, expected once; remove one of them",
        in_schema=False,
    ),
    _bad(
        "number as key",
        '  "0.32.0":\n',
        "  @@0.32:\n",
        "releases: got the key '0.32', expected a string; quote it",
        in_schema=False,
    ),
    _bad(
        "misspelt",
        "    published: false\n",
        "    publishd: @@false\n",
        f"{_OLDER}.publishd: unknown key, expected one of as_of, declares, flashinfer, foundation, git, limits, "
        "newer, overrides, published, strategy, transformers; did you mean 'published'?",
    ),
    _bad(
        "unknown",
        "  vendor: Example\n",
        "  vendor: Example\n  zzz: @@x\n",
        "project.zzz: unknown key, expected one of label_prefix, namespace, registry, url, vendor",
    ),
    _bad(
        "missing",
        "  registry: registry.example:5000\n  namespace",
        "  @@namespace",
        "project.registry: missing, expected a registry host such as docker.io; add it",
    ),
    _bad(
        "missing section",
        'schema: "1"\n' + _PROJECT,
        '@@schema: "1"\n',
        "project: missing, expected a mapping; add it",
    ),
    _bad(
        "missing list",
        "  - name: torch\n    packages: [torch, nvidia-*]\n",
        "  - @@name: torch\n",
        "layers[0].packages: missing, expected a list of strings; add it",
    ),
    _bad(
        "missing version",
        '    version: "4.57.6"',
        "    @@overrides: {transformers: because}",
        f"{_OLDER}.transformers.t4.version: missing, expected {_TEXT}; add it",
    ),
    _bad(
        "base that is no file name",
        "  debian-13:\n    ",
        "  ../debian:\n    @@",
        f"bases.\"../debian\": got the key '../debian', {_NAMED}",
    ),
    _bad(
        "image in upper case",
        "  vllm:\n    name: spark-vllm",
        "  VLLM:\n    @@name: spark-vllm",
        f"images.VLLM: got the key 'VLLM', {_NAMED}",
    ),
)

BAD_SHAPES = (
    _bad(
        "empty list",
        "os_packages: [curl, python3]",
        "os_packages: @@[]",
        "os_packages: got an empty list, expected a list of strings",
    ),
    _bad(
        "empty list of mappings",
        _COLLISIONS,
        "collisions: @@[]\n",
        "collisions: got an empty list, expected a list of mappings",
    ),
    _bad(
        "list for a string",
        "vendor: Example",
        "vendor: @@[Example]",
        f"project.vendor: got a list, expected {_TEXT}",
    ),
    _bad(
        "string for a list",
        "os_packages: [curl, python3]",
        "os_packages: @@curl",
        "os_packages: got 'curl', expected a list of strings",
    ),
    _bad(
        "mapping in a list of strings",
        "[curl, python3]",
        "[curl, @@{name: python3}]",
        "os_packages[1]: got a mapping, expected a Debian package name",
    ),
    _bad("string for a mapping", _CHIP, "chip: @@GB10\n", "chip: got 'GB10', expected a mapping"),
    _bad(
        "string for a list of mappings",
        _COLLISIONS,
        "collisions: @@x.py\n",
        "collisions: got 'x.py', expected a list of mappings",
    ),
    _bad(
        "string in a list of mappings",
        _COLLISIONS,
        "collisions:\n  - @@x.py\n",
        "collisions[0]: got 'x.py', expected a mapping",
    ),
    _bad("empty mapping", _CHIP, "chip: @@{}\n", "chip: got an empty mapping, expected one with keys; fill it"),
    _bad(
        "release without variants",
        _LATEST,
        "    transformers: @@{}\n",
        f"{_NEWER}.transformers: got an empty mapping, expected one with keys; fill it",
    ),
)

_TRIM = "trims[0]"

BAD_TRIMS = (
    _bad(
        "size in words",
        'own_layer_bytes: "2000000"',
        "own_layer_bytes: @@2 MB",
        "own_layer_bytes: got '2 MB', expected a number of bytes",
    ),
    _bad(
        "trim without a check",
        "    imports: [torch.linalg]\n    reason: nothing",
        "    reason: nothing",
        f"{_TRIM}.imports: missing, expected a list of strings; add it",
        at="package: torch\n    versions",
    ),
    _bad(
        "trim that saves nothing",
        'saves_bytes: "1000"',
        'saves_bytes: @@"0"',
        f"{_TRIM}.saves_bytes: got '0', expected a number of bytes",
    ),
    _bad(
        "trim of an absolute path",
        "[torch/lib/*.a]",
        "[@@/opt/venv/lib/*.a]",
        f"{_TRIM}.paths[0]: got '/opt/venv/lib/*.a', expected a path below site-packages",
    ),
    _bad(
        "trim that imports a file",
        "[torch.linalg]",
        "[@@torch/linalg.py]",
        f"{_TRIM}.imports[0]: got 'torch/linalg.py', expected a Python module",
    ),
    _bad(
        "trim of a version that is none",
        'versions: ">=2.11"',
        "versions: @@2.11",
        f"{_TRIM}.versions: got '2.11', expected a PEP 440 specifier such as >=4.56,<5",
    ),
    _bad(
        "layer with a dot",
        "- name: rest",
        "- name: @@the.rest",
        "layers[1].name: got 'the.rest', expected a layer name of small letters and digits",
    ),
)

BAD_VALUES = (
    _bad(
        "schema of the future",
        '"1"\nproject',
        '@@"2"\nproject',
        "schema: got '2', expected '1', the version of this format",
    ),
    _bad(
        "version",
        'uv: "0.13.8"',
        'uv: @@"latest"',
        "uv: got 'latest', expected a PEP 440 version",
    ),
    _bad(
        "version with a space",
        'uv: "0.13.8"',
        'uv: @@"0.13.8 "',
        "uv: got '0.13.8 ', expected a PEP 440 version",
    ),
    _bad(
        "specifier",
        '">=4.56.0,<5"',
        '@@"4.56 or so"',
        f"{_OLDER}.declares.transformers: got '4.56 or so', expected a PEP 440 specifier such as >=4.56,<5",
    ),
    _bad(
        "requirement",
        "requirement: ray",
        'requirement: @@"ray ray"',
        "extras[0].requirement: got 'ray ray', expected a PEP 508 requirement",
    ),
    _bad(
        "commit",
        f"commit: {_COMMIT}",
        "commit: @@main",
        f"{_OLDER}.git.commit: got 'main', expected 40 hex digits, or null while not known",
    ),
    _bad(
        "short commit",
        f"commit: {_COMMIT}",
        f"commit: @@{_COMMIT[:-1]}",
        f"{_OLDER}.git.commit: got '{_COMMIT[:-1]}', expected 40 hex digits, or null while not known",
    ),
    _bad(
        "date that is none",
        'as_of: "2026-05-17"',
        'as_of: @@"2026-13-17"',
        f"{_OLDER}.as_of: got '2026-13-17', expected a date, YYYY-MM-DD",
    ),
    _bad(
        "strategy",
        _START,
        _START.replace("wheels", "@@wheel"),
        f"{_OLDER}.strategy: got 'wheel', expected one of wheels, source; did you mean 'wheels'?",
    ),
    _bad(
        "release that is no version",
        '  "0.32.0":\n    ',
        "  main:\n    @@",
        "releases.main: got 'main', expected a PEP 440 version of vLLM",
    ),
    _bad(
        "release that makes no tag",
        '  "0.32.0":\n    ',
        "  0.32.0+cu130:\n    @@",
        "releases.\"0.32.0+cu130\": got '0.32.0+cu130', which makes no valid image tag; expected a version without "
        "local part or epoch",
    ),
    _bad(
        "variant that is no major",
        _LATEST,
        '    transformers:\n      five: @@{version: "5.19.0"}\n',
        f"{_NEWER}.transformers.five: got the key 'five', expected t and a major version, such as t5",
    ),
    _bad(
        "platform",
        "linux/arm64",
        "@@linux/riscv64",
        "chip.platform: got 'linux/riscv64', expected linux/arm64 or linux/amd64",
    ),
    _bad(
        "address",
        "url: https://example.com/sparks",
        "url: @@example.com",
        "project.url: got 'example.com', expected an https address",
    ),
    _bad(
        "image without a host",
        "image: registry.example/library/ubuntu:24.04",
        "image: @@ubuntu",
        "bases.\"ubuntu-24.04\".image: got 'ubuntu', expected host/name:tag, without a digest",
    ),
    _bad(
        "image by digest",
        "image: registry.example/library/ubuntu:24.04",
        "image: @@registry.example/library/ubuntu:24.04@sha256:0123",
        "bases.\"ubuntu-24.04\".image: got 'registry.example/library/ubuntu:24.04@sha256:0123', expected "
        "host/name:tag, without a digest",
    ),
    _bad(
        "base with both",
        "  debian-13:\n",
        "  debian-13:\n    image: @@registry.example/debian:13\n",
        "bases.debian-13.image: got both, expected either image (from a registry) or suites (bootstrapped)",
    ),
    _bad(
        "base with neither",
        "    suites: [trixie]\n    python",
        "    @@python",
        "bases.debian-13.image: got neither, expected either image (from a registry) or suites (bootstrapped)",
    ),
)

_T5 = '        version: "5.8.0"\n        overrides: {transformers: models of today need it}\n'
_OVERRIDES = "    overrides:\n      torch: the foundation has a fix that 2.10.0 lacks\n"
_LAYERS_START = "- name: torch\n    packages: [torch, nvidia"
_TAKE = "take a version that it admits, or add `overrides:"

BAD_REFERENCES = (
    _bad(
        "foundation that does not exist",
        'foundation: 2.11.0-cu130\n    flashinfer: "0.6',
        'foundation: @@2.12.0-cu130\n    flashinfer: "0.6',
        f"{_OLDER}.foundation: got '2.12.0-cu130', expected one of the foundations: 2.11.0-cu130",
        in_schema=False,
    ),
    _bad(
        "unused foundation",
        "foundations:\n",
        'foundations:\n  2.13.0-cu130:\n    @@cuda: "13.0.3"\n    torch: "2.13.0"\n',
        'foundations."2.13.0-cu130": no release uses this foundation; remove it',
        in_schema=False,
    ),
    _bad(
        "foundation named after another CUDA",
        '    cuda: "13.0.2"',
        '    @@cuda: "13.1.1"',
        'foundations."2.11.0-cu130": expected 2.11.0-cu131 or 2.11.0-v<n>-cu131, after its torch and cuda; rename it',
        in_schema=False,
    ),
    _bad(
        "transformers that upstream does not admit",
        _T5,
        '        @@version: "5.8.0"\n',
        f"{_OLDER}.transformers.t5: uses transformers 5.8.0, but vLLM 0.20.2 declares '>=4.56.0,<5'; "
        f"{_TAKE} {{transformers: <reason>}}`",
        in_schema=False,
    ),
    _bad(
        "override of transformers that is not needed",
        '        version: "4.57.6"\n',
        '        @@version: "4.57.6"\n        overrides: {transformers: because}\n',
        f"{_OLDER}.transformers.t4: overrides transformers, but vLLM 0.20.2 declares '>=4.56.0,<5', which admits "
        "4.57.6; remove the override",
        in_schema=False,
    ),
    _bad(
        "override in a variant of what the release brings",
        _T5,
        '        @@version: "5.8.0"\n        overrides: {transformers: new models, flashinfer-python: because}\n',
        f"{_OLDER}.transformers.t5: overrides 'flashinfer-python', expected transformers alone; move it to the "
        "release's overrides",
        in_schema=False,
    ),
    _bad(
        "override in a variant of what is not declared",
        't5: {version: "5.19.0"}',
        't5: @@{version: "5.19.0", overrides: {transformers: because}}',
        f"{_NEWER}.transformers.t5: overrides 'transformers', which is not under declares; declare it, or remove the "
        "override",
        in_schema=False,
    ),
    _bad(
        "variant of another major",
        'version: "5.19.0"',
        'version: @@"4.57.6"',
        f"{_NEWER}.transformers.t5.version: got 4.57.6, expected a version of the major 5",
        in_schema=False,
    ),
    _bad(
        "torch that upstream does not admit",
        _OVERRIDES,
        "",
        f"{_OLDER}: uses torch 2.11.0, but vLLM 0.20.2 declares '==2.10.0'; {_TAKE} {{torch: <reason>}}`",
        at=_START,
        in_schema=False,
    ),
    _bad(
        "FlashInfer that upstream does not admit",
        'flashinfer: "0.6.8.post1"',
        'flashinfer: "0.6.9"',
        f"{_OLDER}: uses flashinfer-python 0.6.9, but vLLM 0.20.2 declares '==0.6.8.post1'; {_TAKE} "
        "{flashinfer-python: <reason>}`",
        at=_START,
        in_schema=False,
    ),
    _bad(
        "override of torch that is not needed",
        'torch: "==2.10.0"',
        'torch: "==2.11.0"',
        f"{_OLDER}: overrides torch, but vLLM 0.20.2 declares '==2.11.0', which admits 2.11.0; remove the override",
        at=_START,
        in_schema=False,
    ),
    _bad(
        "override of what upstream does not declare",
        _OVERRIDES,
        _OVERRIDES + "      cuda-toolkit: because\n",
        f"{_OLDER}: overrides 'cuda-toolkit', which is not under declares; declare it, or remove the override",
        at=_START,
        in_schema=False,
    ),
    _bad(
        "override of what the row does not bring",
        _OVERRIDES,
        _OVERRIDES + "      numpy: because\n",
        f"{_OLDER}: overrides 'numpy', expected one of cuda-toolkit, flashinfer-python, torch; remove it",
        at=_START,
        in_schema=False,
    ),
    _bad(
        "two layers of one name",
        "- name: rest",
        "- name: torch",
        "layers: the layer 'torch' stands 2 times, expected once; rename one",
        at=_LAYERS_START,
        in_schema=False,
    ),
    _bad(
        "layer that every image has",
        "- name: rest",
        "- name: skeleton",
        "layers: the layer 'skeleton' is one that every image has; rename it",
        at=_LAYERS_START,
    ),
    _bad(
        "one pattern in two layers",
        "packages: [vllm]",
        "packages: [vllm, torch]",
        "layers: the pattern 'torch' stands 2 times, expected once; remove one",
        at=_LAYERS_START,
        in_schema=False,
    ),
    _bad(
        "no layer for the rest",
        'packages: ["*"]',
        "packages: [ray]",
        "layers: no layer has the pattern '*'; add it to the one that takes what no other names",
        at=_LAYERS_START,
    ),
    _bad(
        "component that every release brings",
        "  vllm: {distribution: vllm}\n",
        "",
        "components: has no 'vllm', which every release brings; add it",
        at="cuda: {distribution",
    ),
)

BAD_MATRICES = (*BAD_SCALARS, *BAD_KEYS, *BAD_SHAPES, *BAD_TRIMS, *BAD_VALUES, *BAD_REFERENCES)
