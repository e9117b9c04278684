#!/usr/bin/env bash
# Packs the images of rows and the reports about them, for another machine: pack.sh FOLDER TAG...
#
# All images are one archive, since those of a foundation and its rows share most layers. Of a foundation that the engine
# does not have, as the build took it from the registry, nothing is packed.
set -euo pipefail
folder=$1
shift
here=$(dirname "$0")

die() { printf '::error::pack.sh: %s\n' "$*" >&2; exit 1; }

mkdir -p "$folder"
./quickstart build "$@" --dry-run --json | python3 "$here/reference.py" "$@" >"$folder/references"
images=()
while read -r kind reference; do
    # The digest that the engine gives it on the other side must be this one.
    if digest=$(docker image inspect "$reference" --format '{{.Descriptor.Digest}}'); then
        images+=("$reference")
        printf '%s %s\n' "$reference" "$digest"
    elif [[ $kind == row ]]; then
        die "the engine does not have $reference, expected all that was asked for; build it"
    else
        printf '::notice::pack.sh: %s is not in the engine: what was built stands on that of the registry\n' "$reference" >&2
    fi
done <"$folder/references" >"$folder/digests"
rm "$folder/references"
cp -R build/reports "$folder/reports"
docker image save "${images[@]}" --output "$folder/images.tar"
sed 's/^/packed /' "$folder/digests"
if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then
    # For the person who approves it.
    sed 's/^\(.*\) \(.*\)$/Built and verified: \1@\2\n/' "$folder/digests" >>"$GITHUB_STEP_SUMMARY"
fi
