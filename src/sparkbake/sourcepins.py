"""Which commits, digests and build requirements a compiled row asks for, as the matrix has them: pure look-ups."""

from collections.abc import Mapping
from dataclasses import dataclass

from sparkbake.model import Foundation, Matrix, Row
from sparkbake.sourceconsistency import FOUNDATION_SOURCES, IMAGE_SOURCES, TRANSFORMERS, at_version, is_commit
from sparkbake.sourcedata import Digests, Git, Repository, Sources
from sparkbake.sourcefields import UNKNOWN
from sparkbake.versions import admits

VLLM = "vllm"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """A repository at the commit that is compiled.

    Attributes:
        name: of the repository in the matrix.
        tag: what was asked for; None when upstream names a commit.
        commit: 40 hex digits; None while not known.
        built_from: the commit that the package index's wheel was built from, 7 to 40 hex digits, where that is known.
    """

    name: str
    tag: str | None
    commit: str | None
    built_from: str | None

    @property
    def differs(self) -> bool:
        """Whether the wheel of the package index was built from another commit."""
        return bool(self.commit and self.built_from and not self.commit.startswith(self.built_from))

    @property
    def told(self) -> str:
        """What is not known of it while it has no commit, as a user is told."""
        return f"{self.name}: commit of {self.tag or 'what this release fetches'}"


def sources_of(matrix: Matrix) -> Sources:
    """The section `source`; a matrix with compiled rows has it, as `check_sources` sees to."""
    if matrix.sources is None:
        raise ValueError("the matrix has no section `source`")
    return matrix.sources


def foundation_pins(matrix: Matrix, foundation: Foundation) -> tuple[Pin, ...]:
    """What a foundation is compiled from, in that order."""
    sources, versions = sources_of(matrix), dict(foundation.versions)
    return tuple(_pin(sources.repository(name), versions) for name in FOUNDATION_SOURCES)


def row_pins(matrix: Matrix, row: Row) -> tuple[Pin, ...]:
    """What the image of a row is compiled from beside its foundation: in order, then what vLLM's CMake would fetch."""
    sources, versions = sources_of(matrix), dict(row.versions)
    exceptions = row.variant.exceptions
    pins = [_pin(sources.repository(name), versions) for name in IMAGE_SOURCES if name != VLLM]
    pins.append(_of_git(VLLM, exceptions.git or Git(tag=row.release.tag, commit=row.release.commit)))
    if exceptions.transformers:
        pins.append(_of_git(TRANSFORMERS, exceptions.transformers))
    handed = [one for one in sources.repositories if one.variable and at_version(one, versions)]
    return tuple(pins + [_pin(one, versions) for one in handed])


def _pin(repository: Repository, versions: Mapping[str, str]) -> Pin:
    built = dict(repository.built_from)
    named = (
        repository.tag.replace("{version}", versions[repository.name])
        if repository.tag
        else at_version(repository, dict(versions)) or UNKNOWN
    )
    if is_commit(named):
        return Pin(name=repository.name, tag=None, commit=None if named == UNKNOWN else named, built_from=None)
    commit = dict(repository.commits).get(named)
    return Pin(name=repository.name, tag=named, commit=commit, built_from=built.get(named))


def _of_git(name: str, git: Git) -> Pin:
    return Pin(name=name, tag=git.tag, commit=git.commit, built_from=None)


def cuda_images(matrix: Matrix, foundation: Foundation) -> tuple[Digests, Digests]:
    """The CUDA images of a foundation, for development and to run on, with the digests that the matrix has."""
    sources, cuda = sources_of(matrix), dict(foundation.versions)["cuda"]
    known = {one.reference: one for one in sources.digests}
    return known[sources.devel.replace("{cuda}", cuda)], known[sources.runtime.replace("{cuda}", cuda)]


def requires_of(sources: Sources, component: str, versions: Mapping[str, str]) -> tuple[str, ...]:
    """What a component needs to be built, of the first entry that is about its version; sorted, none without one."""
    for one in sources.requires:
        if one.component != component:
            continue
        if one.of is None or (one.of in versions and admits(one.versions or "", versions[one.of])):
            return tuple(sorted(one.requires))
    return ()
