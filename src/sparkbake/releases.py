"""Read of the matrix the foundations and releases, with what single rows have otherwise than their release."""

import re

from sparkbake.consistency import RELEASE_COMPONENTS, check_variants
from sparkbake.fields import Fields
from sparkbake.model import Foundation, Newer, Override, Release, Strategy, Variant
from sparkbake.sourcedata import Exceptions, Limit
from sparkbake.sourcefields import COMMIT, read_git
from sparkbake.versions import cuda_short, is_foundation_name, is_specifier, is_tag, is_version, major, normalise


def read_foundation(key: str, fields: Fields, parent: Fields, components: tuple[str, ...]) -> Foundation:
    """One foundation; its name is held against its versions."""
    wanted = [name for name in components or fields.keys if name not in RELEASE_COMPONENTS]
    versions = tuple((name, read_version(fields, name)) for name in wanted)
    as_of = read_date(fields) if "as_of" in fields else None
    fields.done()
    named = dict(versions)
    if named.get("torch") and named.get("cuda") and not is_foundation_name(key, named["torch"], named["cuda"]):
        torch, cuda = named["torch"], cuda_short(named["cuda"])
        parent.fault(key, f"expected {torch}-cu{cuda} or {torch}-v<n>-cu{cuda}, after its torch and cuda; rename it")
    return Foundation(name=key, versions=versions, as_of=as_of)


def read_release(key: str, fields: Fields, parent: Fields) -> Release:
    """One release with its variants, each held against what it declares."""
    if not is_version(key):
        parent.fault(key, f"got '{key}', expected a PEP 440 version of vLLM")
    elif not is_tag(key):
        parent.fault(
            key, f"got '{key}', which makes no valid image tag; expected a version without local part or epoch"
        )
    declares = fields.mapping_or_empty("declares")
    git = fields.mapping("git")
    variants = fields.mapping("transformers")
    release = Release(
        vllm=key,
        strategy=Strategy(fields.choice("strategy", [one.value for one in Strategy])),
        foundation=fields.text("foundation"),
        flashinfer=read_version(fields, "flashinfer"),
        as_of=read_date(fields),
        declares=tuple((normalise(name), _specifier(declares, name)) for name in declares.keys),
        newer=_newer(fields),
        overrides=_overrides(fields),
        variants=tuple(_variant(name, variants) for name in variants.keys),
        tag=git.text("tag"),
        commit=git.text_or_none("commit", pattern=COMMIT, expected="40 hex digits, or null while not known"),
        published=fields.flag("published"),
        limits=tuple(_limit(one) for one in fields.items_or_empty("limits")),
    )
    git.done()
    fields.done()
    check_variants(release, variants)
    return release


def _variant(key: str, variants: Fields) -> Variant:
    fields = variants.mapping(key)
    version = read_version(fields, "version")
    revision, overrides = _revision(fields), _overrides(fields)
    exceptions = Exceptions(
        flashinfer=read_version(fields, "flashinfer") or None if "flashinfer" in fields else None,
        git=read_git(fields.mapping("git")) if "git" in fields else None,
        transformers=read_git(fields.mapping("source")) if "source" in fields else None,
        note=fields.text_or_none("note"),
    )
    fields.done()
    if not re.fullmatch(r"t[1-9][0-9]*", key):
        variants.fault(key, f"got the key '{key}', expected t and a major version, such as t5")
        return Variant(major=0, transformers="", revision=1, overrides=(), exceptions=exceptions)
    if version and major(version) != int(key[1:]):
        fields.fault("version", f"got {version}, expected a version of the major {key[1:]}")
    return Variant(
        major=int(key[1:]), transformers=version, revision=revision, overrides=overrides, exceptions=exceptions
    )


def _revision(fields: Fields) -> int:
    """The number at `revision`; 1 when the key is absent, and after a fault."""
    if "revision" not in fields:
        return 1
    expected = "a number from 2 to 999, since what is published first has none"
    return int(fields.text("revision", pattern=r"[2-9]|[1-9][0-9]{1,2}", expected=expected) or 1)


def _limit(fields: Fields) -> Limit:
    name, expected = r"[A-Za-z0-9_]+", "a name as config.json has it"
    found = Limit(
        model=fields.text("model"),
        architectures=fields.texts("architectures", pattern=name, expected=expected),
        model_types=fields.texts("model_types", pattern=name, expected=expected),
        reason=fields.text("reason"),
    )
    fields.done()
    return found


def _newer(fields: Fields) -> tuple[Newer, ...]:
    packages = fields.mapping_or_empty("newer")
    found = []
    for name in packages.keys:
        one = packages.mapping(name)
        found.append(Newer(package=normalise(name), as_of=read_date(one), reason=one.text("reason")))
        one.done()
    return tuple(found)


def read_date(fields: Fields) -> str:
    """The ISO date at `as_of`."""
    return fields.text("as_of", pattern=r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", expected="a date, YYYY-MM-DD")


def _overrides(fields: Fields) -> tuple[Override, ...]:
    overrides = fields.mapping_or_empty("overrides")
    return tuple(Override(package=normalise(name), reason=overrides.text(name)) for name in overrides.keys)


def read_version(fields: Fields, key: str) -> str:
    """The PEP 440 version at `key`; empty after a fault."""
    version = fields.text(key)
    if version and not is_version(version):
        fields.fault(key, f"got '{version}', expected a PEP 440 version")
        return ""
    return version


def _specifier(fields: Fields, key: str) -> str:
    specifier = fields.text(key)
    if specifier and not is_specifier(specifier):
        fields.fault(key, f"got '{specifier}', expected a PEP 440 specifier such as >=4.56,<5")
        return ""
    return specifier
