#!/usr/bin/env bash
# Tells in one issue what `nox -s watch -- --markdown` found: opens it, renews it, or closes it: tell.sh FILE
set -euo pipefail
news=$1
title='Releases of torch and FlashInfer that no row has'

[[ -f $news ]] || { printf '::error::tell.sh: %s is missing, expected what nox -s watch prints\n' "$news" >&2; exit 1; }
# By this workflow's own app: a person's issue of that title is not touched.
found=$(gh issue list --app github-actions --state open --limit 1000 --json number,title --jq ".[] | select(.title == \"$title\") | .number")
number=${found%%$'\n'*}
if [[ ! -s $news ]]; then
    [[ -n $number ]] || { printf '::notice::tell.sh: nothing is new, and no issue is open\n'; exit 0; }
    gh issue close "$number" --comment 'The matrix has all of them now.'
elif [[ -n $number ]]; then
    gh issue edit "$number" --body-file "$news"
else
    gh issue create --title "$title" --body-file "$news"
fi
