#!/bin/sh
# Before the files are there. A unit in /etc goes before that of a package: the daemon would run
# what is there, and not what this brings.
set -e
if [ -f /etc/systemd/system/collectived.service ]; then
    echo "error: collectived was installed here by Ansible or by hand" >&2
    echo "hint: sh install.sh --remove, of the bundle or the source tree, leaves its data; then" \
        "install this again" >&2
    exit 1
fi
