"""What a bundle is: a folder with all that a row is built from, its manifest, and how it stands to a plan.

    bundle.json                 what is in it, every file with its hash
    mirrors.yaml                what `build` is given
    wheels/                     the row's environment, and the uv that lays it out
    tools/                      what this project's own commands need

of a row that is installed from wheels, also

    bases/<base>/               the base, an OCI layout

and of one that is compiled; see sourcebundle

    images/                     CUDA's images, an OCI layout of both
    git/                        repositories at the commits of the locks, with repositories.json: which is whose
    crates/                     a sparse index of crates, and these, where vLLM has a part in Rust
    apt/                        packages of the operating system, and their list
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from sparkbake.errors import BundleError
from sparkbake.lockfile import canonical, sha256_of
from sparkbake.mirrors import MANIFEST
from sparkbake.model import Pairs, Target, Wheel

SCHEMA = 1
MIRRORS = "mirrors.yaml"
WHEELS, BASES, TOOLS = "wheels", "bases", "tools"
# Of rows that are compiled.
IMAGES, GIT, CRATES, APT = "images", "git", "crates", "apt"
# What a folder may have at its top and still be a bundle, whole or begun.
PARTS = (MANIFEST, MIRRORS, WHEELS, BASES, TOOLS, IMAGES, GIT, CRATES, APT)
MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}


@dataclass(frozen=True, kw_only=True, slots=True)
class BundledFile:
    """A file of a bundle.

    Attributes:
        path: below its folder, with slashes.
        sha256: 64 hex digits.
    """

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """The manifest of a bundle.

    Attributes:
        lock_digest: of the lock that the files are of, 'sha256:' + 64 hex.
        base_digest: of the base that mirrors.yaml names, likewise.
        architectures: of machines that can build from it, as OCI names them.
        files: all but the manifest itself, sorted by path.
        inputs_digest: of a row that is compiled, of all that its lock, its foundation's and the matrix ask for; None of
            one that is installed from wheels.
    """

    tag: str
    base: str
    lock_digest: str
    base_digest: str
    architectures: tuple[str, ...]
    files: tuple[BundledFile, ...]
    inputs_digest: str | None = None

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes for one in self.files)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """A line of a locked requirements file: "name==version", its marker if any, and the hashes of all its files."""

    requirement: str
    sha256: frozenset[str]


class Labelled(Protocol):
    """A target of either strategy."""

    @property
    def labels(self) -> Pairs: ...


# ---- the manifest


def bundle_json(bundle: Bundle) -> str:
    """The file of a manifest: JSON, with its own digest."""
    body = _body(bundle)
    return json.dumps({**body, "digest": sha256_of(canonical(body))}, indent=1, sort_keys=True) + "\n"


def _body(bundle: Bundle) -> dict[str, object]:
    files = {one.path: {"sha256": one.sha256, "size_bytes": one.size_bytes} for one in bundle.files}
    # By way of JSON, so that tuples are lists: what is read back has the same digest.
    body: dict[str, object] = json.loads(json.dumps({"schema": SCHEMA, **asdict(bundle), "files": files}))
    return {key: value for key, value in body.items() if value is not None}


def parse_bundle(text: str, where: str) -> Bundle:
    """Parse the file of a manifest.

    Raises:
        BundleError: it is no JSON, is damaged, of another format, or has a path that leads out of the folder.
    """
    try:
        body = json.loads(text)
        claimed, found = body.pop("digest"), sha256_of(canonical(body))
        if claimed != found:
            raise BundleError([f"{where}: damaged: its digest line says {claimed[:19]}, its content has {found[:19]}; "
                               "copy the bundle anew, or make it anew"])  # fmt: skip
        if body.pop("schema") != SCHEMA:
            raise BundleError([f"{where}: is of another format than {SCHEMA}; make the bundle anew with this checkout"])
        files = [BundledFile(path=path, **one) for path, one in body.pop("files").items()]
        bundle = Bundle(**{**body, "architectures": tuple(body["architectures"])}, files=tuple(files))
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise BundleError([f"{where}: not the manifest of a bundle: {err!r}; make the bundle anew"]) from err
    for one in bundle.files:
        if one.path.startswith("/") or ".." in one.path.split("/"):
            raise BundleError([f"{where}: names {one.path}, expected paths in its own folder; make the bundle anew"])
    return bundle


def mirrors_yaml(tag: str, base: str, base_digest: str) -> str:
    """The mirrors file of a bundle; it holds for wherever the folder is moved."""
    return (
        f"# GENERATED by `nox -s bundle -- {tag}`; do not edit. Paths are relative to this file.\n"
        'schema: "1"\n'
        "bundle: .\n"
        "bases:\n"
        f"  {base}: oci-layout:{BASES}/{base}@{base_digest}\n"
    )


# ---- what belongs in it


def wheel_path(wheel: Wheel) -> str:
    return f"{WHEELS}/{wheel.file}"


def wheels_of(target: Target) -> tuple[Wheel, ...]:
    """All that a build of a target fetches: its environment, and the installer for every machine."""
    return (*target.environment.wheels, *target.installer)


def parse_pins(text: str) -> tuple[Pin, ...]:
    """The pins of a requirements file as `uv pip compile --generate-hashes` writes it."""
    lines = text.replace("\\\n", " ").splitlines()
    pins = []
    for line in (one for one in lines if one.strip() and not one.lstrip().startswith("#")):
        requirement, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
        pins.append(Pin(requirement=str(Requirement(requirement)), sha256=frozenset(one.strip() for one in hashes)))
    return tuple(pins)


def is_for_linux(pin: Pin) -> bool:
    """Whether a pin is installed at all on the machines that build."""
    marker = Requirement(pin.requirement).marker
    return marker is None or marker.evaluate({"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"})


def runs_on(file: str, architecture: str) -> bool:
    """Whether a wheel is for CPython on Linux with glibc, on machines of an architecture or on all.

    >>> runs_on("uv-1.0-py3-none-manylinux_2_28_aarch64.whl", "arm64")
    True
    >>> runs_on("uv-1.0-py3-none-musllinux_1_1_aarch64.whl", "arm64")
    False
    """
    tags = parse_wheel_filename(file)[3]
    return any(
        tag.interpreter[:2] in ("py", "cp")
        # Of the variants without the global lock nobody's python3 is.
        and not tag.abi.endswith("t")
        and (tag.platform == "any" or re.fullmatch(f"(many)?linux.*_{MACHINES[architecture]}", tag.platform))
        for tag in tags
    )


# ---- how it stands to what is to be built


def standing_faults(bundle: Bundle, target: Target) -> list[str]:
    """Why a bundle is not that of a target: of another row or base, of another lock, or without one of its files."""
    again = f"make it anew: nox -s bundle -- {target.tag} --base {target.base.name}"
    locked = locked_digest(target)
    if (bundle.tag, bundle.base) != (target.tag, target.base.name):
        return [f"is of {bundle.tag} on {bundle.base}, expected {target.tag} on {target.base.name}; {again}"]
    if bundle.lock_digest != locked:
        return [
            f"is of another lock of {bundle.tag}, {bundle.lock_digest[:19]}, expected {locked[:19]}; {again}, or take "
            "the checkout that made it"
        ]
    known = {one.path: one.sha256 for one in bundle.files}
    return [
        f"{MANIFEST} lists no {wheel_path(one)} with the locked hash; {again}"
        for one in wheels_of(target)
        if known.get(wheel_path(one)) != one.sha256
    ]


def locked_digest(target: Labelled) -> str:
    """Digest of the lock that a target is of, as its label has it."""
    return next(value for key, value in target.labels if key.endswith(".lock_digest"))


def stray(names: Sequence[str]) -> list[str]:
    """What lies at the top of a folder and is no part of a bundle."""
    return sorted(set(names) - set(PARTS))


def base_folder(base: str) -> Path:
    return Path(BASES, base)
