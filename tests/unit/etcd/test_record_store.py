"""How events of a watch become a view."""

from __future__ import annotations

import pytest

from collective.errors import EtcdUnavailableError
from collective.etcd.deadline import seconds_allowed
from collective.etcd.record_store import MOST_REVOKED, WRITE_SECONDS, RecordStore
from collective.etcd.requests import PutRequest
from collective.model.records import Invitation, Revocation, Role, to_json
from collective.model.view import Item, View, revoked_key
from tests.unit.identities import record_of, view_of


class Noted:
    """A gateway that notes what it was to write."""

    def __init__(self) -> None:
        self.puts: list[str] = []
        self.deletes: list[str] = []

    def transact(
        self, _unchanged: dict[str, int], puts: list[PutRequest], deletes: tuple[str, ...] = ()
    ) -> tuple[bool, int]:
        self.puts, self.deletes = [put.key for put in puts], list(deletes)
        return True, 1


def after_changes(own: int, others: int = 0) -> View:
    """Return a view after so many changes of certificates: the newest has the lowest number."""
    view = view_of(record_of("mgt2"))
    items = {
        revoked_key(f"{name}-{number}"): Item(
            to_json(Revocation(f"{name}-{number}", name, 1.0)).encode(), 1000 - number
        )
        for name, count in (("mgt2", own), ("mgt3", others))
        for number in range(count)
    }
    return View(1000, {**view.items, **items})


def written(how: str, view: View, numbers: tuple[int, ...] = (2,)) -> Noted:
    """Have a member's record written, which has the certificates of these numbers now."""
    noted = Noted()
    store, member = RecordStore(noted), record_of("mgt2", numbers=numbers)  # type: ignore[arg-type]
    {"change": store.put_member, "move": store.readdress_member}[how](view, member, 5.0)
    return noted


class LosingItsLeader(Noted):
    """A gateway whose etcd asked a leader for the first lease that was lost just then."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self.lost, self.waited = lost, 0.0

    def grant_lease(self, _seconds: int) -> int:
        """Grant one, unless the leader is lost."""
        if self.lost:
            self.lost -= 1
            self.waited += seconds_allowed()
            raise EtcdUnavailableError("etcd did not answer in time")
        return 7


def test_invitation_that_meets_an_election_is_made_after_it() -> None:
    """It waited 5 s for the leader that was stopped, and failed; it takes no longer in all."""
    invitation = Invitation("mgt2", Role.VOTER, "ab", "mgt1", 0.0, 600.0)
    once, always = LosingItsLeader(1), LosingItsLeader(9)
    assert RecordStore(once).invite(view_of(), invitation, 600)  # type: ignore[arg-type]
    with pytest.raises(EtcdUnavailableError):
        RecordStore(always).invite(view_of(), invitation, 600)  # type: ignore[arg-type]
    assert always.waited == WRITE_SECONDS
    assert not always.puts


@pytest.mark.parametrize("how", ["change", "move"])
def test_certificate_that_was_to_be_next_is_revoked_when_another_one_is(how: str) -> None:
    """Whatever drops out of a record, and by whichever change, opens no door any more."""
    had, gone = record_of("mgt2", numbers=(1, 2)), record_of("mgt2", numbers=(2,))
    noted = written(how, view_of(had), numbers=(1, 3))
    assert [key for key in noted.puts if "/revoked/" in key] == [revoked_key(gone.fingerprints[0])]


@pytest.mark.parametrize("how", ["change", "move"])
def test_member_that_changes_its_certificate_forever_leaves_so_many_revocations(how: str) -> None:
    """The oldest of its own go, in the same transaction; a join reads them all (1,020 once)."""
    gone = record_of("mgt2").fingerprints[0]
    view = after_changes(MOST_REVOKED, others=50)
    noted = written(how, view)
    assert revoked_key(gone) in noted.puts
    assert noted.deletes == [revoked_key(f"mgt2-{MOST_REVOKED - 1}")]
    assert not written(how, after_changes(MOST_REVOKED - 1, others=50)).deletes


def test_many_revocations_of_before_go_over_some_transactions() -> None:
    """etcd takes 128 operations in one."""
    noted = written("change", after_changes(1020))
    assert len(noted.puts) + len(noted.deletes) <= 128
    assert len(noted.deletes) > 100
    assert noted.deletes[0] == revoked_key("mgt2-1019"), "the oldest first"


def test_certificate_that_is_revoked_anew_is_not_forgotten_at_once() -> None:
    """etcd would take no transaction that writes and deletes the same key."""
    gone = record_of("mgt2").fingerprints[0]
    oldest = Item(to_json(Revocation(gone, "mgt2", 1.0)).encode(), 0)
    view = after_changes(MOST_REVOKED)
    noted = written("change", View(1000, {**view.items, revoked_key(gone): oldest}))
    assert noted.deletes == [revoked_key(f"mgt2-{MOST_REVOKED - 1}")]
    assert revoked_key(gone) in noted.puts


def test_write_that_revokes_nothing_forgets_nothing() -> None:
    """A record is written for other reasons, too."""
    assert not written("change", after_changes(100), numbers=(1,)).deletes
