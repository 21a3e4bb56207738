#!/bin/sh
# After the files are gone; see before-remove.sh.
set -e
case ${1-} in remove | 0) ;; *) exit 0 ;; esac
[ ! -d /run/systemd/system ] || systemctl daemon-reload
echo "collectived is removed; its data is still in /var/lib/confluent-collective"
