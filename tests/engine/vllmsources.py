"""The real sources of vLLM releases, from the package index as uv finds it; kept outside of the checkout."""

import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uv

from sparkbake import process
from sparkbake.patches import Release
from sparkbake.project import cache_folder
from sparkbake.remote import RemoteFile
from sparkbake.sources import fetch_sdist


def unpack(release: Release, wanted: Callable[[str], bool], folder: Path) -> tuple[str, ...]:
    """Write the wanted files of a release below a folder, as the source tree has them.

    Returns:
        The names of all files there are.
    """
    return _of_sdist(release, wanted, folder) if release.source == "sdist" else _of_wheel(release, wanted, folder)


def _of_sdist(release: Release, wanted: Callable[[str], bool], folder: Path) -> tuple[str, ...]:
    names = []
    with tarfile.open(fetch_sdist("vllm", release.version, cache_folder())) as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            names.append(name)
            if member.isfile() and wanted(name):
                content = archive.extractfile(member)
                assert content is not None
                _write(folder / name, content.read())
    return tuple(names)


def _of_wheel(release: Release, wanted: Callable[[str], bool], folder: Path) -> tuple[str, ...]:
    (url,) = (one["url"] for one in _package(release.version)["wheels"] if one["url"].endswith("_aarch64.whl"))
    with zipfile.ZipFile(RemoteFile(url)) as wheel:
        names = tuple(wheel.namelist())
        for name in filter(wanted, names):
            _write(folder / name, wheel.read(name))
    return names


def _package(version: str) -> dict[str, Any]:
    argv = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-deps", "--format", "pylock.toml"]
    argv += ["--python-platform", "aarch64-manylinux_2_40", "--python-version", "3.12", "-"]
    lock = tomllib.loads(process.run(argv, timeout_s=300, stdin=f"vllm=={version}"))
    package: dict[str, Any] = lock["packages"][0]
    return package


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
