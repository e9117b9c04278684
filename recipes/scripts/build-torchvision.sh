#!/bin/bash
# Runs inside a build: compiles torchvision, which reads and writes images. build-torchvision.sh VERSION
set -euo pipefail

/dev/sparkbake/build-wheel.sh torchvision "$1" /src/torchvision
# A format whose headers it does not find it leaves out, with a warning among thousands of lines.
python3 -m zipfile --extract /out/wheels/torchvision-*.whl /tmp/torchvision
needed=$(readelf --dynamic --wide /tmp/torchvision/torchvision/image.so)
missing=()
for library in libjpeg libpng16 libwebp; do
    [[ $needed == *"[$library.so."* ]] || missing+=("$library")
done
if ((${#missing[@]})); then
    echo "build-torchvision: error: torchvision/image.so is not linked to ${missing[*]}: their headers were not found;" \
        "name the packages that have them in the matrix, under source.build_os_packages" >&2
    exit 1
fi
rm -r /tmp/torchvision
echo "build-torchvision: image.so reads JPEG, PNG and WebP"
