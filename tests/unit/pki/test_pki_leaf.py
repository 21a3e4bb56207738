"""Tests of the servers' certificates: keys, requests, reading, and finding the pinned CA."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from collective import pki
from collective.errors import InputError, InvitationError, ProtocolError
from tests.unit.pki.attacks import certificate_around, one_bit_changes

PEM = serialization.Encoding.PEM
HOST = "mgt1.example.com"


def der_of(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


def test_new_key_is_an_unencrypted_p256_key(key_pem: bytes) -> None:
    """The key is PKCS #8 and each one is different."""
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert pki.new_key() != key_pem


def test_request_names_the_server_and_is_signed(csr_pem: bytes) -> None:
    """The request carries the name and a signature by its key."""
    request = x509.load_pem_x509_csr(csr_pem)
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=mgt2"


def test_key_request_and_certificate_have_one_key_id(
    key_pem: bytes, csr_pem: bytes, leaf_pem: bytes
) -> None:
    """The key id follows a server from its key to its certificate."""
    ids = {
        pki.key_id_of_private(key_pem),
        pki.request_key_id(csr_pem),
        pki.read_leaf(leaf_pem).key_id,
    }
    assert len(ids) == 1
    assert ids != {pki.key_id_of_private(pki.new_key())}


@given(st.binary(max_size=200))
def test_garbage_is_no_request(data: bytes) -> None:
    """Octets that are no request give a ProtocolError."""
    with pytest.raises(ProtocolError):
        pki.request_key_id(data)


@given(st.binary(max_size=200))
def test_garbage_is_no_key(data: bytes) -> None:
    """Octets that are no key give an InputError, for each use of a key."""
    with pytest.raises(InputError):
        pki.key_id_of_private(data)
    with pytest.raises(InputError):
        pki.make_request(data, "mgt2")


def test_name_too_long_for_a_request_is_refused(key_pem: bytes) -> None:
    """A common name ends at 64 characters."""
    with pytest.raises(InputError, match="expected 1 to 64"):
        pki.make_request(key_pem, "x" * 65)


def test_reading_pem_and_der_gives_the_same(leaf_pem: bytes) -> None:
    """The form of the file does not matter, and the fingerprint is that of the DER."""
    info = pki.read_leaf(leaf_pem)
    assert pki.read_leaf(der_of(leaf_pem)) == info
    assert info.fingerprint == hashlib.sha256(der_of(leaf_pem)).hexdigest()
    assert info.name == "mgt2"
    assert info.addresses == ("10.0.0.2", "fd00::2")
    assert info.not_before.utcoffset() == timedelta(0)
    assert int(info.serial, 16) == x509.load_pem_x509_certificate(leaf_pem).serial_number


def test_serial_has_no_prefix_and_no_leading_zero(now: datetime) -> None:
    """A serial whose DER starts with a zero octet is written without it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mgt2")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 0x0ABC, now, now)
    leaf = builder.sign(key, hashes.SHA256()).public_bytes(PEM)
    info = pki.read_leaf(leaf)
    assert info.serial == "abc"
    assert info.addresses == ()


def test_certificate_without_common_name_is_refused(now: datetime) -> None:
    """A certificate that names nobody is not one of a server."""
    key = ec.generate_private_key(ec.SECP256R1())
    empty = x509.Name([])
    builder = x509.CertificateBuilder(empty, empty, key.public_key(), 1, now, now)
    with pytest.raises(ProtocolError, match="0 common names"):
        pki.read_leaf(builder.sign(key, hashes.SHA256()).public_bytes(PEM))


@given(st.binary(max_size=200))
def test_garbage_is_no_certificate(data: bytes) -> None:
    """Octets that are no certificate give a ProtocolError."""
    with pytest.raises(ProtocolError, match="not readable"):
        pki.read_leaf(data)


LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
ADDRESSES = st.lists(st.ip_addresses().map(str) | HOSTS, max_size=6, unique=True)


@given(name=HOSTS, addresses=ADDRESSES)
def test_what_was_issued_is_read_back(
    authority: pki.Authority, csr_pem: bytes, now: datetime, name: str, addresses: list[str]
) -> None:
    """Name and addresses survive the way through a certificate, so renewal can repeat them."""
    info = pki.read_leaf(authority.issue(csr_pem, name, addresses, now))
    assert info.name == name
    kept = [a for a in addresses if a != name]
    assert [_canonical(a) for a in info.addresses] == [_canonical(a) for a in kept]
    again = pki.read_leaf(authority.issue(csr_pem, info.name, info.addresses, now))
    assert again.addresses == info.addresses


def _canonical(address: str) -> object:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return address


def test_leaf_is_issued_by_its_authority_and_no_other(
    authority: pki.Authority, other_authority: pki.Authority, leaf_pem: bytes
) -> None:
    """Both authorities have one name: only the signature tells them apart."""
    assert pki.issued_by(leaf_pem, authority)
    assert pki.issued_by(der_of(leaf_pem), authority)
    assert pki.issued_by(leaf_pem, pki.Authority.from_pem(authority.certificate_pem, None))
    assert not pki.issued_by(leaf_pem, other_authority)


def test_authority_of_another_name_did_not_issue(now: datetime, leaf_pem: bytes) -> None:
    """A different issuer name is an answer, not an error."""
    assert not pki.issued_by(leaf_pem, pki.Authority.create("another", now))


def test_certificate_of_the_authority_itself_was_not_issued(authority: pki.Authority) -> None:
    """A CA's certificate is by its own key, but it is no server's."""
    assert not pki.issued_by(authority.certificate_pem, authority)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_leaf_with_any_octet_changed_was_not_issued(
    authority: pki.Authority, leaf_pem: bytes
) -> None:
    """Flipping a bit anywhere in the DER is noticed."""
    signature = x509.load_pem_x509_certificate(leaf_pem).signature
    for changed in one_bit_changes(der_of(leaf_pem), signature):
        assert not pki.issued_by(changed, authority)


@given(st.binary(max_size=200))
def test_garbage_was_not_issued(authority: pki.Authority, data: bytes) -> None:
    """Octets that are no certificate were issued by nobody."""
    assert not pki.issued_by(data, authority)


def test_pinned_authority_is_found_in_the_chain(
    authority: pki.Authority, other_authority: pki.Authority, leaf_pem: bytes
) -> None:
    """The CA is returned wherever it stands behind the server's certificate."""
    chain = [der_of(leaf_pem), b"noise", der_of(other_authority.certificate_pem)]
    chain.append(der_of(authority.certificate_pem))
    found = pki.authority_in_chain(chain, authority.pin, HOST)
    assert found == authority.certificate_pem


def test_chain_of_another_collective_is_refused(
    authority: pki.Authority, other_authority: pki.Authority, leaf_pem: bytes
) -> None:
    """A good chain to another CA, of the same name, is not the pinned one; the host is named."""
    chain = [der_of(leaf_pem), der_of(authority.certificate_pem)]
    with pytest.raises(InvitationError, match=f"^{HOST} is not of the collective that the token"):
        pki.authority_in_chain(chain, other_authority.pin, HOST)


def test_copy_of_the_pinned_ca_behind_a_strangers_certificate_is_refused(
    authority: pki.Authority, other_authority: pki.Authority, csr_pem: bytes, now: datetime
) -> None:
    """Whoever sits in the middle can send the CA's certificate, but not be issued by it."""
    strange = der_of(other_authority.issue(csr_pem, "mgt1", [], now))
    chain = [strange, der_of(authority.certificate_pem)]
    with pytest.raises(InvitationError):
        pki.authority_in_chain(chain, authority.pin)


def test_leaf_of_the_collective_behind_a_strangers_certificate_is_refused(
    authority: pki.Authority, other_authority: pki.Authority, csr_pem: bytes, now: datetime
) -> None:
    """Only the first certificate is the one whose key TLS proved."""
    strange = der_of(other_authority.issue(csr_pem, "mgt1", [], now))
    genuine = der_of(authority.issue(csr_pem, "mgt1", [], now))
    chain = [strange, genuine, der_of(authority.certificate_pem)]
    with pytest.raises(InvitationError):
        pki.authority_in_chain(chain, authority.pin)


def test_text_of_a_leaf_inside_a_strangers_certificate_is_not_read(
    authority: pki.Authority, leaf_pem: bytes, now: datetime
) -> None:
    """A DER certificate that carries a genuine one as PEM is still the stranger's."""
    stranger = ec.generate_private_key(ec.SECP256R1())
    around = certificate_around(stranger.public_key(), stranger, now, ca=False, inside=leaf_pem)
    carrier = der_of(around)
    assert leaf_pem in carrier
    assert not pki.issued_by(carrier, authority)
    assert pki.read_leaf(carrier).fingerprint != pki.read_leaf(leaf_pem).fingerprint
    with pytest.raises(InvitationError):
        pki.authority_in_chain([carrier, der_of(authority.certificate_pem)], authority.pin)


def test_forged_certificate_around_the_pinned_key_is_passed_over(
    authority: pki.Authority, leaf_pem: bytes, now: datetime
) -> None:
    """A CA certificate with the right key, but not signed by it, is never returned."""
    key = x509.load_pem_x509_certificate(authority.certificate_pem).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    stranger = ec.generate_private_key(ec.SECP384R1())
    forged = der_of(certificate_around(key, stranger, now))
    with pytest.raises(InvitationError):
        pki.authority_in_chain([der_of(leaf_pem), forged], authority.pin)
    chain = [der_of(leaf_pem), forged, der_of(authority.certificate_pem)]
    assert pki.authority_in_chain(chain, authority.pin) == authority.certificate_pem


@given(chain=st.lists(st.binary(max_size=60), max_size=3), pin=st.binary(max_size=40))
def test_garbage_in_a_chain_is_refused_in_our_words(
    authority: pki.Authority, chain: list[bytes], pin: bytes
) -> None:
    """Neither an empty chain, nor noise, nor a pin of another length raises anything else."""
    with pytest.raises(InvitationError):
        pki.authority_in_chain([*chain, der_of(authority.certificate_pem)], pin)
    with pytest.raises(InvitationError):
        pki.authority_in_chain(chain, authority.pin)
