"""Check what must hold between the section `source` of a matrix and its rows: every pin that a row needs is there."""

import re
from functools import partial

from sparkbake.fields import Fields
from sparkbake.model import Matrix, Release, Strategy
from sparkbake.sourcedata import Repository, Sources
from sparkbake.sourcefields import COMMIT, UNKNOWN
from sparkbake.versions import admits, is_specifier

# The sources of every foundation and of every image, in the order in which they are compiled.
FOUNDATION_SOURCES = ("nccl", "nccl-tests", "torch", "torchvision", "torchaudio")
IMAGE_SOURCES = ("llvm", "triton", "vllm")
TRANSFORMERS = "transformers"
# Images that the strategy needs beside that of vLLM.
IMAGES = ("pytorch-dev", "pytorch")


def check_sources(matrix: Matrix, root: Fields, foundations: Fields, releases: Fields) -> None:
    """Check that the section has all that the compiled releases need, and that exceptions are theirs alone."""
    compiled = [one for one in matrix.releases if one.strategy is Strategy.SOURCE]
    for release in matrix.releases:
        if release.strategy is Strategy.WHEELS:
            _check_wheels(release, releases)
    if not compiled:
        return
    if matrix.sources is None:
        root.fault("source", f"missing, but vLLM {compiled[0].vllm} has the strategy source; add it")
        return
    fields = root.mapping("source")
    if all(one.name != matrix.sources.base for one in matrix.bases):
        fields.fault("base", f"got '{matrix.sources.base}', expected one of the bases; correct it")
    for name in IMAGES:
        if all(one.key != name for one in matrix.images):
            root.fault("images", f"has no '{name}', which every compiled foundation is built as; add it")
    _check_repositories(matrix.sources, fields)
    names = {one.foundation for one in compiled}
    for one in matrix.foundations:
        if one.name in names and one.as_of is None:
            foundations.fault(one.name, "has no `as_of`, which a compiled foundation needs; add a date")
    _check_pins(matrix, compiled, fields)


def _check_wheels(release: Release, releases: Fields) -> None:
    for variant in release.variants:
        if variant.exceptions.git or variant.exceptions.transformers:
            where = releases.mapping(release.vllm).mapping("transformers")
            where.fault(f"t{variant.major}", "names sources, which the strategy wheels has no use for; remove them")


def _check_repositories(sources: Sources, fields: Fields) -> None:
    known = {one.name for one in sources.repositories}
    for name in (*FOUNDATION_SOURCES, *IMAGE_SOURCES, TRANSFORMERS):
        if name not in known:
            fields.fault("repositories", f"has no '{name}'; add it")
    for one in sources.repositories:
        if one.variable is None and one.name not in (*FOUNDATION_SOURCES, *IMAGE_SOURCES, TRANSFORMERS):
            where = fields.mapping("repositories")
            where.fault(one.name, "is no component and has no `variable`; nothing would use it; add that, or remove it")


def _check_pins(matrix: Matrix, compiled: list[Release], fields: Fields) -> None:
    """Every row finds a digest, a tag and a commit (known or not) for all that it is compiled from."""
    sources = matrix.sources
    if sources is None:
        return
    foundations = {one.name: dict(one.versions) for one in matrix.foundations}
    references = {one.reference for one in sources.digests}
    for release in compiled:
        versions = {**foundations.get(release.foundation, {}), "vllm": release.vllm}
        for template in (sources.devel, sources.runtime):
            reference = template.replace("{cuda}", versions.get("cuda", ""))
            if "cuda" in versions and reference not in references:
                fields.fault("digests", f"has no '{reference}', which {release.foundation} is built on; add it")
        if "torch" in versions and not _has_runtime(sources, versions["torch"]):
            fields.fault("requires", f"has no 'runtime' for torch {versions['torch']}, which has its cuDNN; add it")
        repositories = fields.mapping("repositories")
        for one in sources.repositories:
            fault = partial(repositories.fault, one.name)
            tag = asked_tag(one, versions)
            if tag is not None and all(tag != known for known, _commit in one.commits):
                fault(f"commits: has no '{tag}', which vLLM {release.vllm} needs; add it, null while not known")


def _has_runtime(sources: Sources, torch: str) -> bool:
    """Whether an entry says what a torch needs to run beside what its wheel's metadata does."""
    return any(
        one.component == "runtime" and (one.of is None or (one.of == "torch" and admits(one.versions or "", torch)))
        for one in sources.requires
    )


def asked_tag(repository: Repository, versions: dict[str, str]) -> str | None:
    """The tag that a row asks of a repository; None when that is a commit, or not for this table to say."""
    if repository.tag:
        version = versions.get(repository.name)
        return repository.tag.replace("{version}", version) if version and repository.commits else None
    named = at_version(repository, versions)
    return named if named and not is_commit(named) else None


def at_version(repository: Repository, versions: dict[str, str]) -> str | None:
    """What `at` says for the version of its component; None when no specifier admits it."""
    version = versions.get(repository.of or "")
    if not version:
        return None
    return next((what for some, what in repository.at if is_specifier(some) and admits(some, version)), None)


def is_commit(text: str) -> bool:
    """Whether it is 40 hex digits, or says that these are not known."""
    return text == UNKNOWN or bool(re.fullmatch(COMMIT, text))
