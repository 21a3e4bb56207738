"""Tests of the certificates in real TLS 1.3 handshakes, both sides in memory, no sockets."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from collective import pki
from collective.errors import InvitationError
from tests.unit.pki.attacks import as_pem

STRICT = ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on


@pytest.fixture(scope="module")
def real_now() -> datetime:
    """The time by which the TLS library judges."""
    return datetime.now(timezone.utc)


@pytest.fixture(scope="module")
def trusted(real_now: datetime) -> pki.Authority:
    """The CA of the collective, made now."""
    return pki.Authority.create("collective", real_now)


class Peer:
    """One server in the handshake: its key and certificate on disk, as the daemon has them."""

    def __init__(self, folder: Path, leaf: bytes, key: bytes) -> None:
        self.leaf = leaf
        self.pair = folder / f"{pki.read_leaf(leaf).serial}.pem"
        self.pair.write_bytes(leaf + key)

    def context(
        self, trust: Sequence[pki.Authority], protocol: ssl._SSLMethod, crl: Path | None = None
    ) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.pair)
        for authority in trust:
            context.load_verify_locations(cadata=authority.certificate_pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= STRICT
        if crl is not None:
            context.load_verify_locations(crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return context


def make_peer(
    folder: Path,
    authority: pki.Authority,
    name: str,
    now: datetime,
    addresses: Sequence[str] = (),
) -> Peer:
    key = pki.new_key()
    leaf = authority.issue(pki.make_request(key, name), name, addresses, now)
    return Peer(folder, leaf, key)


def handshake(
    client: ssl.SSLContext, server: ssl.SSLContext, host: str
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


def connect(
    client: Peer,
    server: Peer,
    trust: Sequence[pki.Authority],
    host: str,
    crl: Path | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    return handshake(
        client.context(trust, ssl.PROTOCOL_TLS_CLIENT, crl),
        server.context(trust, ssl.PROTOCOL_TLS_SERVER, crl),
        host,
    )


@pytest.mark.parametrize("host", ["mgt1", "mgt1.example.com", "10.0.0.1", "fd00::1"])
def test_two_servers_of_one_collective_accept_each_other(
    tmp_path: Path, trusted: pki.Authority, real_now: datetime, host: str
) -> None:
    """Each dials the other by any name or address, and both see whom they speak with."""
    known = ["10.0.0.1", "fd00::1", "mgt1.example.com"]
    one = make_peer(tmp_path, trusted, "mgt1", real_now, known)
    two = make_peer(tmp_path, trusted, "mgt2", real_now, ["10.0.0.2"])
    near, far = connect(two, one, [trusted], host)
    assert near.getpeercert(True) == ssl.PEM_cert_to_DER_cert(one.leaf.decode())
    assert far.getpeercert(True) == ssl.PEM_cert_to_DER_cert(two.leaf.decode())
    connect(one, two, [trusted], "10.0.0.2")


def test_p384_key_of_a_joiner_works_too(
    tmp_path: Path, trusted: pki.Authority, real_now: datetime
) -> None:
    """The CA's own kind of key is fit for a server."""
    fresh = pki.Authority.create("throw away", real_now)
    assert fresh.key_pem is not None
    leaf = trusted.issue(pki.make_request(fresh.key_pem, "mgt1"), "mgt1", [], real_now)
    peer = Peer(tmp_path, leaf, fresh.key_pem)
    connect(peer, peer, [trusted], "mgt1")


@pytest.mark.parametrize("host", ["mgt2", "10.0.0.9", "mgt1.example.org"])
def test_server_at_another_address_is_refused(
    tmp_path: Path, trusted: pki.Authority, real_now: datetime, host: str
) -> None:
    """A certificate is good for the addresses in it and no other."""
    peer = make_peer(tmp_path, trusted, "mgt1", real_now, ["10.0.0.1"])
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        connect(peer, peer, [trusted], host)


def test_server_of_another_collective_is_refused(
    tmp_path: Path, trusted: pki.Authority, real_now: datetime
) -> None:
    """A CA of the same name does not help: the dialling side refuses."""
    stranger = pki.Authority.create("collective", real_now)
    one = make_peer(tmp_path, trusted, "mgt1", real_now)
    two = make_peer(tmp_path, stranger, "mgt2", real_now)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(one, two, [trusted], "mgt2")


def test_client_of_another_collective_is_refused(
    tmp_path: Path, trusted: pki.Authority, real_now: datetime
) -> None:
    """A client trusts the server, but the server does not trust the client's CA."""
    stranger = pki.Authority.create("collective", real_now)
    server = make_peer(tmp_path, trusted, "mgt1", real_now)
    client = make_peer(tmp_path, stranger, "mgt2", real_now)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(client, server, [trusted], "mgt1")


def test_leaf_does_not_act_as_a_ca(
    tmp_path: Path, trusted: pki.Authority, real_now: datetime
) -> None:
    """A server that signs for others with its own key gains nothing."""
    own_key = pki.new_key()
    own = trusted.issue(pki.make_request(own_key, "mgt2"), "mgt2", [], real_now)
    signer = serialization.load_pem_private_key(own_key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(own)
    taken_key = pki.new_key()
    taken = x509.load_pem_x509_csr(pki.make_request(taken_key, "mgt1"))
    forged = (
        x509.CertificateBuilder(issuer.subject, taken.subject, taken.public_key(), 5)
        .not_valid_before(real_now - timedelta(hours=1))
        .not_valid_after(real_now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mgt1")]), critical=False)
        .sign(signer, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    peer = Peer(tmp_path, forged + own, taken_key)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(peer, peer, [trusted], "mgt1")


def test_two_authorities_of_one_name_serve_side_by_side(
    tmp_path: Path, trusted: pki.Authority, real_now: datetime
) -> None:
    """During re-keying both CAs are trusted, and each leaf is verified by its own."""
    successor = pki.Authority.create("collective", real_now)
    old = make_peer(tmp_path, trusted, "mgt1", real_now)
    new = make_peer(tmp_path, successor, "mgt2", real_now)
    for trust in ([trusted, successor], [successor, trusted]):
        connect(old, new, trust, "mgt2")
        connect(new, old, trust, "mgt1")


def test_server_whose_clock_is_behind_accepts_a_new_leaf(
    tmp_path: Path, trusted: pki.Authority, real_now: datetime
) -> None:
    """Issued by a clock that is 55 minutes ahead, a leaf is good already."""
    ahead = real_now + timedelta(minutes=55)
    new = pki.Authority.create("collective", ahead)
    for authority in (trusted, new):
        peer = make_peer(tmp_path, authority, "mgt1", ahead)
        connect(peer, peer, [authority], "mgt1")


@pytest.mark.parametrize(
    ("age", "problem"),
    [
        (timedelta(hours=-2), "not yet valid"),
        (timedelta(days=366), "expired"),
    ],
    ids=["two-hours-ahead", "a-year-old"],
)
def test_leaf_outside_its_time_is_refused(
    tmp_path: Path, real_now: datetime, age: timedelta, problem: str
) -> None:
    """Before its backdated start and after its end a leaf opens nothing."""
    authority = pki.Authority.create("collective", real_now - timedelta(days=500))
    peer = make_peer(tmp_path, authority, "mgt1", real_now - age)
    with pytest.raises(ssl.SSLCertVerificationError, match=problem):
        connect(peer, peer, [authority], "mgt1")


def crl_file(folder: Path, authority: pki.Authority, serials: list[str], now: datetime) -> Path:
    """Write the list as PEM, the only form that Python's TLS reads."""
    path = folder / "crl.pem"
    path.write_bytes(as_pem("X509 CRL", authority.crl(serials, now)))
    return path


def test_revoked_leaf_is_refused_by_either_side(
    tmp_path: Path, trusted: pki.Authority, real_now: datetime
) -> None:
    """The list shuts out the one that is on it, as server and as client, and nobody else."""
    gone = make_peer(tmp_path, trusted, "mgt1", real_now)
    stays = make_peer(tmp_path, trusted, "mgt2", real_now)
    empty = crl_file(tmp_path, trusted, [], real_now)
    connect(gone, stays, [trusted], "mgt2", empty)
    crl = crl_file(tmp_path, trusted, [pki.read_leaf(gone.leaf).serial], real_now)
    connect(stays, stays, [trusted], "mgt2", crl)
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        connect(stays, gone, [trusted], "mgt1", crl)
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        connect(gone, stays, [trusted], "mgt2", crl)


def test_joiner_finds_the_pinned_ca_in_a_live_handshake(
    tmp_path: Path, trusted: pki.Authority, real_now: datetime
) -> None:
    """Trusting nothing yet, a joiner takes the CA from what the server sends, by the pin."""
    key = pki.new_key()
    leaf = trusted.issue(pki.make_request(key, "mgt1"), "mgt1", [], real_now)
    server = Peer(tmp_path, leaf + trusted.certificate_pem, key)
    joiner = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    joiner.check_hostname = False
    joiner.verify_mode = ssl.CERT_NONE
    open_door = server.context([trusted], ssl.PROTOCOL_TLS_SERVER)
    open_door.verify_mode = ssl.CERT_OPTIONAL
    near, _ = handshake(joiner, open_door, "mgt1")
    chain = shown_chain(near)
    assert chain[0] == near.getpeercert(True)
    assert pki.authority_in_chain(chain, trusted.pin, "mgt1") == trusted.certificate_pem
    with pytest.raises(InvitationError, match="mgt1 is not of the collective"):
        pki.authority_in_chain(chain, bytes(32), "mgt1")


def shown_chain(connection: ssl.SSLObject) -> list[bytes]:
    """Return what the server sent, DER; the public method for it came with Python 3.13."""
    if hasattr(connection, "get_unverified_chain"):
        return list(connection.get_unverified_chain())
    inner: Any = connection._sslobj  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_unverified_chain()]
