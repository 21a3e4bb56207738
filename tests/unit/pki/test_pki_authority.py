"""Tests of the certificate authority: what it makes, what it issues, what it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from collective import pki
from collective.errors import CollectiveError, InputError, ProtocolError, RefusedError
from tests.unit.pki.attacks import as_pem, certificate_around, one_bit_changes

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER
SIX_MONTHS = timedelta(days=180)


def parse(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(PEM, form, serialization.NoEncryption())


def test_new_authority_has_the_form_that_was_decided(
    authority: pki.Authority, now: datetime
) -> None:
    """P-384, CA without intermediates, signs certificates and lists, has a key identifier."""
    certificate = parse(authority.certificate_pem)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP384R1)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign) == (True, True)
    assert not usage.value.digital_signature
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert identifier == x509.SubjectKeyIdentifier.from_public_key(key)
    certificate.verify_directly_issued_by(certificate)


def test_new_authority_is_backdated_and_lasts_ten_years(
    authority: pki.Authority, now: datetime
) -> None:
    """It starts an hour ago and ends ten years from now, to the second."""
    whole = now.replace(microsecond=0)
    certificate = parse(authority.certificate_pem)
    assert certificate.not_valid_before_utc == whole - timedelta(hours=1)
    assert authority.not_after == certificate.not_valid_after_utc
    assert authority.not_after == whole + timedelta(days=3652)


def test_two_authorities_of_one_name_are_different(
    authority: pki.Authority, other_authority: pki.Authority
) -> None:
    """Each has its own key, pin and serial number."""
    assert authority != other_authority
    assert authority.pin != other_authority.pin
    serials = {parse(a.certificate_pem).serial_number for a in (authority, other_authority)}
    assert len(serials) == 2


def test_pin_is_the_hash_of_the_public_key(authority: pki.Authority) -> None:
    """It is the SHA-256 of the DER SubjectPublicKeyInfo, computed here by hand."""
    key = parse(authority.certificate_pem).public_key()
    spki = key.public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert authority.pin == hashlib.sha256(spki).digest()


def test_authority_written_and_read_is_equal(authority: pki.Authority) -> None:
    """Its PEM texts give it back, with the key or without."""
    again = pki.Authority.from_pem(authority.certificate_pem, authority.key_pem)
    assert again == authority
    assert again.holds_key
    public = pki.Authority.from_pem(authority.certificate_pem, None)
    assert public.pin == authority.pin
    assert not public.holds_key


def test_bundle_of_certificates_is_reduced_to_the_first(
    authority: pki.Authority, other_authority: pki.Authority
) -> None:
    """What follows the first certificate is not kept."""
    bundle = b"a comment\n" + authority.certificate_pem + other_authority.certificate_pem
    read = pki.Authority.from_pem(bundle, None)
    assert read.certificate_pem == authority.certificate_pem


def test_repr_of_authority_does_not_hold_its_key(authority: pki.Authority) -> None:
    """Neither the PEM of the key nor a line of it is in the repr."""
    assert authority.key_pem is not None
    assert "PRIVATE" not in repr(authority)
    assert authority.key_pem.decode().splitlines()[1] not in repr(authority)


def test_key_of_another_authority_is_refused(
    authority: pki.Authority, other_authority: pki.Authority
) -> None:
    """A certificate and a key that do not fit make no authority."""
    with pytest.raises(InputError, match="does not belong"):
        pki.Authority.from_pem(authority.certificate_pem, other_authority.key_pem)


def test_certificate_of_a_server_is_no_authority(leaf_pem: bytes, key_pem: bytes) -> None:
    """A leaf cannot be taken for a CA, even with its key."""
    with pytest.raises(ProtocolError, match="not that of a CA"):
        pki.Authority.from_pem(leaf_pem, key_pem)


def test_self_signed_certificate_without_ca_is_no_authority(now: datetime) -> None:
    """The basic constraints and the key usage count, not only the signature."""
    key = ec.generate_private_key(ec.SECP384R1())
    genuine = certificate_around(key.public_key(), key, now)
    assert pki.Authority.from_pem(genuine, None).certificate_pem == genuine
    with pytest.raises(ProtocolError, match="not that of a CA"):
        pki.Authority.from_pem(certificate_around(key.public_key(), key, now, ca=False), None)


def test_certificate_forged_around_a_ca_key_is_no_authority(
    authority: pki.Authority, now: datetime
) -> None:
    """The right public key under a stranger's signature is refused."""
    key = parse(authority.certificate_pem).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    stranger = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(ProtocolError, match="own key"):
        pki.Authority.from_pem(certificate_around(key, stranger, now), None)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_each_changed_octet_of_the_certificate_is_noticed(authority: pki.Authority) -> None:
    """Flipping a bit anywhere in the DER gives an error of ours, never an authority."""
    certificate = parse(authority.certificate_pem)
    for changed in one_bit_changes(certificate.public_bytes(DER), certificate.signature):
        with pytest.raises(ProtocolError):
            pki.Authority.from_pem(changed, None)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_garbage_gives_an_error_of_ours(certificate: bytes, key: bytes) -> None:
    """No octets at all raise anything but a CollectiveError."""
    with pytest.raises(CollectiveError):
        pki.Authority.from_pem(certificate, key)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ec.generate_private_key(ec.SECP384R1()).private_bytes(
            PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        ),
        pem_of(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["empty", "garbled", "encrypted", "rsa"],
)
def test_unusable_key_is_refused_without_showing_it(authority: pki.Authority, key: bytes) -> None:
    """A key that cannot be read gives an InputError that says nothing of its content."""
    with pytest.raises(InputError) as caught:
        pki.Authority.from_pem(authority.certificate_pem, key)
    assert "BEGIN" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_unfit_common_name_is_refused(name: str, now: datetime) -> None:
    """A common name has 1 to 64 characters."""
    with pytest.raises(InputError, match="expected 1 to 64"):
        pki.Authority.create(name, now)


def test_time_without_zone_is_refused(authority: pki.Authority, csr_pem: bytes) -> None:
    """A naive time is a mistake of the caller, wherever it is passed."""
    naive = datetime(2026, 3, 1)
    calls: list[Callable[[], object]] = [
        lambda: pki.Authority.create("collective", naive),
        lambda: authority.issue(csr_pem, "mgt2", [], naive),
        lambda: authority.crl([], naive),
    ]
    for call in calls:
        with pytest.raises(InputError, match="no time zone"):
            call()


def test_leaf_has_the_form_that_was_decided(authority: pki.Authority, leaf_pem: bytes) -> None:
    """Both usages, no CA, signs with its key, and identifiers that point to its issuer."""
    leaf, ca = parse(leaf_pem), parse(authority.certificate_pem)
    leaf.verify_directly_issued_by(ca)
    found = leaf.extensions
    constraints = found.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    usage = found.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert set(found.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = found.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == own.digest
    identifier = found.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert identifier.digest != own.digest


def test_name_and_addresses_become_sans_of_their_kind(
    authority: pki.Authority, csr_pem: bytes, now: datetime
) -> None:
    """The name and host names are DNS SANs, addresses IP SANs; each stands there once."""
    wanted = ["10.0.0.2", "fd00:0::2", "mgt2.example.com", "MGT2", "10.0.0.2", "fe80::1%eth0"]
    leaf = parse(authority.issue(csr_pem, "mgt2", wanted, now))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mgt2", "mgt2.example.com"]
    found = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert found == ["10.0.0.2", "fd00::2", "fe80::1"]
    assert len(names) == 5


def test_leaf_is_backdated_and_lasts_a_year(leaf_pem: bytes, now: datetime) -> None:
    """It starts an hour ago and ends in 365 days."""
    whole = now.replace(microsecond=0)
    info = pki.read_leaf(leaf_pem)
    assert info.not_before == whole - timedelta(hours=1)
    assert info.not_after == whole + timedelta(days=365)


@pytest.mark.parametrize("lifetime", [SIX_MONTHS, timedelta.max], ids=["six-months", "endless"])
def test_leaf_never_outlives_its_authority(
    authority: pki.Authority, csr_pem: bytes, lifetime: timedelta
) -> None:
    """Late in the life of the CA, a leaf ends with it."""
    late = authority.not_after - timedelta(days=1)
    assert pki.read_leaf(authority.issue(csr_pem, "mgt2", [], late, lifetime)).not_after == (
        authority.not_after
    )


def test_ended_authority_refuses_to_issue(authority: pki.Authority, csr_pem: bytes) -> None:
    """From the second of its end on there is nothing left to give."""
    with pytest.raises(RefusedError, match="the CA ended on"):
        authority.issue(csr_pem, "mgt2", [], authority.not_after)


@pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(seconds=-1)])
def test_lifetime_that_is_not_positive_is_refused(
    authority: pki.Authority, csr_pem: bytes, now: datetime, lifetime: timedelta
) -> None:
    """A certificate that ends before it is issued is a mistake."""
    with pytest.raises(InputError, match="lifetime"):
        authority.issue(csr_pem, "mgt2", [], now, lifetime)


def test_each_leaf_has_its_own_serial(
    authority: pki.Authority, csr_pem: bytes, now: datetime
) -> None:
    """Serial numbers are random, so servers need not agree on a counter."""
    leaves = [authority.issue(csr_pem, "mgt2", [], now) for _ in range(20)]
    assert len({pki.read_leaf(leaf).serial for leaf in leaves}) == 20


def test_authority_without_key_neither_issues_nor_revokes(
    authority: pki.Authority, csr_pem: bytes, now: datetime
) -> None:
    """A server that does not vote can only verify."""
    public = pki.Authority.from_pem(authority.certificate_pem, None)
    with pytest.raises(RefusedError, match="does not hold the CA's key"):
        public.issue(csr_pem, "mgt2", [], now)
    with pytest.raises(RefusedError, match="does not hold the CA's key"):
        public.crl([], now)


def test_nothing_but_the_key_is_taken_from_a_request(
    authority: pki.Authority, now: datetime
) -> None:
    """A request that asks to be a CA, under another name, for every host, gets none of it."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "mgt1"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
        ]
    )
    greedy = (
        x509.CertificateSigningRequestBuilder(subject)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    leaf = parse(authority.issue(greedy.public_bytes(PEM), "mgt2", ["10.0.0.2"], now))
    assert leaf.public_key() == key.public_key()
    assert leaf.subject.rfc4514_string() == "CN=mgt2"
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mgt2"]


SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["rsa", "ed25519", "p521", "secp256k1"],
)
def test_request_with_another_kind_of_key_is_refused(
    authority: pki.Authority, key: SigningKey, now: datetime
) -> None:
    """Only EC P-256 and P-384 get a certificate."""
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, digest)
    with pytest.raises(ProtocolError, match="not EC P-256 or P-384"):
        authority.issue(request.public_bytes(PEM), "mgt2", [], now)


def test_request_with_any_octet_changed_is_refused(
    authority: pki.Authority, csr_pem: bytes, now: datetime
) -> None:
    """The request's own signature is verified, so no part of it can be changed on the way."""
    request = x509.load_pem_x509_csr(csr_pem)
    for changed in one_bit_changes(request.public_bytes(DER), request.signature):
        with pytest.raises(ProtocolError):
            authority.issue(as_pem("CERTIFICATE REQUEST", changed), "mgt2", [], now)


@pytest.mark.parametrize(
    "address",
    ["*", "*.example.com", "", "a b", "mgt2.", "a\0b", "10.0.0", "010.0.0.1", "[::1]", "é.com"],
)
def test_address_that_is_none_is_refused(
    authority: pki.Authority, csr_pem: bytes, now: datetime, address: str
) -> None:
    """Wildcards, odd characters and broken IP addresses get into no certificate."""
    with pytest.raises(InputError, match="neither an IP address nor a host name"):
        authority.issue(csr_pem, "mgt2", [address], now)


@pytest.mark.parametrize("name", ["", "*", "*.example.com", "a\n", "a@b", "x" * 65])
def test_name_that_is_none_is_refused(
    authority: pki.Authority, csr_pem: bytes, now: datetime, name: str
) -> None:
    """A name that is no host name gets into no certificate."""
    with pytest.raises(InputError, match="name"):
        authority.issue(csr_pem, name, [], now)


@given(text=st.text(max_size=40))
def test_any_text_as_address_is_taken_or_refused_in_our_words(
    authority: pki.Authority, csr_pem: bytes, now: datetime, text: str
) -> None:
    """Whatever is asked for, the answer is a readable certificate or an InputError."""
    try:
        leaf = authority.issue(csr_pem, "mgt2", [text], now)
    except InputError:
        return
    assert "*" not in "".join(pki.read_leaf(leaf).addresses)
