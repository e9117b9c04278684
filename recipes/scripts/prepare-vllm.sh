#!/bin/bash
# Runs inside a build: holds what CMake is handed against vLLM's sources, patches them, and lets upstream's own script take torch out of what they ask for.
# prepare-vllm.sh FOLDER SCRIPT
set -euo pipefail

python3 /dev/sparkbake/fetched.py --handed /dev/sparkbake/fetches.json "$1"
python3 /dev/sparkbake/patch.py --patches /dev/sparkbake/patches --effects /dev/sparkbake/effects.json "$1"
cd "$1"
if [[ ! -f $2 ]]; then
    echo "prepare-vllm: error: vLLM has no $2; it moves between releases: correct its path" >&2
    exit 1
fi
python3 "$2" >/dev/null
# 1 is grep's word for nothing found; 2 that it could not look.
status=0
left=$(grep --recursive --line-number --extended-regexp '^[[:space:]"]*torch(vision|audio)?[[:space:]]*[=<>~!]=' \
    pyproject.toml requirements --include='*.toml' --include='build*.txt' --include='cuda.txt' --include='common.txt') || status=$?
if ((status > 1)); then
    echo "prepare-vllm: error: pyproject.toml and requirements/ of $1 cannot be searched" >&2
    exit 1
fi
if ((status == 0)); then
    echo "prepare-vllm: error: $2 left these, which would replace torch:" >&2
    echo "$left" >&2
    exit 1
fi
echo "prepare-vllm: nothing asks for a torch any more"
find . -path ./.git -prune -o -exec touch --no-dereference --date="@$FILE_EPOCH" {} +
