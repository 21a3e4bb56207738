#!/bin/sh
# After the files are there, of a newer release too.
set -e
systemd-sysusers /usr/lib/sysusers.d/confluent-collective.conf
[ -d /var/lib/confluent ] || install -d -m 755 -o confluent -g confluent /var/lib/confluent
# In a chroot, or while an image is made, nothing runs.
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
# Nothing is started that did not run: a server takes its name and address when it first starts,
# from settings that may be still to come. What runs has lost the files of its release.
systemctl try-restart collectived.service ||
    echo "warning: collectived does not start: journalctl -u collectived" >&2
if systemctl --quiet is-active etcd.service; then
    echo "warning: the service etcd runs beside it, which collectived does not use; if nobody else" \
        "does: systemctl disable --now etcd" >&2
fi
