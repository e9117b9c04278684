#!/usr/bin/env bash
# Unpacks what pack.sh has packed into the engine and into build/reports: unpack.sh TAG FOLDER
set -euo pipefail
tag=$1 folder=$2
here=$(dirname "$0")

reference=$(./quickstart build "$tag" --dry-run --json | python3 "$here/reference.py" "$tag")
docker image load --input "$folder/image.tar"
found=$(docker image inspect "$reference" --format '{{.Descriptor.Digest}}')
expected=$(cat "$folder/digest")
if [[ $found != "$expected" ]]; then
    printf '::error::unpack.sh: %s is %s here, expected %s, which was verified; build it again\n' "$reference" "$found" "$expected" >&2
    exit 1
fi
mkdir -p build/reports
cp -R "$folder/reports/." build/reports/
rm "$folder/image.tar"
printf 'unpacked %s, %s\n' "$reference" "$found"
