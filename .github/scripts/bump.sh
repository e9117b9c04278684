#!/usr/bin/env bash
# Adds the rows of the newest release of vLLM to this checkout, and writes what a pull request of them needs:
#
#   bump.sh FOLDER     FOLDER/change.patch, FOLDER/body.md; `release=0.33.0` in $GITHUB_OUTPUT, where there is one
#
# It changes the checkout: on a laptop, run it in a clone.
set -euo pipefail
folder=$1
mkdir -p "$folder"

tags() {
    ./quickstart list --json >"$folder/rows.json"
    python3 -c 'import json, sys; [print(row["tag"]) for row in json.load(sys.stdin)]' <"$folder/rows.json" | sort
}

[[ -z $(git status --porcelain) ]] || { printf '::error::bump.sh: this checkout has changes of its own; run it in a clean clone\n' >&2; exit 1; }
before=$(tags)
./quickstart bump --newest --older-than-days 7
mapfile -t new < <(comm -13 <(printf '%s\n' "$before") <(tags))
if ((${#new[@]} == 0)); then
    [[ -z $(git status --porcelain) ]] || { printf '::error::bump.sh: bump changed files, and no row is new\n' >&2; exit 1; }
    printf '::notice::bump.sh: the matrix has every release that is old enough\n'
    exit 0
fi
./quickstart tests --update-golden tests/test_render.py
./quickstart docs

release=${new[0]%-t*}
# shellcheck disable=SC2016  # the backquotes are Markdown's
{
    printf 'vLLM %s is a week old. Proposed by `nox -s bump -- --newest --older-than-days 7`; nothing was built.\n' "$release"
    printf '\nBefore it is merged: read the diff of the matrix, of the lock and of the Dockerfile; build it:\n'
    printf '`gh workflow run build.yml --ref watch/%s -f tags="%s"`.\n' "$release" "${new[*]}"
    for tag in "${new[@]}"; do
        ./quickstart notes "$tag" --output "$folder/notes.md"
        printf '\n<details><summary>%s: versions, overrides, bytes to download from the release before</summary>\n\n' "$tag"
        cat "$folder/notes.md"
        printf '\n</details>\n'
        since=$(sed -n 's/^## What an update from \(.*\) downloads$/\1/p' "$folder/notes.md")
        # Of layers nothing is known before it is built.
        [[ -z $since ]] || printf '\nOnce both are built, `nox -s delta -- %s %s` says which layers an update moves.\n' "$since" "$tag"
    done
    printf '\n<details><summary>Kernels it compiles for the chip</summary>\n\n```\n'
    # Findings end it with 1, and are what the reader should see; anything else is a fault.
    status=0
    ./quickstart kernels "${new[0]}" || status=$?
    ((status <= 1)) || exit "$status"
    printf '```\n\n</details>\n'
} >"$folder/body.md"
git add --all
git diff --cached --binary >"$folder/change.patch"
rm -f "$folder/rows.json" "$folder/notes.md"
printf 'release=%s\n' "$release" >>"${GITHUB_OUTPUT:-/dev/stdout}"
