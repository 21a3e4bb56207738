"""A voter's part of a trust round: its etcd lets in whom the records list, by a restart in turn.

Who is to be let in stands in the records; who has been taken up by which voter does, too
(``LoadedTrust``), so that whoever waits for it need not ask.

    record written     every voter's daemon finds a certificate that its etcd does not know
    turn               one of them at a time: followers by name, the leader last
    restart            leadership handed over, SIGKILL, start with the new trust file, a leader
    turn ended         and, in the same transaction, whom this etcd lets in

It waits for nobody: a voter that is off takes all of it up when it starts, and one that was cut
off, whose etcd does not know the others' certificates any more, hears of them over the doors.
Servers that wait together to be taken in are taken up by one restart.

Invariants:
  * etcd is restarted in ``turn`` only, but where it has had no leader for seconds.
  * Nobody needs a restart to be shut out: the revocation list does that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from collective.daemon.certificates.turn import end_leftover, turn
from collective.daemon.clock import elapsed
from collective.daemon.member.recorded import lacking, loaded_by
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.member.worker import Worker
from collective.daemon.retries import Pace
from collective.errors import EtcdError
from collective.etcd.api import hex_id
from collective.failpoints import Step, reached
from collective.model.names import natural_key
from collective.model.records import LoadedTrust, Role
from collective.model.view import View
from collective.policy.membership import quorum

log = logging.getLogger(__name__)

_TURN_SECONDS = 30.0
_ROUND_SECONDS = 60.0
_SLICE_SECONDS = 0.5
# Longer than a round's restarts are without one.
_LEADERLESS_SECONDS = 15.0
_PROOF_SECONDS = 1.0
_LOST_SECONDS = 5.0
_ASK_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0
# Longer than a restart takes: after it the turn decides alone.
_QUEUE_SECONDS = 1.0


def wait_for_round(runtime: MemberRuntime, fingerprint: str) -> None:
    """Wait until the etcd of every voter that answers lets a certificate in.

    Raises:
        EtcdError: it takes too long.
    """
    for _ in until_taken_up(runtime, fingerprint):
        pass


def is_taken_up(runtime: MemberRuntime, view: View, fingerprint: str) -> bool:
    """Tell whether the etcd of every voter that answers, and of a majority, lets a certificate in.

    Args:
        runtime: this server, a voter.
        view: the records.
        fingerprint: of the certificate.
    """
    answering = runtime.detector.answering(0.0) | {runtime.name}
    if fingerprint not in view.certificates or lacking(view, answering, (fingerprint,)):
        return False
    # Who is cut off answers nobody, and its etcd may still count on the former certificate.
    left = lacking(view, view.voters, (fingerprint,))
    return len(view.voters) - len(left) >= quorum(len(view.voters))


def until_taken_up(runtime: MemberRuntime, fingerprint: str) -> Iterator[None]:
    """Wait until the etcd of every voter that answers lets a certificate in; yield now and then.

    Args:
        runtime: this server, a voter.
        fingerprint: of the certificate, which is recorded.

    Raises:
        EtcdError: it takes too long, or there is no leader for long.
    """
    led = elapsed()
    deadline = led + _ROUND_SECONDS
    while not runtime.records_view.wait_until(
        lambda view: is_taken_up(runtime, view, fingerprint), _SLICE_SECONDS
    ):
        if _has_leader(runtime):
            led = elapsed()
        elif elapsed() > led + _LEADERLESS_SECONDS:
            raise EtcdError("no voter takes a new certificate up: etcd knows no leader")
        if elapsed() > deadline or runtime.stopping.is_set():
            answering = runtime.detector.answering(0.0) | {runtime.name}
            names = " and ".join(lacking(runtime.records_view.view, answering, (fingerprint,)))
            raise EtcdError(
                f"etcd on {names or 'a voter'} was not restarted within {_ROUND_SECONDS:.0f} s to "
                "take a new certificate up",
                f"see the log of collectived on {names or 'the voters'}, and try again",
            )
        yield


def _has_leader(runtime: MemberRuntime) -> bool:
    try:
        return bool(runtime.etcd.status().leader)
    except EtcdError:
        return False


def _names(wanted: Mapping[str, str]) -> str:
    return ", ".join(sorted(set(wanted.values()), key=natural_key))


class TrustRound(Worker):
    """A thread that does what a trust round wants of this voter."""

    name = "trust"
    idle_seconds, eager_seconds = 2.0, 0.2
    level = logging.WARNING

    def __init__(self, runtime: MemberRuntime, catch_up: Callable[[], None]) -> None:
        """Prepare.

        Args:
            runtime: this server, a voter.
            catch_up: takes up the records as a majority of the other voters' daemons tell them.
        """
        super().__init__(runtime)
        self._catch_up = catch_up
        #: In which way etcd is out of touch, "" for none, and since when.
        self._lost: tuple[str, float] = ("", 0.0)
        self._pace = Pace(self.idle_seconds, _LONGEST_PAUSE_SECONDS)
        self._asked = float("-inf")
        #: Who was to restart before this server, and since when.
        self._queue: tuple[Sequence[str], float] = ((), 0.0)

    def _round(self) -> bool:
        """Take up who is to be let in; return whether that is still to be done."""
        runtime = self._runtime
        if not runtime.etcd_trust.loaded:
            return False  # etcd has not been started: then it takes all of it up
        if self._has_lost_touch():
            return self._come_back()
        own = runtime.records_view.view.members.get(runtime.name)
        if own is None or own.role is not Role.VOTER:
            return False  # through a learner nothing is written; when it votes, it catches up
        end_leftover(runtime)
        wanted = self._not_loaded()
        if not wanted:
            self._report()
            return False
        if self._is_others_turn():
            return True
        with turn(runtime, f"taking up {_names(wanted)}", _TURN_SECONDS, spare=False):
            # Others may have been recorded while this server waited for its turn.
            if wanted := self._not_loaded():
                log.info("etcd is restarted to take up names=%s", _names(wanted))
                runtime.etcd.restart()
                reached(Step.TRUST_RESTART)
        reached(Step.TRUST_DONE)
        return True

    def _has_lost_touch(self) -> bool:
        """Tell whether etcd has been out of touch in one way for so long that it is no election.

        One that has found a leader at last may be slow to answer: that is counted anew.
        """
        former, since = self._lost
        if not former and elapsed() - self._asked < _ASK_SECONDS:
            return False
        self._asked = elapsed()
        way = self._out_of_touch()
        if way != former:
            self._lost = way, elapsed()
            return False
        return bool(way) and elapsed() - since > _LOST_SECONDS

    def _out_of_touch(self) -> str:
        """Return in which way etcd, which runs, is out of touch; "" where it is not.

        It knows no leader, or gets no answer of the one that it knows: over connections from
        before, one may hear of a leader whose new ones it refuses. One that has found none since
        its start does not answer at all.
        """
        try:
            if not self._runtime.etcd.status().leader:
                return "it knows no leader"
        except EtcdError:
            return "it has found none since its start" if self._runtime.etcd.is_silent else ""
        try:
            self._runtime.store.prove(_PROOF_SECONDS)
        except EtcdError:
            return "its leader does not answer"
        return ""

    def _come_back(self) -> bool:
        """Restart etcd, which takes no part, with whom it is to let in and has not heard of."""
        answering = self._runtime.detector.last_answers().items()
        if self._pace.is_due(elapsed(), frozenset(n for n, a in answering if a.status)):
            self._catch_up()
        wanted = self._not_loaded()
        way = self._out_of_touch()
        if not wanted or not way:
            return bool(wanted)  # in touch again, it waits for its turn like the others
        log.warning("etcd is restarted, since %s, to take up names=%s", way, _names(wanted))
        self._runtime.etcd.restart()
        return True

    def _not_loaded(self) -> dict[str, str]:
        """Return whose certificates etcd does not know, by fingerprint."""
        runtime = self._runtime
        loaded = runtime.etcd_trust.loaded
        return {
            fingerprint: certificate.name
            for fingerprint, certificate in runtime.trust.wanted_peers().items()
            if fingerprint not in loaded and certificate.name != runtime.name
        }

    def _is_others_turn(self) -> bool:
        """Tell whether others are to restart first: followers by their names, then the leader.

        They could all try to take the turn at once: one would, and the rest would have asked
        everybody in vain. The leader is last, which spares a hand-over.
        """
        runtime = self._runtime
        status, view = runtime.etcd.status(), runtime.records_view.view
        # The etcd that is being restarted takes no part at the moment.
        restarting = {view.turn.name} if view.turn is not None else set()
        there = (runtime.detector.answering(0.0) | restarting) - {runtime.name}
        # What is shown by a detour alone is in no record, and nobody says that it has that.
        recorded = runtime.trust.wanted_peers().keys() & view.certificates.keys()
        others = lacking(view, there, recorded)
        if status.leader and status.leader == status.member_id:
            return bool(others)
        leader = view.by_member_id(hex_id(status.leader))
        known = leader.name if leader is not None else ""
        before = [n for n in others if n != known and natural_key(n) < natural_key(runtime.name)]
        if before != self._queue[0]:
            self._queue = before, elapsed()
        return bool(before) and elapsed() - self._queue[1] < _QUEUE_SECONDS

    def _report(self) -> None:
        runtime = self._runtime
        view, ours = runtime.records_view.view, runtime.etcd_trust.loaded
        if loaded_by(view, runtime.name) == ours:
            return
        runtime.store.put_loaded(view, LoadedTrust(runtime.name, tuple(sorted(ours))))
