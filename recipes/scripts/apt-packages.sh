#!/bin/bash
# Runs inside a build of what is compiled: installs the named packages of the operating system. They come from the
# archive snapshot that APT_SNAPSHOT names, or from what mirrors.yaml has in its place, which comes as a secret: another
# snapshot service, or a plain folder of packages, as apt names one ("http://.../ ./"). With APT_KEEP, where a bundle is
# made, what was fetched stays in that folder, each file with what it says of itself.
set -euo pipefail

missing=()
for package in "$@"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    echo "apt-packages: all $# packages are part of the base"
    exit 0
fi

touch /dev/before
given=/dev/sparkbake/apt own=/dev/apt place=
if [[ -s $given ]]; then place=$(<"$given"); fi
options=(-o Acquire::Retries=3)
if [[ $place == *" ./" ]]; then
    # Nobody signs such a folder: who names it vouches for it, and a bundle's is held against hashes before the build.
    mkdir -p "$own"
    echo "deb [trusted=yes] $place" >"$own/packages.list"
    options+=(-o "Dir::Etc::SourceList=$own/packages.list" -o Dir::Etc::SourceParts=/dev/null)
elif [[ -z ${APT_SNAPSHOT:-} ]]; then
    echo "apt-packages: error: the base lacks ${missing[*]}, and it has no archive snapshot to take them from; name a" \
        "folder that has them as \`apt\` in mirrors.yaml" >&2
    exit 1
elif [[ $place ]]; then
    # The image's own suites, components and keys, at another address: apt checks the archive's signature as ever.
    mkdir -p "$own/parts"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
        [[ ! -f $file ]] || sed --regexp-extended \
            -e "s|^(deb(-src)?[[:space:]]+(\[[^]]*\][[:space:]]+)?)[a-z+]+:[^[:space:]]+|\1$place/$APT_SNAPSHOT|" \
            -e "s|^URIs:.*|URIs: $place/$APT_SNAPSHOT|" "$file" >"$own/parts/${file##*/}"
    done
    # A file sources.list is read beside the folder, not in it.
    if [[ -f $own/parts/sources.list ]]; then mv "$own/parts/sources.list" "$own"; else touch "$own/sources.list"; fi
    options+=(-o "Dir::Etc::SourceList=$own/sources.list" -o "Dir::Etc::SourceParts=$own/parts")
else
    options+=(-o "APT::Snapshot=$APT_SNAPSHOT")
fi
if [[ -s /dev/sparkbake/ca.pem ]]; then
    options+=(-o Acquire::https::CaInfo=/dev/sparkbake/ca.pem)
elif [[ ! -e /etc/ssl/certs/ca-certificates.crt ]]; then
    # A bare base has no certificates to check the server with. What is fetched is authentic all the same: apt checks the
    # archive's signature, and every file against it.
    options+=(-o Acquire::https::Verify-Peer=false)
fi
if [[ ${APT_KEEP:-} ]]; then
    mkdir -p "$APT_KEEP/partial"
    options+=(-o "Dir::Cache::Archives=$APT_KEEP" -o APT::Keep-Downloaded-Packages=true)
fi
export DEBIAN_FRONTEND=noninteractive
apt-get "${options[@]}" update
apt-get "${options[@]}" install --yes --no-install-recommends "${missing[@]}"
apt-get clean
if [[ ${APT_KEEP:-} ]]; then
    rm -rf "$APT_KEEP/partial" "$APT_KEEP/lock"
    for package in "$APT_KEEP"/*.deb; do dpkg-deb --field "$package" >"${package%.deb}.control"; done
fi
# All of these embed the time or the host.
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log \
    /var/log/alternatives.log /var/cache/debconf/*-old /var/lib/dpkg/*-old
find /usr/lib/python3* -name __pycache__ -type d -prune -exec rm -rf {} +

# What was touched gets one time. BuildKit could rewrite times on export, but packs every layer twice for it.
find / -xdev -newercm /dev/before -exec touch --no-dereference --date="@$FILE_EPOCH" {} +
