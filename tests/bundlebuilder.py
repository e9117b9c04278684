"""A checkout whose wheels, base and tools are small and real, and the package index that has them, played."""

import hashlib
import io
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from tests import debian
from tests.builders import SMALL_MATRIX, make_image_lock, make_lock

from sparkbake import bundlemake, oci, process
from sparkbake.baselock import base_lock_to_json
from sparkbake.engine import EngineState
from sparkbake.errors import ProcessError
from sparkbake.lockfile import base_lock_path, image_lock_to_json, lock_path, lock_to_json
from sparkbake.matrix import parse_matrix, rows
from sparkbake.model import Lock, Matrix, Row, Wheel
from sparkbake.project import Project, open_project

TAG, BASE = "0.20.2-t4", "debian-13"
INDEX_URL = "https://index.example/files/"
STATE = EngineState(version="28.5.2", architecture="amd64", has_containerd_store=True, data_folder="/x", cached_bytes=0)
QUICKSTART = ("nox-1.0-py3-none-any.whl", "uv-0.13.8-py3-none-manylinux_2_28_aarch64.whl",
              "uv-0.13.8-py3-none-manylinux_2_17_x86_64.whl", "uv-0.13.8-py3-none-macosx_11_0_arm64.whl")  # fmt: skip
RUN = ("docker-7.0-py3-none-any.whl", "pywin32-3.0-cp311-cp311-win_amd64.whl")


def wheel_bytes(file: str) -> bytes:
    """A wheel with metadata and nothing else; the same bytes for the same name."""
    name, version = file.split("-")[:2]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        info = zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA")
        opened.writestr(info, f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {file}\n")
    return made.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def real_wheel(file: str) -> Wheel:
    name, version = file.split("-")[:2]
    content = wheel_bytes(file)
    return Wheel(
        name=name.replace("_", "-"), version=version, file=file, sha256=sha256(content), size_bytes=len(content)
    )


LOCKED = [real_wheel(f"{name}-py3-none-any.whl") for name in ("ray-1.0", "torch-2.11.0", "vllm-0.20.2")]
INSTALLER = tuple(real_wheel(one) for one in QUICKSTART[1:3])


@dataclass(kw_only=True)
class FakeIndex:
    """A package index: uv asks it where files lie, and they are fetched from it.

    Attributes:
        files: name to content.
        gone: names that it lists and does not give.
        fetched: names, in the order in which they were asked for.
        asked: what uv was given on its standard input.
    """

    files: dict[str, bytes]
    fetched: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    environments: list[Any] = field(default_factory=list)
    fault: str | None = None
    gone: set[str] = field(default_factory=set)

    def run(self, argv: Sequence[str | Path], *, timeout_s: float | None, **more: Any) -> str:
        words = [str(one) for one in argv]
        assert words[1:3] == ["pip", "compile"], "only uv is asked"
        if self.fault:
            raise ProcessError("uv: exit status 1", returncode=1, output=self.fault)
        self.asked.append(more["stdin"])
        self.environments.append(more["env"])
        pinned = {one.partition(";")[0].strip() for one in more["stdin"].splitlines()}
        wanted = [one for one in self.files if "{}=={}".format(*one.replace("_", "-", 1).split("-")[:2]) in pinned]
        lines = ['lock-version = "1.0"']
        for one in wanted:
            place = f'url = "{INDEX_URL}{one}", hashes = {{ sha256 = "{sha256(wheel_bytes(one))}" }}'
            lines += ["[[packages]]", f'name = "{one.partition("-")[0]}"', f"wheels = [{{ {place} }}]"]
        Path(words[words.index("--output-file") + 1]).write_text("\n".join(lines), encoding="utf-8")
        return ""

    def open(self, request: urllib.request.Request, timeout: float) -> Any:
        name = request.full_url.removeprefix(INDEX_URL)
        if name not in self.files or name in self.gone:
            raise urllib.error.HTTPError(request.full_url, 404, "Not Found", Message(), None)
        answer: Any = io.BytesIO(self.files[name] if request.get_method() == "GET" else b"")
        answer.headers = {"Content-Length": str(len(wheel_bytes(name)))}
        if request.get_method() == "GET":
            self.fetched.append(name)
        return answer


def make_base(folder: Path) -> Path:
    """An OCI layout of both architectures, whose layers are a few bytes."""
    folder.mkdir(parents=True)
    tars: dict[oci.Architecture, Path] = {}
    for architecture in oci_architectures():
        tars[architecture] = folder / f"{architecture}.tar"
        tars[architecture].write_bytes(f"layer for {architecture}".encode())
    oci.write_layout(folder / "layout", tars, created_epoch=0)
    return folder / "layout"


def oci_architectures() -> tuple[oci.Architecture, ...]:
    return ("amd64", "arm64")


def make_project(root: Path, layout: Path) -> Project:
    """The checkout: small matrix, a lock of real wheels for every row, the base's lock, and requirements of tools."""
    matrix = parse_matrix(SMALL_MATRIX, "matrix.yaml")
    root.mkdir()
    (root / "matrix.yaml").write_text(SMALL_MATRIX, encoding="utf-8")
    for row in rows(matrix):
        made = lock_to_json(_locked(row, matrix))
        lock_path(root / "locks", row.tag).parent.mkdir(exist_ok=True)
        lock_path(root / "locks", row.tag).write_text(made, encoding="utf-8")
    base = debian.make_lock(
        include=matrix.os_packages,
        index_digest=oci.read_index_digest(layout),
        manifests=oci.read_manifest_digests(layout),
        packages=tuple(
            (one, (debian.make_package("apt", architecture=one), debian.make_package("curl", architecture=one)))
            for one in oci_architectures()
        ),
    )
    texts = {"ubuntu-24.04": image_lock_to_json(make_image_lock()), BASE: base_lock_to_json(base)}
    for one in matrix.bases:
        path = base_lock_path(root / "locks", one)
        path.parent.mkdir(exist_ok=True)
        path.write_text(texts[one.name], encoding="utf-8")
    requirements = root / "tools" / "requirements"
    requirements.mkdir(parents=True)
    (requirements / "quickstart.txt").write_text(requirements_of(QUICKSTART), encoding="utf-8")
    (requirements / "run.txt").write_text(requirements_of(RUN), encoding="utf-8")
    return open_project(root)


def _locked(row: Row, matrix: Matrix) -> Lock:
    return replace(make_lock(row, matrix, wheels=LOCKED), installer=INSTALLER)


def requirements_of(files: Sequence[str]) -> str:
    """As `uv pip compile --generate-hashes` writes them."""
    lines = ["# This file was autogenerated by uv"]
    for name in dict.fromkeys(one.split("-")[0] for one in files):
        some = [one for one in files if one.startswith(f"{name}-")]
        marker = " ; sys_platform == 'win32'" if name == "pywin32" else ""
        hashes = " \\\n".join(f"    --hash=sha256:{sha256(wheel_bytes(one))}" for one in some)
        lines.append(f"{name}=={some[0].split('-')[1]}{marker} \\\n{hashes}")
    return "\n".join(lines) + "\n"


def play(monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    """Put an index that has everything in the place of the network."""
    files = {*QUICKSTART, *RUN, *(one.file for one in LOCKED)}
    index = FakeIndex(files={one: wheel_bytes(one) for one in sorted(files)})
    monkeypatch.setattr(process, "run", index.run)
    monkeypatch.setattr(urllib.request, "urlopen", index.open)
    monkeypatch.setattr(bundlemake, "engine_state", lambda: STATE)
    monkeypatch.setattr("sparkbake.remote._WAITS_S", ())
    return index
