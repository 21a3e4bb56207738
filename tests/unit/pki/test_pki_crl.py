"""Tests of the revocation list: what it lists, who signed it, and how long it is good."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from collective import pki
from collective.errors import InputError, ProtocolError


def parse(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def read_crl(der: bytes) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(der)


def test_empty_crl_is_signed_and_lists_nothing(authority: pki.Authority, now: datetime) -> None:
    """A collective that revoked nobody has a list all the same."""
    crl = read_crl(authority.crl([], now))
    key = parse(authority.certificate_pem).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(key)
    assert len(crl) == 0


def test_crl_of_one_authority_is_not_signed_by_another(
    authority: pki.Authority, other_authority: pki.Authority, now: datetime
) -> None:
    """The check above can fail."""
    key = parse(other_authority.certificate_pem).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert not read_crl(authority.crl([1], now)).is_signature_valid(key)


def test_crl_lists_serials_given_as_numbers_or_text_once(
    authority: pki.Authority, leaf_pem: bytes, now: datetime
) -> None:
    """The serial text of LeafInfo, in either case, and the number are the same."""
    serial = pki.read_leaf(leaf_pem).serial
    given_serials: list[int | str] = [serial, serial.upper(), int(serial, 16), "0a", 10, 3]
    crl = read_crl(authority.crl(given_serials, now))
    assert [entry.serial_number for entry in crl] == sorted({3, 10, int(serial, 16)})
    assert crl.get_revoked_certificate_by_serial_number(parse(leaf_pem).serial_number)


def test_crl_is_valid_until_the_authority_ends(authority: pki.Authority, now: datetime) -> None:
    """It is backdated for servers whose clocks are behind, and does not run out before the CA."""
    crl = read_crl(authority.crl([1], now))
    assert crl.last_update_utc == now.replace(microsecond=0) - timedelta(hours=1)
    assert crl.next_update_utc == authority.not_after


def test_crl_can_be_made_when_the_authority_has_ended(authority: pki.Authority) -> None:
    """An ended CA must not take the list, and so the daemon, down with it."""
    crl = read_crl(authority.crl([5], authority.not_after + timedelta(days=400)))
    assert [entry.serial_number for entry in crl] == [5]
    assert crl.next_update_utc == authority.not_after


def test_later_crl_has_a_higher_number(authority: pki.Authority, now: datetime) -> None:
    """The CRL number grows with time, without a counter that servers would have to share."""
    numbers = [
        read_crl(authority.crl([], moment))
        .extensions.get_extension_for_class(x509.CRLNumber)
        .value.crl_number
        for moment in (now, now + timedelta(seconds=1))
    ]
    assert numbers[0] < numbers[1]


@pytest.mark.parametrize("serial", ["", "0x1f", "1_0", " 1", "-1", "xyz", 0, -4, 1 << 159, "0"])
def test_serial_that_is_none_is_refused(
    authority: pki.Authority, now: datetime, serial: int | str
) -> None:
    """A serial that could not be matched must not be dropped in silence."""
    with pytest.raises(InputError, match="serial number"):
        authority.crl([serial], now)


@given(st.sets(st.integers(min_value=1, max_value=(1 << 159) - 1), max_size=8))
def test_any_set_of_serials_comes_back_from_the_crl(
    authority: pki.Authority, now: datetime, serials: set[int]
) -> None:
    """Numbers in, the same numbers out."""
    crl = read_crl(authority.crl([f"{serial:x}" for serial in serials], now))
    assert {entry.serial_number for entry in crl} == serials


def test_list_is_read_back_as_it_was_written(
    authority: pki.Authority, leaf_pem: bytes, now: datetime
) -> None:
    """Serial numbers come out as those of LeafInfo went in."""
    serials = {pki.read_leaf(leaf_pem).serial, "a", "3"}
    crl = authority.crl(serials, now)
    assert pki.revoked_by(crl, authority.certificate_pem, authority.pin) == serials


def test_list_of_another_authority_is_not_believed(
    authority: pki.Authority, other_authority: pki.Authority, now: datetime
) -> None:
    """Neither under its own name nor under that of the authority that was asked for."""
    crl = other_authority.crl(["a"], now)
    for certificate in (authority.certificate_pem, other_authority.certificate_pem):
        with pytest.raises(ProtocolError):
            pki.revoked_by(crl, certificate, authority.pin)


@given(where=st.integers(0, 1000), flip=st.integers(1, 255))
def test_list_that_was_altered_is_not_believed(
    where: int, flip: int, authority: pki.Authority, now: datetime
) -> None:
    """Whichever octet it is."""
    crl = bytearray(authority.crl(["a", "b"], now))
    crl[where % len(crl)] ^= flip
    with pytest.raises(ProtocolError):
        pki.revoked_by(bytes(crl), authority.certificate_pem, authority.pin)
