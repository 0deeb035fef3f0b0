# What scripts/up, down, test, prove and fetch-geo share: a virtual environment with locked requirements, and system packages.
# Sourced by bash. Every step is skipped when nothing changed since it was done; every failure says what to type.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python
# Compiled sources are kept: else each process of each node compiles all of them anew at its start, for a second or more.
unset PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

note() { printf '%s\n' "$*" >&2; }

# die MESSAGE [COMMAND]: one message, and the command that helps.
die() {
    note "meridian: $1"
    [ $# -lt 2 ] || note "  next: $2"
    exit 2
}

# quietly MESSAGE COMMAND...: runs a command and shows what it printed only if it fails; then ends with the message.
quietly() {
    local message=$1 log
    shift
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        die "$message" "$*"
    fi
    rm -f "$log"
}

# base_python: prints a Python that is new enough.
base_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed" "apt-get install python3.11 python3.11-venv"
}

# install_packages PACKAGE...: as root with apt-get; else one message. Packages that bring a service do not start it:
# our programs run on ports of their own, and a web server that grabs port 80 is nobody's wish.
install_packages() {
    local command="apt-get install --yes --no-install-recommends $*"
    [ "$(id -u)" = 0 ] || die "these packages are missing: $*" "sudo $command"
    command -v apt-get >/dev/null || die "these packages are missing: $*" "install them with this system's package manager"
    note "installing $*"
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        made=1
    fi
    # In a subshell, because a failure ends the script and the policy must go before that.
    local code=0
    (quietly "apt-get failed" sh -c "apt-get update && DEBIAN_FRONTEND=noninteractive $command") || code=$?
    [ -z "$made" ] || rm -f $policy
    [ $code = 0 ] || exit $code
}

# need PROGRAM=PACKAGE...: installs the packages whose programs are missing, all at once.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || [ -x "/usr/sbin/${pair%%=*}" ] || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
}

# make_venv: a virtual environment of our own, made anew if its Python is gone.
make_venv() {
    if [ -x "$PYTHON" ] && "$PYTHON" -c 'import pip' 2>/dev/null; then
        return
    fi
    local base
    base=$(base_python)
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages "$("$base" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')"
    fi
    note "making $VENV"
    "$base" -m venv --clear "$VENV" || die "cannot make $VENV" "$base -m venv $VENV"
}

# install_requirements run|dev: exactly what the lock file names, by hash, and the package itself as it lies here.
install_requirements() {
    local kind=$1 stamp sum
    stamp=$VENV/stamp-$kind
    sum=$(cat "$ROOT/requirements/$kind.txt" "$ROOT/pyproject.toml" | sha256sum | cut -d' ' -f1)-$ROOT
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]; then
        return
    fi
    note "installing requirements/$kind.txt into .venv"
    quietly "the requirements could not be installed" \
        "$PYTHON" -m pip install --require-hashes --requirement "$ROOT/requirements/$kind.txt"
    quietly "the package could not be installed" "$PYTHON" -m pip install --no-deps --editable "$ROOT"
    echo "$sum" >"$stamp"
}

# isolated COMMAND...: in a network namespace with nothing but loopback, so that the tests neither meet a cluster that runs
# on this machine nor reach anything outside it. Without the right to make one they share the machine's loopback.
isolated() {
    local up='ip link set lo up && exec "$@"'
    if unshare --net true 2>/dev/null; then
        unshare --net -- sh -c "$up" sh "$@"
    elif unshare --user --map-root-user --net true 2>/dev/null; then
        unshare --user --map-root-user --net -- sh -c "$up" sh "$@"
    else
        note "no network namespace here: a local cluster that is up will be in the way"
        "$@"
    fi
}

# make_test_bed: everything that tests and proofs need; servers and clients that are not ours are what we are measured
# against.
make_test_bed() {
    need ip=iproute2 etcd=etcd-server etcdctl=etcd-client nginx=nginx-light h2load=nghttp2-client wrk=wrk dig=dnsutils \
        curl=curl chromium=chromium knotd=knot kdig=knot-dnsutils delv=bind9-dnsutils ldns-verify-zone=ldnsutils \
        systemd-analyze=systemd setpriv=util-linux cloud-init=cloud-init shellcheck=shellcheck \
        slowhttptest=slowhttptest
    make_venv
    install_requirements dev
    cd "$ROOT"
    export PATH="$VENV/bin:$PATH:/usr/sbin"
}
