#!/bin/bash
# Runs inside a build: installs torch, torchvision and torchaudio from wheels that were compiled here, and proves that
# they are what was asked for and that there is one NCCL. install-torch.sh CUDA NCCL TORCH TORCHVISION TORCHAUDIO
set -euo pipefail

python3 /dev/sparkbake/packages.py --uv /dev/sparkbake/uv --wheels /dev/sparkbake/wheels
python3 /dev/sparkbake/guard.py nccl "$2"
python3 /dev/sparkbake/guard.py record --cuda "$1" --nccl "$2" --torch "$3" --torchvision "$4" --torchaudio "$5"
python3 /dev/sparkbake/guard.py images
mkdir -p /workspace
