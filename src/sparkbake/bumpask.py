"""Ask the package index about releases of vLLM: when they were published, and what they resolve to and declare.

The index is the one that uv is configured for, or that of mirrors.yaml; no environment is installed.
"""

import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import uv

from sparkbake import process
from sparkbake.bump import Candidate, Upstream, lower_majors, specifier_text
from sparkbake.errors import LockError, ProcessError
from sparkbake.lock import UV_MACHINE, Index, Say, best_wheel, tag_order
from sparkbake.metadata import commit_of, required
from sparkbake.model import Base, Matrix, Pairs
from sparkbake.remote import RemoteFile, read_member
from sparkbake.versions import normalise

_TIMEOUT_S = 900
# uv's exit status when it had all it needed, and found that it cannot be.
_NO_SOLUTION = 1
# How people write a package.
_NAMES = {"vllm": "vLLM"}
_METADATA = r".*\.dist-info/METADATA"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asker:
    """Asks for one matrix, on the first of its bases.

    Attributes:
        say: told each step before it is done.
    """

    matrix: Matrix
    index: Index
    say: Say

    @property
    def base(self) -> Base:
        return self.matrix.bases[0]

    @property
    def machine(self) -> str:
        return UV_MACHINE[self.matrix.chip.architecture]

    def find_release(self, version: str) -> Candidate:
        """A release that has a wheel for the platform and is not withdrawn.

        Raises:
            LockError: the index cannot be asked, or has no such release.
        """
        self.say(f"vLLM {version}: asking the package index")
        distribution = self._distribution("vllm")
        try:
            # As a range: a release that was withdrawn (yanked) counts for `==` alone.
            packages = self._compile([f"{distribution}>={version},<={version}"], ["--no-deps"])
        except ProcessError as err:
            raise LockError(f"vLLM {version}: {self._why_not(err)}") from err
        return self._candidate(packages[0])

    def find_newest(self, above: str, published: date) -> Candidate | None:
        """The newest release above another one that was published on a day or before; None when there is none.

        Raises:
            LockError: the index cannot be asked.
        """
        self.say(f"asking the package index for releases of vLLM above {above}, published up to {published}")
        return self._newest("vllm", f">={above},!={above}", published)

    def find_newer(self, component: str, above: str, published: date) -> tuple[Candidate, ...]:
        """All releases of a component above a version that were published on a day or before, ascending.

        Raises:
            LockError: the index cannot be asked.
        """
        name = self._distribution(component)
        self.say(f"asking the package index for releases of {name} above {above}, published up to {published}")
        found: list[Candidate] = []
        while one := self._newest(component, ",".join([f">={above}", f"!={above}", *_below(found)]), published):
            found.append(one)
        return tuple(reversed(found))

    def requires_of(self, version: str) -> Pairs:
        """What a release of vLLM asks for on a Spark, as its wheel says; see `Upstream.requires`.

        Raises:
            LockError: the index cannot be asked.
        """
        self.say(f"vLLM {version}: reading the metadata of its wheel")
        try:
            packages = self._compile([f"{self._distribution('vllm')}=={version}"], ["--no-deps"])
        except ProcessError as err:
            raise LockError(f"vLLM {version}: {self._why_not(err)}") from err
        return _pairs(self._read(packages, "vllm", (_METADATA,))[0])

    def _newest(self, component: str, specifier: str, published: date) -> Candidate | None:
        before = f"{published + timedelta(days=1)}T00:00:00Z"
        # uv takes a pre-release where there is nothing else.
        options = ["--no-deps", "--prerelease", "disallow", "--exclude-newer", before]
        try:
            packages = self._compile([f"{self._distribution(component)}{specifier}"], options)
        except ProcessError as err:
            if err.returncode == _NO_SOLUTION:
                return None
            raise LockError(f"{_NAMES.get(component, self._distribution(component))}: {self._why_not(err)}") from err
        return self._candidate(packages[0])

    def read_upstream(self, version: str, as_of: str, wait: str | None = None) -> Upstream:
        """All that a proposal needs of a release.

        Args:
            wait: what to do about a package that is younger than `as_of`; None when waiting brings none.

        Raises:
            LockError: it cannot be resolved; the message names the requirement.
        """
        self.say(f"vLLM {version}: resolving what it asks for, as of {as_of}")
        packages = self._resolve(version, as_of, wait)
        versions = {normalise(one["name"]): str(one["version"]) for one in packages}
        self.say(f"vLLM {version}: reading the metadata of its wheel and of torch's")
        vllm = self._read(packages, "vllm", (_METADATA, r"vllm/_version\.py"))
        torch = self._read(packages, "torch", (_METADATA,))
        requires = _pairs(vllm[0])
        commit = commit_of(vllm[1])
        if commit is None:
            raise LockError(f"vLLM {version}: vllm/_version.py of the wheel names no commit; expected one in commit_id")
        newest = versions[self._distribution("transformers")]
        return Upstream(
            version=version,
            as_of=as_of,
            commit=commit,
            requires=requires,
            torch_requires=_pairs(torch[0]),
            resolved=tuple(sorted(versions.items())),
            transformers=(*self._lower(version, as_of, dict(requires), newest), newest),
        )

    def _lower(self, version: str, as_of: str, requires: Mapping[str, str], newest: str) -> tuple[str, ...]:
        """The newest transformers of each lower major that it resolves with, ascending."""
        name = self._distribution("transformers")
        found = []
        for number in lower_majors(self.matrix, requires.get(name, ""), newest):
            self.say(f"vLLM {version}: resolving it with transformers {number}")
            try:
                packages = self._compile([*self._requirements(version), f"{name}=={number}.*"], _up_to(as_of))
            except ProcessError as err:
                if err.returncode != _NO_SOLUTION:
                    raise LockError(f"vLLM {version}: {self._why_not(err)}") from err
                self.say(f"vLLM {version}: no t{number}, it does not resolve with transformers {number}:\n{err.output}")
                continue
            found.append(next(str(one["version"]) for one in packages if normalise(one["name"]) == name))
        return tuple(reversed(found))

    def _resolve(self, version: str, as_of: str, wait: str | None) -> Sequence[Mapping[str, Any]]:
        wanted = self._requirements(version)
        try:
            return self._compile(wanted, _up_to(as_of))
        except ProcessError as err:
            if err.returncode != _NO_SOLUTION:
                raise LockError(f"vLLM {version}: {self._why_not(err)}") from err
            why = err.output
        self.say(f"vLLM {version}: cannot be resolved as of {as_of}; trying it as of now")
        try:
            self._compile(wanted, [])
        except ProcessError as err:
            if err.returncode != _NO_SOLUTION:
                raise LockError(f"vLLM {version}: {self._why_not(err)}") from err
            raise LockError(
                f"vLLM {version}: cannot be resolved, neither as of {as_of} nor with all that the package index has "
                f"now:\n{err.output}\nWait until the index has that, or take another release"
            ) from err
        raise LockError(
            f"vLLM {version}: cannot be resolved as of {as_of}, but can with all that the index has now:\n{why}\n"
            + (
                f"What it lacks was published on {as_of} or later, and {wait}"
                if wait
                else "What it lacks was published later: put the release in by hand, with that package under `newer`"
            )
        )

    def _requirements(self, version: str) -> list[str]:
        """The release alone at its version; the matrix's other components and extras as they come."""
        found = [one.requirement for one in self.matrix.extras]
        for one in self.matrix.components:
            extras = f"[{','.join(one.extras)}]" if one.extras else ""
            found.append(f"{one.distribution}{extras}" + (f"=={version}" if one.name == "vllm" else ""))
        return found

    def _compile(self, requirements: Sequence[str], options: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """The packages that requirements resolve to, as pylock.toml (PEP 751) has them."""
        argv = [uv.find_uv_bin(), "pip", "compile", "--quiet", "-", "--format", "pylock.toml", "--only-binary", ":all:"]
        argv += ["--python-platform", f"{self.machine}-{self.base.manylinux}", "--python-version", self.base.python]
        # In the environment: an address may hold a password, and a command line is for all to see.
        environment = {"UV_DEFAULT_INDEX": self.index.url} if self.index.url else None
        text = process.run([*argv, *options], timeout_s=_TIMEOUT_S, stdin="\n".join(requirements), env=environment)
        found: Sequence[Mapping[str, Any]] = tomllib.loads(text)["packages"]
        return found

    def _candidate(self, package: Mapping[str, Any]) -> Candidate:
        tags = tag_order(self.base, self.machine)
        uploads = [one.get("upload-time") for one in package.get("wheels", []) if best_wheel([one], tags)]
        times = [one for one in uploads if isinstance(one, datetime)]
        if not times:
            name = _NAMES.get(package["name"], package["name"])
            raise LockError(
                f"{name} {package['version']}: the package index does not say when it was published; use one that does "
                "(PEP 700)"
            )
        return Candidate(version=str(package["version"]), published=min(times).astimezone(UTC).date())

    def _read(self, packages: Sequence[Mapping[str, Any]], component: str, members: Sequence[str]) -> tuple[str, ...]:
        """The text of some files of a component's wheel, read without the rest of it."""
        name = self._distribution(component)
        package = next(one for one in packages if normalise(one["name"]) == name)
        wheel = best_wheel(package.get("wheels", []), tag_order(self.base, self.machine))
        if wheel is None:
            raise LockError(f"{name} {package['version']}: has no wheel for {self.machine}")
        with zipfile.ZipFile(RemoteFile(str(wheel["url"]))) as archive:
            return tuple(read_member(archive, one) for one in members)

    def _distribution(self, component: str) -> str:
        return normalise(next(one.distribution for one in self.matrix.components if one.name == component))

    def _why_not(self, err: ProcessError) -> str:
        if err.returncode != _NO_SOLUTION:
            return f"the package index cannot be asked:\n{err.output or err}"
        if "no usable wheels" in err.output:
            return (
                f"the package index has no wheel of it for {self.machine}, or it was withdrawn (yanked); take another "
                f"release:\n{err.output}"
            )
        return f"the package index does not know this release; expected one that it has:\n{err.output}"


def _below(found: Sequence[Candidate]) -> list[str]:
    """A specifier's part for what is lower than the last that was found."""
    return [f"<{found[-1].version}"] if found else []


def _up_to(as_of: str) -> list[str]:
    return ["--exclude-newer", f"{as_of}T00:00:00Z"]


def _pairs(metadata: str) -> Pairs:
    return tuple(sorted((name, specifier_text(one)) for name, one in required(metadata).items()))
