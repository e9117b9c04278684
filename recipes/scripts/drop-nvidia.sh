#!/bin/bash
# Runs inside a build: takes out of a CUDA image its own NCCL, since there is to be one and it is compiled here, and
# NVIDIA's package archive, which has no snapshots, so that nothing can come from it.
set -euo pipefail

rm -f /etc/apt/sources.list.d/cuda*
mapfile -t packages < <(dpkg-query --show --showformat='${Package}\n' 'libnccl*' 2>/dev/null)
if ((${#packages[@]})); then
    echo "drop-nvidia: removing ${packages[*]}"
    # The image holds them back, for it was made with them.
    for package in "${packages[@]}"; do
        echo "$package install"
    done | dpkg --set-selections
    dpkg --purge "${packages[@]}"
fi
ldconfig
