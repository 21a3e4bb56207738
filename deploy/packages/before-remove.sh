#!/bin/sh
# Before the files go. The first argument is remove of dpkg and 0 of rpm where no newer release is
# to take their place.
set -e
case ${1-} in remove | 0) ;; *) exit 0 ;; esac
[ ! -d /run/systemd/system ] || systemctl --quiet disable --now collectived.service
