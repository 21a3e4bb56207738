"""Which moment of the store is held here, and what others are beside it.

A server that joins another collective is in another of etcd's clusters from then on, whose
revisions are not compared with those of the former one. Pure, but for what it remembers.

Invariants:
  * Nothing is waited for that belongs to a cluster which this server has left.
"""

from __future__ import annotations

from collective.store.values import NEVER, Moment

# More than any revision: what was seen is of a cluster that is yet to come.
_LOOK_CLOSER = 1 << 64


class Timeline:
    """The moment that is held, and the clusters that were before it.

    Attributes:
        cluster: the id of etcd's cluster, 0 before the first reading.
        revision: of the store there, 0 before the first reading.
    """

    __slots__ = ("_foreign", "_former", "cluster", "revision")

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.cluster = 0
        self.revision = 0
        # Clusters that this server was a member of before: nothing comes from there any more.
        self._former: set[int] = set()
        # Others that were asked for. Should it go on to yet another one, they are over too.
        self._foreign: set[int] = set()

    def is_move(self, cluster: int) -> bool:
        """Tell whether to hold something of a cluster is to leave the one of now."""
        return self.cluster not in (0, cluster)

    def move_to(self, cluster: int, revision: int) -> None:
        """Hold another moment from now on, of this cluster or another one."""
        if self.is_move(cluster):
            self._former |= {self.cluster} | self._foreign
            self._former.discard(cluster)
            self._foreign = set()
        self.cluster, self.revision = cluster, revision

    def lacks(self, moment: Moment) -> bool:
        """Tell whether what there was at a moment is yet to come: not so in a former cluster."""
        if moment.cluster in (0, self.cluster):
            return self.revision < moment.revision
        if moment.cluster in self._former:
            return False
        self._foreign.add(moment.cluster)
        return True

    def wanted(self, at_least: int, seen: Moment) -> Moment:
        """Return the moment that an answer has to have.

        Args:
            at_least: a revision of the cluster that is held here.
            seen: what whoever asks has seen; of a cluster that is yet to come it is what counts.
        """
        if seen.cluster == self.cluster:
            return Moment(self.cluster, max(at_least, seen.revision))
        return seen if self.lacks(seen) else Moment(self.cluster, at_least)

    def later(self, moment: Moment, seen: Moment) -> Moment:
        """Return the later of two moments, the first of which was heard just now."""
        if moment.cluster == seen.cluster:
            return max(moment, seen)
        return moment if moment.cluster == self.cluster or self.lacks(moment) else seen

    def enough_for(self, seen: Moment) -> int:
        """Return the revision from which on all is here that was seen, in the cluster of now.

        It is more than any where the cluster is yet to come.
        """
        if seen.cluster == self.cluster:
            return seen.revision
        return _LOOK_CLOSER if self.lacks(seen) else NEVER.revision
