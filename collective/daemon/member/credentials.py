"""The folder ``pki``: this server's certificate and its key, and the TLS contexts made from them.

It does not decide who is trusted: whoever follows the records says so (``trust``). What etcd
trusts is in ``etcd_trust``.

Files, all 0600: ``server.pem``, key and certificate, in one file so that one rename changes both;
``next.pem``, the same of the certificate that is to take its place; ``succession.json``, which
proves that one replaced the other (``succession``); ``trusted.pem`` and ``crl.der``, see
``etcd_trust``.

Invariants:
  * The folder appears whole, by a rename, or not at all.
  * A certificate is shown only when its predecessor's key has signed that it takes its place.
"""

from __future__ import annotations

import logging
import os
import shutil
import ssl
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from collective.daemon.member.succession import Succession
from collective.errors import CollectiveError, ProtocolError
from collective.files import (
    file_error,
    fsync_folder,
    make_private_folder,
    read_private,
    write_atomically,
)
from collective.pki import Certificate, make_certificate, new_key, read_certificate
from collective.protocol.door import server_context
from collective.protocol.peer import client_context

log = logging.getLogger(__name__)

SERVER, NEXT, SUCCESSION = "server.pem", "next.pem", "succession.json"
_MARK = b"-----BEGIN CERTIFICATE-----"


def incoming(folder: Path) -> Path:
    """Return the folder in which the next ``pki`` is put together."""
    return folder.with_name(folder.name + ".incoming")


def prepare_fresh(folder: Path, name: str, addresses: Sequence[str]) -> None:
    """Write a whole new folder beside the one in use: a new key and certificate."""
    place = incoming(folder)
    shutil.rmtree(place, ignore_errors=True)
    make_private_folder(place)
    key = new_key()
    certificate = make_certificate(key, name, addresses)
    write_atomically(place / SERVER, key + certificate.pem.encode())


def copy(source: Path, folder: Path) -> None:
    """Prepare a folder beside the one in use, with the certificate of another one."""
    place = incoming(folder)
    shutil.rmtree(place, ignore_errors=True)
    make_private_folder(place)
    write_atomically(place / SERVER, read_private(source / SERVER))


def install(folder: Path) -> None:
    """Put the prepared folder in place; the old one must have been moved away."""
    try:
        os.rename(incoming(folder), folder)
        fsync_folder(folder.parent)
    except OSError as error:
        raise file_error(error, "put a new folder in the place of", folder) from error


def repair(folder: Path) -> None:
    """Finish an ``install`` that was cut off between moving the old folder away and its end."""
    if not folder.exists() and incoming(folder).exists():
        install(folder)


def name_in(folder: Path) -> str | None:
    """Return whom the certificate of a folder is for; None where there is none that will do."""
    try:
        return Credentials(folder).identity.name
    except (FileNotFoundError, CollectiveError):
        return None


class Credentials:
    """The folder in use."""

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        Raises:
            AccessError: a file cannot be read.
            FileNotFoundError: a file is missing.
            ProtocolError: the certificate, or its key, cannot be read.
        """
        self.folder = folder
        self._lock = threading.RLock()
        self._trusted: Mapping[str, str] = {}
        self._read()

    def _read(self) -> None:
        self._key, self._identity = _split(read_private(self.identity_file))
        self._client = _client_context(self.identity_file)
        self._server: ssl.SSLContext | None = None

    @property
    def identity_file(self) -> Path:
        """Key and certificate in one PEM file, which etcd reads at each handshake."""
        return self.folder / SERVER

    @property
    def next_file(self) -> Path:
        """The same of the certificate that is to take its place."""
        return self.folder / NEXT

    @property
    def identity(self) -> Certificate:
        """The certificate that this server shows."""
        return self._identity

    @property
    def key_pem(self) -> bytes:
        """Its private key."""
        return self._key

    @property
    def succession(self) -> Succession:
        """What proves to others that this certificate took the place of former ones."""
        return Succession.load(self.folder / SUCCESSION)

    def is_on_disk(self) -> bool:
        """Tell whether the file still has the certificate that is shown: etcd reads it anew."""
        with self._lock:
            try:
                return _split(read_private(self.identity_file))[1] == self._identity
            except (FileNotFoundError, CollectiveError):
                return False

    @property
    def next(self) -> Certificate | None:
        """The certificate that is to take the place of this one, None while there is none.

        Raises:
            AccessError, ProtocolError: it cannot be read.
        """
        try:
            return _split(read_private(self.next_file))[1]
        except FileNotFoundError:
            return None

    def prepare_next(self, addresses: Sequence[str]) -> Certificate:
        """Make the next key and certificate, unless those that are prepared will do.

        Args:
            addresses: that it must name.
        """
        with self._lock:
            found = self.next
            if found is not None and set(addresses) == set(found.addresses):
                return found
            key = new_key()
            certificate = make_certificate(key, self._identity.name, addresses)
            write_atomically(self.next_file, key + certificate.pem.encode())
            return certificate

    def use_next(self) -> None:
        """Show the next certificate from now on; etcd takes it up by itself.

        Contexts in use stay as they are, new connections get new ones.
        """
        with self._lock:
            following = self.next
            if following is None:
                return
            proven = self.succession.followed_by(self._identity, self._key, following)
            proven.save(self.folder / SUCCESSION)
            os.rename(self.next_file, self.identity_file)
            fsync_folder(self.folder)
            self._read()

    def trust(self, certificates: Mapping[str, str]) -> bool:
        """Let these servers in at our door, and no others; connections that are open stay open.

        Args:
            certificates: PEM by fingerprint.

        Returns:
            Whether that is another set than before.
        """
        with self._lock:
            if certificates.keys() == self._trusted.keys():
                return False
            self._trusted = dict(certificates)
            self._server = None
            return True

    def trusts(self, fingerprint: str) -> bool:
        """Tell whether a certificate opens our door."""
        return fingerprint in self._trusted

    @property
    def server_context(self) -> ssl.SSLContext:
        """The context of our door: strangers get in, certificates that are not trusted do not."""
        with self._lock:
            if self._server is None:
                self._server = server_context(self.identity_file, self._trusted)
            return self._server

    @property
    def client_context(self) -> ssl.SSLContext:
        """The context of our calls to other members."""
        return self._client


def identity_in(path: Path) -> Certificate:
    """Return the certificate of a file that has its key, too.

    Raises:
        AccessError: it cannot be read.
        FileNotFoundError: it is missing.
        ProtocolError: it is not both, or they do not belong to each other.
    """
    found = _split(read_private(path))[1]
    _client_context(path)
    return found


def _client_context(path: Path) -> ssl.SSLContext:
    try:
        return client_context(path)
    except ssl.SSLError as error:
        reason = error.reason or "it is not readable"
        raise ProtocolError(f"key and certificate cannot be used: {reason}") from error


def _split(both: bytes) -> tuple[bytes, Certificate]:
    key, mark, rest = both.partition(_MARK)
    return key, read_certificate(mark + rest)
