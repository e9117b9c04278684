#!/bin/bash
# Runs inside a build: puts the crates that Cargo.lock names, and no others, into /src/crates, with the settings that send
# cargo there. fetch-crates.sh FOLDER
set -euo pipefail

# Ubuntu keeps its newer Rusts beside each other, where PATH does not lead.
for folder in /usr/lib/rust-*/bin; do PATH=$folder:$PATH; done
if [[ ! $(type -P cargo) ]]; then
    echo "fetch-crates: error: there is no cargo; name its package in the matrix, under source.rust.os_packages" >&2
    exit 1
fi

export CARGO_HOME=/tmp/cargo CARGO_NET_GIT_FETCH_WITH_CLI=true GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
if [[ -s /dev/sparkbake/ca.pem ]]; then
    export CARGO_HTTP_CAINFO=/dev/sparkbake/ca.pem GIT_SSL_CAINFO=/dev/sparkbake/ca.pem
fi
if [[ -s /dev/sparkbake/gitconfig ]]; then export GIT_CONFIG_GLOBAL=/dev/sparkbake/gitconfig; fi
options=()
if [[ -s /dev/sparkbake/cargo.toml ]]; then options+=(--config /dev/sparkbake/cargo.toml); fi
mkdir -p /src/crates
# Not `cargo fetch`: it names what it fetched by the address of the mirror, so that who compiles had to know it, too, and
# the names would be in what is compiled.
cargo "${options[@]}" vendor --locked --versioned-dirs --respect-source-config --manifest-path "$1/Cargo.toml" \
    /src/crates/vendor >/src/crates/config.toml
rm -r /tmp/cargo
