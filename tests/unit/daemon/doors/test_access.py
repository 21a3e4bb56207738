"""Who may ask at the door."""

from __future__ import annotations

import pytest

from collective.daemon.doors.access import member_of, objection
from collective.errors import AccessError, RemovedError
from collective.model.records import MemberRecord, Revocation, Role, to_json
from collective.model.view import Item, View, member_key, revoked_key
from collective.protocol.web import Peer, PeerCertificate


def view_of(*members: MemberRecord, revoked: tuple[str, ...] = ()) -> View:
    items = {member_key(m.name): Item(to_json(m).encode(), 1) for m in members}
    items |= {
        revoked_key(s): Item(to_json(Revocation(s, "mgt3", 0.0)).encode(), 1) for s in revoked
    }
    return View(1, items)


def member(name: str, *serials: str, role: Role = Role.VOTER) -> MemberRecord:
    fingerprints = tuple(map(fingerprint, serials))
    return MemberRecord(name, "1", role, "10.0.0.1", 13002, 13003, serials, fingerprints, 0.0)


def fingerprint(serial: str) -> str:
    """Return the fingerprint of the certificate that was issued under a serial number."""
    return serial.rjust(64, "f")


def served(name: str, serial: str) -> PeerCertificate:
    return PeerCertificate(name, serial, fingerprint(serial))


def peer(name: str | None, serial: str = "a1") -> Peer:
    certificate = None if name is None else served(name, serial)
    return Peer("tls", "10.0.0.9", certificate)


ALL = view_of(member("mgt1", "a1", "a2"), member("mgt2", "b1", role=Role.LEARNER), revoked=("c1",))


@pytest.mark.parametrize(("name", "serial"), [("mgt1", "a1"), ("mgt1", "a2"), ("mgt2", "b1")])
def test_certificate_of_a_member_opens_the_door(name: str, serial: str) -> None:
    """Each one that the member was issued, old or new, of a learner too."""
    assert member_of(ALL, peer(name, serial)).name == name


@pytest.mark.parametrize(
    ("name", "serial", "error"),
    [
        (None, "", AccessError),
        ("mgt1", "ff", AccessError),
        ("mgt1", "b1", AccessError),
        ("mgt2", "a1", AccessError),
        ("mgt9", "a1", AccessError),
        ("", "a1", AccessError),
        ("mgt3", "c1", RemovedError),
        ("mgt1", "c1", RemovedError),
    ],
)
def test_any_other_certificate_does_not(
    name: str | None, serial: str, error: type[Exception]
) -> None:
    """None at all, another's, one that no record lists (minted with a copy of the CA's key)."""
    with pytest.raises(error):
        member_of(ALL, peer(name, serial))


def test_revocation_wins_over_a_record() -> None:
    """A serial that is in both is shut out."""
    view = view_of(member("mgt1", "a1"), revoked=("a1",))
    with pytest.raises(RemovedError, match="mgt1 was deleted"):
        member_of(view, peer("mgt1", "a1"))


def test_deleted_server_has_no_way_in() -> None:
    """Its record is gone, so even a certificate that nobody revoked is nobody's."""
    with pytest.raises(AccessError, match="belongs to no member"):
        member_of(View(1), peer("mgt1", "a1"))


@pytest.mark.parametrize(
    ("name", "serial", "says"),
    [
        ("mgt1", "a1", None),
        ("mgt2", "a1", "it is mgt2, not mgt1"),
        ("", "a1", "it is a server without a name, not mgt1"),
        ("mgt1", "c1", "mgt1 was deleted from this collective"),
        ("mgt1", "ff", "its certificate is none that mgt1 was given"),
        ("mgt1", "b1", "its certificate is none that mgt1 was given"),
    ],
)
def test_server_that_we_dial_must_be_the_one_we_want(
    name: str, serial: str, says: str | None
) -> None:
    """An address that now belongs to another server is found out before anything is sent."""
    assert objection(ALL, "mgt1", served(name, serial)) == says


def test_server_without_a_record_is_believed_on_its_ca_when_dialled() -> None:
    """A server that joins has no records yet; a revoked certificate is none all the same."""
    assert objection(ALL, "mgt9", served("mgt9", "d1")) is None
    assert objection(View(0), "mgt1", served("mgt1", "a1")) is None
    assert objection(ALL, "mgt9", served("mgt9", "c1")) == "mgt9 was deleted from this collective"


@pytest.mark.parametrize("other", ["0" * 64, "", fingerprint("b1"), fingerprint("a1").upper()])
def test_certificate_minted_with_a_copy_of_the_ca_key_is_refused_both_ways(other: str) -> None:
    """Who has the key can write a member's name and serial number, but not its fingerprint."""
    minted = PeerCertificate("mgt1", "a1", other)
    with pytest.raises(AccessError, match="the certificate of mgt1 belongs to no member"):
        member_of(ALL, Peer("tls", "10.0.0.9", minted))
    assert objection(ALL, "mgt1", minted) == "its certificate is none that mgt1 was given"
