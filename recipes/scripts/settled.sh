#!/bin/bash
# Runs inside a build: runs a command, and then gives every file that it changed one time.
set -euo pipefail

touch /dev/before
PYTHONDONTWRITEBYTECODE=1 "$@"
# These hold times.
rm -f /var/cache/ldconfig/aux-cache /var/log/dpkg.log /var/lib/dpkg/*-old
find / -xdev -newercm /dev/before -exec touch --no-dereference --date="@$FILE_EPOCH" {} +
