"""Say what the images of some rows are called: what `build TAG... --dry-run --json` prints comes in.

Out goes a line for each image, "row docker.io/namespace/name:0.32.0-t5"; of compiled rows those of "foundation" first.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any


def main(tags: Sequence[str]) -> int:
    """Print the references; 1 unless the plan has one image of each tag."""
    found = list(images_of(json.load(sys.stdin)))
    for tag in tags:
        count = sum(kind == "row" and reference.endswith(f":{tag}") for kind, reference in found)
        if count != 1:
            print(f"::error::reference.py: the plan has {count} images of {tag}, expected one", file=sys.stderr)
            return 1
    for kind, reference in found:
        print(kind, reference)
    return 0


def images_of(plan: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  (a plan of either strategy)
    """Kind and reference of each image, those that others are made from first."""
    for one in plan["targets"] if isinstance(plan, dict) else plan:
        yield "foundation" if one.get("reusable") else "row", one["reference"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
