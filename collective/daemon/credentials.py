"""The folder ``pki``: CA, leaf, revocation list, and the TLS contexts made from them.

It does not decide who is trusted beyond "our CA signed it"; ``collective.daemon.access`` does.

Files, all 0600: ``ca.pem``; ``ca.key`` on a voter; ``leaf.pem`` (key, leaf and CA in one file,
so that one rename changes all of it); ``crl.der``.

Invariants:
  * The folder appears whole, by a rename, or not at all.
  * A CA that is there is never replaced here.
"""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from collective.files import fsync_folder, make_private_folder, read_private, write_atomically
from collective.pki import Authority, LeafInfo, make_request, new_key, read_leaf
from collective.protocol.door import without_resumption
from collective.protocol.peer import authority_context


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
        self._ca_pem = read_private(folder / "ca.pem")
        self._leaf = read_leaf(_certificates(read_private(self.leaf_file)))
        # OpenSSL reads certificate and key one after the other: whoever serves handshakes with
        # these contexts puts a guard here that keeps them off in between.
        self.guard: Callable[[Callable[[], None]], None] = lambda action: action()

    @property
    def leaf_file(self) -> Path:
        """Key, leaf and CA in one PEM file."""
        return self._folder / "leaf.pem"

    @property
    def ca_file(self) -> Path:
        """The CA's certificate."""
        return self._folder / "ca.pem"

    @property
    def crl_file(self) -> Path:
        """The revocation list, DER."""
        return self._folder / "crl.der"

    @property
    def ca_pem(self) -> bytes:
        """The CA's certificate."""
        return self._ca_pem

    @property
    def leaf(self) -> LeafInfo:
        """The certificate that this server shows."""
        return self._leaf

    @property
    def holds_ca_key(self) -> bool:
        """Whether this server can issue certificates."""
        return (self._folder / "ca.key").exists()

    @cached_property
    def pin(self) -> bytes:
        """What a token says of the collective: SHA-256 of the CA's SubjectPublicKeyInfo."""
        return Authority.from_pem(self._ca_pem, None).pin

    def authority(self) -> Authority:
        """Return the CA, with its key where this server holds it."""
        try:
            key = read_private(self._folder / "ca.key")
        except FileNotFoundError:
            key = None
        return Authority.from_pem(self._ca_pem, key)

    def crl(self) -> bytes:
        """Return the revocation list in use."""
        return read_private(self.crl_file)

    @cached_property
    def server_context(self) -> ssl.SSLContext:
        """The context of our door: strangers may connect, a certificate must be of our CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self._ca_pem.decode("ascii"))
        context.load_cert_chain(self.leaf_file)
        return without_resumption(context)

    @cached_property
    def client_context(self) -> ssl.SSLContext:
        """The context of our calls to other members."""
        context = authority_context(self._ca_pem)
        context.load_cert_chain(self.leaf_file)
        return context

    def new_leaf(self, addresses: Sequence[str], now: datetime) -> tuple[bytes, LeafInfo]:
        """Make a new key and certificate; nothing is written.

        Returns:
            The content of ``leaf.pem``, for ``use_leaf``, and what the certificate says.

        Raises:
            RefusedError: this server does not hold the CA's key.
        """
        key = new_key()
        name = self._leaf.name
        leaf = self.authority().issue(make_request(key, name), name, addresses, now)
        return key + leaf + self._ca_pem, read_leaf(leaf)

    def use_leaf(self, leaf_file: bytes) -> None:
        """Show another certificate from now on; etcd takes it up by itself."""
        write_atomically(self.leaf_file, leaf_file)
        self._leaf = read_leaf(_certificates(leaf_file))
        self.guard(lambda: self.server_context.load_cert_chain(self.leaf_file))
        self.client_context.load_cert_chain(self.leaf_file)

    def store_ca_key(self, key_pem: bytes) -> None:
        """Keep the CA's key, having checked that it is that of our CA.

        Raises:
            InputError: it is the key of something else.
        """
        Authority.from_pem(self._ca_pem, key_pem)
        write_atomically(self._folder / "ca.key", key_pem)

    def revoke(self, serials: Iterable[str], now: datetime) -> None:
        """Write the revocation list; does nothing on a server without the CA's key."""
        if self.holds_ca_key:
            write_atomically(self.crl_file, self.authority().crl(serials, now))


def renewal_due(leaf: LeafInfo, now: datetime) -> bool:
    """Tell whether two thirds of a certificate's life are over."""
    return now >= leaf.not_before + (leaf.not_after - leaf.not_before) * 2 / 3


def _certificates(pem: bytes) -> bytes:
    return pem[pem.index(b"-----BEGIN CERTIFICATE-----") :]
