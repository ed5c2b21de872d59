#!/bin/sh
# Installs the Debian packages whose programs are missing here, without letting them start their services.
#
#   compose/packages.sh [LOG [GROUP...]]
#
# apt's output goes to LOG, whose end is shown if it fails. What running the product needs is always asked for;
# a GROUP adds what tests need beside it: `plugins` are the reference CNI plugins and what those call,
# `runtimes` are the container runtimes that use us, `vm` is what a virtual machine is packed with and run by,
# `chaos` what sets a process's clock, `cluster` what databases catch up with each other by, `browser` what the page is
# looked at with, `kubernetes` what renders manifests, `images` what images are built and run with, `documents` what
# the commands that documents show are run with.
# Does nothing, for any user, if nothing is missing. Exits with 1 and one line that names what to install
# where it cannot: not root, or no apt-get.
set -eu

here=$(dirname "$0")
log=${1:-/dev/stderr}
[ $# -eq 0 ] || shift
groups=$*
policy=/usr/sbin/policy-rc.d
aside=$policy.moorage-put-aside
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing=
need() { # PACKAGE COMMAND...: the package is missing unless the command succeeds
    package=$1
    shift
    "$@" >/dev/null 2>&1 || case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
}
file() { # PATTERN...: some file matches
    for path in "$@"; do
        [ -e "$path" ] && return 0
    done
    return 1
}

find_missing() {
    missing=
    need python3-venv sh "$here/python.sh"
    need ca-certificates file /etc/ssl/certs/ca-certificates.crt
    need gcc command -v cc
    need libc6-dev file /usr/lib/*/libc.a /usr/lib/libc.a /usr/lib64/libc.a
    need musl-tools command -v musl-gcc
    need rabbitmq-server file /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server
    need rabbitmq-server command -v epmd
    need rabbitmq-server command -v erl
    need mariadb-server command -v mariadbd
    need mariadb-server command -v mariadb-install-db
    need iproute2 command -v ip
    need iputils-ping command -v ping
    need nftables command -v nft
    need util-linux command -v setpriv
    for group in $groups; do
        "need_$group"
    done
    missing=${missing# }
}

need_plugins() {
    need containernetworking-plugins file /usr/lib/cni/bridge
    need iptables command -v iptables
}

need_runtimes() {
    need containerd command -v containerd
    need podman command -v podman
    need conmon command -v conmon
    need runc command -v runc
}

need_documents() {
    need curl command -v curl
}

need_browser() {
    need chromium file /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome
    need openssl command -v openssl
}

need_vm() {
    need qemu-system-x86 command -v qemu-system-x86_64
    need seabios file /usr/share/seabios/bios-256k.bin
    need busybox-static static_busybox
    need cpio command -v cpio
    need kmod command -v modprobe
}

need_chaos() {
    need libfaketime file /usr/lib/*/faketime/libfaketime.so.1
}

need_cluster() {
    need galera-4 file /usr/lib/galera/libgalera_smm.so
    need mariadb-backup command -v mariadb-backup
    need socat command -v socat
}

need_images() {
    need debootstrap command -v debootstrap
    need buildah command -v buildah
    need_runtimes
    need_kubernetes
}

need_kubernetes() {
    need kubernetes-client command -v kubectl
}

# The package `busybox` brings one that needs libraries.
static_busybox() {
    command -v busybox && ! ldd "$(command -v busybox)"
}

put_policy_back() {
    rm -f "$policy"
    if [ -e "$aside" ] || [ -L "$aside" ]; then
        mv -f "$aside" "$policy"
    fi
}

# invoke-rc.d and deb-systemd-invoke ask this file; 101 means "do not" (/usr/share/doc/init-system-helpers).
forbid_starting_services() {
    if [ -e "$aside" ] || [ -L "$aside" ]; then
        put_policy_back # what a run that was killed has left
    fi
    trap put_policy_back EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ -e "$policy" ] || [ -L "$policy" ]; then
        mv "$policy" "$aside"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

# shellcheck disable=SC2086  # $missing is one word for each package
install_missing() {
    export DEBIAN_FRONTEND=noninteractive
    dpkg --configure -a && # an installation that was interrupted blocks every other
        apt-get -o DPkg::Lock::Timeout=300 update &&
        apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing
}

find_missing
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "moorage: needs what Debian calls $missing: install them with this system's package manager" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "moorage: missing packages, install them as root: apt-get install $missing" >&2
    exit 1
fi

# One at a time: a second run would put the first one's policy aside for the machine's own.
exec 9>/run/moorage-packages.lock
if command -v flock >/dev/null 2>&1; then
    flock -w 900 9 || {
        echo "moorage: another run of this has been installing packages for 15 minutes; try again later" >&2
        exit 1
    }
    find_missing
    [ -n "$missing" ] || exit 0
fi

echo "packages: installing $missing (apt-get; their services are not started)"
forbid_starting_services
if ! install_missing >"$log" 2>&1 9>&-; then
    [ -f "$log" ] && tail -n 30 "$log" >&2
    echo "moorage: apt-get could not install $missing; its whole output is in $log" >&2
    exit 1
fi
find_missing
if [ -n "$missing" ]; then
    echo "moorage: still missing after installing: $missing; see $log" >&2
    exit 1
fi
