#!/bin/bash
# Runs inside a build: installs packages beside torch, and proves that torch is still the one compiled here and that
# there is still one NCCL. install-environment.sh NCCL WHAT ARGUMENTS-OF-PACKAGES.PY...
set -euo pipefail

python3 /dev/sparkbake/packages.py --uv /dev/sparkbake/uv "${@:3}"
python3 /dev/sparkbake/guard.py check "installing $2"
python3 /dev/sparkbake/guard.py nccl "$1"
