"""Tests of pinned certificates in real TLS 1.3 handshakes, both sides in memory, no sockets."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from collective import pki
from collective.daemon.member import credentials
from collective.daemon.member.credentials import Credentials
from tests.unit.identities import Identity, identity
from tests.unit.pki.attacks import Forged, subject_of


class Server:
    """One server: its folder on disk, and the contexts of its door and of its calls."""

    def __init__(self, folder: Path, name: str) -> None:
        path = folder / name / "pki"
        path.parent.mkdir()
        credentials.prepare_fresh(path, name, ["127.0.0.1"])
        credentials.install(path)
        self.held = Credentials(path)

    @property
    def certificate(self) -> pki.Certificate:
        return self.held.identity

    def trust(self, *certificates: pki.Certificate) -> None:
        self.held.trust({c.fingerprint: c.pem for c in certificates})


@pytest.fixture
def door(tmp_path: Path) -> Server:
    """The server that is dialled."""
    return Server(tmp_path, "mgt1")


@pytest.fixture
def caller(tmp_path: Path) -> Server:
    """The server that dials."""
    return Server(tmp_path, "mgt2")


def handshake(
    client: ssl.SSLContext, server: ssl.SSLContext, host: str = "mgt1"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Run a handshake to its end on both sides, then one message each way."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=host)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [near, far]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    near.write(b"to the server")
    assert far.read(99) == b"to the server"
    far.write(b"to the client")
    assert near.read(99) == b"to the client"
    return near, far


def client_with(folder: Path, pem: str, key: bytes) -> ssl.SSLContext:
    """Return the context of somebody who shows a certificate and looks at nothing."""
    path = folder / f"{hashlib.sha256(pem.encode()).hexdigest()}.pem"
    path.write_bytes(key + pem.encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(path)
    return context


def shown(held: Identity, folder: Path) -> ssl.SSLContext:
    return client_with(folder, held.pem, held.key)


def fingerprint(connection: ssl.SSLObject) -> str:
    der = connection.getpeercert(True)
    return "" if der is None else hashlib.sha256(der).hexdigest()


def key_octets(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_recorded_servers_see_each_others_certificates(door: Server, caller: Server) -> None:
    """What each finds at the other end is the fingerprint that the records list."""
    door.trust(door.certificate, caller.certificate)
    near, far = handshake(caller.held.client_context, door.held.server_context)
    assert fingerprint(near) == door.certificate.fingerprint
    assert fingerprint(far) == caller.certificate.fingerprint


def test_stranger_without_a_certificate_gets_in_as_nobody(door: Server, caller: Server) -> None:
    """A joiner has none that anybody knows; the routes say what it may ask."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for trusted in ((), (caller.certificate,)):
        door.trust(*trusted)
        _, far = handshake(context, door.held.server_context)
        assert far.getpeercert(True) is None


def test_certificate_is_not_even_asked_for_while_nobody_is_trusted(
    door: Server, caller: Server
) -> None:
    """A door that trusts nobody must not take everybody's."""
    _, far = handshake(caller.held.client_context, door.held.server_context)
    assert far.getpeercert(True) is None


def test_unlisted_certificate_is_refused(door: Server, caller: Server, tmp_path: Path) -> None:
    """Of the same name and address, made a moment later: another server, until it is recorded."""
    door.trust(door.certificate, caller.certificate)
    other = identity("mgt2", "127.0.0.1", 7)
    with pytest.raises(ssl.SSLError):
        handshake(shown(other, tmp_path), door.held.server_context)
    door.trust(door.certificate, other.certificate)
    _, far = handshake(shown(other, tmp_path), door.held.server_context)
    assert fingerprint(far) == other.fingerprint
    with pytest.raises(ssl.SSLError):
        handshake(caller.held.client_context, door.held.server_context)


def signed_by_listed(listed: Identity) -> Iterator[tuple[str, bytes]]:
    """Yield certificates that a listed server has signed for another key, with that key."""
    signer = serialization.load_pem_private_key(listed.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    issuer = subject_of("mgt2", listed.certificate.serial)
    for forged in (
        Forged(name="mgt3", signer=signer, issuer=issuer),
        Forged(name="mgt2", signer=signer, issuer=issuer, subject=issuer),
        Forged(
            name="mgt2",
            signer=signer,
            issuer=issuer,
            subject=issuer,
            serial=int(listed.certificate.serial, 16),
        ),
        Forged(name="mgt3", signer=signer, issuer=issuer, ca=True),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        yield Forged(**{**vars(forged), "key": key}).pem(), key_octets(key)


def test_what_a_listed_server_has_signed_is_refused(door: Server, tmp_path: Path) -> None:
    """Whatever it says in it, and whether its signer is sent along: nobody signs for others."""
    listed = identity("mgt2", "127.0.0.1")
    door.trust(door.certificate, listed.certificate)
    for pem, key in signed_by_listed(listed):
        for chain in (pem, pem + listed.pem):
            with pytest.raises(ssl.SSLError):
                handshake(client_with(tmp_path, chain, key), door.held.server_context)
    handshake(shown(listed, tmp_path), door.held.server_context)


def test_copy_of_a_listed_certificate_with_another_key_is_refused(
    door: Server, tmp_path: Path
) -> None:
    """Subject, serial and SANs may be anybody's; self-signed, so that it is its own chain."""
    listed = identity("mgt2", "127.0.0.1")
    door.trust(door.certificate, listed.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    serial = int(listed.certificate.serial, 16)
    copied = Forged(name="mgt2", key=key, serial=serial).pem()
    assert pki.judge_certificate(copied, "mgt2").serial == listed.certificate.serial
    with pytest.raises(ssl.SSLError):
        handshake(client_with(tmp_path, copied, key_octets(key)), door.held.server_context)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_each_of_several_certificates_of_one_server_opens_the_door(
    door: Server, tmp_path: Path, order: Sequence[int]
) -> None:
    """During a change two are recorded. OpenSSL finds them by subject, and compares one alone."""
    held = [identity("mgt2", "127.0.0.1", number) for number in order]
    door.trust(door.certificate, *(each.certificate for each in held))
    for each in held:
        _, far = handshake(shown(each, tmp_path), door.held.server_context)
        assert fingerprint(far) == each.fingerprint


def test_certificates_of_one_key_open_the_door_each(door: Server, tmp_path: Path) -> None:
    """So it is the certificate that is listed, and not the key."""
    key = pki.new_key()
    one, two = (pki.make_certificate(key, "mgt2", []) for _ in range(2))
    door.trust(door.certificate, two)
    with pytest.raises(ssl.SSLError):
        handshake(client_with(tmp_path, one.pem, key), door.held.server_context)
    handshake(client_with(tmp_path, two.pem, key), door.held.server_context)


def test_door_of_another_is_not_taken_for_the_one_that_is_dialled(
    door: Server, caller: Server
) -> None:
    """Calls look at the fingerprint, which TLS has proven; names and times they leave alone."""
    near, _ = handshake(caller.held.client_context, door.held.server_context, "any.example.com")
    assert fingerprint(near) == door.certificate.fingerprint
    assert fingerprint(near) != identity("mgt1", "127.0.0.1").fingerprint


def test_no_session_is_taken_up_again(door: Server, caller: Server) -> None:
    """Who was let in once is looked at anew at each connection, also after it was deleted."""
    door.trust(door.certificate, caller.certificate)
    context = caller.held.client_context
    near, _ = handshake(context, door.held.server_context)
    assert near.session is None or not near.session.has_ticket
    door.trust(door.certificate)
    with pytest.raises(ssl.SSLError):
        handshake(context, door.held.server_context)


def test_door_speaks_tls_1_3_alone(door: Server) -> None:
    """Before it, certificates cross the network in the open."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(context, door.held.server_context)
