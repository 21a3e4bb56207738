"""Who may ask at the door."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from collective.daemon.member.access import (
    ANYBODY,
    MEMBERS,
    Caller,
    check_caller,
    kind_of,
    member_of,
    objection,
)
from collective.errors import AccessError, RemovedError
from collective.model.records import MemberRecord, Revocation, Role
from collective.model.view import View
from collective.protocol.web import PeerCertificate, Requester
from tests.unit.identities import Identity, identity, record_of, view_of

ONE = tuple(identity("mgt1", number=n) for n in (1, 2))
TWO, GONE, OTHER = identity("mgt2"), identity("mgt3"), identity("mgt1", number=9)
REVOKED = Revocation(GONE.fingerprint, "mgt3", 0.0)
ALL = view_of(record_of("mgt1", numbers=(1, 2)), record_of("mgt2", Role.LEARNER), REVOKED)


def peer(shown: Identity | None, name: str | None = None) -> Requester:
    """Return who connects with a certificate; its name is what it says, and may be anything."""
    certificate = None
    if shown is not None:
        certificate = PeerCertificate(name or shown.certificate.name, shown.fingerprint)
    return Requester("tls", "10.0.0.9", certificate)


@pytest.mark.parametrize(
    ("shown", "name"), [(ONE[0], "mgt1"), (ONE[1], "mgt1"), (TWO, "mgt2")], ids=["1", "next", "2"]
)
def test_certificate_of_a_member_opens_the_door(shown: Identity, name: str) -> None:
    """The one in use and the next one, of a learner too."""
    assert member_of(ALL, peer(shown)).name == name


@pytest.mark.parametrize("said", ["mgt1", "mgt2", "mgt9", "", "root"])
def test_member_is_whose_record_lists_it_whatever_the_certificate_says(said: str) -> None:
    """A name in a certificate is its owner's word."""
    assert member_of(ALL, peer(TWO, said)).name == "mgt2"


@pytest.mark.parametrize(
    ("shown", "error"),
    [(None, AccessError), (OTHER, AccessError), (GONE, RemovedError)],
    ids=["none", "no record lists it", "revoked"],
)
def test_any_other_certificate_does_not(shown: Identity | None, error: type[Exception]) -> None:
    """None at all, one that no record lists though it is for a member's name, a deleted one's."""
    for name in (None, "mgt1", "mgt2"):
        with pytest.raises(error):
            member_of(ALL, peer(shown, name))


def test_revocation_wins_over_a_record() -> None:
    """A certificate that is in both is shut out; the member's other one is not."""
    revoked = Revocation(ONE[0].fingerprint, "mgt1", 0.0)
    view = view_of(record_of("mgt1", numbers=(1, 2)), revoked)
    with pytest.raises(RemovedError, match="mgt1 was deleted"):
        member_of(view, peer(ONE[0]))
    assert member_of(view, peer(ONE[1])).name == "mgt1"


def test_deleted_server_has_no_way_in() -> None:
    """Its record is gone, so even a certificate that nobody revoked is nobody's."""
    with pytest.raises(AccessError, match="the certificate of mgt1 belongs to no member"):
        member_of(View(1), peer(ONE[0]))


@pytest.mark.parametrize(
    "fingerprint",
    ["", "0" * 64, ONE[0].fingerprint.upper(), "mgt1"],
    ids=["empty", "zeros", "capitals", "name"],
)
def test_fingerprint_that_is_near_is_nobodys(fingerprint: str) -> None:
    """Also the empty one, which a broken record has."""
    broken = MemberRecord("mgt4", "4", Role.VOTER, "10.0.0.4", 1, 2, ("no certificate",), 0.0)
    view = view_of(record_of("mgt1"), broken)
    with pytest.raises(AccessError, match="belongs to no member"):
        member_of(view, Requester("tls", "10.0.0.9", PeerCertificate("mgt1", fingerprint)))
    assert objection(view, "mgt4", fingerprint) == "its certificate is none of mgt4's"


@pytest.mark.parametrize(
    ("served", "says"),
    [
        (ONE[0], None),
        (ONE[1], None),
        (TWO, "it is mgt2, not mgt1"),
        (GONE, "mgt3 was deleted from this collective"),
        (OTHER, "its certificate is none of mgt1's"),
    ],
    ids=["in use", "next", "another member", "deleted", "not recorded"],
)
def test_server_that_we_dial_must_be_the_one_we_want(served: Identity, says: str | None) -> None:
    """An address that now belongs to another server is found out before anything is sent."""
    assert objection(ALL, "mgt1", served.fingerprint) == says


def test_server_without_a_record_is_nobody() -> None:
    """There is no authority whose word would do instead."""
    assert objection(ALL, "mgt9", OTHER.fingerprint) == "its certificate is none of mgt9's"
    assert objection(View(0), "mgt1", ONE[0].fingerprint) == "its certificate is none of mgt1's"


KINDS = {
    None: Caller.STRANGER,
    Role.NONVOTING: Caller.NONVOTING,
    Role.LEARNER: Caller.LEARNER,
    Role.VOTER: Caller.VOTER,
}


@pytest.mark.parametrize(("role", "kind"), KINDS.items())
def test_kind_of_a_caller_is_its_recorded_role(role: Role | None, kind: Caller) -> None:
    """Each role is a kind, and nobody is a stranger by role."""
    assert kind_of(None if role is None else record_of("mgt1", role)) is kind
    assert set(KINDS) == {None, *Role}
    assert set(KINDS.values()) == set(Caller) == ANYBODY == MEMBERS | {Caller.STRANGER}


@pytest.mark.parametrize("role", [None, *Role])
def test_caller_is_let_in_where_its_kind_is_listed_and_nowhere_else(role: Role | None) -> None:
    """For every set of kinds that a route may have."""
    member = None if role is None else record_of("mgt1", role)
    sets = chain.from_iterable(combinations(Caller, size) for size in range(len(Caller) + 1))
    for allowed in sets:
        if KINDS[role] in allowed:
            check_caller(member, allowed, "GET /x")
            continue
        with pytest.raises(AccessError) as caught:
            check_caller(member, allowed, "GET /x")
        told = caught.value.message
        if member is None:
            assert told == "this needs the certificate of a member"
        else:
            assert told.startswith(f"mgt1 is a {KINDS[role].value} and may not ask GET /x: a ")
            assert all(kind.value in told for kind in allowed)
