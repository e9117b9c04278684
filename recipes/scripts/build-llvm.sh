#!/bin/bash
# Runs inside a build: compiles LLVM and MLIR to /opt/llvm, as Triton's README has it for an LLVM of one's own.
set -euo pipefail

# One step compiles at a time, so that memory is counted once: locked by jobs.py, until this script ends.
exec 9>>/root/.cache/ccache/sparkbake-turn
jobs=$(python3 /dev/sparkbake/jobs.py --gib-per-job "$GIB_PER_JOB" --turn 9)
# By content: all compilers of our images have one time, whichever they are.
export CCACHE_DIR=/root/.cache/ccache CCACHE_COMPILERCHECK=content
cmake -G Ninja -S /src/llvm/llvm -B /tmp/llvm -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/opt/llvm \
    -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
    -DLLVM_ENABLE_PROJECTS="mlir;llvm;lld" -DLLVM_TARGETS_TO_BUILD="host;NVPTX;AMDGPU" \
    -DLLVM_ENABLE_ASSERTIONS=ON -DLLVM_INSTALL_UTILS=ON -DLLVM_ENABLE_TERMINFO=OFF -DLLVM_ENABLE_ZSTD=OFF
cmake --build /tmp/llvm --target install --parallel "$jobs"
rm -rf /tmp/llvm
