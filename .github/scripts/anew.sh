#!/usr/bin/env bash
# Has the next build make all images of compiled rows itself: anew.sh TAG...
#
# A build takes a foundation that its engine has, and then has neither a report nor a provenance of it, since each run
# begins with a checkout that has nothing of the runs before. So the images go from the engine; what was compiled for them
# comes from its build cache.
set -euo pipefail
here=$(dirname "$0")

references=$(./quickstart build "$@" --dry-run --json | python3 "$here/reference.py" "$@")
while read -r _kind reference; do
    if docker image inspect "$reference" >/dev/null 2>&1; then
        docker image rm --force "$reference"
    fi
done <<<"$references"
