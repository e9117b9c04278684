#!/bin/bash
# Runs inside a build: compiles one Python package, build-wheel.sh NAME VERSION FOLDER, to /out/wheels, without a
# network and with the packages of /opt/venv. Asks for GIB_PER_JOB and FILE_EPOCH; all else that it reads from the
# environment is the package's own.
set -euo pipefail

name=$1 version=$2 folder=$3
# One step compiles at a time, so that memory is counted once: locked by jobs.py, until this script ends.
exec 9>>/root/.cache/ccache/sparkbake-turn
MAX_JOBS=$(python3 /dev/sparkbake/jobs.py --gib-per-job "$GIB_PER_JOB" --turn 9)
export MAX_JOBS CMAKE_BUILD_PARALLEL_LEVEL=$MAX_JOBS CARGO_BUILD_JOBS=$MAX_JOBS NVCC_THREADS=1
export CCACHE_DIR=/root/.cache/ccache CCACHE_COMPILERCHECK=content
export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache
# The same in all rows, so that siblings share one compiled wheel.
export SOURCE_DATE_EPOCH=$FILE_EPOCH PYTHONHASHSEED=0 TZ=UTC

uv build --wheel --offline --no-config --no-build-isolation --python /opt/venv/bin/python --out-dir /out/wheels "$folder"
rm -f /out/wheels/.gitignore
wheels=(/out/wheels/*.whl)
file=${wheels[0]##*/}
# As Python writes versions: 2.10.0rc6.
wanted=${version/-rc/rc}
if ((${#wheels[@]} != 1)) || [[ $file != "${name//-/_}-$wanted"-* && $file != "${name//-/_}-$wanted+"* ]]; then
    echo "build-wheel: error: expected one wheel of $name $wanted, found ${wheels[*]##*/}" >&2
    exit 1
fi
ccache --show-stats | grep -iE 'hits|misses' | head -n 2 || echo "build-wheel: ccache tells nothing"
find /out -exec touch --no-dereference --date="@$FILE_EPOCH" {} +
echo "build-wheel: $file"
