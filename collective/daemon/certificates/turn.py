"""Restart etcd one server at a time: whose turn it is stands in the store, under a lease.

It does not restart anything itself.

Invariants:
  * A turn is taken only while the other voters are a quorum without this one, or all answer; where
    no voter can be spared and it must be, only while there is a quorum, and the next one is taken
    when the last is back: to end a turn is a write.
  * A server that dies in its turn holds nobody up for longer than the lease.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from collective.daemon.clock import elapsed, pause
from collective.daemon.member.failure_detector import FailureDetector
from collective.daemon.member.records_view import RecordsView
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.retries import growing, until_written
from collective.errors import EtcdError, QuorumError, RefusedError
from collective.model.records import LoadedTrust, Turn
from collective.policy.membership import Observed, check_restart

log = logging.getLogger(__name__)

_LEASE_SECONDS = 30
# Each look asks every member anew.
_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.05, 0.5
# Who is missing may only be restarting: then a moment later nobody has to wait.
_SPARE_SECONDS = 1.0
_SEEN_SECONDS = 1.0


@contextmanager
def turn(
    runtime: MemberRuntime, doing: str, patience: float, spare: bool = True
) -> Iterator[None]:
    """Hold this server's turn to restart its etcd.

    Args:
        runtime: this server.
        doing: for people, such as "taking up mgt3".
        patience: how long to wait for the turn, in seconds.
        spare: whether to leave it where the others could not go on meanwhile; else those that are
            missing are waited for a moment only, and the restart is a short pause for all.

    Raises:
        QuorumError: all that time, too few of the other voters answered.
        RefusedError: all that time, another server had the turn.
        EtcdError: the store did not answer.
    """
    begun, short = elapsed(), None
    while (refusal := _try_to_take(runtime, doing, spare, _waited_since(short))) is not None:
        if elapsed() - begun > patience or runtime.stopping.is_set():
            raise refusal
        if short is None and isinstance(refusal, QuorumError):
            short = elapsed()
        longest = growing(begun, elapsed(), _POLL_SECONDS, _LONGEST_POLL_SECONDS)
        _wait_for_turn(runtime.records_view, longest)
    try:
        yield
    finally:
        _end(runtime)
        # Or this server would find its own turn, as one that a crash has left behind.
        runtime.records_view.wait_until(
            lambda view: not _is_ours(runtime, view.turn), _SEEN_SECONDS
        )
        runtime.etcd.in_turn.clear()


def end_leftover(runtime: MemberRuntime) -> None:
    """End a turn of this server that a crash has left behind: others wait for it.

    Raises:
        EtcdError: the store did not answer.
    """
    if _is_ours(runtime, runtime.records_view.view.turn) and not runtime.etcd.in_turn.is_set():
        _end(runtime)


def _is_ours(runtime: MemberRuntime, turn: Turn | None) -> bool:
    return turn is not None and turn.name == runtime.name


def _waited_since(moment: float | None) -> float:
    """Return how long those that are missing were waited for: not while others had the turn."""
    return 0.0 if moment is None else elapsed() - moment


def _wait_for_turn(records_view: RecordsView, seconds: float) -> None:
    if records_view.view.turn is None:
        pause(seconds)
    else:
        records_view.wait_until(lambda view: view.turn is None, seconds)


def _try_to_take(
    runtime: MemberRuntime, doing: str, spare: bool, waited: float
) -> RefusedError | QuorumError | None:
    known = runtime.records_view.view.turn
    if known is not None and known.name != runtime.name:
        return _others_turn(runtime, doing, known)
    observed = runtime.observe()
    runtime.etcd.in_turn.set()
    try:
        # Where the last turn was a voter's end, the next one waits, and does not end the quorum.
        hurt = _is_hurt(runtime.detector, observed, runtime.etcd_trust.loaded)
        check_restart(observed, doing, spare or hurt or waited < _SPARE_SECONDS)
    except QuorumError as refusal:
        runtime.etcd.in_turn.clear()
        return refusal
    try:
        taken = runtime.store.take_turn(observed.view, Turn(runtime.name, doing), _LEASE_SECONDS)
    except EtcdError:
        runtime.etcd.in_turn.clear()
        raise
    if taken:
        return None
    runtime.etcd.in_turn.clear()
    return _others_turn(runtime, doing, observed.view.turn)


def _is_hurt(detector: FailureDetector, observed: Observed, loaded: Collection[str]) -> bool:
    """Tell whether a voter took a turn from which its etcd has not come back.

    Its daemon answers, its etcd takes no part, and nothing says any more whom that etcd lets in.
    One whose etcd takes no part for another reason holds nobody up: one that our etcd does not let
    in, since it has not loaded its certificates yet, comes back by our restart.
    """
    return any(
        answer.takes_no_part
        for name, answer in detector.answers(0.0).items()
        if name in observed.voters
        and name not in observed.view.loaded
        and (member := observed.view.members.get(name)) is not None
        and set(member.fingerprints) <= set(loaded)
    )


def _others_turn(runtime: MemberRuntime, doing: str, held: Turn | None) -> RefusedError:
    told = f"{held.name} restarts its etcd, for {held.doing}" if held else "another was faster"
    return RefusedError(
        f"cannot restart etcd on {runtime.name} for {doing} now: {told}", "try again"
    )


def _end(runtime: MemberRuntime) -> None:
    known = runtime.records_view.view
    held = [known] if _is_ours(runtime, known.turn) else []

    def attempt() -> bool | None:
        view = held.pop() if held else runtime.store.read()
        if not _is_ours(runtime, view.turn):
            return True
        loaded = LoadedTrust(runtime.name, tuple(sorted(runtime.etcd_trust.loaded)))
        return runtime.store.end_turn(view, loaded if runtime.votes else None) or None

    try:
        until_written("end a turn", attempt)
    except (EtcdError, RefusedError) as error:
        log.warning("the turn ends by its lease only: %s", error)
