"""Link several Confluent management servers into one collective that survives a lost server.

``collective.connect`` gives software on a server a handle on it; see docs/embedding.md. What is
behind a name here is imported when it is first used: the ``collective`` command imports this
module at every start, so it must stay cheap.
"""

__version__ = "0.2.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collective.calls.call import Call as Call
    from collective.calls.call import ServedCall as ServedCall
    from collective.calls.service import Service as Service
    from collective.coordination.assignments import Assignments as Assignments
    from collective.coordination.assignments import Manager as Manager
    from collective.coordination.lock_queue import Hold as Hold
    from collective.coordination.locks import Election as Election
    from collective.coordination.locks import Lock as Lock
    from collective.coordination.session import Session as Session
    from collective.embedded import Server as Server
    from collective.handle import Collective as Collective
    from collective.handle import connect as connect
    from collective.membership import Change as Change
    from collective.membership import Member as Member
    from collective.membership import MemberChange as MemberChange
    from collective.store.quorum import QuorumState as QuorumState
    from collective.store.store import Store as Store
    from collective.store.values import Delete as Delete
    from collective.store.values import DeletePrefix as DeletePrefix
    from collective.store.values import Put as Put
    from collective.store.values import Read as Read
    from collective.store.values import absent as absent
    from collective.store.values import holds as holds
    from collective.store.values import present as present
    from collective.store.values import unchanged as unchanged

_VALUES = "collective.store.values"
_HOMES = {
    "Call": "collective.calls.call",
    "ServedCall": "collective.calls.call",
    "Service": "collective.calls.service",
    "Assignments": "collective.coordination.assignments",
    "Manager": "collective.coordination.assignments",
    "Election": "collective.coordination.locks",
    "Lock": "collective.coordination.locks",
    "Hold": "collective.coordination.lock_queue",
    "Session": "collective.coordination.session",
    "Server": "collective.embedded",
    "QuorumState": "collective.store.quorum",
    "Store": "collective.store.store",
    **dict.fromkeys(("Collective", "connect"), "collective.handle"),
    **dict.fromkeys(("Change", "Member", "MemberChange"), "collective.membership"),
    **dict.fromkeys(("Put", "Delete", "DeletePrefix", "Read"), _VALUES),
    **dict.fromkeys(("absent", "holds", "present", "unchanged"), _VALUES),
}


def __getattr__(name: str) -> object:
    """Import what is asked for (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
