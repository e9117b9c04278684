"""Read a folder of patches: series.yaml and the patch files it lists, with every fault of both at once."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast

from sparkbake.fields import NAME, Fields, read_fields, read_text
from sparkbake.patches import (
    Effect,
    Patch,
    Release,
    Series,
    Spared,
    Topic,
    Waived,
    Waiver,
    coverage_faults,
)
from sparkbake.patchfiles import headers_of, text_faults, touched_by
from sparkbake.versions import is_specifier, is_version

_PATCH_NAME = r"\d{4}-[a-z0-9]+(?:-[a-z0-9]+)*\.patch"
_FILE = r"(?!/)(?!.*\.\.)\S+"


def load_series(folder: Path) -> Series:
    """Read and check the patches of one upstream project.

    Args:
        folder: has series.yaml and the patch files, and is named as the project is.

    Raises:
        MatrixError: with every fault, each with line, column and key path.
    """
    texts = tuple((path.name, read_text(path)) for path in sorted(folder.glob("*.patch")))
    return _parse_once(read_text(folder / "series.yaml"), f"{folder.name}/series.yaml", texts, folder.name)


# One command asks for it once a row, and the same text is the same value.
@lru_cache(maxsize=4)
def _parse_once(text: str, name: str, files: tuple[tuple[str, str], ...], component: str) -> Series:
    return parse_series(text, name, dict(files), component=component)


def parse_series(text: str, name: str, files: Mapping[str, str], *, component: str) -> Series:
    """Parse the text of a series; see `load_series`.

    Args:
        name: how messages call the file.
        files: name to text of every patch file there is.
    """
    root = read_fields(text, name)
    root.text("schema", pattern="1", expected="'1', the version of this format")
    topics, releases, pending = root.mapping("topics"), root.mapping("releases"), root.mapping_or_empty("pending")
    series = Series(
        component=component,
        topics=tuple(_topic(key, topics.mapping(key)) for key in topics.names),
        releases=tuple(_release(key, releases) for key in releases.keys),
        pending=tuple((key, pending.text(key)) for key in pending.keys),
        patches=_patches(root, files, topics.keys),
        waivers=(
            *(_waiver(one, "not-needed", topics.keys) for one in root.items_or_empty("not_needed")),
            *(_waiver(one, "not-possible", topics.keys) for one in root.items_or_empty("not_possible")),
        ),
        spared=(),
    )
    variants = tuple(sorted({one.variant for one in series.topics if one.variant}))
    series = replace(series, spared=tuple(_spared(one, variants) for one in root.items_or_empty("spared")))
    for version, _why in series.pending:
        if version in releases.keys:
            pending.fault(version, "stands under releases, too; remove one of them")
    root.done()
    root.raise_faults()
    for fault in coverage_faults(series):
        root.fault("topics", fault)
    root.raise_faults()
    return series


# ---- one function a section


def _topic(key: str, fields: Fields) -> Topic:
    topic = Topic(
        name=key,
        title=fields.text("title"),
        variant=fields.text_or_none("variant", pattern=NAME, expected="the name of a variant"),
    )
    fields.done()
    return topic


def _release(key: str, releases: Fields) -> Release:
    fields = releases.mapping(key)
    if not is_version(key):
        releases.fault(key, f"got the key '{key}', expected a PEP 440 version")
    release = Release(
        version=key,
        source=cast("Literal['sdist', 'wheel']", fields.choice("source", ("sdist", "wheel"))),
        note=fields.text_or_none("note"),
    )
    fields.done()
    return release


def _patches(root: Fields, files: Mapping[str, str], topics: tuple[str, ...]) -> tuple[Patch, ...]:
    entries = root.items_or_empty("patches")
    patches = tuple(_patch(one, files, topics) for one in entries)
    names = [one.name for one in patches]
    for entry, before, name in zip(entries[1:], names, names[1:], strict=False):
        if name[:4] <= before[:4]:
            entry.fault("file", f"stands after {before}, expected a higher number: they apply in this order")
    for name in files:
        if name not in names:
            root.fault("patches", f"{name} is in the folder and not in the list; list or delete it")
    return patches


def _patch(fields: Fields, files: Mapping[str, str], topics: tuple[str, ...]) -> Patch:
    name = fields.text("file", pattern=_PATCH_NAME, expected="a file such as 0001-what-it-does.patch")
    text = files.get(name, "")
    patch = Patch(
        name=name,
        topic=_topic_name(fields, topics),
        releases=_specifier(fields),
        upstream=fields.text("upstream", pattern=r"https://\S+|none: .+", expected="an address, or 'none: ' and why"),
        drop_when=fields.text("drop_when"),
        reason=fields.text("reason"),
        effects=tuple(_effect(one) for one in fields.items("asserts")),
        text=text,
        touches=touched_by(text),
    )
    if name and name not in files:
        fields.fault("file", f"there is no {name} in the folder; add or unlist it")
    elif name:
        _check_file(fields, patch)
    fields.done()
    return patch


def _check_file(fields: Fields, patch: Patch) -> None:
    """Hold a patch file against what the series says of it."""
    for fault in text_faults(patch.text):
        fields.fault("file", f"{patch.name} {fault}")
    headers = headers_of(patch.text)
    for key, header, said in (
        ("upstream", "Upstream", patch.upstream),
        ("drop_when", "Drop-When", patch.drop_when),
    ):
        if said and headers.get(header, said) != said:
            fields.fault(key, f"got '{said}', but {patch.name} says '{headers[header]}'; make them the same")
    asserted = {one.file for one in patch.effects}
    for file in sorted(set(patch.touches) - asserted):
        fields.fault("asserts", f"nothing is asserted of {file}, which {patch.name} changes; add what it must have")
    for file in sorted(asserted - set(patch.touches) - {""}):
        fields.fault("asserts", f"{patch.name} does not change {file}; assert only of what it changes")


def _effect(fields: Fields) -> Effect:
    count = fields.text("count", pattern=r"\d{1,3}", expected="how often it is there; 0 when it may not be")
    effect = Effect(
        file=fields.text("file", pattern=_FILE, expected="a path in the source tree"),
        text=fields.text("text"),
        count=int(count or "0"),
    )
    fields.done()
    return effect


def _waiver(fields: Fields, kind: Waived, topics: tuple[str, ...]) -> Waiver:
    waiver = Waiver(
        topic=_topic_name(fields, topics),
        kind=kind,
        releases=_specifier(fields),
        because=fields.text("because"),
        evidence=fields.text("evidence"),
    )
    fields.done()
    return waiver


def _spared(fields: Fields, variants: tuple[str, ...]) -> Spared:
    spared = Spared(
        variant=fields.choice("variant", variants or ("none",)),
        family=fields.text("family", pattern=r"[A-Z][A-Z0-9_]*", expected="a family as `nox -s kernels` names it"),
        releases=_specifier(fields),
        because=fields.text("because"),
        evidence=fields.text("evidence"),
    )
    fields.done()
    return spared


def _topic_name(fields: Fields, topics: tuple[str, ...]) -> str:
    return fields.choice("topic", topics or ("none",))


def _specifier(fields: Fields) -> str:
    specifier = fields.text("releases")
    if specifier and not is_specifier(specifier):
        fields.fault("releases", f"got '{specifier}', expected a PEP 440 specifier such as >=0.14,<0.15")
        return ""
    return re.sub(r"\s+", "", specifier)
