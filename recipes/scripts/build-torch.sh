#!/bin/bash
# Runs inside a build: compiles torch against the NCCL in /opt/nccl and the cuDNN of the package index.
# build-torch.sh VERSION
set -euo pipefail

# torch takes its version from these two, and a number above 1 would become a suffix.
export PYTORCH_BUILD_VERSION=${1/-rc/rc} PYTORCH_BUILD_NUMBER=1
cudnn=$(echo /opt/venv/lib/python3*/site-packages/nvidia/cudnn)
if [[ ! -d $cudnn ]]; then
    echo "build-torch: error: no nvidia-cudnn package is installed; name it in the matrix, under source.requires, for" \
        "the component runtime of this torch" >&2
    exit 1
fi
# The package has libcudnn.so.9 alone; CMake looks for libcudnn.so.
for library in "$cudnn"/lib/libcudnn*.so.*; do
    ln --symbolic --force "${library##*/}" "${library%.so.*}.so"
done
export USE_CUDNN=1 CUDNN_ROOT=$cudnn CUDNN_INCLUDE_DIR=$cudnn/include CUDNN_LIBRARY=$cudnn/lib
echo "build-torch: with the cuDNN in $cudnn"
/dev/sparkbake/build-wheel.sh torch "$1" /src/torch
