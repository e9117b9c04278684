#!/bin/bash
# Runs inside a build: compiles Triton with the LLVM in /opt/llvm and with the tools of this CUDA, where it would fetch
# both on its own; its ptxas is then one that knows the chip. build-triton.sh VERSION
set -euo pipefail

source=/src/triton cuda=/usr/local/cuda
wanted=$(tr -d '[:space:]' <"$source/cmake/llvm-hash.txt")
if [[ ! -d /opt/llvm ]]; then
    echo "build-triton: error: Triton $1 needs LLVM $wanted; add llvm with that commit to the sources" >&2
    exit 1
fi
found=$(git -C /src/llvm rev-parse HEAD)
if [[ $found != "$wanted" ]]; then
    echo "build-triton: error: Triton $1 needs LLVM $wanted, but LLVM is at $found; correct its commit" >&2
    exit 1
fi
# Where setup.py would put what it fetches.
backend=$source/third_party/nvidia/backend
mkdir -p "$backend/bin" "$backend/include"
cp --dereference "$cuda"/bin/{ptxas,cuobjdump,nvdisasm} "$backend/bin/"
cp "$backend/bin/ptxas" "$backend/bin/ptxas-blackwell"
cp --dereference "$cuda"/include/*.h "$backend/include/"
cp --recursive --dereference "$cuda/include/crt" "$backend/include/"
export TRITON_OFFLINE_BUILD=1 TRITON_BUILD_PROTON=OFF TRITON_BUILD_WITH_CCACHE=true LLVM_SYSPATH=/opt/llvm JSON_SYSPATH=/usr
# Else its version would have the commit behind it, and it would ask for submodules.
rm -rf "$source/.git"
/dev/sparkbake/build-wheel.sh triton "$1" "$source"
