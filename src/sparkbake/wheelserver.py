"""Serve the wheels of a bundle on loopback for the time of a build, as a package index.

https://packaging.python.org/en/latest/specifications/simple-repository-api/ (JSON; with metadata files, so that
installers need not read into wheels).
"""

import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sparkbake.bundle import Bundle, wheel_path
from sparkbake.errors import BuildError, BundleError
from sparkbake.loopback import LOOPBACK, Answer, listen, serving
from sparkbake.model import Wheel

# The ports that are nobody's: https://www.rfc-editor.org/rfc/rfc6335#section-6
_FIRST_PORT, _PORTS = 49152, 16384
_INDEX_TYPE = "application/vnd.pypi.simple.v1+json"
_FILE_TYPE = "application/octet-stream"
SIMPLE, _FILES = "/simple/", "/files/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """The wheels that are served, and what was asked of them.

    Attributes:
        asked: paths, in the order in which they were asked for.
    """

    folder: Path
    wheels: Sequence[Wheel]
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> Answer | None:
        """What lies at a path; None when nothing does. Only names that are known lead to files."""
        self.asked.append(path)
        if path.startswith(SIMPLE):
            return self._project(path.removeprefix(SIMPLE).rstrip("/"))
        file = path.removeprefix(_FILES)
        wheel = next((one for one in self.wheels if one.file == file.removesuffix(".metadata")), None)
        if not path.startswith(_FILES) or wheel is None:
            return None
        place = self.folder / wheel_path(wheel)
        return Answer(media_type=_FILE_TYPE, body=place if file == wheel.file else _metadata(place))

    def _project(self, name: str) -> Answer | None:
        files = [
            {
                "filename": one.file,
                "url": f"{_FILES}{one.file}",
                "hashes": {"sha256": one.sha256},
                "size": one.size_bytes,
                "core-metadata": True,
            }
            for one in self.wheels
            if one.name == name
        ]
        body = {"meta": {"api-version": "1.1"}, "name": name, "versions": self._versions(name), "files": files}
        return Answer(media_type=_INDEX_TYPE, body=json.dumps(body).encode()) if files else None

    def _versions(self, name: str) -> list[str]:
        return sorted({one.version for one in self.wheels if one.name == name})


def _metadata(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as opened:
        name = next(one for one in opened.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one))
        return opened.read(name)


def port_of(bundle: Bundle) -> int:
    """The port that a bundle is served at if it is free: uv keeps what it has unpacked by the address of the index."""
    return _FIRST_PORT + int(bundle.lock_digest[-8:], 16) % _PORTS


@contextmanager
def serve(folder: Path, bundle: Bundle, wheels: Sequence[Wheel]) -> Iterator[str]:
    """Serve some wheels of a bundle; yields the address of the index.

    Raises:
        BundleError: no port of loopback is free.
        BuildError: that of the build, which says so if no step of it came here.
    """
    shelf = Shelf(folder=folder, wheels=wheels)
    try:
        server = listen(
            _FIRST_PORT + int(bundle.lock_digest[-8:], 16) % _PORTS, lambda request: shelf.answer(request.path)
        )
    except OSError as err:
        raise BundleError([f"no port of {LOOPBACK} can be had to serve the bundle's wheels at: {err}"]) from err
    address = f"http://{LOOPBACK}:{server.server_address[1]}"
    try:
        with serving(server):
            yield address + SIMPLE
    except BuildError as err:
        if shelf.asked:
            raise
        raise BuildError(
            f"{err}\nno step of this build asked {address} for a wheel of the bundle: the engine must run on this "
            "machine, in its network"
        ) from err
