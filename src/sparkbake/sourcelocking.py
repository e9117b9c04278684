"""Make the locks of what is compiled: environments without what is compiled, build requirements, commits, digests."""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sparkbake import process
from sparkbake.buildx import image_index
from sparkbake.consistency import FLASHINFER
from sparkbake.errors import LockError, ProcessError
from sparkbake.lock import Locker, Resolved, declared_faults
from sparkbake.metadata import commit_of
from sparkbake.mirrors import Mirrors
from sparkbake.model import Environment, Foundation, Row, Wheel
from sparkbake.remote import RemoteFile, read_member
from sparkbake.sourceconsistency import TRANSFORMERS
from sparkbake.sourcedata import Digests
from sparkbake.sourcelock import (
    FOUNDATION_REQUIRES,
    IMAGE_REQUIRES,
    FoundationLock,
    SourceLock,
    foundation_digest,
    row_digest,
    source_base,
)
from sparkbake.sourcemetadata import TRITON, on_the_index, requirements_of, triton_faults
from sparkbake.sourcepins import VLLM, Pin, cuda_images, foundation_pins, requires_of, row_pins, sources_of
from sparkbake.versions import normalise

_ASK_TIMEOUT_S = 60
_TORCH = ("torch", "torchvision", "torchaudio")


@dataclass(kw_only=True, slots=True)
class SourceLocker:
    """Makes the locks of compiled foundations and rows.

    Attributes:
        locker: resolves, and says what it does.
        mirrors: where git repositories and images are found.
    """

    locker: Locker
    mirrors: Mirrors
    say: Callable[[str], None]
    _metadata: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    _built: dict[tuple[str, tuple[str, ...]], Resolved] = field(default_factory=dict)

    def lock_foundation(self, foundation: Foundation) -> FoundationLock:
        """Resolve what a foundation is built and run with, and look up what of it is not known.

        Raises:
            LockError: something cannot be resolved.
        """
        matrix, versions = self.locker.matrix, dict(foundation.versions)
        sources = sources_of(matrix)
        requires, newest = [], 0
        for component in FOUNDATION_REQUIRES:
            wanted = list(requires_of(sources, component, versions))
            if component == "runtime":
                wanted += self._torch_requirements(versions)
            resolved = self._resolve(wanted, foundation.as_of or "", f"{foundation.name}: {component}")
            requires.append((component, resolved.wheels))
            newest = max(newest, resolved.newest_epoch)
        devel, runtime = (self._image(one) for one in cuda_images(matrix, foundation))
        lock = FoundationLock(
            name=foundation.name,
            entry_digest=foundation_digest(matrix, foundation),
            source_date_epoch=newest,
            metadata_of=on_the_index(versions["torch"]),
            images=(devel, runtime),
            pins=tuple(self._filled(one) for one in foundation_pins(matrix, foundation)),
            requires=tuple(requires),
            installer=self.locker.installer(),
        )
        self._tell_differences(lock.name, lock.pins)
        return lock

    def lock_release(self, rows: Sequence[Row]) -> tuple[SourceLock, ...]:
        """Lock the rows of one release, in ascending order of transformers major.

        The first is resolved freely; the others take its pins as preferences.

        Raises:
            LockError: something cannot be resolved, or the matrix says of a wheel's requirements what is not true.
        """
        preferred: str | None = None
        locks = []
        for row in sorted(rows, key=lambda one: one.variant.major):
            lock, pylock = self._lock_row(row, preferred)
            preferred = preferred or pylock
            locks.append(lock)
        return tuple(locks)

    def _lock_row(self, row: Row, preferred: str | None) -> tuple[SourceLock, str]:
        matrix, versions = self.locker.matrix, dict(row.versions)
        base = source_base(matrix)
        known = on_the_index(row.release.vllm)
        if known != row.release.vllm:
            self.say(
                f"{row.tag}: note: the package index has no {row.release.vllm}; what it requires is that of {known}"
            )
        metadata, built_from = self._read(VLLM, known)
        faults = declared_faults(_without_triton(row), metadata)
        faults += triton_faults(row.release, self._read("torch", on_the_index(versions["torch"]))[0])
        if faults:
            raise LockError("\n".join(faults))
        resolved = self._resolve_row(row, metadata, preferred)
        built = self._build_requirements(row)
        newest = max(resolved.newest_epoch, *(epoch for _wheels, epoch in built.values()))
        lock = SourceLock(
            tag=row.tag,
            entry_digest=row_digest(matrix, row),
            source_date_epoch=newest,
            metadata_of=known,
            pins=tuple(self._row_pin(one, built_from) for one in row_pins(matrix, row)),
            requires=tuple((name, wheels) for name, (wheels, _epoch) in built.items()),
            environment=Environment(base=base.name, python=base.python, wheels=resolved.wheels),
        )
        self._tell_differences(row.tag, lock.pins)
        return lock, resolved.pylock

    def _resolve_row(self, row: Row, metadata: str, preferred: str | None) -> Resolved:
        matrix, versions = self.locker.matrix, dict(row.versions)
        replaced = self._replaced(row)
        wanted = [*requirements_of(metadata, replaced), *self._torch_requirements(versions)]
        wanted += [one.requirement for one in matrix.extras]
        overrides = [f"{FLASHINFER}=={versions['flashinfer']}"]
        overrides += _cubins(metadata, versions["flashinfer"])
        if row.variant.exceptions.transformers:
            text, _commit = self._read(TRANSFORMERS, versions["transformers"])
            wanted += requirements_of(text, replaced)
        else:
            overrides.append(f"{TRANSFORMERS}=={versions['transformers']}")
        wanted += [one for one in overrides if one not in wanted]
        options = []
        for one in row.release.newer:
            options += ["--exclude-newer-package", f"{one.package}={one.as_of}T00:00:00Z"]
        return self._resolve(
            wanted, row.release.as_of, row.tag, overrides=overrides, removed=replaced, preferred=preferred, more=options
        )

    def _replaced(self, row: Row) -> tuple[str, ...]:
        own = [TRANSFORMERS] if row.variant.exceptions.transformers else []
        return (*sources_of(self.locker.matrix).replaced, *own)

    def _build_requirements(self, row: Row) -> dict[str, tuple[tuple[Wheel, ...], int]]:
        found = {}
        for component in IMAGE_REQUIRES:
            wanted = requires_of(sources_of(self.locker.matrix), component, dict(row.versions))
            key = (row.release.as_of, wanted)
            if key not in self._built:
                self._built[key] = self._resolve(wanted, row.release.as_of, f"{row.tag}: to build {component}")
            resolved = self._built[key]
            found[component] = (resolved.wheels, resolved.newest_epoch)
        return found

    def _resolve(
        self,
        wanted: Sequence[str],
        as_of: str,
        what: str,
        *,
        overrides: Sequence[str] = (),
        removed: Sequence[str] = (),
        preferred: str | None = None,
        more: Sequence[str] = (),
    ) -> Resolved:
        self.say(f"{what}: resolving {len(wanted)} requirements as of {as_of}")
        removed = removed or sources_of(self.locker.matrix).replaced
        return self.locker.compile(
            wanted,
            # A marker that is never true takes a requirement out, whoever asks for it.
            overrides=[*overrides, *(f"{one} ; sys_platform == 'never'" for one in removed)],
            architecture=self.locker.matrix.chip.architecture,
            base=source_base(self.locker.matrix),
            options=["--exclude-newer", f"{as_of}T00:00:00Z", *more],
            preferred=preferred,
            what=what,
        )

    def _torch_requirements(self, versions: Mapping[str, str]) -> list[str]:
        """What torch, torchvision and torchaudio need to run, but for what their wheels bring of CUDA."""
        sources = sources_of(self.locker.matrix)
        without = (*sources.replaced, *sources.torch_without)
        read = [self._read(name, on_the_index(versions[name]))[0] for name in _TORCH]
        return sorted({one for text in read for one in requirements_of(text, without)})

    def _read(self, name: str, version: str) -> tuple[str, str]:
        """METADATA of a wheel on the package index, and of vLLM's the commit that it was built from, else empty."""
        if (name, version) not in self._metadata:
            self.say(f"reading the metadata of {name} {version}")
            resolved = self.locker.compile(
                [f"{name}=={version}"],
                overrides=[],
                architecture=self.locker.matrix.chip.architecture,
                base=source_base(self.locker.matrix),
                options=["--no-deps"],
                preferred=None,
                what=f"{name} {version}",
            )
            with zipfile.ZipFile(RemoteFile(resolved.urls[normalise(name)])) as wheel:
                metadata = read_member(wheel, r"[^/]*\.dist-info/METADATA")
                commit = commit_of(read_member(wheel, r"vllm/_version\.py")) if name == VLLM else None
            self._metadata[name, version] = (metadata, commit or "")
        return self._metadata[name, version]

    def _row_pin(self, pin: Pin, built_from: str) -> Pin:
        return self._filled(replace(pin, built_from=built_from or None) if pin.name == VLLM else pin)

    def _filled(self, pin: Pin) -> Pin:
        """A pin with its commit, if that is known or its repository says it; else as it was, an open pin."""
        if pin.commit:
            return pin
        if pin.tag is None:
            why = "upstream names a commit, which no tag leads to; write it into matrix.yaml"
            self.say(f"note: {pin.name} stays open: {why}")
            return pin
        url = sources_of(self.locker.matrix).repository(pin.name).url
        self.say(f"asking {self.mirrors.git_url(url)} for {pin.tag}")
        try:
            return replace(pin, commit=tag_commit(self.mirrors.git_url(url), pin.tag))
        except (LockError, ProcessError) as err:
            self.say(f"note: {pin.name} {pin.tag} stays open: {str(err).splitlines()[0]}")
            return pin

    def _image(self, image: Digests) -> Digests:
        """An image with its digests, if they are known or its registry says them; else as it was."""
        if image.index and image.manifest:
            return image
        reference = f"{image.reference}@{image.index}" if image.index else image.reference
        architecture = self.locker.matrix.chip.architecture
        self.say(f"asking the registry for {reference}")
        try:
            index, manifests = image_index(reference, timeout_s=_ASK_TIMEOUT_S)
        except (LockError, ProcessError) as err:
            self.say(f"note: {image.reference} stays open: {str(err).splitlines()[0]}")
            return image
        if architecture not in manifests:
            raise LockError(f"{reference}: there is none for {architecture}, only {', '.join(sorted(manifests))}")
        return replace(image, index=image.index or index, manifest=manifests[architecture])

    def _tell_differences(self, name: str, pins: Sequence[Pin]) -> None:
        for one in pins:
            if one.differs:
                self.say(f"{name}: note: the wheel of {one.name} was built from {one.built_from}, here {one.commit}")


def tag_commit(url: str, tag: str) -> str:
    """The commit that a tag of a repository points to, 40 hex digits; of an annotated tag not the tag object.

    Raises:
        ProcessError: the repository does not answer.
        LockError: it has no such tag.
    """
    name = f"refs/tags/{tag}"
    # Without a terminal git would ask for a password and wait.
    told = process.run(
        ["git", "ls-remote", "--tags", url, name, f"{name}^{{}}"],
        timeout_s=_ASK_TIMEOUT_S,
        env={"GIT_TERMINAL_PROMPT": "0"},
    )
    found = {where: commit for commit, where in (line.split("\t") for line in told.splitlines() if "\t" in line)}
    commit = found.get(f"{name}^{{}}") or found.get(name)
    if commit is None or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise LockError(f"{url}: has no tag {tag}")
    return commit


def _without_triton(row: Row) -> Row:
    """A row whose release declares what vLLM's own wheel is to say; torch's says it of Triton."""
    declares = tuple((name, one) for name, one in row.release.declares if name != TRITON)
    return replace(row, release=replace(row.release, declares=declares))


def _cubins(metadata: str, version: str) -> list[str]:
    """FlashInfer's compiled kernels, of the same version, where vLLM asks for them."""
    name = "flashinfer-cubin"
    asked = any(one.startswith(name) for one in requirements_of(metadata, ()))
    return [f"{name}=={version}"] if asked else []
