"""Say what the image of a row is called: what `build TAG --dry-run --json` prints comes in, its reference goes out."""

import json
import sys


def main(tag: str) -> int:
    """Print the reference, "docker.io/namespace/name:0.32.0-t5"; 1 unless the plan has one image of this tag."""
    found = [one["reference"] for one in json.load(sys.stdin) if one["tag"] == tag]
    if len(found) != 1:
        print(f"::error::reference.py: the plan has {len(found)} images of {tag}, expected one", file=sys.stderr)
        return 1
    print(found[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
