#!/usr/bin/env bash
# Makes the GitHub release of a row, or renews the notes of the one there is: release.sh TAG NOTES
set -euo pipefail
tag=$1 notes=$2

[[ -s $notes ]] || { printf '::error::release.sh: %s is missing or empty, expected the notes of %s\n' "$notes" "$tag" >&2; exit 1; }
# `release list` instead of `view`, whose failure may be anything.
there=$(gh release list --limit 1000 --json tagName --jq '.[].tagName')
if grep -Fqx -- "$tag" <<<"$there"; then
    gh release edit "$tag" --notes-file "$notes"
else
    # GitHub takes the one that was made last for the latest, and an older row may be published after a newer one.
    newest=$(printf '%s\n' "$there" "$tag" | { grep -Ex '[0-9]+\.[0-9]+\.[0-9]+(\.post[0-9]+)?-t[0-9]+(-v[0-9]+)?' || :; } | sort -V | tail -n 1)
    latest=false
    if [[ $newest == "$tag" ]]; then latest=true; fi
    gh release create "$tag" --title "$tag" --notes-file "$notes" --target "${GITHUB_SHA:?}" --latest="$latest"
fi
