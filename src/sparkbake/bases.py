"""Find the base of a build: what its lock says, whether its registry answers, and what takes its place if not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparkbake.baselock import base_lock_from_json
from sparkbake.bootstrap import bootstrap
from sparkbake.buildx import answers
from sparkbake.debianmirror import find_mirror
from sparkbake.engine import local_image
from sparkbake.errors import BaseError
from sparkbake.frozen import AUTO, candidates, read_base_lock, remedy
from sparkbake.lockfile import base_lock_path, parse_image_lock
from sparkbake.mirrors import Mirrors
from sparkbake.model import Base, Matrix
from sparkbake.oci import read_index_digest

_REGISTRY_TIMEOUT_S = 8
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """The base of a build.

    Attributes:
        context: what takes its place in the Dockerfile, "oci-layout://..." or "docker-image://..."; None when the
            registry gives it.
        folder: of the OCI layout that BuildKit must be allowed to read.
    """

    base: Base
    context: str | None
    folder: Path | None


def choose(
    choice: str, matrix: Matrix, mirrors: Mirrors, *, locks: Path, cache: Path, architectures: Sequence[str], say: Say
) -> Chosen:
    """Make a base ready to build on.

    Args:
        architectures: those that the build runs on and for.

    Raises:
        BaseError: no base can be had; says why for each that was tried.
    """
    faults = []
    # A bundle has the wheels of its one base alone.
    named = dict(mirrors.bases) if mirrors.bundle and choice == AUTO else None
    for base in (one for one in candidates(choice, matrix) if named is None or one.name in named):
        try:
            return _ready(base, mirrors, locks=locks, cache=cache, architectures=architectures, say=say)
        except BaseError as err:
            faults.append(f"{base.name}: {err}")
            say(f"base {base.name} cannot be had: {err}")
    raise BaseError(
        "no base can be had:\n"
        + "\n".join(faults)
        + "\nname another place for one under `bases` in mirrors.yaml"
        + ("" if choice == AUTO else f", or choose another: --base {AUTO}")
    )


def _ready(base: Base, mirrors: Mirrors, *, locks: Path, cache: Path, architectures: Sequence[str], say: Say) -> Chosen:
    mirrored = dict(mirrors.bases).get(base.name)
    if mirrored:
        say(f"base {base.name}: from {mirrored}, as mirrors.yaml says")
        return _mirrored(base, mirrored, _locked_digests(base, locks))
    if base.image:
        lock = parse_image_lock(read_base_lock(base, locks), str(base_lock_path(locks, base)), remedy(base))
        _require_answer(f"{lock.reference}@{lock.index}", say)
        return Chosen(base=base, context=None, folder=None)
    debian = base_lock_from_json(read_base_lock(base, locks), str(base_lock_path(locks, base)))
    wanted = sorted(set(architectures))
    folder = bootstrap(
        debian,
        architectures=[one for one in ("amd64", "arm64") if one in wanted],
        mirror=find_mirror(mirrors.debian),
        cache_dir=cache,
        say=say,
    )
    return Chosen(base=base, context=f"oci-layout://{folder}@{read_index_digest(folder)}", folder=folder)


def _require_answer(reference: str, say: Say) -> None:
    if local_image(reference):
        say(f"base: {reference} is in the engine")
        return
    say(f"base: asking for {reference} (up to {_REGISTRY_TIMEOUT_S} s)")
    fault = answers(reference, timeout_s=_REGISTRY_TIMEOUT_S)
    if fault:
        raise BaseError(f"the registry does not give it: {fault}")


def _locked_digests(base: Base, locks: Path) -> tuple[str, ...]:
    """Digests under which a base is the locked one: of its index, and of its manifests."""
    path, text = base_lock_path(locks, base), read_base_lock(base, locks)
    if base.image:
        image = parse_image_lock(text, str(path), remedy(base))
        return (image.index, *dict(image.manifests).values())
    debian = base_lock_from_json(text, str(path))
    return (*([debian.index_digest] if debian.index_digest else []), *dict(debian.manifests).values())


def _mirrored(base: Base, reference: str, locked: Sequence[str]) -> Chosen:
    digest = reference.rpartition("@")[2]
    if digest not in locked:
        raise BaseError(f"mirrors.yaml names {digest} for it, which is not the locked base: expected {locked[0]}")
    if not reference.startswith("oci-layout:"):
        return Chosen(base=base, context=f"docker-image://{reference}", folder=None)
    path, _at, _digest = reference.removeprefix("oci-layout:").removeprefix("//").rpartition("@")
    folder = Path(path).expanduser().resolve()
    if not (folder / "index.json").is_file():
        raise BaseError(f"{folder}: mirrors.yaml names an OCI layout there, but it has no index.json")
    return Chosen(base=base, context=f"oci-layout://{folder}@{digest}", folder=folder)
