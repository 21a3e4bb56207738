"""What a sponsor gives a joiner, compared with what the other guests say (P3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collective.daemon.joining.admitted import members_in
from collective.daemon.joining.guests import Confirmed, voters_of
from collective.errors import InvitationError, ProtocolError
from collective.model.guest_list import collective_id
from collective.model.names import peer_url
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from tests.unit.identities import identity, record_of, view_of

TOKEN = "a collective"


def member(name: str, address: str, role: Role = Role.VOTER, number: int = 1) -> MemberRecord:
    return record_of(name, role, address, (number,))


VIEW = view_of(
    member("mgt1", "10.0.0.1"),
    member("mgt2", "10.0.0.2"),
    member("mgt9", "10.0.0.9", role=Role.LEARNER),
)
OURS = VIEW.members["mgt9"].fingerprints[0]
SPONSOR = VIEW.members["mgt1"].fingerprints[0]
CONFIRMED = Confirmed(collective_id(TOKEN), frozenset(voters_of(VIEW)))


def plan_of(*addresses: str) -> Plan:
    """Return the plan of mgt9, with a list of etcd's members at these addresses."""
    listed = ",".join(f"x={peer_url(address, 13003)}" for address in addresses)
    return Plan(Mode.ADOPTING, "mgt9", "10.0.0.9", 13002, 13003, TOKEN, listed, True)


ALL = plan_of("10.0.0.1", "10.0.0.2", "10.0.0.9")


def taken(
    view: View, plan: Plan = ALL, confirmed: Confirmed = CONFIRMED, sponsor: str = SPONSOR
) -> View:
    return members_in(view.to_json(TOKEN), plan, confirmed, sponsor, OURS)


def test_records_that_the_other_guests_know_are_taken() -> None:
    """Also where a guest knows of one more: it may have been deleted since."""
    more = replace(CONFIRMED, voters=CONFIRMED.voters | {"f https://10.0.0.3:13003"})
    assert taken(VIEW).members == VIEW.members
    assert taken(VIEW, plan_of("10.0.0.1", "10.0.0.3", "10.0.0.9"), more).members == VIEW.members


@pytest.mark.parametrize(
    "others",
    [
        (member("mgt1", "10.0.0.1"), member("mgt2", "10.0.0.2", number=2)),
        (member("mgt1", "10.0.0.1"), member("mgt2", "10.0.0.66")),
        (member("mgt1", "10.0.0.1"), member("mgt3", "10.0.0.3")),
    ],
    ids=["another certificate", "another address", "another voter"],
)
def test_voter_that_no_other_guest_knows_is_refused(others: tuple[MemberRecord, ...]) -> None:
    """A sponsor that turned bad makes a collective of its own, of certificates or addresses."""
    view = view_of(*others, member("mgt9", "10.0.0.9", role=Role.LEARNER))
    with pytest.raises(InvitationError, match="do not know"):
        taken(view)


def test_member_of_etcd_where_no_voter_is_is_refused() -> None:
    """The list of members decides whom etcd dials."""
    with pytest.raises(InvitationError, match=r"has https://10\.0\.0\.66:13003"):
        taken(VIEW, plan_of("10.0.0.1", "10.0.0.66", "10.0.0.9"))


def test_guest_that_says_nothing_of_voters_confirms_none() -> None:
    """Only where there was nobody else to ask is nothing compared."""
    with pytest.raises(InvitationError):
        taken(VIEW, confirmed=replace(CONFIRMED, voters=frozenset()))
    assert taken(VIEW, confirmed=Confirmed("", frozenset())).members == VIEW.members


def test_sponsor_that_is_no_voter_is_refused() -> None:
    """A deleted server has the claim made at another one, for the joiner, and takes it itself."""
    with pytest.raises(InvitationError, match="is no voter"):
        taken(VIEW, sponsor=identity("mgt3").fingerprint)
    with pytest.raises(InvitationError, match="is no voter"):
        taken(VIEW, sponsor=OURS)


def test_records_of_others_than_voters_are_not_taken() -> None:
    """No guest confirms them, and etcd would let learners in."""
    more = view_of(
        *(VIEW.members[name] for name in ("mgt1", "mgt2", "mgt9")),
        member("mgt8", "10.0.0.8", role=Role.LEARNER),
        member("mgt7", "10.0.0.7", role=Role.NONVOTING),
    )
    assert taken(more).members == VIEW.members


def test_other_collective_is_refused() -> None:
    """The joiner ends in the collective of the token, or nowhere."""
    with pytest.raises(InvitationError):
        taken(VIEW, confirmed=replace(CONFIRMED, collective=collective_id("another")))


def test_records_without_us_are_refused() -> None:
    """Or with another certificate of ours."""
    with pytest.raises(ProtocolError):
        taken(view_of(member("mgt1", "10.0.0.1"), member("mgt9", "10.0.0.9", number=2)))


def test_identities_differ() -> None:
    """Or nothing above is tried."""
    assert identity("mgt2", "10.0.0.2").pem != identity("mgt2", "10.0.0.2", number=2).pem
