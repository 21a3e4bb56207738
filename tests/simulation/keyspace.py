"""etcd, as far as a collective sees it: keys with revisions, leases, members.

Quorum and reachability are the world's; what is asked of this here happens.

Invariants:
  * A transaction is one step, and compares revisions as etcd does.
  * An id is a hash of address and second, and one that was removed is never taken again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from collective.errors import EtcdError
from collective.etcd.api import EtcdMember
from collective.etcd.requests import PutRequest
from collective.model.view import Item, View


class Keyspace:
    """The state that all voters agree on.

    Attributes:
        view: all keys at the last revision.
        members: by id.
        gone: ids of members that were removed.
        caught_up: ids of learners whose log came close to the leader's, be they up or not.
    """

    def __init__(self) -> None:
        self.view = View(1)
        self.members: dict[int, EtcdMember] = {}
        self.gone: set[int] = set()
        self.caught_up: set[int] = set()
        self._leases: dict[int, float] = {}

    @property
    def voters(self) -> frozenset[int]:
        """Ids of members that count."""
        return frozenset(m.id for m in self.members.values() if not m.learner)

    def grant(self, expires: float) -> int:
        """Return the id of a new lease."""
        lease = len(self._leases) + 1
        self._leases[lease] = expires
        return lease

    def expire(self, now: float) -> None:
        """Delete what is bound to leases that are over."""
        over = {lease for lease, expires in self._leases.items() if expires <= now}
        keys = [key for key, item in self.view.items.items() if item.lease in over]
        for lease in over:
            self._leases[lease] = float("-inf")
        if keys:
            self.view = self.view.updated(self.view.revision + 1, {}, keys)

    def transact(
        self, unchanged: Mapping[str, int], puts: Sequence[PutRequest], deletes: Sequence[str]
    ) -> bool:
        """Write all or nothing; False when a compare fails."""
        if any(self.view.mod_revision(key) != wanted for key, wanted in unchanged.items()):
            return False
        if any(put.lease and self._leases[put.lease] == float("-inf") for put in puts):
            raise EtcdError("etcd: requested lease not found")
        revision = self.view.revision + 1
        items = {p.key: Item(p.value.encode(), revision, p.lease) for p in puts}
        self.view = self.view.updated(revision, items, deletes)
        return True

    def add_learner(self, url: str, member_id: int) -> int:
        """Add a member that does not count."""
        if member_id in self.gone:
            raise EtcdError("etcd: member not found")
        if any(url in m.peer_urls for m in self.members.values()):
            raise EtcdError("etcd: Peer URLs already exists")
        if any(m.learner for m in self.members.values()):
            raise EtcdError("etcd: too many learner members in cluster")
        self.members[member_id] = EtcdMember(member_id, "", (url,), True)
        return member_id

    def promote(self, member_id: int) -> None:
        """Make a learner count."""
        member = self._member(member_id)
        if not member.learner:
            raise EtcdError("etcd: can only promote a learner member")
        if member_id not in self.caught_up:
            raise EtcdError("etcd: can only promote a learner member which is in sync with leader")
        self.members[member_id] = EtcdMember(member_id, member.name, member.peer_urls, False)

    def update_member(self, member_id: int, url: str) -> None:
        """Change the URL of a member; a learner gets a vote by that (etcd issue 21694)."""
        member = self._member(member_id)
        self.members[member_id] = EtcdMember(member_id, member.name, (url,), False)

    def remove(self, member_id: int) -> EtcdMember:
        """Remove a member for good."""
        member = self._member(member_id)
        del self.members[member_id]
        self.gone.add(member_id)
        return member

    def _member(self, member_id: int) -> EtcdMember:
        member = self.members.get(member_id)
        if member is None:
            raise EtcdError("etcd: member not found")
        return member
