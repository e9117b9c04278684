#!/usr/bin/env bash
# Readies a hosted runner for a whole image: room on its disk, what bases are made with, and the image store that the
# builds need.
#
# GitHub promises 14 GB of free disk; what its machines have is more (72 GB disks with 20 GB free and 145 GB disks with
# 90 GB free are reported of x86-64), and a build asks for 45. So what comes with the runner and no build uses goes, and
# whether that was enough the build itself says before it fetches a byte; if it was not, start it again with `-f runner=`.
set -euo pipefail

die() { printf '::error::hosted.sh: %s\n' "$*" >&2; exit 1; }

# It removes what a machine of somebody's own may need.
[[ ${RUNNER_ENVIRONMENT:-} == github-hosted ]] ||
    die "RUNNER_ENVIRONMENT is '${RUNNER_ENVIRONMENT:-}', expected github-hosted; on a machine of your own nothing of this is needed"
command -v docker >/dev/null || die "found no docker, which this runner image should have; use another runner image"

unused=(
    /usr/local/lib/android /usr/share/dotnet /usr/share/swift /usr/local/.ghcup /opt/ghc /usr/lib/jvm
    /usr/local/share/powershell /usr/local/share/chromium /usr/local/share/vcpkg /opt/google /opt/microsoft /opt/az
    /usr/share/gradle /usr/share/miniconda "${AGENT_TOOLSDIRECTORY:-/opt/hostedtoolcache}"
)
df -h /
sudo rm -rf -- "${unused[@]}"
docker system prune --all --force >/dev/null

# What `publish.base` of the matrix is bootstrapped with.
sudo apt-get update --quiet
sudo apt-get install --quiet --yes --no-install-recommends arch-test debian-archive-keyring mmdebstrap

config=/etc/docker/daemon.json
python3 - "$config" >"${RUNNER_TEMP:?}/daemon.json" <<'EOF'
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
said = json.loads(path.read_text()) if path.exists() else {}
said.setdefault("features", {})["containerd-snapshotter"] = True
print(json.dumps(said))
EOF
sudo install -m 0644 "$RUNNER_TEMP/daemon.json" "$config"
sudo systemctl restart docker
df -h /
