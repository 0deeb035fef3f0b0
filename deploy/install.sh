#!/bin/bash
# Installs Meridian on a Debian (12 or later) or Ubuntu (24.04 or later) machine, from the unpacked bundle that
# scripts/bundle makes. Run again with a newer bundle it installs that beside the old version and changes the link;
# what runs goes on until it is restarted.
#
#   install.sh node           a gateway node
#   install.sh etcd           a member of etcd
#   install.sh pki            the authority's server
#   install.sh node etcd      several on one machine
#
#   --etcd-archive FILE       etcd's archive, where the machine cannot fetch it; its checksum is checked all the same
#   --etcd-url URL            where to fetch it instead
#
# It installs and starts nothing: certificates and /etc/meridian/*.conf come first (docs/deploy.md).
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OPT=/opt/meridian
ETCD_VERSION=3.5.21
declare -A ETCD_SHA256=(
    [amd64]=adddda4b06718e68671ffabff2f8cee48488ba61ad82900e639d108f2148501c
    [arm64]=95bf6918623a097c0385b96f139d90248614485e781ec9bee4768dbb6c79c53f
)

die() {
    printf 'install.sh: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  next: %s\n' "$2" >&2
    exit 2
}

note() { printf '%s\n' "$*" >&2; }

# packages PACKAGE...: those that are missing, at once.
packages() {
    local name missing=()
    for name in "$@"; do
        [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return
    note "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
}

# account NAME: a user of the system's who owns nothing but its own state.
account() {
    getent passwd "$1" >/dev/null || useradd --system --user-group --no-create-home --shell /usr/sbin/nologin "$1"
    install -d -m 0700 -o "$1" -g "$1" "/var/lib/$1" "/var/lib/$1/pki"
}

# unit NAME...: unit files, known to systemd where it runs.
unit() {
    local name
    for name in "$@"; do
        install -D -m 0644 "$HERE/systemd/$name" "/etc/systemd/system/$name"
    done
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
}

install_meridian() {
    local version python
    # With a digest, so that another build of the same version is another folder and what runs is never written over.
    version=$(<"$HERE/VERSION")-$(cat "$HERE"/*.whl "$HERE/requirements.txt" | sha256sum | cut -c 1-8)
    python=$OPT/$version/bin/python
    packages python3 python3-venv ca-certificates
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed" "use Debian 12 or Ubuntu 24.04, or later ones"
    if [ ! -e "$OPT/$version/complete" ]; then
        note "installing Meridian $version into $OPT/$version"
        rm -rf "${OPT:?}/$version"
        python3 -m venv "$OPT/$version"
        "$python" -m pip --quiet --disable-pip-version-check install --only-binary :all: \
            --require-hashes --requirement "$HERE/requirements.txt"
        "$python" -m pip --quiet --disable-pip-version-check install --no-deps --no-index "$HERE"/*.whl
        "$python" -m compileall -q "$OPT/$version/lib" || true
        touch "$OPT/$version/complete"
    fi
    install -d -m 0755 "$OPT/share/docs"
    install -m 0644 "$HERE"/docs/*.md "$OPT/share/docs/"
    ln -sfn "$version" "$OPT/current"
    ln -sfn "$OPT/current/bin/meridian" /usr/local/bin/meridian
}

install_node() {
    account meridian
    install -D -m 0644 "$HERE/systemd/meridian-sysctl.conf" /etc/sysctl.d/60-meridian.conf
    [ ! -d /run/systemd/system ] || sysctl --quiet --load /etc/sysctl.d/60-meridian.conf
    unit meridian.service meridian-renew@.service meridian-renew@.timer meridian-backup.service meridian-backup.timer
    unit meridian-notice.service
}

install_pki() {
    account meridian-pki
    unit meridian-pki.service meridian-pki.path
}

install_etcd() {
    local architecture archive name sum
    architecture=$(dpkg --print-architecture)
    sum=${ETCD_SHA256[$architecture]:-}
    [ -n "$sum" ] || die "no checksum of etcd $ETCD_VERSION for $architecture is known" "use amd64 or arm64"
    name=etcd-v$ETCD_VERSION-linux-$architecture
    if [ ! -x "$OPT/$name/etcd" ]; then
        archive=$etcd_archive
        if [ -z "$archive" ]; then
            packages curl ca-certificates
            archive=$(mktemp)
            note "fetching etcd $ETCD_VERSION"
            curl --fail --silent --show-error --location --retry 5 --max-time 300 --output "$archive" \
                "${etcd_url:-https://github.com/etcd-io/etcd/releases/download/v$ETCD_VERSION/$name.tar.gz}"
        fi
        echo "$sum  $archive" | sha256sum --check --status ||
            die "$archive is not etcd $ETCD_VERSION for $architecture: its checksum differs" "fetch it anew"
        rm -rf "${OPT:?}/$name" "${OPT:?}/$name.new"
        install -d -m 0755 "$OPT/$name.new"
        tar --extract --file "$archive" --directory "$OPT/$name.new" --strip-components 1 --no-same-owner
        mv "$OPT/$name.new" "$OPT/$name"
    fi
    ln -sfn "$name" "$OPT/etcd"
    account meridian-etcd
    unit meridian-etcd.service meridian-renew@.service meridian-renew@.timer
}

[ "$(id -u)" = 0 ] || die "it must be root" "sudo $0 $*"
command -v apt-get >/dev/null || die "this is neither Debian nor Ubuntu" "see docs/deploy.md for other systems"
etcd_archive='' etcd_url='' roles=()
while [ $# -gt 0 ]; do
    case $1 in
        node | etcd | pki) roles+=("$1") ;;
        --etcd-archive) etcd_archive=${2:?--etcd-archive needs a file}; shift ;;
        --etcd-url) etcd_url=${2:?--etcd-url needs an address}; shift ;;
        *) die "unknown word $1" "install.sh node, etcd, pki, or several of them" ;;
    esac
    shift
done
[ ${#roles[@]} -gt 0 ] || die "what shall it install?" "install.sh node, etcd, pki, or several of them"
install -d -m 0755 "$OPT" /etc/meridian
install_meridian
for role in "${roles[@]}"; do "install_$role"; done
note "installed: ${roles[*]}, $(<"$HERE/VERSION")"
