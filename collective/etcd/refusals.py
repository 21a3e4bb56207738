"""What an answer of etcd that is no success stands for, decided on its words.

etcd3gw maps every 503 to one class, and etcd 3.6 answers 400 where 3.4 answers 412.
"""

from __future__ import annotations

from collective.errors import EtcdError, EtcdUnavailableError, NotReachedError

#: How the daemon of a server without an etcd begins to say that a call reached no voter.
NOBODY = "no voter answers for etcd"
#: What etcd says of a call that was under way when the leader changed (rpctypes/error.go).
LEADER_CHANGED = "etcdserver: leader changed"
# What raft says of a write that it did not take, since nobody led (raft/raft.go).
_DROPPED = "raft proposal dropped"
_CROWDED = "etcdserver: too many requests"
_LEADERLESS = (LEADER_CHANGED, "etcdserver: no leader", _DROPPED)
_INTERNAL = 500


def refusal(status: int | None, reason: str) -> EtcdError:
    """Return the error that an answer of the gateway stands for.

    Args:
        status: of HTTP; None where it is not known, and is none of those that leave it open
            whether something happened.
        reason: in etcd's words.
    """
    if reason.startswith(NOBODY):
        return NotReachedError(reason)
    # Of other numbers from 500 on nobody says that nothing happened.
    if _DROPPED in reason or _CROWDED in reason or (status is not None and status >= _INTERNAL):
        return EtcdUnavailableError(f"etcd: {reason}")
    return EtcdError(f"etcd: {reason}")


def is_leaderless(error: BaseException) -> bool:
    """Tell whether a call failed since nobody led, or the leader changed: a moment, as a rule."""
    words = error.message if isinstance(error, EtcdUnavailableError) else ""
    return any(each in words for each in _LEADERLESS)


def is_dropped(error: BaseException) -> bool:
    """Tell whether a write was certainly not made: nobody led, or etcd had too much to do."""
    words = error.message if isinstance(error, EtcdUnavailableError) else ""
    return _DROPPED in words or _CROWDED in words
