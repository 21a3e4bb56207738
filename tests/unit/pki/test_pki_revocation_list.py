"""Tests of the revocation list: what it lists, who signed it, and that time has no part in it."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from collective import pki
from collective.errors import InputError


def read_crl(der: bytes) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(der)


def public_key(certificate: pki.Certificate) -> ec.EllipticCurvePublicKey:
    key = x509.load_pem_x509_certificate(certificate.pem.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def test_empty_list_is_signed_and_lists_nothing(
    key_pem: bytes, certificate: pki.Certificate
) -> None:
    """A server that refuses nobody has a list all the same: etcd wants the file."""
    crl = read_crl(pki.make_revocation_list(key_pem, "mgt2", ()))
    assert crl.is_signature_valid(public_key(certificate))
    assert crl.issuer.rfc4514_string() == "CN=mgt2"
    assert len(crl) == 0


def test_list_is_not_signed_by_another_key(key_pem: bytes) -> None:
    """The check above can fail."""
    other = pki.make_certificate(pki.new_key(), "mgt2", [])
    crl = read_crl(pki.make_revocation_list(key_pem, "mgt2", ["1"]))
    assert not crl.is_signature_valid(public_key(other))


def test_list_has_each_serial_once_in_order(key_pem: bytes, certificate: pki.Certificate) -> None:
    """The serial text of Certificate, in either case and with zeros before it, is one number."""
    serials = [certificate.serial, certificate.serial.upper(), "0a", "a", "3"]
    crl = read_crl(pki.make_revocation_list(key_pem, "mgt2", serials))
    expected = sorted({3, 10, int(certificate.serial, 16)})
    assert [entry.serial_number for entry in crl] == expected
    assert crl.get_revoked_certificate_by_serial_number(int(certificate.serial, 16))


def test_list_is_good_at_any_time(key_pem: bytes) -> None:
    """A server whose clock is wrong refuses the same ones."""
    crl = read_crl(pki.make_revocation_list(key_pem, "mgt2", ["1"]))
    assert crl.last_update_utc == datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert crl.next_update_utc == datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)


@given(serials=st.sets(st.integers(min_value=1, max_value=(1 << 159) - 1), max_size=8))
def test_any_set_of_serials_comes_back(key_pem: bytes, serials: set[int]) -> None:
    """Numbers in, the same numbers out."""
    crl = read_crl(
        pki.make_revocation_list(key_pem, "mgt2", (f"{serial:x}" for serial in serials))
    )
    assert {entry.serial_number for entry in crl} == serials


def test_bad_key_is_refused() -> None:
    """A key that is none is a mistake of this server's own."""
    with pytest.raises(InputError, match="not readable"):
        pki.make_revocation_list(b"no key", "mgt2", ())
