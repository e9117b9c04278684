"""Make locks: resolve environments with uv and freeze every file by hash."""

import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import uv
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from sparkbake import process
from sparkbake.errors import LockError, ProcessError
from sparkbake.lockfile import entry_digest
from sparkbake.metadata import commit_of, required
from sparkbake.model import Base, Environment, Lock, Matrix, Pairs, Row, Wheel
from sparkbake.remote import RemoteFile, content_length, read_build_id, read_member
from sparkbake.versions import normalise

UV_MACHINE = {"arm64": "aarch64", "amd64": "x86_64"}
_RESOLVE_TIMEOUT_S = 900
_PARALLEL_REQUESTS = 16
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """Where packages are looked up: uv's own defaults, or another index named in mirrors.yaml."""

    url: str | None = None


@dataclass(kw_only=True, slots=True)
class Resolved:
    """One resolution: the chosen file of each package, where it lies, and the newest publication time."""

    wheels: tuple[Wheel, ...]
    urls: Mapping[str, str]
    newest_epoch: int
    pylock: str


@dataclass(kw_only=True, slots=True)
class Locker:
    """Makes the locks of rows; remembers file sizes between them.

    Attributes:
        say: told each step before it is done.
    """

    matrix: Matrix
    index: Index
    say: Say
    _sizes: dict[str, int] = field(default_factory=dict)
    _known_ids: dict[tuple[str, str], str] = field(default_factory=dict)

    def lock_release(self, rows: Sequence[Row]) -> tuple[Lock, ...]:
        """Lock the rows of one release, in ascending order of transformers major.

        The first is resolved freely; the others take its pins as preferences, so that siblings differ in as few
        packages as possible.

        Raises:
            LockError: something cannot be resolved, a file has no usable wheel, or upstream's metadata is not what
                the matrix says it declares.
        """
        preferences: dict[str, str] = {}
        return tuple(self._lock_row(row, preferences) for row in sorted(rows, key=lambda one: one.variant.major))

    def _lock_row(self, row: Row, preferences: dict[str, str]) -> Lock:
        environments: list[Environment] = []
        newest = 0
        wheel_commit = ""
        build_ids: Pairs = ()
        for base in self.matrix.bases:
            self.say(f"{row.tag}: resolving for {base.name} (Python {base.python})")
            resolved = self._resolve_row(row, base, preferences.get(base.name))
            preferences.setdefault(base.name, resolved.pylock)
            newest = max(newest, resolved.newest_epoch)
            environments.append(Environment(base=base.name, python=base.python, wheels=resolved.wheels))
            if not wheel_commit:
                wheel_commit = self._check_upstream(row, resolved)
                build_ids = self._build_ids(row, resolved)
        return Lock(
            tag=row.tag,
            entry_digest=entry_digest(self.matrix, row),
            source_date_epoch=newest,
            wheel_commit=wheel_commit,
            build_ids=build_ids,
            installer=self.installer(),
            environments=tuple(environments),
        )

    def _resolve_row(self, row: Row, base: Base, preferred: str | None) -> Resolved:
        options = ["--exclude-newer", f"{row.release.as_of}T00:00:00Z"]
        for one in row.release.newer:
            options += ["--exclude-newer-package", f"{one.package}={one.as_of}T00:00:00Z"]
        return self.compile(
            row_requirements(self.matrix, row),
            overrides=row_overrides(self.matrix, row),
            architecture=self.matrix.chip.architecture,
            base=base,
            options=options,
            preferred=preferred,
            what=f"{row.tag} on {base.name}",
        )

    def installer(self) -> tuple[Wheel, ...]:
        """The uv wheels, one for each architecture of a build."""
        found: list[Wheel] = []
        for architecture in sorted(UV_MACHINE):
            resolved = self.compile(
                [f"uv=={self.matrix.uv}"],
                overrides=[],
                architecture=architecture,
                base=self.matrix.bases[0],
                options=["--no-deps"],
                preferred=None,
                what=f"uv for {architecture}",
            )
            found += resolved.wheels
        return tuple(found)

    def compile(
        self,
        requirements: Sequence[str],
        *,
        overrides: Sequence[str],
        architecture: str,
        base: Base,
        options: Sequence[str],
        preferred: str | None,
        what: str,
    ) -> Resolved:
        """Resolve requirements with uv; `what` is what messages call it.

        Raises:
            LockError: they cannot be, or a package has no wheel.
        """
        machine = UV_MACHINE[architecture]
        with tempfile.TemporaryDirectory(prefix="sparkbake-lock-") as folder:
            output = Path(folder, "pylock.toml")
            overriding = Path(folder, "overrides.txt")
            overriding.write_text("\n".join(overrides), encoding="utf-8")
            if preferred:
                output.write_text(preferred, encoding="utf-8")
            argv: list[str | Path] = [uv.find_uv_bin(), "pip", "compile", "--quiet", "-", "--output-file", output]
            argv += ["--format", "pylock.toml", "--only-binary", ":all:", "--generate-hashes"]
            argv += ["--python-platform", f"{machine}-{base.manylinux}", "--python-version", base.python]
            argv += ["--overrides", overriding] if overrides else []
            # In the environment: an address may hold a password, and a command line is for all to see.
            environment = {"UV_DEFAULT_INDEX": self.index.url} if self.index.url else None
            try:
                process.run(
                    [*argv, *options], timeout_s=_RESOLVE_TIMEOUT_S, stdin="\n".join(requirements), env=environment
                )
            except ProcessError as err:
                raise LockError(f"{what}: cannot be resolved:\n{err.output or err}") from err
            text = output.read_text(encoding="utf-8")
        return self._chosen(text, machine, base, what)

    def _chosen(self, pylock: str, machine: str, base: Base, what: str) -> Resolved:
        tags = tag_order(base, machine)
        chosen: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for package in tomllib.loads(pylock)["packages"]:
            wheel = best_wheel(package.get("wheels", []), tags)
            if wheel is None:
                raise LockError(f"{what}: {package['name']} {package['version']} has no wheel for {machine}")
            chosen[normalise(package["name"])] = (str(package["version"]), wheel)
        urls = {name: str(wheel["url"]) for name, (_version, wheel) in chosen.items()}
        self._measure({urls[name]: wheel.get("size") for name, (_version, wheel) in chosen.items()})
        wheels = tuple(
            Wheel(
                name=name,
                version=version,
                file=_file_name(wheel),
                sha256=str(wheel["hashes"]["sha256"]),
                size_bytes=self._sizes[urls[name]],
            )
            for name, (version, wheel) in sorted(chosen.items())
        )
        newest = max(_epoch(wheel.get("upload-time"), what) for _version, wheel in chosen.values())
        return Resolved(wheels=wheels, urls=urls, newest_epoch=newest, pylock=pylock)

    def _measure(self, sizes: Mapping[str, int | None]) -> None:
        """Learn the size of each file: from the index where it says so, else by asking for the file's head."""
        self._sizes |= {url: size for url, size in sizes.items() if size is not None}
        missing = [url for url in sizes if url not in self._sizes]
        with ThreadPoolExecutor(_PARALLEL_REQUESTS) as pool:
            self._sizes |= dict(zip(missing, pool.map(content_length, missing), strict=True))

    def _build_ids(self, row: Row, resolved: Resolved) -> Pairs:
        """Build-ID of each component's library, read from its wheel."""
        found: list[tuple[str, str]] = []
        for one in self.matrix.components:
            if one.library is not None:
                self.say(f"{row.tag}: reading {one.library} of the wheel of {one.distribution}")
                found.append((one.name, self._build_id(resolved.urls[normalise(one.distribution)], one.library)))
        return tuple(found)

    def _build_id(self, url: str, library: str) -> str:
        if (url, library) not in self._known_ids:
            self._known_ids[url, library] = read_build_id(url, library)
        return self._known_ids[url, library]

    def _check_upstream(self, row: Row, resolved: Resolved) -> str:
        """Hold what the matrix says vLLM declares against the wheel itself; return the commit the wheel names."""
        self.say(f"{row.tag}: reading the metadata of vLLM's own wheel")
        with zipfile.ZipFile(RemoteFile(resolved.urls["vllm"])) as wheel:
            metadata = read_member(wheel, r".*\.dist-info/METADATA")
            version = read_member(wheel, r"vllm/_version\.py")
        faults = declared_faults(row, metadata)
        if faults:
            raise LockError("\n".join(faults))
        commit = commit_of(version)
        if commit is None:
            raise LockError(f"{row.tag}: vllm/_version.py of the wheel names no commit")
        wanted = row.release.commit
        if wanted is not None and not wanted.startswith(commit):
            self.say(f"{row.tag}: note: the wheel was built from {commit}, the tag points to {wanted}")
        return commit


def row_requirements(matrix: Matrix, row: Row) -> tuple[str, ...]:
    """What a row asks of the resolver: every component at its version, and the extras; sorted."""
    versions = dict(row.versions)
    pinned = []
    for one in matrix.components:
        extras = f"[{','.join(one.extras)}]" if one.extras else ""
        pinned.append(f"{one.distribution}{extras}=={versions[one.name]}")
    return tuple(sorted(pinned + [one.requirement for one in matrix.extras]))


def row_overrides(matrix: Matrix, row: Row) -> tuple[str, ...]:
    """The pins of a row that set aside what upstream declares."""
    overridden = {one.package for one in row.overrides}
    versions = dict(row.versions)
    return tuple(
        f"{one.distribution}=={versions[one.name]}" for one in matrix.components if one.distribution in overridden
    )


def declared_faults(row: Row, metadata: str) -> list[str]:
    """Where the matrix says of a release's requirements something else than its METADATA does."""
    wheel_requires = required(metadata)
    where = f"matrix.yaml: releases.{row.release.vllm}.declares"
    faults = []
    for name, said in row.release.declares:
        found = wheel_requires.get(normalise(name))
        if found is None:
            faults.append(f"{where}.{name}: got '{said}', but the wheel requires no {name}; remove it")
        elif found != SpecifierSet(said):
            faults.append(f"{where}.{name}: got '{said}', but the wheel says '{found}'; correct it")
    return faults


def best_wheel(wheels: Iterable[Mapping[str, Any]], tags: Sequence[Tag]) -> Mapping[str, Any] | None:
    """The wheel an installer would take: the best tag, then the highest build number; None when none fits."""
    order = {tag: i for i, tag in enumerate(tags)}
    fitting = []
    for wheel in wheels:
        _name, _version, build, file_tags = parse_wheel_filename(_file_name(wheel))
        ranks = [order[tag] for tag in file_tags if tag in order]
        if ranks:
            fitting.append(((-min(ranks), build or (0, "")), wheel))
    return max(fitting, key=lambda one: one[0])[1] if fitting else None


def tag_order(base: Base, machine: str) -> tuple[Tag, ...]:
    """What may be installed on a base, best first; `machine` as Python calls it: "aarch64"."""
    major, minor = (int(part) for part in base.python.split("."))
    newest = int(base.manylinux.rpartition("_")[2])
    platforms = [f"manylinux_2_{i}_{machine}" for i in range(newest, 4, -1)]
    # Old names of manylinux_2_17, 2_12 and 2_5, which some wheels bear alone (PEP 600).
    platforms += [*(f"manylinux{name}_{machine}" for name in ("2014", "2010", "1")), f"linux_{machine}"]
    return (
        *cpython_tags((major, minor), platforms=platforms),
        *compatible_tags((major, minor), interpreter=f"cp{major}{minor}", platforms=platforms),
    )


def _file_name(wheel: Mapping[str, Any]) -> str:
    name = wheel.get("name") or str(wheel["url"]).rpartition("/")[2]
    return unquote(str(name).partition("#")[0])


def _epoch(uploaded: object, what: str) -> int:
    if not isinstance(uploaded, datetime):
        raise LockError(
            f"{what}: the package index does not say when files were published; use one that does (PEP 700)"
        )
    return int(uploaded.astimezone(UTC).timestamp())
