"""A handle on the collective, for software on one of its servers: members, leader, quorum, store.

It decides nothing about membership: that is what the ``collective`` command is for.

Invariants:
  * ``quorum`` is true only where a linearizable answer was given for this very call.
  * What one caller's callback does, or that it never returns, holds up no other caller.
  * In a child process that was forked a handle is closed, and says nothing to anybody.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from weakref import WeakSet

from collective.calls import protocol_state
from collective.calls.call import Call, Handler, told_apart
from collective.calls.call_manager import CallManager
from collective.calls.service import MOST, Service
from collective.client import ask
from collective.coordination import session
from collective.coordination.assignments import GRACE_SECONDS, Assignments
from collective.coordination.lock_queue import OpenSession
from collective.coordination.locks import Election, Lock
from collective.coordination.session import Session
from collective.errors import (
    ClosedError,
    CollectiveError,
    DaemonError,
    DegradedCollective,
    EtcdUnavailableError,
    NotReadyError,
    from_wire,
)
from collective.etcd.api import EtcdApi
from collective.etcd.deadline import within
from collective.etcd.gateway import Gateway
from collective.membership import Member, MemberChange, Membership
from collective.model.closing import Closing, closed_handle
from collective.model.forks import tell_after_fork
from collective.model.keyspace import COORDINATION, STORE
from collective.model.layout import ROOT_VARIABLE, Layout
from collective.model.view import PREFIX
from collective.protocol.frames import check_message
from collective.protocol.self_result import SelfResult
from collective.store.cache import Cache
from collective.store.deadline import deadline_in
from collective.store.filling import follower_of
from collective.store.leadership import Leadership
from collective.store.quorum import QuorumState, QuorumSubscription, QuorumWatch
from collective.store.read_batcher import ReadBatcher
from collective.store.runner import Runner
from collective.store.store import Store
from collective.store.values import Moment
from collective.store.watching import Hub, Watch
from collective.store.write_batcher import WriteBatcher

log = logging.getLogger(__name__)

#: How long ``connect`` waits, and how long a proof of the quorum may take.
CONNECT_SECONDS = 10.0
PROOF_SECONDS = 2.0
#: How long ``close`` takes at most.
CLOSE_SECONDS = 3.0

_ASK_SECONDS, _LEAST_ASK_SECONDS = 2.0, 0.05
_WHY_SECONDS = 0.2
_GIVE_UP_SECONDS = 0.1
_PAUSE_SECONDS = 0.05
_STATUS_SECONDS = 1.0
_SESSION_SECONDS = 5.0


class Collective(Closing):
    """A handle; ``connect`` makes one, and ``close`` ends it.

    Attributes:
        name: of this server.
        store: what the members share.
    """

    def __init__(
        self,
        name: str,
        calls: EtcdApi,
        call_manager: CallManager,
        at_rest: Callable[[], CollectiveError | None] = lambda: None,
    ) -> None:
        """Begin to follow the store; ``connect`` is what callers use.

        Args:
            name: of this server.
            calls: the way to etcd, closed with the handle.
            call_manager: the way to software on other servers, closed with the handle.
            at_rest: says why this server is in no collective any more, None where it is in one.
        """
        self._at_rest = at_rest
        self.name = name
        self._call_manager = call_manager
        self._calls = calls
        self._closed, self._forked = threading.Event(), False
        self._runner = Runner("callback")
        self._hub, self._members_hub = Hub(self._runner), Hub(self._runner)
        self._cache = _cache_for(self._hub)
        self._records = _cache_for(self._members_hub)
        self._coordination_hub = Hub(self._runner)
        self._hubs = (self._hub, self._members_hub, self._coordination_hub)
        coordination = _cache_for(self._coordination_hub)
        self._membership = Membership(self._records, self._members_hub, coordination)
        self._last = coordination  # of those that the follower brings on, one after the other
        caches = {STORE: self._cache, PREFIX: self._records, COORDINATION: coordination}
        self._follower = follower_of(calls, caches)
        leadership = Leadership(calls)
        self._write_batcher = WriteBatcher(calls, name, leadership=leadership)
        self._read_batcher = ReadBatcher(calls, leadership)
        self._quorum_watch = QuorumWatch(self._read_batcher, leadership, self._runner)
        self.store = Store(
            calls,
            self._cache,
            self._follower,
            self._write_batcher,
            self._hub,
            self._read_batcher,
            owner=name,
        )
        self._coordination = Store(
            calls,
            coordination,
            self._follower,
            self._write_batcher,
            self._coordination_hub,
            self._read_batcher,
            COORDINATION,
            owner=name,
        )
        self._session_lock = threading.Lock()
        self._session: Session | None = None
        self._opened = threading.Condition(self._session_lock)
        self._opening = False
        self._groups: WeakSet[Assignments] = WeakSet()
        tell_after_fork(self)
        self._follower.start()

    def __repr__(self) -> str:
        return f"Collective({self.name})"

    def wait_until_ready(self, seconds: float = CONNECT_SECONDS) -> None:
        """Wait until everything was read from the store once.

        Raises:
            NotReadyError: it was not in time; the text says why.
            ClosedError: the handle was closed.
        """
        if not self._last.reach(Moment(0, 1), seconds):
            self._coordination.held.check_ready()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """End it: writes that were sent are seen through, watches end, callbacks stop.

        Args:
            seconds: how long that may take, where etcd hangs or a callback does not return. What
                was sent is in doubt then, and what is held ends by itself.
        """
        deadline = deadline_in(seconds)
        with self._session_lock:
            if self._closed.is_set():
                return
            self._closed.set()
            session, self._session = self._session, None
            groups = list(self._groups)

        def left() -> float:
            return max(0.0, deadline - monotonic())

        # Each of them is done, whatever becomes of those before; the last one first.
        with ExitStack() as steps:
            steps.callback(self._calls.close)
            for store in (self._coordination, self.store):
                steps.callback(lambda store=store: store.close(left()))  # type: ignore[misc]
            steps.callback(self._records.close)
            steps.callback(self._runner.close)
            for hub in self._hubs:
                steps.callback(hub.close, closed_handle(forked=False))
            steps.callback(lambda: self._follower.stop(left()))
            steps.callback(self._read_batcher.close)
            steps.callback(self._quorum_watch.close)
            steps.callback(lambda: self._write_batcher.close(left()))
            if session is not None:
                steps.callback(lambda: session.close(left()))
            for group in groups:
                # Something is left for what comes after it.
                steps.callback(lambda group=group: group.close(left() / 2))  # type: ignore[misc]
            steps.callback(self._call_manager.close)

    def after_fork(self) -> None:
        """Be closed in a child process; nothing is locked there, or waited for."""
        self._session_lock, self._closed = threading.Lock(), threading.Event()
        self._opened, self._opening = threading.Condition(self._session_lock), False
        self._closed.set()
        self._forked = True
        self._write_batcher.after_fork()
        self._read_batcher.after_fork()
        self._quorum_watch.after_fork()
        for store in (self.store, self._coordination):
            store.after_fork()
        self._records.after_fork()
        for hub in self._hubs:
            hub.after_fork(closed_handle(forked=True))

    # Membership ------------------------------------------------------------------------------

    def members(self) -> list[Member]:
        """Return all members, this server among them, in the natural order of their names.

        Raises:
            NotReadyError, ClosedError: nothing was read yet, or the handle was closed.
        """
        self._coordination.held.check_ready()
        return self._membership.all()

    def member(self, name: str) -> Member:
        """Return one member.

        Raises:
            InputError: there is no member of this name.
        """
        self._coordination.held.check_ready()
        return self._membership.one(name)

    def leader(self, seconds: float = _STATUS_SECONDS) -> str | None:
        """Return the name of the member that leads, as etcd here knows it; None for nobody.

        This proves no quorum: ask ``quorum`` for that.

        Raises:
            EtcdError: etcd does not answer.
        """
        self._check_open()
        with within(seconds):
            leader = self._calls.status().leader
        return self._membership.name_of(leader) if leader else None

    @property
    def in_collective(self) -> bool:
        """Whether there are other members than this server, as it has last heard.

        One that was deleted hears no more: ``check_quorum`` says so.
        """
        return len(self.members()) > 1

    @property
    def quorum(self) -> bool:
        """Whether a quorum answers now; those who ask at one time share one question to it."""
        try:
            self.check_quorum()
        except DegradedCollective:
            return False
        return True

    def check_quorum(self, seconds: float = PROOF_SECONDS) -> None:
        """Raise unless a quorum answers now.

        Raises:
            DegradedCollective: none answered in so many seconds, or etcd knows no leader, which
                is said sooner; where this server was deleted, or has lost its data, it says that.
            ClosedError: the handle was closed.
        """
        self._check_open()
        try:
            self._read_batcher.newest(seconds)
        except DegradedCollective as error:
            why = self.why_at_rest()
            if why is None:
                raise
            raise why from error

    @property
    def last_quorum(self) -> QuorumState:
        """Whether there is a quorum, as last proven, and how long ago; it waits for nothing.

        From the first look on a quorum is asked once a second; until the first answer the state
        is that of none. One that is lost is found out within 3 s.
        """
        return self._quorum_watch.state()

    def on_quorum_change(
        self, callback: Callable[[QuorumState], object], *, initial: bool = False
    ) -> QuorumSubscription:
        """Have something called when the quorum is lost, and when it is back.

        Args:
            callback: called one at a time in a thread of this handle; what it raises is logged.
            initial: whether to tell first how it is now, as soon as that is known.

        Returns:
            Close it to be called no more.

        Raises:
            ClosedError: the handle was closed.
        """
        self._check_open()
        return self._quorum_watch.subscribe(callback, initial)

    def why_at_rest(self) -> DegradedCollective | None:
        """Ask the daemon, where there is no quorum, whether this server is in no collective.

        It has a fifth of a second to answer.
        """
        rests = self._at_rest()
        return None if rests is None else DegradedCollective(rests.message, rests.hint)

    def on_member_change(
        self, callback: Callable[[MemberChange], object], *, initial: bool = False
    ) -> Watch:
        """Have something called with each change of the members, in order, none missed.

        Args:
            callback: called one at a time in a thread of this handle; what it raises is logged.
            initial: whether to tell first of those that are there, as if they joined now.

        Returns:
            The watch; close it to be called no more.
        """
        self._coordination.held.check_ready()
        return self._membership.on_change(callback, initial)

    # Coordination ----------------------------------------------------------------------------

    def session(self, seconds: int = session.SECONDS) -> Session:
        """Open a session: what is held in it is given up when this process is gone.

        Args:
            seconds: how long it outlives this process, or a server that is cut off.

        Raises:
            InputError: it is no such time.
            EtcdError: it could not be opened.
        """
        self._check_open()
        return Session(self._coordination, self.name, seconds, _SESSION_SECONDS)

    def lock(self, name: str, session: Session | None = None) -> Lock:
        """Return a lock of the whole collective, by its name.

        Args:
            name: any text.
            session: in which it is to be held; None for one of this handle's own.
        """
        return Lock(self._coordination, name, self._in_session(session))

    def election(self, name: str, session: Session | None = None) -> Election:
        """Return an election, by its name; arguments are those of ``lock``."""
        return Election(self._coordination, name, self._in_session(session))

    def assignments(self, group: str = "nodes", *, grace: float = GRACE_SECONDS) -> Assignments:
        """Return a group of nodes, each of which has one manager at a time.

        Args:
            group: any text; all servers use the same.
            grace: for how many seconds the nodes of a manager whose session has ended are left
                alone; the same for all servers.

        Keep what is returned: each follows the group for itself.

        Raises:
            NotReadyError, ClosedError: nothing was read yet, or the handle was closed.
        """
        self._check_open()
        made = Assignments(self._coordination, self.name, group, grace, self.session)
        with self._session_lock:
            late = self._closed.is_set()
            self._groups.add(made)
        if late:
            made.close()
        self._check_open()
        return made

    # Calls -----------------------------------------------------------------------------------

    def serve(self, service: str, handler: Handler, *, most: int = MOST) -> Service:
        """Serve calls from the other servers, and from this one, by the name of a service.

        Args:
            service: 1 to 40 lower-case letters, digits and hyphens.
            handler: called with a ``ServedCall`` in a thread of its own, for each call. What it
                returns, if anything, is sent as the last message; a CollectiveError that it
                raises reaches the caller, with its text.
            most: how many calls run at a time; further ones wait.

        Returns:
            The service; close it to serve no more.

        Raises:
            InputError: it is no such name, or another process serves that here.
            AccessError, ClosedError: no right to do so, or the handle was closed.
        """
        return self._call_manager.serve(service, handler, most)

    def call(self, member: str, service: str, *, seconds: float = protocol_state.SECONDS) -> Call:
        """Call a service on another member, or here; see ``ask`` where one message is enough.

        Args:
            member, service: by their names.
            seconds: how long the call may last, to its very end.

        Raises:
            InputError: there is no such member, or that is no name for a service.
            NoServiceError: nobody there serves it.
            UnreachableError, DeadlineError, RefusedError, DaemonError, AccessError, RemovedError,
            LostError, ProtocolError: there is no way to it.
            ClosedError: the handle was closed. With all of these nothing has happened.
            InDoubtError: it broke off when its handler was to begin.
        """
        return self._call_manager.call(member, service, seconds)

    def ask(
        self,
        member: str,
        service: str,
        message: bytes = b"",
        *,
        seconds: float = protocol_state.SECONDS,
    ) -> bytes:
        """Call a service with one message, and return all that it answers, joined.

        Raises:
            HandlerError: what serves it has failed.
            InDoubtError: no answer came; it may have been carried out.
            CollectiveError: as ``call``.
        """
        check_message(message)
        with (
            self.call(member, service, seconds=seconds) as call,
            told_apart(f"the call to {service} on {member}"),
        ):
            # A handler may answer without reading, and be done before we are.
            with suppress(ClosedError):
                call.send(message)
            call.finish()
            answer = b"".join(call)
            call.wait_done()
            return answer

    def _in_session(self, given: Session | None) -> OpenSession:
        return self._own_session if given is None else lambda _: given

    def _own_session(self, seconds: float) -> Session:
        """Return the session of this handle; another one where it was lost.

        One thread opens it, those that come meanwhile wait for that, each for its own time.

        Raises:
            EtcdError, ClosedError: there is none to be had in time.
        """
        deadline = deadline_in(seconds)
        with self._opened:
            while True:
                self._check_open()
                if self._session is not None and self._session.is_held:
                    return self._session
                if not self._opening:
                    break
                if not self._opened.wait(max(0.0, deadline - monotonic())):
                    raise EtcdUnavailableError("etcd opens no session in time")
            self._opening, lost = True, self._session
        made: Session | None = None
        try:
            if lost is not None:
                lost.abandon()
            left = max(_LEAST_ASK_SECONDS, deadline - monotonic())
            made = Session(self._coordination, self.name, session.SECONDS, left)
        finally:
            with self._opened:
                late = self._closed.is_set()
                self._session, self._opening = None if late else made, False
                self._opened.notify_all()
            if late and made is not None:
                made.abandon()
        self._check_open()
        return made

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise closed_handle(self._forked)


def connect(root: str | Path | None = None, *, seconds: float = CONNECT_SECONDS) -> Collective:
    """Return a handle on the collective of this server, whose daemon runs beside this process.

    Args:
        root: what COLLECTIVE_ROOT is for the daemon; None for what the environment says.
        seconds: how long to wait for daemon and etcd; 0 not to wait for etcd's answer at all,
            and for the daemon for 2 s at most: then see ``Collective.wait_until_ready``.

    Raises:
        DaemonError: collectived does not run here.
        AccessError: no right to its sockets: run as the daemon's user.
        NotReadyError: etcd did not answer in time.
        RemovedError, LostError: this server is in no collective; the text says why.
    """
    environment = os.environ if root is None else {ROOT_VARIABLE: str(root)}
    layout = Layout.from_environment(environment)
    deadline = deadline_in(seconds)
    name = _ask_name(layout, deadline_in(seconds or _ASK_SECONDS))
    gateway, call_manager = Gateway(Path(layout.etcd_socket)), CallManager(layout)
    handle = Collective(name, gateway, call_manager, partial(_why_at_rest, layout))
    if seconds:
        try:
            handle.wait_until_ready(max(0.0, deadline - monotonic()))
        except BaseException as error:
            handle.close(_GIVE_UP_SECONDS)
            if isinstance(error, NotReadyError):
                error.hint = "see 'collective show' on this server, or wait for longer (seconds=)"
            raise
    return handle


def _cache_for(hub: Hub) -> Cache:
    return Cache(hub.publish, hub.move)


def _ask_self(layout: Layout, seconds: float) -> SelfResult:
    return SelfResult.from_wire(ask(layout.control_socket, "GET", "/v1/self", None, seconds))


def _why_at_rest(layout: Layout) -> CollectiveError | None:
    try:
        idle = _ask_self(layout, _WHY_SECONDS).idle
    except CollectiveError:
        return None
    return None if idle is None else from_wire(idle)


def _ask_name(layout: Layout, deadline: float) -> str:
    while True:
        left = max(deadline - monotonic(), _LEAST_ASK_SECONDS)
        try:
            told = _ask_self(layout, min(left, _ASK_SECONDS))
            if told.idle is not None:
                raise from_wire(told.idle)
            return told.name
        except DaemonError:
            if monotonic() + _PAUSE_SECONDS > deadline:
                raise
        threading.Event().wait(_PAUSE_SECONDS)
