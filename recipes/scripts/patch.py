"""Runs inside a build: applies patches to a checkout, all or none, without fuzz, and proves that each had its effect.

effects.json lists the patches in their order: `[{"name": ..., "checks": [{"file", "text", "count"}]}]`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=Path, required=True, help="folder with the patches")
    parser.add_argument("--effects", type=Path, required=True)
    parser.add_argument("tree", type=Path)
    options = parser.parse_args()
    asked: list[dict[str, Any]] = json.loads(options.effects.read_text(encoding="utf-8"))
    for one in asked:
        if not missing(options.tree, one["checks"]):
            fail(f"{one['name']}: {options.tree} has its effect already; is it patched, or another release?")
    applied: list[Path] = []
    for one in asked:
        applied.append(options.patches / one["name"])
        check(options.tree, applied)
    if applied:
        apply(options.tree, applied)
    for one in asked:
        if faults := missing(options.tree, one["checks"]):
            fail(f"{one['name']} applied to {options.tree} without its effect: {'; '.join(faults)}")
        print(f"patch: {one['name']}: applied, with its {len(one['checks'])} effects", flush=True)


def fail(text: str) -> NoReturn:
    print(f"patch: error: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


def missing(tree: Path, checks: list[dict[str, Any]]) -> list[str]:
    """What a patch is to bring about and the tree does not have."""
    faults = []
    for one in checks:
        path = tree / one["file"]
        if not path.is_file():
            fail(f"{tree} has no {one['file']}; is it the release that the patch is for?")
        found = path.read_text(encoding="utf-8").count(one["text"])
        if found != one["count"]:
            faults.append(f"{one['file']} has '{one['text']}' {found} times, expected {one['count']}")
    return faults


def check(tree: Path, patches: list[Path]) -> None:
    """Try a patch on top of those before it, without changing anything."""
    done = git_apply(tree, patches, "--check")
    if done.returncode:
        fail(f"{patches[-1].name} does not apply to {tree}; nothing was changed:\n{done.stderr.strip()}")


def apply(tree: Path, patches: list[Path]) -> None:
    done = git_apply(tree, patches)
    if done.returncode:
        fail(f"git apply ended with {done.returncode}: {done.stderr.strip()}")


def git_apply(tree: Path, patches: list[Path], *options: str) -> "subprocess.CompletedProcess[str]":
    """Hand patches to git as one; it has no fuzz, and changes all files or none."""
    text = "".join(one.read_text(encoding="utf-8") for one in patches)
    argv = ["git", "-C", str(tree), "apply", "--whitespace=nowarn", *options, "-"]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
