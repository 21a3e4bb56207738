"""Whom this server lets in at both doors: its daemon's, and the peer port of its etcd.

It follows the records; it restarts nothing, and whom a server believes that it dials, ``peers``
decides.

Invariants:
  * A view is taken only when who is not in it any more is refused at both doors.
  * etcd lets in recorded voters and learners alone, or, by a detour, a recorded voter with
    another certificate.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from collective.daemon.member.credentials import Credentials
from collective.daemon.member.etcd_trust import EtcdTrust
from collective.daemon.member.recorded import certificates_of
from collective.model.view import View
from collective.pki import Certificate


class MemberTrust:
    """Those who are let in; may be used by several threads."""

    def __init__(
        self,
        credentials: Credentials,
        etcd_trust: EtcdTrust,
        remembered: View,
        etcd_wanted: Callable[[], bool],
    ) -> None:
        """Begin with the records as they were in the last run.

        Args:
            credentials, etcd_trust: the daemon's door, and etcd's.
            remembered: these records.
            etcd_wanted: whether an etcd of our own was started in this life, or is being started.
        """
        self._credentials, self._etcd_trust = credentials, etcd_trust
        self._etcd_wanted = etcd_wanted
        self._lock = threading.RLock()
        self._view = remembered
        self._detours: Mapping[str, tuple[Certificate, tuple[str, ...]]] = {}

    def take_up(self, view: View) -> None:
        """Let in at both doors those whose certificates a view of the records lists.

        If the disk is full this raises, the view is not taken, and it is tried again: a member
        must not say that it refuses somebody whom its etcd still lets in.
        """
        with self._lock:
            self._view = view
            self._drop_detours()
            members = certificates_of(view.members.values(), view.revoked)
            self._credentials.trust({f: c.pem for f, c in members.items()})
            if self._etcd_wanted():
                self._etcd_trust.refuse_others(self.wanted_peers())

    def write_files(self) -> View:
        """Write the files of an etcd that is about to start; return the records they are of."""
        with self._lock:
            self._etcd_trust.write(self.wanted_peers())
            return self._view

    def wanted_peers(self) -> dict[str, Certificate]:
        """Return whom our etcd is to let in, by fingerprint: the recorded voters and learners."""
        view = self._view
        peers = (member for member in view.members.values() if member.is_peer)
        own = self._credentials.identity
        return {
            own.fingerprint: own,
            **certificates_of(peers, view.revoked),
            **{f: c for f, (c, _) in self._detours.items()},
        }

    def _drop_detours(self) -> None:
        """Drop the certificates of detours that have ended, and those that were revoked.

        While one lasts its voter has the certificate that it had then, or is given its next one.
        """
        voters, revoked = self._view.voters, self._view.revoked
        self._detours = {
            f: (c, recorded)
            for f, (c, recorded) in self._detours.items()
            if c.name in voters
            and f not in revoked
            and (
                len(voters[c.name].fingerprints) > 1
                or set(recorded) & set(voters[c.name].fingerprints)
            )
        }

    def let_in_by_detour(self, certificates: Mapping[str, Certificate]) -> None:
        """Let voters in at etcd's door, from its next start on, by certificates not recorded yet.

        Args:
            certificates: that these have shown to us over the door, by fingerprint.
        """
        with self._lock:
            voters = self._view.voters
            self._detours = {
                f: (c, voters[c.name].fingerprints)
                for f, c in certificates.items()
                if c.name in voters
            }
