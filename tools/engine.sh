#!/bin/sh
# Gives this machine a Docker Engine and arm64 emulation where they are missing; leaves alone whatever works.
# With --check it only says what it would do; with --cosign it installs that and nothing else: only who publishes
# images, or checks their signatures, needs it.
#
# Facts this rests on (tried on Debian 12):
#  * Debian 12's own docker.io (20.10) is too old for OCI output; the packages of Debian unstable run on it as they
#    are, but runc must stay Debian 12's own.
#  * QEMU 7.2 hangs when it runs `import torch`; QEMU 10 does not.
set -eu

MIN_ENGINE=27
MIN_QEMU=10

say() { printf '%s\n' "engine: $*" >&2; }
die() { printf '%s\n' "engine: error: $*" >&2; exit 1; }

check=false
cosign=false
case ${1:-} in
    '') ;;
    --check) check=true ;;
    --cosign) cosign=true ;;
    *) die "unknown argument '$1'; expected --check, --cosign or nothing" ;;
esac

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
os_id='' os_codename=''
if [ -r /etc/os-release ]; then
    # shellcheck source=/dev/null
    os_id=$(. /etc/os-release && printf '%s' "${ID:-}")
    # shellcheck source=/dev/null
    os_codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
fi

major() { printf '%s' "$1" | sed -E 's/^[^0-9]*([0-9]+).*/\1/'; }

need_root() {
    [ "$(id -u)" -eq 0 ] || die "$1, and this is not root; run 'sudo $0', or $2"
}

apt_install() {
    say "installing: $*"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$root/apt.log" 2>&1 || {
        cat "$root/apt.log" >&2
        die "apt-get could not install: $*"
    }
}

# The mirror this machine already uses, as its apt configuration names it.
debian_mirror() {
    # shellcheck disable=SC2016  # apt expands these, not the shell
    apt-get indextargets --format '$(SITE)|$(CODENAME)' 'Created-By: Packages' |
        sed -n "s/^\([^|]*\)|$os_codename$/\1/p" | head -n 1
}

# Newer Debian suites beside the machine's own, pinned so low that nothing else ever comes from them.
add_suites() {
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "found no apt source for $os_codename to take the mirror's address from; see 'apt-get indextargets'"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r "$keyring" ] || die "found no $keyring; install debian-archive-keyring"
    suites=sid
    [ "$os_codename" = trixie ] || suites="sid trixie"
    say "adding of this machine's own mirror, pinned to 90 (nothing is upgraded from it): $suites"
    for suite in $suites; do
        printf 'Package: *\nPin: release n=%s\nPin-Priority: 90\n\n' "$suite"
    done >/etc/apt/preferences.d/sparkbake
    cat >/etc/apt/sources.list.d/sparkbake.sources <<EOF
# Added by sparkbake's tools/engine.sh: Docker Engine from sid, QEMU from trixie.
Types: deb
URIs: $mirror
Suites: $suites
Components: main
Check-Valid-Until: no
Signed-By: $keyring
EOF
}

# Debian's stable releases carry engines that are too old.
newer_suites() {
    [ "$os_id" = debian ] && case $os_codename in bookworm | trixie) true ;; *) false ;; esac
}

apt_ready=false
prepare_apt() {
    if $apt_ready; then return; fi
    if newer_suites; then add_suites; fi
    say "reading the package lists"
    apt-get update -qq >"$root/apt.log" 2>&1 || { cat "$root/apt.log" >&2; die "apt-get update failed (above)"; }
    apt_ready=true
}

# ---- cosign

# Version 3 or newer keeps signatures as publishing wants them; it alone makes signing configurations.
cosign_works() { cosign signing-config create >/dev/null 2>&1; }

if $cosign; then
    if ! cosign_works; then
        by_hand="install it: https://docs.sigstore.dev/cosign/system_config/installation/"
        [ "$(id -u)" -eq 0 ] || die "cosign 3 or newer is missing, and this is not root; run 'sudo $0 --cosign', or $by_hand"
        prepare_apt
        if newer_suites; then apt_install cosign/sid; else apt_install cosign; fi
        cosign_works || die "the distribution's cosign is older than 3; $by_hand"
    fi
    say "cosign is there"
    exit 0
fi

# ---- the engine

engine_version() { docker version --format '{{.Server.Version}}' 2>"$root/engine.err"; }

write_daemon_config() {
    # zstd layers and OCI output need the containerd image store.
    if [ -e /etc/docker/daemon.json ]; then
        say "leaving /etc/docker/daemon.json as it is"
    else
        say 'writing /etc/docker/daemon.json: {"features": {"containerd-snapshotter": true}}'
        mkdir -p /etc/docker
        printf '%s\n' '{"features": {"containerd-snapshotter": true}}' >/etc/docker/daemon.json
    fi
}

install_engine() {
    need_root "no Docker Engine answers" "start the one that is installed, or install one: https://docs.docker.com/engine/install/"
    case $os_id-$os_codename in
        debian-bookworm | debian-trixie | ubuntu-*) ;;
        *) die "no Docker Engine answers, and this script installs one only on Debian 12 and 13 and on Ubuntu (found '$os_id $os_codename'); install Docker Engine $MIN_ENGINE or newer with buildx" ;;
    esac
    prepare_apt
    write_daemon_config
    if newer_suites; then
        apt_install docker.io/sid docker-cli/sid docker-buildx/sid containerd/sid runc iptables
    else
        apt_install docker.io docker-buildx
    fi
}

show_engine_log() {
    if [ -d /run/systemd/system ]; then journalctl --no-pager -n 20 -u docker; else tail -n 20 /var/log/dockerd.log; fi
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        say "starting the docker service"
        systemctl start docker
    else
        say "starting dockerd (no init system runs here); log: /var/log/dockerd.log"
        # A pid file without its process is left of an engine that was killed.
        old=$(cat /var/run/docker.pid 2>/dev/null || true)
        if [ -n "$old" ] && [ "$(cat "/proc/$old/comm" 2>/dev/null || true)" = dockerd ]; then
            die "dockerd runs (process $old) but does not answer; see its log, or stop it"
        fi
        rm -f /var/run/docker.pid
        setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &
    fi
    tries=0
    until engine_version >/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -le 60 ] || { show_engine_log >&2; die "the engine did not answer within 60 s (its log is above)"; }
        sleep 1
    done
}

if version=$(engine_version); then
    say "engine $version answers; it is left as it is"
elif grep -qi 'permission denied' "$root/engine.err" 2>/dev/null; then
    die "an engine runs, but this user may not use it; run 'sudo usermod -aG docker $(id -un)' and log in again"
elif [ -n "${DOCKER_HOST:-}" ]; then
    die "DOCKER_HOST is '$DOCKER_HOST', and no engine answers there; start it, or unset DOCKER_HOST"
elif $check; then
    say "no engine answers: would install one from the distribution's packages and start it (root)"
    version=
else
    command -v dockerd >/dev/null || install_engine
    need_root "no Docker Engine answers" "start it: sudo systemctl start docker"
    start_engine
    version=$(engine_version)
    say "engine $version answers"
fi
if [ -n "$version" ] && [ "$(major "$version")" -lt "$MIN_ENGINE" ]; then
    die "engine $version is too old; expected $MIN_ENGINE or newer; upgrade it: https://docs.docker.com/engine/install/"
fi
if docker buildx version >/dev/null 2>&1; then
    say "buildx: $(docker buildx version | cut -d' ' -f2)"
elif $check; then
    say "buildx is missing: would install it"
else
    need_root "docker buildx is missing" "install it: https://docs.docker.com/build/install-buildx/"
    prepare_apt
    if newer_suites; then apt_install docker-buildx/sid; else apt_install docker-buildx; fi
fi

# ---- what bootstraps a base where no registry answers

missing=
command -v mmdebstrap >/dev/null || missing="$missing mmdebstrap"
command -v arch-test >/dev/null || missing="$missing arch-test"
[ -r /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
if [ -z "$missing" ]; then
    say "mmdebstrap is there"
elif $check; then
    say "would install:$missing (root)"
elif [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq >/dev/null
    # shellcheck disable=SC2086  # package names, one word each
    apt_install $missing
else
    say "missing:$missing; needed only where no registry answers: sudo apt-get install$missing"
fi

# ---- arm64 programs

[ "$(uname -m)" != aarch64 ] || { say "this machine is arm64; no emulation needed"; exit 0; }

binfmt=/proc/sys/fs/binfmt_misc

# Version of the registered QEMU; nothing when its program cannot be seen from here, as one that a container registered.
qemu_version() {
    interpreter=$(sed -n 's/^interpreter //p' "$binfmt/qemu-aarch64")
    # Debian registers a link whose name tells QEMU how it was called; the program behind it answers --version.
    interpreter=$(readlink -f "$interpreter")
    if [ -x "$interpreter" ]; then "$interpreter" --version | head -n 1; fi
}

install_emulation() {
    need_root "arm64 programs do not run here" "install QEMU $MIN_QEMU or newer and register it with binfmt_misc"
    prepare_apt
    if newer_suites; then
        apt_install qemu-user-static/trixie qemu-user/trixie qemu-user-binfmt/trixie
    else
        apt_install qemu-user-static
    fi
    if [ ! -e "$binfmt/register" ]; then
        say "mounting binfmt_misc"
        mount -t binfmt_misc binfmt_misc "$binfmt"
    fi
    if [ ! -e "$binfmt/qemu-aarch64" ]; then
        say "registering QEMU for arm64"
        conf=
        for found in /usr/lib/binfmt.d/qemu-aarch64.conf /usr/lib/binfmt.d/qemu-aarch64-static.conf; do
            if [ -r "$found" ]; then conf=$found; fi
        done
        [ -n "$conf" ] || die "found no /usr/lib/binfmt.d/qemu-aarch64.conf to register"
        grep -m1 '^:' "$conf" >"$binfmt/register"
    fi
}

if [ ! -e "$binfmt/qemu-aarch64" ]; then
    if $check; then
        say "arm64 programs do not run here: would install QEMU from the distribution's packages (root)"
        exit 0
    fi
    install_emulation
fi
version=$(qemu_version)
if [ -z "$version" ]; then
    say "arm64 emulation is registered by a program that cannot be seen from here; the build will try it"
elif [ "$(major "${version#*version }")" -lt "$MIN_QEMU" ]; then
    die "$version is too old (7.2 hangs on 'import torch'); expected $MIN_QEMU or newer; install one (Debian 13 has it) and register it: https://www.qemu.org/docs/master/user/main.html"
else
    say "arm64 programs run here: $version"
fi
