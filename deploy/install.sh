#!/bin/sh
# Installs a server of a collective without Ansible, laid out as the role lays it out:
#
#     sh install.sh [--python PROGRAM]    from the bundle, or the source tree, that this file is in
#     sh install.sh --remove              takes the programs away; data, settings and user stay
#
# Each release has a folder of its own, and "current" points to the one in use: one that was broken
# off is never in use. No daemon is started or restarted here: what to type is said at the end.
set -eu
# The daemon's user reads all of it.
umask 022

PREFIX=/opt/confluent-collective
UNIT=/etc/systemd/system/collectived.service
# Where systemd looks for programs, see systemd.exec(5).
UNIT_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The same as collective_links of the role.
LINKS="bin/collective=/usr/local/bin/collective
bin/collectived=/usr/local/sbin/collectived
share/man/man1/collective.1=/usr/local/share/man/man1/collective.1
share/man/man8/collectived.8=/usr/local/share/man/man8/collectived.8
share/bash-completion/completions/collective=/usr/local/share/bash-completion/completions/collective
share/zsh/site-functions/_collective=/usr/local/share/zsh/site-functions/_collective
share/fish/vendor_completions.d/collective.fish=/etc/fish/completions/collective.fish"

here=$(cd "$(dirname "$0")" && pwd)
python=/usr/bin/python3
action=install

fail() {
    echo "install.sh: error: $1" >&2
    [ $# -lt 2 ] || echo "install.sh: hint: $2" >&2
    exit 1
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --python) [ $# -gt 1 ] || fail "--python wants a program"; python=$2; shift ;;
            --remove) action=remove ;;
            *) fail "$1 is no option of this" "there are --python PROGRAM and --remove" ;;
        esac
        shift
    done
}

check_host() {
    [ "$(id -u)" = 0 ] || fail "this has to be run as root"
    command -v systemctl >/dev/null || fail "there is no systemd here"
    [ ! -e /usr/lib/systemd/system/collectived.service ] || fail \
        "the package confluent-collective is installed here" \
        "it is upgraded by a newer package; to use this instead, remove it first: its data stays"
}

# What another way of installing has put here is not overwritten.
check_places() {
    for path in "$PREFIX/current" $(echo "$LINKS" | sed 's/.*=//'); do
        [ -L "$path" ] || [ ! -e "$path" ] || fail "$path is there, and is no link" \
            "remove it, with 'pip uninstall confluent-collective' if pip has put it there"
    done
}

check_python() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail \
        "$python is not there, or older than 3.10" "name another one: --python /usr/bin/python3.11"
    [ -d "$here/wheels" ] || "$python" -c 'import ensurepip, venv' 2>/dev/null || fail \
        "$python cannot make environments" "on Debian: apt-get install python3-venv"
}

# A file that the list does not name could be installed in place of one that it does.
check_bundle() {
    cd "$here"
    sha256sum --check --quiet --strict SHA256SUMS || fail "the bundle is not as it was made" \
        "bring it again from where it was made"
    listed=$(sed 's/^[0-9a-f]*  //' SHA256SUMS | LC_ALL=C sort)
    found=$(find . -type f ! -path ./SHA256SUMS | sed 's,^\./,,' | LC_ALL=C sort)
    [ "$listed" = "$found" ] || fail "the bundle has files that SHA256SUMS does not name" \
        "unpack it anew, in an empty folder"
}

# Its own service is not wanted: the daemon starts etcd itself.
add_etcd() {
    if PATH=$UNIT_PATH command -v etcd >/dev/null; then return 0; fi
    if command -v dpkg >/dev/null; then add="dpkg --install"; kind=deb
    else add="rpm --upgrade"; kind=rpm; fi
    set -- "$here"/etcd/*."$kind"
    if [ ! -e "$1" ]; then return 0; fi
    systemctl --quiet mask etcd.service
    $add "$@"
}

# An environment of Python cannot be moved, so it is made where it will be.
make_release() {
    trap 'rm -rf "$release"' EXIT
    mkdir -p "$PREFIX/releases"
    if [ -d "$here/wheels" ]; then
        "$python" -m venv --without-pip "$release"
        "$release/bin/python" "$here/pip.whl/pip" install --quiet --no-index --no-cache-dir \
            --find-links="$here/wheels" confluent-collective
    else
        "$python" -m venv "$release"
        "$release/bin/python" -m pip install --quiet --disable-pip-version-check "$here/.."
    fi
    PATH=$UNIT_PATH "$release/bin/collectived" --check || fail \
        "what was installed does not run here, and is not put in use" \
        "install an etcd, 3.4 to 3.6, or name it in /etc/confluent/collective.conf; run this again"
    if command -v selinuxenabled >/dev/null && selinuxenabled; then restorecon -R "$release"; fi
    # Power may go at any moment.
    sync --file-system "$release"
    trap - EXIT
}

use_release() {
    systemd-sysusers "$here/sysusers.conf"
    [ -d /etc/confluent ] || install -d -m 755 /etc/confluent
    [ -d /var/lib/confluent ] || install -d -m 755 -o confluent -g confluent /var/lib/confluent
    ln -sfn "$release" "$PREFIX/next"
    mv -T "$PREFIX/next" "$PREFIX/current"
    for link in $LINKS; do
        mkdir -p "$(dirname "${link#*=}")"
        ln -sfn "$PREFIX/current/${link%%=*}" "${link#*=}"
    done
    install -m 644 "$here/collectived.service" "$UNIT"
    systemctl daemon-reload
}

tell() {
    echo "installed in $release"
    if systemctl is-active --quiet etcd; then
        echo "install.sh: warning: the service etcd runs beside it, which collectived does not use;" \
            "if nobody else does: systemctl disable --now etcd" >&2
    fi
    if systemctl is-active --quiet collectived; then
        echo "collectived still runs the release of before; when all other voters answer:" \
            "systemctl restart collectived"
    else
        echo "to start it, now and at every boot: systemctl enable --now collectived"
    fi
}

remove() {
    [ ! -e "$UNIT" ] || systemctl --quiet disable --now collectived
    for link in $LINKS; do
        case $(readlink "${link#*=}") in "$PREFIX"/*) rm "${link#*=}" ;; esac
    done
    rm -f "$UNIT" "$UNIT.d/10-program.conf"
    [ ! -d "$UNIT.d" ] || rmdir --ignore-fail-on-non-empty "$UNIT.d"
    rm -rf "$PREFIX"
    systemctl daemon-reload
    echo "removed; its data is still in /var/lib/confluent-collective, its settings in" \
        "/etc/confluent/collective.conf"
}

read_arguments "$@"
check_host
if [ "$action" = remove ]; then
    remove
    exit
fi
check_places
check_python
release=$PREFIX/releases/by-hand-$(date -u +%Y%m%dT%H%M%SZ)
if [ -d "$here/wheels" ]; then
    check_bundle
    add_etcd
fi
make_release
use_release
tell
