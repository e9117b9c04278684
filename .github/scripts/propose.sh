#!/usr/bin/env bash
# Pushes what bump.sh has written as a branch, and opens its pull request: propose.sh RELEASE FOLDER
set -euo pipefail
release=$1 folder=$2
branch=watch/$release

die() { printf '::error::propose.sh: %s\n' "$*" >&2; exit 1; }

[[ $release =~ ^[0-9]+(\.[0-9]+)+[a-z0-9.]*$ ]] || die "got '$release', expected a release such as 0.33.0"
# A person may have pushed to it.
if [[ -n $(git ls-remote origin "refs/heads/$branch") ]]; then
    printf '::notice::propose.sh: %s is there already; delete it to have it proposed anew\n' "$branch"
    exit 0
fi
git switch --quiet --create "$branch"
git apply --index "$folder/change.patch"
# The patch comes from a job that runs programs of others: it may bring data, and no code.
data=(':(exclude)matrix.yaml' ':(exclude)README.md' ':(exclude)locks' ':(exclude)docs' ':(exclude)tests/golden')
odd=$(git diff --cached --name-only -- . "${data[@]}")
[[ -z $odd ]] || die "the proposal changes ${odd//$'\n'/, }, expected only the matrix, locks, golden files and pages"
git -c user.name='github-actions[bot]' -c user.email='41898282+github-actions[bot]@users.noreply.github.com' \
    commit --quiet --message "Add the rows of vLLM $release" --message "Proposed from upstream's own metadata by nox -s bump."
git push --quiet origin "HEAD:refs/heads/$branch"
gh pr create --base main --head "$branch" --title "Add the rows of vLLM $release" --body-file "$folder/body.md"
# What a push with this token changes starts no workflow by itself.
gh workflow run ci.yml --ref "$branch"
