"""The folder ``pki``: CA, leaf, revocation list, and the TLS contexts made from them.

It does not decide who is trusted beyond "our CA signed it"; ``daemon.doors.access`` does.

Files, all 0600: ``ca.pem``, the CA that is trusted, two of them during a re-keying; ``ca.key``, on
a voter; ``leaf.pem`` (key, leaf and CA in one file, so that one rename changes all of it);
``crl.der``; ``next.pem``, key and certificate of the CA that a re-keying leads to; ``former/``,
certificate and last revocation list of each CA that was: all public.

Invariants:
  * The folder appears whole, by a rename, or not at all.
  * Which CA issues is told by the key: after a power cut between two files, too, all fits.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from collective.errors import RefusedError
from collective.files import fsync_folder, make_private_folder, read_private, write_atomically
from collective.pki import (
    Authority,
    LeafInfo,
    issuer_of,
    make_request,
    new_key,
    read_bundle,
    read_leaf,
    with_key,
    write_bundle,
)
from collective.protocol.door import without_resumption
from collective.protocol.peer import authority_context

_PIN = re.compile(r"[0-9a-f]{64}")
# Each is the end of one re-keying; a server that was off for longer is told nothing.
_MOST_FORMER = 64


@dataclass(frozen=True)
class Bundle:
    """What a joiner is given.

    Attributes:
        key_pem: its own private key.
        leaf_pem, ca_pem: certificates.
        crl: DER.
    """

    key_pem: bytes = field(repr=False)
    leaf_pem: bytes
    ca_pem: bytes
    crl: bytes


def incoming(folder: Path) -> Path:
    """Return the folder in which the next ``pki`` is put together."""
    return folder.with_name(folder.name + ".incoming")


def prepare(folder: Path, bundle: Bundle, ca_key: bytes | None) -> None:
    """Write a whole new folder beside the one in use."""
    place = incoming(folder)
    shutil.rmtree(place, ignore_errors=True)
    make_private_folder(place)
    files = {
        "ca.pem": bundle.ca_pem,
        "ca.key": ca_key,
        "leaf.pem": bundle.key_pem + bundle.leaf_pem + bundle.ca_pem,
        "crl.der": bundle.crl,
    }
    for name, data in files.items():
        if data is not None:
            write_atomically(place / name, data)


def install(folder: Path) -> None:
    """Put the prepared folder in place; the old one must have been moved away."""
    os.rename(incoming(folder), folder)
    fsync_folder(folder.parent)


def repair(folder: Path) -> None:
    """Finish an ``install`` that was cut off between moving the old folder away and its end."""
    if not folder.exists() and incoming(folder).exists():
        install(folder)


def drop_ca_key(folder: Path) -> None:
    """Delete the CA's key, and the next CA's, from a server that does not vote any more."""
    for name in ("ca.key", "next.pem"):
        (folder / name).unlink(missing_ok=True)
    fsync_folder(folder)


def prepare_fresh(folder: Path, name: str, addresses: Sequence[str], now: datetime) -> None:
    """Write the folder of a collective of one: a new CA and a leaf."""
    authority = Authority.create(f"collective of {name}", now)
    key = new_key()
    leaf = authority.issue(make_request(key, name), name, addresses, now)
    crl = authority.crl((), now)
    prepare(folder, Bundle(key, leaf, authority.certificate_pem, crl), authority.key_pem)


class Credentials:
    """The folder in use."""

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        Raises:
            AccessError: a file cannot be read.
            FileNotFoundError: a file is missing.
        """
        self._folder = folder
        # OpenSSL reads certificate and key one after the other: nobody may replace the file
        # in between.
        self._lock = threading.RLock()
        #: Serial numbers (hex) that were last said to be revoked.
        self.revoked = frozenset[str]()
        self._read()

    def _read(self) -> None:
        self._trusted = read_bundle(read_private(self.ca_file))
        leaf = _certificates(read_private(self.leaf_file))
        self._leaf = read_leaf(leaf)
        self._issuer = issuer_of(leaf, self._trusted)
        self._authority = self._find_authority()
        self._contexts: _Contexts | None = None

    def _find_authority(self) -> Authority:
        try:
            return with_key(self._trusted, read_private(self._key_file))
        except FileNotFoundError:
            return self._issuer or self._trusted[0]

    @property
    def _key_file(self) -> Path:
        return self._folder / "ca.key"

    @property
    def _next_file(self) -> Path:
        return self._folder / "next.pem"

    @property
    def leaf_file(self) -> Path:
        """Key, leaf and CA in one PEM file."""
        return self._folder / "leaf.pem"

    @property
    def ca_file(self) -> Path:
        """The certificates of the CAs that are trusted."""
        return self._folder / "ca.pem"

    @property
    def crl_file(self) -> Path:
        """The revocation list, DER."""
        return self._folder / "crl.der"

    @property
    def ca_pem(self) -> bytes:
        """The certificates of the CAs that are trusted; while there is no re-keying, of one."""
        return write_bundle(self._trusted)

    @property
    def leaf(self) -> LeafInfo:
        """The certificate that this server shows."""
        return self._leaf

    @property
    def holds_ca_key(self) -> bool:
        """Whether this server can issue certificates."""
        return self._authority.holds_key

    @property
    def pin(self) -> bytes:
        """What a token says of the collective: SHA-256 of the CA's SubjectPublicKeyInfo."""
        return self._authority.pin

    @property
    def trusts(self) -> frozenset[str]:
        """Pins (hex) of the CAs that are trusted."""
        return frozenset(authority.pin.hex() for authority in self._trusted)

    @property
    def newest(self) -> str:
        """Pin (hex) of the CA that was taken into trust last."""
        return self._trusted[-1].pin.hex()

    @property
    def issuer(self) -> str:
        """Pin (hex) of the CA that the leaf is from, "" for one that is not trusted."""
        return "" if self._issuer is None else self._issuer.pin.hex()

    @property
    def holds(self) -> frozenset[str]:
        """Pins (hex) of the CAs whose key is here."""
        held = (self._authority, self.next_authority())
        return frozenset(a.pin.hex() for a in held if a is not None and a.holds_key)

    @property
    def authority_ends(self) -> datetime:
        """When the CA ends, and with it all certificates."""
        return self._authority.not_after

    def leaf_on_disk(self) -> LeafInfo:
        """Return the certificate in the file, which etcd shows at its next handshake."""
        return read_leaf(_certificates(read_private(self.leaf_file)))

    def authority(self) -> Authority:
        """Return the CA that issues, with its key where this server holds it."""
        return self._authority

    def next_authority(self) -> Authority | None:
        """Return the CA that a re-keying leads to, with its key; None where it is not here."""
        try:
            both = read_private(self._next_file)
        except FileNotFoundError:
            return None
        return Authority.from_pem(_certificates(both), both[: -len(_certificates(both))])

    def crl(self) -> bytes:
        """Return the revocation list in use."""
        return read_private(self.crl_file)

    def revocation_list(self, pin: str) -> tuple[bytes, bytes] | None:
        """Return the last revocation list of a CA that this collective has, or had.

        Args:
            pin: of the CA, in hex.

        Returns:
            The CA's certificate (PEM) and the list (DER), None for a CA of which there is none.
        """
        if self._authority.pin.hex() == pin:
            return self._authority.certificate_pem, self.crl()
        if not _PIN.fullmatch(pin):
            return None
        try:
            return read_private(self._former(pin, "pem")), read_private(self._former(pin, "crl"))
        except FileNotFoundError:
            return None

    def _former(self, pin: str, ending: str) -> Path:
        return self._folder / "former" / f"{pin}.{ending}"

    def _keep_list(self) -> None:
        """Keep what tells a server that knows none but the CA of now that it was deleted."""
        make_private_folder(self._folder / "former")
        pin = self._authority.pin.hex()
        write_atomically(self._former(pin, "crl"), self.crl())
        write_atomically(self._former(pin, "pem"), self._authority.certificate_pem)
        kept = (self._folder / "former").glob("*.pem")
        for path in sorted(kept, key=lambda each: each.stat().st_mtime)[:-_MOST_FORMER]:
            path.unlink(missing_ok=True)
            path.with_suffix(".crl").unlink(missing_ok=True)

    @property
    def server_context(self) -> ssl.SSLContext:
        """The context of our door: strangers may connect, a certificate must be of our CA."""
        return self._use_contexts().server

    @property
    def client_context(self) -> ssl.SSLContext:
        """The context of our calls to other members."""
        return self._use_contexts().client

    def _use_contexts(self) -> _Contexts:
        with self._lock:
            if self._contexts is None:
                self._contexts = _Contexts.of(self.ca_pem, self.leaf_file)
            return self._contexts

    def new_leaf(self, addresses: Sequence[str], now: datetime) -> tuple[bytes, LeafInfo]:
        """Make a new key and certificate; nothing is written.

        Returns:
            The content of ``leaf.pem``, for ``use_leaf``, and what the certificate says.

        Raises:
            RefusedError: this server does not hold the CA's key.
        """
        key = new_key()
        name = self._leaf.name
        leaf = self._authority.issue(make_request(key, name), name, addresses, now)
        return key + leaf + self._authority.certificate_pem, read_leaf(leaf)

    def use_leaf(self, leaf_file: bytes) -> None:
        """Show another certificate from now on; etcd takes it up by itself.

        Raises:
            RefusedError: it is from a CA that is on its way out, and the one in use is not: it
                was signed before the CA changed, and would soon be trusted by nobody.
        """
        issuer = issuer_of(_certificates(leaf_file), self._trusted)
        if self.issuer == self.newest and (issuer is None or issuer.pin.hex() != self.newest):
            raise RefusedError(
                "the certificate is from a CA that is being replaced",
                "run the same command again",
            )
        self._replace(self.leaf_file, leaf_file)

    def _replace(self, path: Path, data: bytes) -> None:
        """Replace a file; contexts in use stay as they are, new connections get new ones."""
        with self._lock:
            write_atomically(path, data)
            self._read()

    def store_ca_key(self, key_pem: bytes) -> None:
        """Keep the CA's key, having checked that it is that of a CA that we trust.

        Raises:
            InputError: it is the key of something else.
        """
        with_key(self._trusted, key_pem)
        self._replace(self._key_file, key_pem)

    def trust(self, authorities: Iterable[Authority]) -> None:
        """Trust these CAs from now on, and no others; etcd does at its next start."""
        self._replace(self.ca_file, write_bundle(authorities))

    def trusted_besides(self, pin: str) -> tuple[Authority, ...]:
        """Return the CAs that this server's own certificates need, but for one."""
        needed = {self.issuer, self._authority.pin.hex()} - {pin}
        return tuple(a for a in self._trusted if a.pin.hex() in needed)

    def store_next(self, authority: Authority) -> None:
        """Keep the CA that a re-keying leads to, with its key.

        Raises:
            RefusedError: the key is not there.
        """
        if authority.key_pem is None:
            raise RefusedError("cannot keep the new CA: its key is missing")
        write_atomically(self._next_file, authority.key_pem + authority.certificate_pem)

    def issue_with_next(self, pin: str) -> bool:
        """Issue with the new CA from now on, and forget the old one's key.

        Args:
            pin: of the new CA, in hex.

        Returns:
            False where its key is not here; then nothing was done.
        """
        following = self.next_authority()
        if following is not None and following.pin.hex() == pin and following.key_pem is not None:
            if self._authority.pin.hex() != pin:
                self._keep_list()
            self.store_ca_key(following.key_pem)
        if self._authority.pin.hex() != pin or not self.holds_ca_key:
            return False
        self._next_file.unlink(missing_ok=True)
        return True

    def revoke(self, serials: Iterable[str], now: datetime) -> None:
        """Remember what is revoked, and write the revocation list where the CA's key is held."""
        serials = self.revoked = frozenset(serials)
        if self.holds_ca_key:
            write_atomically(self.crl_file, self._authority.crl(serials, now))


@dataclass(frozen=True)
class _Contexts:
    """The TLS contexts of one state of the folder."""

    server: ssl.SSLContext
    client: ssl.SSLContext

    @classmethod
    def of(cls, ca_pem: bytes, leaf_file: Path) -> _Contexts:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.minimum_version = ssl.TLSVersion.TLSv1_3
        server.verify_mode = ssl.CERT_OPTIONAL
        server.load_verify_locations(cadata=ca_pem.decode("ascii"))
        server.load_cert_chain(leaf_file)
        client = authority_context(ca_pem)
        client.load_cert_chain(leaf_file)
        return cls(without_resumption(server), client)


def renewal_due(leaf: LeafInfo, now: datetime) -> bool:
    """Tell whether two thirds of a certificate's life are over."""
    return now >= leaf.not_before + (leaf.not_after - leaf.not_before) * 2 / 3


def is_valid(leaf: LeafInfo, now: datetime) -> bool:
    """Tell whether a certificate is good at a time."""
    return leaf.not_before <= now < leaf.not_after


def _certificates(pem: bytes) -> bytes:
    return pem[pem.index(b"-----BEGIN CERTIFICATE-----") :]
