"""What records list, read once, and what may be recorded: one bad member fails nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collective.daemon.member.recorded import (
    certificates_of,
    check_recordable,
    is_broken,
)
from collective.errors import RefusedError
from collective.model.records import MemberRecord, Revocation
from collective.pki import Certificate, read_certificate
from tests.harness.odd_certificates import ODD_FORMS, PLAIN, Form
from tests.unit.identities import identity, record_of, view_of
from tests.unit.pki.attacks import Forged

ONE, TWO = record_of("mgt1", address="10.0.0.1"), record_of("mgt2", address="10.0.0.2")
BROKEN = {
    "no certificate": (),
    "an empty one": ("",),
    "garbage": ("garbage",),
    "half a surrogate pair": ("\ud800",),
    "of another server": (identity("mgt9").pem,),
    "one good and one that is not": (identity("mgt3").pem, "garbage"),
    "no common name": (Forged(name="mgt3").pem().replace("A", "B", 3),),
}


def certificate(record: MemberRecord) -> Certificate:
    return read_certificate(record.certificates[0])


def test_certificates_are_found_by_fingerprint() -> None:
    """All of all members, in their order; during a change a member has two."""
    three = record_of("mgt3", numbers=(1, 2))
    found = certificates_of([ONE, three])
    assert list(found) == [*ONE.fingerprints, *three.fingerprints]
    assert {c.name for c in found.values()} == {"mgt1", "mgt3"}
    assert all(c.fingerprint == f for f, c in found.items())


def test_revoked_certificate_is_of_no_use() -> None:
    """Whatever a record still lists."""
    three = record_of("mgt3", numbers=(1, 2))
    assert list(certificates_of([three], {three.fingerprints[0]})) == [three.fingerprints[1]]


@pytest.mark.parametrize("pems", BROKEN.values(), ids=BROKEN)
def test_member_whose_certificate_cannot_be_read_is_left_out_alone(pems: tuple[str, ...]) -> None:
    """Nobody else fails for it, and it gets in nowhere by half of its record."""
    broken = replace(record_of("mgt3"), certificates=pems)
    assert is_broken(broken)
    assert list(certificates_of([ONE, broken, TWO])) == [*ONE.fingerprints, *TWO.fingerprints]


@pytest.mark.parametrize("form", ODD_FORMS.values(), ids=ODD_FORMS)
def test_member_whose_certificate_is_odd_is_left_out_alone(form: Form) -> None:
    """Whoever wrote the record: OpenSSL and Go load what is returned, all or nothing."""
    odd = form.made("mgt3", ["10.0.0.3"])
    broken = replace(record_of("mgt3"), certificates=(identity("mgt3").pem, odd.pem))
    assert odd.fingerprint not in certificates_of([ONE, broken, TWO])
    assert set(certificates_of([ONE, broken, TWO])) >= {*ONE.fingerprints, *TWO.fingerprints}
    assert is_broken(replace(broken, certificates=(odd.pem,)))


def test_member_whose_certificate_is_not_odd_is_not_left_out() -> None:
    """The same certificate, written by hand, without anything odd."""
    plain = PLAIN.made("mgt3", ["10.0.0.3"])
    assert plain.fingerprint in certificates_of(
        [replace(ONE, name="mgt3", certificates=(plain.pem,))]
    )


def test_good_member_is_not_broken() -> None:
    """With one certificate or two."""
    assert not is_broken(ONE)
    assert not is_broken(record_of("mgt3", numbers=(1, 2)))


def test_new_certificate_of_a_member_may_be_recorded() -> None:
    """Also the one that is recorded for it already: a change that was cut is repeated."""
    view = view_of(ONE, TWO)
    check_recordable(view, "mgt2", "10.0.0.2", identity("mgt2", "10.0.0.2", 2).certificate)
    check_recordable(view, "mgt2", "10.0.0.2", certificate(TWO))
    check_recordable(view, "mgt3", "10.0.0.3", identity("mgt3", "10.0.0.3").certificate)


def test_revoked_certificate_is_not_recorded_again() -> None:
    """What was revoked stays revoked."""
    gone = identity("mgt3", "10.0.0.3")
    view = view_of(ONE, Revocation(gone.fingerprint, "mgt3", 0.0))
    with pytest.raises(RefusedError, match="the certificate of mgt3 was revoked") as caught:
        check_recordable(view, "mgt3", "10.0.0.3", gone.certificate)
    assert caught.value.hint == "run 'collective gencert' on mgt3 for another one"


def test_serial_number_of_another_member_is_not_recorded() -> None:
    """Whoever is deleted would take that member along: etcd's list knows numbers alone."""
    serial = int(certificate(ONE).serial, 16)
    copied = read_certificate(Forged(name="mgt3", serial=serial).pem())
    with pytest.raises(RefusedError, match="serial number of another member's"):
        check_recordable(view_of(ONE), "mgt3", "10.0.0.3", copied)


def test_certificate_with_another_members_address_is_not_recorded() -> None:
    """Etcd compares it with where a connection comes from."""
    with pytest.raises(RefusedError, match=r"names 10\.0\.0\.1, which is the address of mgt1"):
        check_recordable(
            view_of(ONE),
            "mgt3",
            "10.0.0.1",
            identity("mgt3", "10.0.0.1").certificate,
        )


def test_broken_record_of_another_hinders_nobody() -> None:
    """Neither its certificate nor its number can be read."""
    broken = replace(ONE, certificates=("garbage", "\ud800"))
    check_recordable(view_of(broken), "mgt3", "10.0.0.3", identity("mgt3", "10.0.0.3").certificate)
