"""Read of the matrix what is compiled, from which commits, and with what: its section `source`."""

import re
from functools import partial

from sparkbake.addresses import SPARSE, SPARSE_EXPECTED
from sparkbake.fields import NAME, Fields
from sparkbake.sourcedata import Digests, Git, Repository, Requires, Setting, Sources
from sparkbake.versions import is_requirement, is_specifier

COMMIT = r"[0-9a-f]{40}"
# Of a source whose commit no one has found yet.
UNKNOWN = "unknown"
_DIGEST = r"sha256:[0-9a-f]{64}"
_ARCHES = r"\d+\.\d+[af]?(;\d+\.\d+[af]?)*"
# The last digit is what stands behind the dot: without it, as tags have it, no two are the same.
_CAPABILITY = r"[1-9]\d*\.\d"
_PACKAGE = r"[a-z0-9][a-z0-9+.-]+"


def read_sources(fields: Fields) -> Sources | None:
    """The section `source` of a matrix; None when it is absent."""
    if not fields.keys:
        return None
    digests, repositories = fields.mapping("digests"), fields.mapping("repositories")
    arch, variants, rust = fields.mapping("arch"), fields.mapping_or_empty("variants"), fields.mapping("rust")
    expected = "architectures such as 12.0f"
    image = partial(
        fields.text, pattern=r"[^\s@]+/[^\s@]+:[^\s@/]*\{cuda\}[^\s@/]*", expected="host/name:tag with {cuda} in it"
    )
    package = partial(fields.texts, pattern=_PACKAGE, expected="a Debian package name")
    sources = Sources(
        base=fields.text("base"),
        devel=image("devel"),
        runtime=image("runtime"),
        digests=tuple(_digests(key, digests.mapping(key)) for key in digests.keys),
        torch_arch=arch.text("torch", pattern=_ARCHES, expected=expected),
        vllm_arch=arch.text("vllm", pattern=_ARCHES, expected=expected),
        variants=tuple(_variant(name, variants) for name in variants.keys),
        nccl_gencode=arch.text("nccl_gencode", pattern=r"-gencode=arch=\S+", expected="an option of nvcc"),
        existing_torch=_by_version(fields.mapping("existing_torch"), r"[^\s/].*"),
        rust=_specifier(rust, "versions"),
        rust_os_packages=rust.texts("os_packages", pattern=_PACKAGE, expected="a Debian package name"),
        rust_index=rust.text_or_none("index", pattern=SPARSE, expected=SPARSE_EXPECTED),
        build_os_packages=package("build_os_packages"),
        runtime_os_packages=package("runtime_os_packages"),
        replaced=fields.texts("replaced", pattern=r"[a-z0-9]+(-[a-z0-9]+)*", expected="a normalised package name"),
        torch_without=fields.texts("torch_without", pattern=r"[a-z0-9*?-]+", expected="a package name or pattern"),
        gib_per_job=_jobs(fields.mapping("gib_per_job")),
        disk_gb=_disk(fields.mapping("disk_gb")),
        repositories=tuple(_repository(key, repositories.mapping(key)) for key in repositories.names),
        requires=tuple(_requires(one) for one in fields.items("requires")),
        settings=tuple(_setting(one) for one in fields.items_or_empty("settings")),
    )
    for one in (arch, rust, fields):
        one.done()
    return sources


def read_git(fields: Fields) -> Git:
    """A tag and its commit; all keys of the mapping are read."""
    git = Git(
        tag=fields.text("tag"),
        commit=fields.text_or_none("commit", pattern=COMMIT, expected="40 hex digits, or null while not known"),
    )
    fields.done()
    return git


def _variant(name: str, variants: Fields) -> tuple[str, str]:
    """A compute capability and the architecture that is named for it: the tag says one, a label the other."""
    if not re.fullmatch(_CAPABILITY, name):
        variants.fault(name, f"got the key '{name}', expected a compute capability such as 12.1")
    return name, variants.text(name, pattern=rf"{re.escape(name)}[af]?", expected=f"{name}, {name}a or {name}f")


def _digests(key: str, fields: Fields) -> Digests:
    expected = "sha256: and 64 hex digits, or null while not known"
    found = Digests(
        reference=key,
        index=fields.text_or_none("index", pattern=_DIGEST, expected=expected),
        manifest=fields.text_or_none("manifest", pattern=_DIGEST, expected=expected),
    )
    fields.done()
    return found


def _by_version(fields: Fields, pattern: str) -> tuple[tuple[str, str], ...]:
    found = []
    for key in fields.keys:
        if not is_specifier(key):
            fields.fault(key, f"got the key '{key}', expected a PEP 440 specifier such as >=0.13,<0.16")
        found.append((key, fields.text(key, pattern=pattern)))
    return tuple(found)


def _jobs(fields: Fields) -> tuple[tuple[str, str], ...]:
    return tuple((key, fields.text(key, pattern=r"[1-9]\d?", expected="whole GiB")) for key in fields.names)


def _disk(fields: Fields) -> tuple[tuple[str, str], ...]:
    found = tuple(
        (key, fields.text(key, pattern=r"0|[1-9]\d?", expected="whole GB")) for key in ("compiled", "fetched")
    )
    fields.done()
    return found


def _repository(key: str, fields: Fields) -> Repository:
    commits, built = fields.mapping_or_empty("commits"), fields.mapping_or_empty("built_from")
    expected = "40 hex digits, or null while not known"
    repository = Repository(
        name=key,
        url=fields.text("url", pattern=r"https://\S+", expected="an https address"),
        submodules=fields.flag("submodules"),
        tag=fields.text_or_none("tag", pattern=r"\S*\{version\}\S*", expected="a tag with {version} in it"),
        of=fields.text_or_none("of", pattern=NAME, expected="the name of a component"),
        at=_by_version(fields.mapping_or_empty("at"), r"\S+"),
        commits=tuple((tag, commits.text_or_none(tag, pattern=COMMIT, expected=expected)) for tag in commits.keys),
        built_from=tuple((tag, built.text(tag, pattern=COMMIT, expected=expected)) for tag in built.keys),
        variable=fields.text_or_none("variable", pattern=r"[A-Z][A-Z0-9_]*", expected="an environment variable"),
        folder=fields.text_or_none("folder", pattern=r"[^\s/][^\s]*", expected="a folder in the repository") or "",
    )
    if (repository.of is None) != (not repository.at):
        fields.fault("at", "stands without `of`, or `of` without it; expected both or none")
    if repository.tag and repository.at:
        fields.fault("at", "stands beside `tag`, expected one of them")
    fields.done()
    return repository


def _requires(fields: Fields) -> Requires:
    of = fields.text_or_none("of", pattern=NAME, expected="the name of a component")
    found = Requires(
        component=fields.text("component", pattern=NAME, expected="the name of a component"),
        of=of,
        versions=_specifier(fields, "versions") if of else None,
        requires=fields.texts("requires", pattern=".+", expected="a PEP 508 requirement"),
    )
    for one in found.requires:
        if one and not is_requirement(one):
            fields.fault("requires", f"got '{one}', expected a PEP 508 requirement")
    fields.done()
    return found


def _setting(fields: Fields) -> Setting:
    found = Setting(
        name=fields.text("name", pattern=r"[A-Z][A-Z0-9_]*", expected="an environment variable"),
        value=fields.text("value", pattern=r"[A-Za-z0-9_.,:/-]+", expected="a word that needs no quotes"),
        versions=_specifier(fields, "versions"),
        reason=fields.text("reason"),
    )
    fields.done()
    return found


def _specifier(fields: Fields, key: str) -> str:
    specifier = fields.text(key)
    if specifier and not is_specifier(specifier):
        fields.fault(key, f"got '{specifier}', expected a PEP 440 specifier such as >=4.56,<5")
    return specifier
