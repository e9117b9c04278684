#!/bin/bash
# Runs inside a build: compiles NCCL to /opt/nccl, and its tests with it where there is a /src/nccl-tests; puts what
# the image takes to /out. Asks for NVCC_GENCODE, GIB_PER_JOB and FILE_EPOCH.
set -euo pipefail

# One step compiles at a time, so that memory is counted once: locked by jobs.py, until this script ends.
exec 9>>/root/.cache/ccache/sparkbake-turn
jobs=$(python3 /dev/sparkbake/jobs.py --gib-per-job "$GIB_PER_JOB" --turn 9)
# Its g++ is ccache under that name; as two words, CXX="ccache g++", nvcc would be given half of it as its -ccbin.
export PATH=/usr/lib/ccache:$PATH CCACHE_DIR=/root/.cache/ccache CCACHE_COMPILERCHECK=content
build() {
    make --jobs="$jobs" CUDA_HOME=/usr/local/cuda NVCC="ccache /usr/local/cuda/bin/nvcc" NVCC_GENCODE="$NVCC_GENCODE" "$@"
}

if [[ -d /src/nccl-tests ]]; then
    build -C /src/nccl-tests NCCL_HOME=/opt/nccl MPI=0 BUILDDIR=/tmp/nccl-tests
    mkdir -p /out/opt/nccl/bin
    find /tmp/nccl-tests -maxdepth 1 -type f -name '*_perf' -exec cp -t /out/opt/nccl/bin {} +
    for program in /out/opt/nccl/bin/*_perf; do
        [[ $(ldd "$program") == *"libnccl.so.2 => /opt/nccl/lib/"* ]] || {
            echo "build-nccl: error: $program does not load /opt/nccl/lib/libnccl.so.2" >&2
            exit 1
        }
    done
else
    build -C /src/nccl src.build BUILDDIR=/tmp/nccl
    build -C /src/nccl src.install BUILDDIR=/tmp/nccl PREFIX=/opt/nccl
    # A second NCCL, if anything linked it.
    rm -f /opt/nccl/lib/libnccl_static.a
    echo /opt/nccl/lib >/etc/ld.so.conf.d/nccl.conf
    ldconfig
    mkdir -p /out
    cp --archive --parents /opt/nccl /etc/ld.so.conf.d/nccl.conf /out
fi
ccache --show-stats | grep -iE 'hits|misses' | head -n 2 || echo "build-nccl: ccache tells nothing"
find /out -exec touch --no-dereference --date="@$FILE_EPOCH" {} +
