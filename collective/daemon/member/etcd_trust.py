"""Whom this server's etcd lets in at its peer port: its trust file and its revocation list file.

etcd reads the trust file (``trusted.pem``) when it starts, and the list (``crl.der``) at each
handshake. So who is to be let in needs a restart, and who is not any more does not.

It also knows who is refused and may have something open still, until ``connection_cutter`` has cut
that. It does not decide who is to be let in, and neither restarts nor cuts anything.

Invariants:
  * The trust file is written before etcd starts and never while it runs: so what it holds is what
    the running etcd believes.
  * The list names each certificate that the running etcd believes and that is not wanted any more,
    but for one with the serial number of one that is wanted (``unlisted``).
    What stands in no trust file needs no revoking: nobody believes it.
  * Both files are replaced whole: etcd refuses everybody on a broken list.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from collective.daemon.member.credentials import Credentials
from collective.files import write_atomically
from collective.pki import Certificate, make_revocation_list

TRUSTED, CRL = "trusted.pem", "crl.der"


class EtcdTrust:
    """The two files; may be used by several threads."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._lock = threading.RLock()
        self._loaded: Mapping[str, Certificate] = {}
        self._refused: frozenset[str] | None = None
        self._unlisted = frozenset[str]()
        self._cutting = threading.Condition()
        self._cut = frozenset[str]()
        self.trust_file = credentials.folder / TRUSTED
        self.crl_file = credentials.folder / CRL

    @property
    def loaded(self) -> frozenset[str]:
        """Fingerprints of what the running etcd believes, but for the list."""
        return frozenset(self._loaded)

    @property
    def refused(self) -> frozenset[str]:
        """Fingerprints of what the list takes back of it."""
        return self._refused or frozenset()

    @property
    def unlisted(self) -> frozenset[str]:
        """Those of the refused that the list cannot name: only a restart shuts them out."""
        return self._unlisted

    def name_of(self, fingerprint: str) -> str:
        """Return whose a certificate is that was loaded."""
        found = self._loaded.get(fingerprint)
        return found.name if found is not None else "a former member"

    def write(self, wanted: Mapping[str, Certificate]) -> None:
        """Write the files for an etcd that is about to start.

        Args:
            wanted: certificates by fingerprint.
        """
        with self._lock:
            write_atomically(self.trust_file, "".join(c.pem for c in wanted.values()).encode())
            self._loaded = dict(wanted)
            self._refused = None
            self.refuse_others(wanted)

    def refuse_others(self, wanted: Mapping[str, Certificate]) -> None:
        """Have the running etcd refuse, from the next handshake on, all but those wanted."""
        with self._lock:
            refused = frozenset(self._loaded.keys() - wanted.keys())
            if refused == self._refused:
                return
            # A member that is wanted is not shut out by a number that somebody chose to be its.
            kept = {certificate.serial for certificate in wanted.values()}
            self._unlisted = frozenset(f for f in refused if self._loaded[f].serial in kept)
            serials = {self._loaded[fingerprint].serial for fingerprint in refused} - kept
            name = self._credentials.identity.name
            crl = make_revocation_list(self._credentials.key_pem, name, serials)
            write_atomically(self.crl_file, crl)
            self._refused = refused

    def to_cut(self) -> frozenset[str]:
        """Return the certificates of former peers that may have something open to our etcd.

        What is not in the trust file of the running etcd has nothing.
        """
        refused = self.refused
        with self._cutting:
            # One that is let in again, and put out once more, is cut once more.
            self._cut &= refused
            return refused - self._cut

    def has_cut(self, fingerprints: frozenset[str]) -> None:
        """Note that certificates of former peers hold nothing open any more."""
        with self._cutting:
            self._cut |= fingerprints
            self._cutting.notify_all()

    def wait_until_cut(self, seconds: float) -> bool:
        """Wait until no former peer has anything open; False when it took too long."""
        with self._cutting:
            return self._cutting.wait_for(lambda: not self.to_cut(), seconds)
