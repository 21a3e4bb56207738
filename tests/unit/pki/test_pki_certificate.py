"""Tests of the servers' certificates: made, read, and judged before they are recorded."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import ssl
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from collective import pki
from collective.errors import InputError, ProtocolError
from tests.harness.odd_certificates import ODD_FORMS, PLAIN, Form
from tests.unit.pki.attacks import (
    Forged,
    as_pem,
    named,
    one_bit_changes,
    subject_of,
    unknown,
    with_serial,
)


def parse(certificate: pki.Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate.pem.encode())


def der_of(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem)


# Making ---------------------------------------------------------------------------------------


def test_new_key_is_an_unencrypted_p256_key(key_pem: bytes) -> None:
    """The key is PKCS #8 and each one is different."""
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert pki.new_key() != key_pem


def test_certificate_signs_itself_and_can_sign_nothing_else(
    key_pem: bytes, certificate: pki.Certificate
) -> None:
    """It is no CA's, and says so in the way that TLS libraries insist on."""
    made = parse(certificate)
    made.verify_directly_issued_by(made)
    key = serialization.load_pem_private_key(key_pem, None)
    assert made.public_key() == key.public_key()
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (False, None)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.crl_sign


def test_certificate_is_for_both_ends(certificate: pki.Certificate) -> None:
    """Etcd's gateway dials its own server with it."""
    usage = parse(certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert set(usage.value) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_certificate_is_good_at_any_time(certificate: pki.Certificate) -> None:
    """From the first second of Unix on, with no good date to end (RFC 5280, 4.1.2.5)."""
    made = parse(certificate)
    assert made.not_valid_before_utc == datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert made.not_valid_after_utc == datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert b"99991231235959Z" in der_of(certificate.pem)


def test_two_certificates_of_one_key_have_other_subjects_and_serials(key_pem: bytes) -> None:
    """OpenSSL looks up by subject which one is meant."""
    made = [pki.make_certificate(key_pem, "mgt2", []) for _ in range(5)]
    assert len({parse(each).subject for each in made}) == 5
    assert len({each.serial for each in made}) == 5
    assert len({each.fingerprint for each in made}) == 5
    for each in made:
        assert parse(each).subject == subject_of("mgt2", each.serial)


def test_names_are_the_name_first_then_the_addresses_each_once(key_pem: bytes) -> None:
    """The order is kept, zones have no place, and an address is one however it is written."""
    given_addresses = ["10.0.0.2", "MGT2", "FD00:0::2", "fd00::2", "10.0.0.2", "mgt2.example.com"]
    made = pki.make_certificate(key_pem, "mgt2", [*given_addresses, "fe80::1%eth0"])
    names = parse(made).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [
        x509.DNSName("mgt2"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.2")),
        x509.IPAddress(ipaddress.ip_address("fd00::2")),
        x509.DNSName("mgt2.example.com"),
        x509.IPAddress(ipaddress.ip_address("fe80::1")),
    ]
    assert made.addresses == ("10.0.0.2", "fd00::2", "mgt2.example.com", "fe80::1")


@pytest.mark.parametrize(
    "address", ["", "*", "*.example.com", "10.1", "10.0.0.256", "a b", "a..b", "é", "10.0.0.1/8"]
)
def test_address_that_is_none_is_refused(key_pem: bytes, address: str) -> None:
    """A wildcard would let its owner pass for others; 10.1 is read as 10.0.0.1 by some."""
    with pytest.raises(InputError, match="neither an IP address nor a host name"):
        pki.make_certificate(key_pem, "mgt2", [address])


@pytest.mark.parametrize("name", ["", "*", "a b", "x" * 64, "x" * 65])
def test_name_that_is_none_is_refused(key_pem: bytes, name: str) -> None:
    """A label ends at 63 characters, a common name at 64."""
    with pytest.raises(InputError):
        pki.make_certificate(key_pem, name, [])


@given(st.binary(max_size=200))
def test_garbage_is_no_key(data: bytes) -> None:
    """Octets that are no key give an InputError, which does not show them."""
    with pytest.raises(InputError, match="not readable"):
        pki.make_certificate(data, "mgt2", [])


LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
ADDRESSES = st.lists(st.ip_addresses().map(str) | HOSTS, max_size=6, unique=True)


@given(name=LABEL, addresses=ADDRESSES)
def test_what_was_made_is_read_back_and_judged_good(
    key_pem: bytes, name: str, addresses: list[str]
) -> None:
    """Name and addresses survive, so another certificate can repeat them."""
    made = pki.make_certificate(key_pem, name, addresses)
    assert pki.read_certificate(made.pem) == pki.judge_certificate(made.pem, name) == made
    assert made.name == name
    kept = [a for a in addresses if a != name]
    assert [_canonical(a) for a in made.addresses] == [_canonical(a) for a in kept]
    assert pki.make_certificate(key_pem, name, made.addresses).addresses == made.addresses


def _canonical(address: str) -> object:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return address


def test_certificate_with_as_many_addresses_as_may_be_is_short_enough(key_pem: bytes) -> None:
    """Sixteen of the longest, and the longest name."""
    addresses = [f"fd00:1111:2222:3333:4444:5555:6666:{n:04x}" for n in range(0x1000, 0x1010)]
    name = "n" * 63
    made = pki.make_certificate(key_pem, name, addresses)
    assert len(made.pem) < pki.MOST_BYTES
    assert pki.judge_certificate(made.pem, name).addresses == tuple(addresses)


# Reading --------------------------------------------------------------------------------------


def test_reading_pem_and_der_gives_the_same(certificate: pki.Certificate) -> None:
    """The form does not matter, and the fingerprint is that of the DER."""
    der = der_of(certificate.pem)
    assert pki.read_certificate(der) == certificate
    assert pki.read_certificate(certificate.pem.encode()) == certificate
    assert certificate.fingerprint == hashlib.sha256(der).hexdigest()
    assert certificate.name == "mgt2"
    assert certificate.addresses == ("10.0.0.2", "fd00::2")
    assert int(certificate.serial, 16) == parse(certificate).serial_number


def test_serial_has_no_prefix_and_no_leading_zero() -> None:
    """A serial whose DER starts with a zero octet is written without it."""
    assert pki.read_certificate(Forged(serial=0x0ABC).pem()).serial == "abc"


def test_certificate_without_names_has_no_addresses() -> None:
    """Reading judges nothing."""
    assert pki.read_certificate(Forged(without_names=True).pem()).addresses == ()


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        (x509.Name([]), "0 common names"),
        (subject_of("mgt2", "ab", "mgt3"), "2 common names"),
    ],
)
def test_certificate_without_one_common_name_is_refused(subject: x509.Name, says: str) -> None:
    """A certificate that names nobody, or two, is not one of a server."""
    pem = dataclasses.replace(Forged(), subject=subject, issuer=subject).pem()
    with pytest.raises(ProtocolError, match=says):
        pki.read_certificate(pem)


@given(st.binary(max_size=200))
def test_garbage_is_no_certificate(data: bytes) -> None:
    """Octets that are no certificate give a ProtocolError, in the armour of PEM too."""
    for octets in (data, as_pem("CERTIFICATE", data)):
        with pytest.raises(ProtocolError, match="not readable"):
            pki.read_certificate(octets)


@given(st.text(max_size=100))
def test_text_that_is_garbage_is_judged_in_our_words(text: str) -> None:
    """A stranger sends it."""
    with pytest.raises(ProtocolError):
        pki.judge_certificate(text, "mgt2")


# Judging --------------------------------------------------------------------------------------

OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
DAY = timedelta(days=1)
FORGERIES = {
    "of a CA": (Forged(ca=True), "is that of a CA, or does not say that it is none"),
    "silent on being a CA": (Forged(ca=None), "is that of a CA, or does not say"),
    "without SANs": (Forged(without_names=True), "does not have its name among its SANs"),
    "with the SANs of another": (Forged(names=named("mgt1")), "its name among its SANs"),
    "P-384": (Forged(key=ec.generate_private_key(ec.SECP384R1())), "a key that is not EC P-256"),
    "P-256, the other one": (
        Forged(key=ec.generate_private_key(ec.SECP256K1())),
        "a key that is not EC P-256",
    ),
    "RSA": (Forged(key=rsa.generate_private_key(65537, 2048)), "a key that is not EC P-256"),
    "Ed25519": (Forged(key=ed25519.Ed25519PrivateKey.generate()), "a key that is not EC P-256"),
    "signed by another key": (Forged(signer=OTHER_KEY), "is not signed by its own key"),
    "of another issuer": (Forged(issuer=subject_of("ca")), "is not signed by its own key"),
    "that begins later": (
        Forged(valid_from=datetime(1970, 1, 1, tzinfo=timezone.utc) + DAY),
        "is valid for a time only",
    ),
    "that ends": (
        Forged(valid_until=datetime(9999, 12, 31, tzinfo=timezone.utc) - DAY),
        "is valid for a time only",
    ),
    "for servers alone": (
        Forged(usage=[ExtendedKeyUsageOID.SERVER_AUTH]),
        "is not for both ends of a connection",
    ),
    "for clients alone": (
        Forged(usage=[ExtendedKeyUsageOID.CLIENT_AUTH]),
        "is not for both ends of a connection",
    ),
    "for nothing": (Forged(usage=[]), "is not for both ends of a connection"),
    "with an unknown extension": (
        Forged(more=[(unknown(b"x"), False)]),
        "has extensions that are not known",
    ),
    "with name constraints": (
        Forged(more=[(x509.NameConstraints([x509.DNSName("mgt1")], None), True)]),
        "has extensions that are not known",
    ),
    "with a list to ask": (
        Forged(more=[(x509.PolicyConstraints(0, None), True)]),
        "has extensions that are not known",
    ),
    "without its serial number as subject": (
        Forged(subject=subject_of("mgt2")),
        "its name and serial number, and no more, as its subject",
    ),
    "with another serial number as subject": (
        Forged(subject=subject_of("mgt2", "abcdee")),
        "its name and serial number, and no more, as its subject",
    ),
}
LONGEST = (1 << 159) - 1


@pytest.mark.parametrize(("forged", "says"), FORGERIES.values(), ids=FORGERIES)
def test_certificate_that_is_none_of_ours_is_refused(forged: Forged, says: str) -> None:
    """One thing that differs is enough; the refusal names the server, what, and what to do."""
    pem = forged.pem()
    assert pki.read_certificate(pem).name == "mgt2", (
        "it can be read, so it is this that is refused"
    )
    with pytest.raises(ProtocolError, match=f"^the certificate of mgt2 .*{says}") as caught:
        pki.judge_certificate(pem, "mgt2")
    assert caught.value.hint == "'collective gencert' on mgt2 makes a good one"


def test_certificate_that_differs_in_nothing_is_good() -> None:
    """So what is refused above is refused for what it says."""
    assert pki.judge_certificate(Forged().pem(), "mgt2").serial == "abcdef"


@pytest.mark.parametrize("form", ODD_FORMS.values(), ids=ODD_FORMS)
def test_certificate_that_libraries_may_read_in_different_ways_is_refused(form: Form) -> None:
    """OpenSSL fails on one kind for the whole door, Go on another for the whole of etcd."""
    with pytest.raises(ProtocolError):
        pki.judge_certificate(form.made("mgt2", ["10.0.0.2"]).pem, "mgt2")


def test_certificate_that_was_written_by_hand_without_anything_odd_is_good() -> None:
    """So what is refused above is refused for what is odd."""
    made = PLAIN.made("mgt2", ["10.0.0.2"])
    found = pki.judge_certificate(made.pem, "mgt2")
    assert (found.fingerprint, found.addresses) == (made.fingerprint, ("10.0.0.2",))


def test_serial_number_that_has_too_many_bits_is_refused() -> None:
    """The library that writes our revocation list takes 159, and would fail on it for all."""
    key, long = ec.generate_private_key(ec.SECP256R1()), LONGEST + 2
    good = Forged(key=key, serial=LONGEST)
    assert pki.judge_certificate(good.pem(), "mgt2").serial == f"{LONGEST:x}"
    before = dataclasses.replace(good, subject=subject_of("mgt2", f"{long:x}"))
    pem = with_serial(before.pem(), key, long)
    assert pki.read_certificate(pem).serial == f"{long:x}"
    with pytest.raises(ProtocolError, match="has a serial number of more than 159 bits"):
        pki.judge_certificate(pem, "mgt2")
    made = pki.make_revocation_list(pki.new_key(), "mgt1", [f"{LONGEST:x}"])
    assert next(iter(x509.load_der_x509_crl(made))).serial_number == LONGEST


@pytest.mark.parametrize("text", ["\ud800", "-----BEGIN CERTIFICATE-----\n\udfff"])
def test_text_that_no_file_can_hold_is_refused_in_our_words(text: str) -> None:
    """JSON can hold half of a surrogate pair, so a record can."""
    for read in (pki.read_certificate, lambda pem: pki.judge_certificate(pem, "mgt2")):
        with pytest.raises(ProtocolError):
            read(text)


def test_certificate_of_another_server_is_refused(certificate: pki.Certificate) -> None:
    """Whoever asks for a name must have it in the certificate, in the same letters."""
    for name in ("mgt1", "MGT2", ""):
        with pytest.raises(ProtocolError, match=f"is for mgt2, not for {name}$"):
            pki.judge_certificate(certificate.pem, name)


def test_certificate_of_ten_kilobytes_is_refused_unread(certificate: pki.Certificate) -> None:
    """Records are copied to every server, and read at every change."""
    large = Forged(more=[(unknown(bytes(8000)), False)]).pem()
    assert len(large) > 10_000
    for pem in (large, certificate.pem + "x" * pki.MOST_BYTES, "x" * 10_000):
        with pytest.raises(ProtocolError, match=f"has {len(pem)} bytes, at most are 4096"):
            pki.judge_certificate(pem, "mgt2")


def test_what_stands_around_a_certificate_is_not_recorded(certificate: pki.Certificate) -> None:
    """Text before it, another one behind it: the record gets the certificate alone."""
    other = pki.make_certificate(pki.new_key(), "mgt9", [])
    found = pki.judge_certificate(f"to whom it may concern\n{certificate.pem}{other.pem}", "mgt2")
    assert found == certificate
    assert found.pem.count("BEGIN") == 1


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_certificate_with_any_octet_changed_is_refused(certificate: pki.Certificate) -> None:
    """Flipping a bit anywhere in the DER is noticed."""
    signature = parse(certificate).signature
    for changed in one_bit_changes(der_of(certificate.pem), signature):
        with pytest.raises(ProtocolError):
            pki.judge_certificate(as_pem("CERTIFICATE", changed).decode(), "mgt2")


def test_refusal_of_a_strangers_name_shows_no_lines() -> None:
    """A common name may hold anything."""
    name = "mgt2\nerror: all is lost"
    pem = Forged(subject=subject_of(name, "abcdef"), name="mgt2").pem()
    with pytest.raises(ProtocolError, match="not for mgt2"):
        pki.judge_certificate(pem, "mgt2")
