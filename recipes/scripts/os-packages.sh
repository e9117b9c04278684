#!/bin/bash
# Runs inside a build: installs the named packages from the archive snapshot that APT_SNAPSHOT names. A bootstrapped
# base already has them all, and then nothing is fetched.
set -euo pipefail

missing=()
for package in "$@"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    echo "os-packages: all $# packages are part of the base"
    exit 0
fi
if [[ -z ${APT_SNAPSHOT:-} ]]; then
    echo "os-packages: the base lacks ${missing[*]}, and it has no archive snapshot to take them from" >&2
    exit 1
fi

touch /dev/before
options=(-o "APT::Snapshot=$APT_SNAPSHOT" -o Acquire::Retries=3)
if [[ -s /dev/sparkbake/ca.pem ]]; then
    options+=(-o Acquire::https::CaInfo=/dev/sparkbake/ca.pem)
elif [[ ! -e /etc/ssl/certs/ca-certificates.crt ]]; then
    # A bare base has no certificates to check the snapshot server with. What is fetched is authentic all the same:
    # apt checks the archive's signature, and every file against it.
    options+=(-o Acquire::https::Verify-Peer=false)
fi
export DEBIAN_FRONTEND=noninteractive
apt-get "${options[@]}" update
apt-get "${options[@]}" install --yes --no-install-recommends "${missing[@]}"
apt-get clean
# All of these embed the time or the host.
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log \
    /var/log/alternatives.log /var/cache/debconf/*-old /var/lib/dpkg/*-old
find /usr/lib/python3* -name __pycache__ -type d -prune -exec rm -rf {} +

# What was touched gets one time. BuildKit could rewrite times on export, but packs every layer twice for it.
find / -xdev -newercm /dev/before -exec touch --no-dereference --date="@$FILE_EPOCH" {} +
