#!/usr/bin/env bash
# Packs the image of a row and the reports about it, for another machine: pack.sh TAG FOLDER
set -euo pipefail
tag=$1 folder=$2
here=$(dirname "$0")

reference=$(./quickstart build "$tag" --dry-run --json | python3 "$here/reference.py" "$tag")
mkdir -p "$folder"
cp -R build/reports "$folder/reports"
docker image save "$reference" --output "$folder/image.tar"
# The digest that the engine gives it on the other side must be this one.
docker image inspect "$reference" --format '{{.Descriptor.Digest}}' >"$folder/digest"
printf 'packed %s, %s\n' "$reference" "$(cat "$folder/digest")"
if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then
    # For the person who approves it.
    printf 'Built and verified: %s@%s\n' "$reference" "$(cat "$folder/digest")" >>"$GITHUB_STEP_SUMMARY"
fi
