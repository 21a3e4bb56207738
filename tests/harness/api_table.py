"""Every call of the Python API, so that each can be tried in every state of etcd and daemon.

It tries nothing itself. ``CALLS`` is compared with what the classes have: a public method that is
not in it is found out.

Invariants:
  * What a call needs is made while all is well; what it gives is how long the call may take.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress

from collective.coordination.assignments import Assignments, Manager
from collective.coordination.lock_queue import Hold
from collective.coordination.locks import Election, Lock
from collective.coordination.session import Session
from collective.errors import CollectiveError, InDoubtError
from collective.handle import Collective
from collective.store.leases import Lease
from collective.store.store import Store
from collective.store.values import NEVER, Put
from collective.store.watching import Watch

CLASSES = (
    Collective, Store, Lease, Session, Lock, Election, Hold, Assignments, Manager, Watch
)  # fmt: skip
#: What is told with no question to etcd: at once, whatever its state.
AT_ONCE = 0.0
WRITE = 5.0

Run = Callable[[float], object]
#: Gets a handle while all is well, and another such handle when it is asked for one.
Prepare = Callable[[Collective, Callable[[], Collective]], Run]


def public(cls: type) -> Iterator[str]:
    """Yield the methods and properties of a class that are its own and public."""
    for name, member in vars(cls).items():
        if not name.startswith("_") and (inspect.isfunction(member) or type(member) is property):
            yield f"{cls.__name__}.{name}"


def name() -> str:
    """Return a name that nothing else has."""
    return secrets.token_hex(4)


def _store(call: Callable[[Store, float], object]) -> Prepare:
    return lambda handle, _: lambda seconds: call(handle.store, seconds)


def _handle(call: Callable[[Collective, float], object]) -> Prepare:
    return lambda handle, _: lambda seconds: call(handle, seconds)


def _own(call: Callable[[Collective, float], object]) -> Prepare:
    """Return what tries a call on a handle of its own, that has written and holds something."""

    def prepare(_: Collective, another: Callable[[], Collective]) -> Run:
        handle = another()
        handle.store.put(name(), b"", lease=handle.store.lease(60))
        handle.lock(name()).acquire()
        return lambda seconds: call(handle, seconds)

    return prepare


def _lease(call: Callable[[Lease, float], object]) -> Prepare:
    def prepare(handle: Collective, _: object) -> Run:
        lease = handle.store.lease(60)
        return lambda seconds: call(lease, seconds)

    return prepare


def _session(call: Callable[[Session, float], object]) -> Prepare:
    def prepare(handle: Collective, _: object) -> Run:
        session = handle.session(60)
        return lambda seconds: call(session, seconds)

    return prepare


def _hold(call: Callable[[Hold, float], object]) -> Prepare:
    def prepare(handle: Collective, _: object) -> Run:
        hold = handle.lock(name(), handle.session(60)).acquire()
        return lambda seconds: call(hold, seconds)

    return prepare


def _group(call: Callable[[Assignments, float], object]) -> Prepare:
    def prepare(handle: Collective, _: object) -> Run:
        group = handle.assignments(name())
        group.define(["n1"])
        return lambda seconds: call(group, seconds)

    return prepare


def _manager(call: Callable[[Manager, float], object]) -> Prepare:
    def prepare(handle: Collective, _: object) -> Run:
        group = handle.assignments(name())
        manager = group.manage(_nothing, _nothing)
        return lambda seconds: (call(manager, seconds), group)

    return prepare


def _watch(call: Callable[[Watch, float], object]) -> Prepare:
    def prepare(handle: Collective, _: object) -> Run:
        watch = handle.store.watch(name())
        return lambda seconds: call(watch, seconds)

    return prepare


def _nothing(*_: object) -> None:
    """Do nothing."""


def _settled(store: Store, seconds: float) -> None:
    """Write, and settle what is in doubt then."""
    try:
        store.put(name(), b"", seconds=seconds / 2)
    except InDoubtError as error:
        store.settle(error, seconds=seconds / 2)


#: By name: what is tried, and how long it takes at most; None for the seconds that it is given.
CALLS: dict[str, tuple[Prepare, float | None]] = {
    "Collective.wait_until_ready": (_handle(lambda h, s: h.wait_until_ready(s)), None),
    "Collective.close": (_own(lambda h, s: h.close(s)), None),
    "Collective.after_fork": (_own(lambda h, _: h.after_fork()), AT_ONCE),
    "Collective.members": (_handle(lambda h, _: h.members()), AT_ONCE),
    "Collective.member": (_handle(lambda h, _: h.member("mgt1")), AT_ONCE),
    "Collective.leader": (_handle(lambda h, s: h.leader(s)), None),
    "Collective.in_collective": (_handle(lambda h, _: h.in_collective), AT_ONCE),
    "Collective.quorum": (_handle(lambda h, _: h.quorum), 2.0),
    "Collective.check_quorum": (_handle(lambda h, s: h.check_quorum(s)), None),
    "Collective.why_at_rest": (_handle(lambda h, _: h.why_at_rest()), 0.2),
    "Collective.last_quorum": (_handle(lambda h, _: h.last_quorum), AT_ONCE),
    "Collective.on_quorum_change": (
        _handle(lambda h, _: h.on_quorum_change(_nothing)), AT_ONCE
    ),
    "Collective.on_member_change": (
        _handle(lambda h, _: h.on_member_change(_nothing)), AT_ONCE
    ),
    "Collective.session": (_handle(lambda h, _: h.session()), WRITE),
    "Collective.lock": (_handle(lambda h, _: h.lock(name())), AT_ONCE),
    "Collective.election": (_handle(lambda h, _: h.election(name())), AT_ONCE),
    "Collective.assignments": (_handle(lambda h, _: h.assignments(name())), AT_ONCE),
    "Collective.serve": (_handle(lambda h, _: h.serve("s" + name(), lambda _: None)), AT_ONCE),
    "Collective.call": (_handle(lambda h, s: h.call("mgt1", "none", seconds=s)), None),
    "Collective.ask": (_handle(lambda h, s: h.ask("mgt1", "none", seconds=s)), None),
    "Store.revision": (_store(lambda t, _: t.revision), AT_ONCE),
    "Store.is_following": (_store(lambda t, _: t.is_following), AT_ONCE),
    "Store.get": (_store(lambda t, s: t.get("a", linearizable=True, seconds=s)), None),
    "Store.entry": (_store(lambda t, s: t.entry("a", at_least=1 << 40, seconds=s)), None),
    "Store.range": (_store(lambda t, s: t.range(linearizable=True, seconds=s)), None),
    "Store.get_json": (_store(lambda t, s: t.get_json("j", linearizable=True, seconds=s)), None),
    "Store.put": (_store(lambda t, s: t.put(name(), b"", seconds=s)), None),
    "Store.put_json": (_store(lambda t, s: t.put_json(name(), 1, seconds=s)), None),
    "Store.delete": (_store(lambda t, s: t.delete(name(), seconds=s)), None),
    "Store.delete_prefix": (_store(lambda t, s: t.delete_prefix(name(), seconds=s)), None),
    "Store.compare_and_set": (
        _store(lambda t, s: t.compare_and_set(name(), None, b"", seconds=s)), None
    ),
    "Store.update": (_store(lambda t, s: t.update(name(), lambda _: b"", seconds=s)), None),
    "Store.txn": (_store(lambda t, s: t.txn(then=[Put(name(), b"")], seconds=s)), None),
    "Store.settle": (_store(_settled), None),
    "Store.lease": (_store(lambda t, s: t.lease(60, deadline=s)), None),
    "Store.load": (_store(lambda t, s: t.load([(name(), b"")], seconds=s)), None),
    "Store.export": (_store(lambda t, _: list(t.export())), AT_ONCE),
    "Store.watch": (_store(lambda t, _: t.watch()), AT_ONCE),
    "Store.close": (_own(lambda h, s: h.store.close(s)), None),
    "Store.after_fork": (_own(lambda h, _: h.store.after_fork()), AT_ONCE),
    "Store.note": (_store(lambda t, _: t.note(NEVER)), AT_ONCE),
    "Lease.is_held": (_lease(lambda v, _: v.is_held), AT_ONCE),
    "Lease.remaining": (_lease(lambda v, _: v.remaining), AT_ONCE),
    "Lease.check": (_lease(lambda v, _: v.check()), AT_ONCE),
    "Lease.when_lost": (_lease(lambda v, _: v.when_lost(_nothing)), AT_ONCE),
    "Lease.close": (_lease(lambda v, s: v.close(s)), None),
    "Lease.abandon": (_lease(lambda v, _: v.abandon()), AT_ONCE),
    "Lease.after_fork": (_lease(lambda v, _: v.after_fork()), AT_ONCE),
    "Session.is_held": (_session(lambda v, _: v.is_held), AT_ONCE),
    "Session.check": (_session(lambda v, _: v.check()), AT_ONCE),
    "Session.when_lost": (_session(lambda v, _: v.when_lost(_nothing)), AT_ONCE),
    "Session.close": (_session(lambda v, s: v.close(s)), None),
    "Session.abandon": (_session(lambda v, _: v.abandon()), AT_ONCE),
    "Session.give_up": (_session(lambda v, s: v.give_up(name(), s)), None),
    "Lock.acquire": (_handle(lambda h, s: h.lock(name()).acquire(s)), None),
    "Lock.try_acquire": (_handle(lambda h, s: h.lock(name()).try_acquire(s)), None),
    "Lock.holder": (_handle(lambda h, _: h.lock(name()).holder()), AT_ONCE),
    "Election.campaign": (_handle(lambda h, s: h.election(name()).campaign("", s)), None),
    "Election.leader": (_handle(lambda h, _: h.election(name()).leader()), AT_ONCE),
    "Election.candidates": (_handle(lambda h, _: h.election(name()).candidates()), AT_ONCE),
    "Election.on_change": (_handle(lambda h, _: h.election(name()).on_change(_nothing)), AT_ONCE),
    "Hold.key": (_hold(lambda v, _: v.key), AT_ONCE),
    "Hold.fence": (_hold(lambda v, _: v.fence), AT_ONCE),
    "Hold.is_held": (_hold(lambda v, _: v.is_held), AT_ONCE),
    "Hold.check": (_hold(lambda v, _: v.check()), AT_ONCE),
    "Hold.release": (_hold(lambda v, s: v.release(s)), None),
    "Assignments.define": (_group(lambda g, s: g.define([name()], seconds=s)), None),
    "Assignments.remove": (_group(lambda g, s: g.remove(["n1"], seconds=s)), None),
    "Assignments.rebalance": (_group(lambda g, s: g.rebalance(seconds=s)), None),
    "Assignments.manager_of": (_group(lambda g, _: g.manager_of("n1")), AT_ONCE),
    "Assignments.nodes_of": (_group(lambda g, _: g.nodes_of("mgt1")), AT_ONCE),
    "Assignments.managers": (_group(lambda g, _: g.managers()), AT_ONCE),
    "Assignments.manage": (_group(lambda g, _: g.manage(_nothing, _nothing)), AT_ONCE),
    "Assignments.close": (_group(lambda g, s: g.close(s)), None),
    "Manager.nodes": (_manager(lambda m, _: m.nodes), AT_ONCE),
    "Manager.is_mine": (_manager(lambda m, _: m.is_mine("n1")), AT_ONCE),
    "Manager.fence": (_manager(lambda m, _: m.fence("n1")), AT_ONCE),
    "Manager.close": (_manager(lambda m, s: m.close(s)), None),
    "Manager.stop": (_manager(lambda m, _: m.stop()), AT_ONCE),
    "Manager.abandon": (_manager(lambda m, _: m.abandon()), AT_ONCE),
    "Watch.error": (_watch(lambda w, _: w.error), AT_ONCE),
    "Watch.next_event": (_watch(lambda w, s: w.next_event(s)), None),
    "Watch.next_batch": (_watch(lambda w, s: w.next_batch(s)), None),
    "Watch.take": (_watch(lambda w, _: w.take()), AT_ONCE),
    "Watch.take_batch": (_watch(lambda w, _: w.take_batch()), AT_ONCE),
    "Watch.when_woken": (_watch(lambda w, _: w.when_woken(_nothing)), AT_ONCE),
    "Watch.close": (_watch(lambda w, _: w.close()), AT_ONCE),
    "Watch.add": (_watch(lambda w, _: w.add([])), AT_ONCE),
    "Watch.after_fork": (_watch(lambda w, _: w.after_fork(CollectiveError(""))), AT_ONCE),
}  # fmt: skip


def tried(run: Run, seconds: float) -> None:
    """Make a call that may fail with an error of ours, and with no other."""
    with suppress(CollectiveError):
        run(seconds)
