"""The proof of a quorum that ``show`` rests on, in the time that is worth spending on it.

It tells "not proven in time" apart from "none": a slow network or a busy machine is no loss.

Invariants:
  * Proven means that an entry was committed for this very call (P8).
  * It is waited for only while the quorum may be there: enough voters answer, or one was proven a
    moment ago and too few have failed since. With every other server dead it ends at once.
"""

from __future__ import annotations

import enum
from collections.abc import Set
from dataclasses import dataclass

from collective.daemon.clock import elapsed, pause
from collective.daemon.listeners.shown import Shown
from collective.errors import EtcdError
from collective.model.view import View
from collective.policy.membership import Strength

# With every other server dead the command must answer in half a second, start-up included.
_FIRST_SECONDS = 0.25
_PATIENT_SECONDS = 2.5
_RENEW_SECONDS = 0.1
_PAUSE_SECONDS = 0.02
_LOCAL_SECONDS = 0.25
_FRESH_SECONDS = 1.5
# So long ago a proof is a reason to wait for another one, whoever is too busy to answer.
_RECENT_SECONDS = 5.0
#: A commit by way of the leader takes two ways there and back; one more for whoever waits there.
_ROUND_TRIPS = 4


class Proven(enum.Enum):
    """Whether there is a quorum, as far as can be told."""

    YES = "proven"
    LATE = "not in time"
    NO = "none"


@dataclass(frozen=True)
class Proof:
    """What came of it.

    Attributes:
        view: the records, of now or as they are held here.
        proven: whether there is a quorum.
        error: why it was not proven, for people, or "".
    """

    view: View
    proven: Proven
    error: str = ""


def prove(runtime: Shown) -> Proof:
    """Read the records at a commit; without one, take what is held here."""
    begun, error = elapsed(), ""
    deadline = begun + _PATIENT_SECONDS
    seconds = min(max(_FIRST_SECONDS, _ROUND_TRIPS * _farthest(runtime)), _PATIENT_SECONDS)
    while True:
        try:
            return Proof(runtime.store.read_at_commit(seconds), Proven.YES)
        except EtcdError as refused:
            error = refused.message
        if runtime.etcd.failure is not None:
            return Proof(held(runtime), Proven.NO, runtime.etcd.failure)
        enough = _enough_run(runtime, begun)
        seconds = min(3 * seconds, deadline - elapsed())
        # An etcd that is restarted on purpose is back in a moment, and others need it so long.
        waits = enough or held(runtime).turn is not None or _was_proven(runtime, begun)
        if seconds <= 0 or not waits:
            return Proof(held(runtime), Proven.LATE if enough else Proven.NO, error)
        pause(_PAUSE_SECONDS)


def held(runtime: Shown) -> View:
    """Return the records as they are known here."""
    view = runtime.records_view.view
    if view.revision:
        return view
    try:
        return runtime.store.read_local(_LOCAL_SECONDS)
    except EtcdError:
        return view


def _farthest(runtime: Shown) -> float:
    """Return how long a packet takes to the farthest voter and back, in seconds."""
    trips = runtime.detector.round_trips()
    return max((trips.get(name, 0.0) for name in runtime.records_view.view.voters), default=0.0)


def _enough_run(runtime: Shown, begun: float) -> bool:
    """Tell whether the etcds of enough voters run, as they say, to elect a leader."""
    runtime.detector.answers(_RENEW_SECONDS, since=begun)
    return _strength(runtime, _running(runtime)).holds


def _was_proven(runtime: Shown, begun: float) -> bool:
    """Tell whether there was a quorum a moment ago, and too few voters have failed since."""
    if runtime.store.proven_at < begun - _RECENT_SECONDS:
        return False
    last = runtime.detector.last_answers()
    failed = {n for n, a in last.items() if a.when >= begun and a.status is None}
    return _strength(runtime, runtime.records_view.view.voters.keys() - failed).holds


def _running(runtime: Shown) -> set[str]:
    """Return who said a moment ago that its etcd runs, this server asked now."""
    oldest = elapsed() - _FRESH_SECONDS
    others = {
        name
        for name, answer in runtime.detector.last_answers().items()
        if answer.when >= oldest and answer.status is not None and answer.status.member_id
    }
    return others | {runtime.plan.name} if runtime.reporter.status().runs else others


def _strength(runtime: Shown, names: Set[str]) -> Strength:
    voters = runtime.records_view.view.voters.keys()
    return Strength(len(voters), len(voters & names))
