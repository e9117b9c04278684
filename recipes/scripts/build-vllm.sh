#!/bin/bash
# Runs inside a build: compiles vLLM from sources that were all handed to it. build-vllm.sh VERSION
set -euo pipefail

# Without CMP0170 CMake takes no notice of a source that is missing, and goes on without what it is for.
export CMAKE_ARGS="-DFETCHCONTENT_FULLY_DISCONNECTED=ON -DCMAKE_POLICY_DEFAULT_CMP0170=NEW"
export FETCHCONTENT_BASE_DIR=/tmp/fetched
mkdir -p /tmp/fetched
if [[ -n ${RUST:-} ]]; then
    # As in fetch-crates.sh, which filled /src/crates.
    for folder in /usr/lib/rust-*/bin; do PATH=$folder:$PATH; done
    # Else a missing cargo, or Rust that does not compile, gives a vLLM without that part, and says nothing.
    export VLLM_REQUIRE_RUST_FRONTEND=1 CARGO_NET_OFFLINE=true CARGO_HOME=/src/crates
fi
python3 /dev/sparkbake/guard.py check "preparing to compile vLLM"
/dev/sparkbake/build-wheel.sh vllm "$1" /src/vllm
# Sources that were handed over leave -build and -subbuild folders there alone.
fetched=$(find /tmp/fetched -maxdepth 1 -name '*-src' -printf '%f ')
if [[ -n $fetched ]]; then
    echo "build-vllm: error: CMake made $fetched on its own; name their sources and variables in the matrix" >&2
    exit 1
fi
