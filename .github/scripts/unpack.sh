#!/usr/bin/env bash
# Unpacks what pack.sh has packed into the engine and into build/reports: unpack.sh FOLDER TAG...
set -euo pipefail
folder=$1
shift
here=$(dirname "$0")

die() { printf '::error::unpack.sh: %s\n' "$*" >&2; exit 1; }

# What is asked for is this checkout's to say, and not what was handed over.
./quickstart build "$@" --dry-run --json | python3 "$here/reference.py" "$@" >"$folder/references"
docker image load --input "$folder/images.tar"
# Verify and publish save images again, on the same disk.
rm "$folder/images.tar"
while read -r kind reference; do
    expected=$(awk -v one="$reference" '$1 == one { print $2 }' "$folder/digests")
    if [[ -n $expected ]]; then
        found=$(docker image inspect "$reference" --format '{{.Descriptor.Digest}}')
        [[ $found == "$expected" ]] || die "$reference is $found here, expected $expected, which was verified; build it again"
        printf 'unpacked %s %s\n' "$reference" "$found"
    elif [[ $kind == row ]]; then
        die "$folder/digests has no $reference, expected all that is to be published; build it again"
    fi
done <"$folder/references"
mkdir -p build/reports
cp -R "$folder/reports/." build/reports/
