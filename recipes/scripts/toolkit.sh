#!/bin/bash
# Runs inside a build: takes from a CUDA devel image what compilers need when the runtime image runs (Triton, FlashInfer,
# torch extensions) and puts it to /out/toolkit; and NCCL, to /out/nccl.
set -euo pipefail

home=$(readlink --canonicalize /usr/local/cuda)
cd "$home"
libraries=$(readlink --canonicalize lib64)
mkdir -p /out/toolkit /out/nccl

needed=(bin/nvcc bin/nvcc.profile bin/ptxas bin/cudafe++ bin/fatbinary bin/nvlink bin/crt nvvm/bin/cicc nvvm/libdevice
    include "$libraries/libcudart.so" "$libraries/libcudart_static.a" "$libraries/libcudadevrt.a" "$libraries/stubs")
for path in "${needed[@]}"; do
    if [[ ! -e $path ]]; then
        echo "toolkit: error: the devel image has no $home/$path, which compiling at run time needs" >&2
        exit 1
    fi
    cp --archive --parents "$(realpath --no-symlinks "$path")" /out/toolkit
    # Where the folder is a link, as `include` is, what it leads to.
    cp --archive --parents "$(readlink --canonicalize "$path")" /out/toolkit
done
# cuobjdump and nvdisasm tell what was compiled; names for the linker: libcublas.so of libcublas.so.13.
for path in bin/cuobjdump bin/nvdisasm bin/bin2c bin/cu++filt; do
    if [[ -e $path ]]; then cp --archive --parents "$home/$path" /out/toolkit; fi
done
# torch's profiler is linked to CUPTI, which CUDA's runtime image does not have.
find "$libraries" -maxdepth 1 -name 'libcupti.so.*' -exec cp --archive --parents {} /out/toolkit ';'
find "$libraries" -maxdepth 1 -type l -name 'lib*.so' ! -name 'libnccl*' -exec cp --archive --parents {} /out/toolkit ';'
cp --archive --parents /opt/nccl /etc/ld.so.conf.d/nccl.conf /out/nccl
find /out -exec touch --no-dereference --date="@$FILE_EPOCH" {} +
