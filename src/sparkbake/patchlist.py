"""The command `patches`: which patches a release has and why, and applying them to a source tree."""

import argparse
import json
from pathlib import Path
from typing import Any

from sparkbake.errors import UsageError
from sparkbake.patches import Patch, Series, Waiver, outcomes, select
from sparkbake.patching import apply
from sparkbake.series import load_series

_COMPONENT = "vllm"


def patches(options: argparse.Namespace) -> int:
    """List the patches of one release or of all, or apply those of one."""
    series = load_series(Path(options.root) / "patches" / _COMPONENT)
    if options.apply is not None:
        return _apply(series, options)
    if options.variant is not None:
        raise UsageError("--variant chooses what --apply applies; the list has all variants")
    known = tuple(one.version for one in series.releases)
    versions = known if options.release is None else (options.release,)
    described = [_described(series, version) for version in versions]
    if options.json:
        print(json.dumps(described, indent=2, sort_keys=True))
        return 0
    for one in described:
        _print(one)
    if options.release is None:
        for version, why in series.pending:
            print(f"{_COMPONENT} {version}: nothing is claimed of it yet: {why}")
    return 0


def _apply(series: Series, options: argparse.Namespace) -> int:
    if options.release is None:
        raise UsageError("--apply needs the release whose sources the tree has")
    selection = select(series, options.release, options.variant)
    apply(selection, options.apply)
    for one in selection.patches:
        print(f"{one.name}: applied, and its effect is there")
    print(f"{len(selection.patches)} patches, {selection.digest}")
    return 0


def _described(series: Series, version: str) -> dict[str, Any]:
    found = outcomes(series, version)
    release = next(one for one in series.releases if one.version == version)
    variants = {one.name: one.variant for one in series.topics}
    return {
        "release": version,
        "source": release.source,
        "note": release.note,
        "outcomes": [{**_outcome(one), "topic": one.topic, "variant": variants[one.topic]} for one in found],
    }


def _outcome(one: Patch | Waiver) -> dict[str, Any]:
    if isinstance(one, Waiver):
        return {"outcome": one.kind, "because": one.because, "evidence": one.evidence}
    return {
        "outcome": "patch",
        "patch": one.name,
        "sha256": one.sha256,
        "because": one.reason,
        "upstream": one.upstream,
        "drop_when": one.drop_when,
        "files": list(one.touches),
    }


def _print(described: dict[str, Any]) -> None:
    print(f"{_COMPONENT} {described['release']}")
    if described["note"]:
        print(f"  note: {described['note']}")
    for one in described["outcomes"]:
        what = one.get("patch", one["outcome"].replace("-", " "))
        only = f" [variant {one['variant']}]" if one["variant"] else ""
        print(f"  {one['topic']}{only}: {what}")
        print(f"    {one['because']}")
