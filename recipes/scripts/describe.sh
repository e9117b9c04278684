#!/bin/bash
# Runs inside a build: puts into the image what it says of itself, what it does by itself when it runs (its entrypoint,
# tuned configs), and the folders for work and for caches; as layout.py does for rows that are installed from wheels.
set -euo pipefail

cd /dev/sparkbake/runtime
while IFS= read -r -d '' path; do
    mode=644
    # What says its interpreter can be executed.
    if [[ $(head --bytes=2 "$path" | tr -d '\0') == '#!' ]]; then mode=755; fi
    install -D --mode="$mode" "$path" "/$path"
done < <(find . -type f -print0 | sort --zero-terminated)
install -D --mode=644 --target-directory=/usr/share/sparkbake /dev/sparkbake/manifest.json

mkdir -p /workspace
install --directory --mode=1777 /cache
# Where people are used to mount root's cache, a link leads there; the engine follows it.
if [[ -d /root/.cache && ! -L /root/.cache ]]; then rmdir /root/.cache; fi
ln --symbolic --no-target-directory /cache /root/.cache
