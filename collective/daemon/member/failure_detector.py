"""Who answers, and follows? Asks every other member for its status, over and over.

It does not say who is in the collective (the records do) or whether there is a quorum (only a
linearizable read does).

Invariants:
  * An answer is never older than it says; a member that stopped answering is known to be silent
    within ``INTERVAL_SECONDS + ANSWER_SECONDS``; where both do not vote, when it is looked for.
  * A voter that answers counts only while its log follows what is committed (``commits``).
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from collective.daemon.clock import elapsed
from collective.daemon.member.commits import Commits, is_behind
from collective.daemon.member.recognition import Found
from collective.errors import CollectiveError, IdentityError, RemovedError, UnreachableError
from collective.model.records import MemberRecord, Role
from collective.protocol import messages
from collective.protocol.messages import ServerStatus
from collective.protocol.peer import Check, PeerClient, is_refusal, where

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.5
# Between two servers that do not vote: there may be many, and each would ask each of the others.
_SELDOM_SECONDS = 5.0
_LEAST_PAUSE_SECONDS = 0.05
ANSWER_SECONDS = 1.0
_FRESH_SECONDS = INTERVAL_SECONDS + ANSWER_SECONDS
# One that is behind is asked again so soon, while somebody waits for it.
_AGAIN_SECONDS = 0.005
# Who was silent before is given so long, where others are given more.
_SILENT_SECONDS = 0.1

#: Asks a member, as a stranger, why it and this server do not know each other.
AskAgain = Callable[[MemberRecord], Found]
#: Is told of a member that answers or asks, and did not answer before, and what it said last.
OnReturn = Callable[[MemberRecord, ServerStatus | None], None]


@dataclass(frozen=True)
class Answer:
    """The outcome of one question.

    Attributes:
        status: what the member said, None when it did not answer.
        error: why there is no status, or "".
        removed: whether it says that we were deleted.
        foreign: whether a server that is none of ours answers where the member should be.
        when: it was asked, seconds of the monotonic clock.
    """

    status: ServerStatus | None
    error: str
    when: float
    removed: bool = False
    foreign: bool = False

    @property
    def takes_no_part(self) -> bool:
        """Whether its daemon answers, and says that its etcd does not run or knows no leader."""
        return self.status is not None and not self.status.healthy


class _Probe(threading.Thread):
    """The thread that asks one member."""

    def __init__(
        self,
        member: MemberRecord,
        context: ssl.SSLContext,
        check: Check,
        ask_again: AskAgain,
        on_return: OnReturn,
    ) -> None:
        super().__init__(name=f"probe-{member.name}", daemon=True)
        self.member = member
        self._peer = PeerClient(member.address, member.door_port, context, check)
        self._check = check
        self._ask_again = ask_again
        self._on_return = on_return
        self.interval = INTERVAL_SECONDS
        self._last_asked, self._last_found = -INTERVAL_SECONDS, Found()
        self._stopped, self._silent = False, True
        self._wake = threading.Event()
        self._answered = threading.Condition()
        self._answer: Answer | None = None
        self._status: ServerStatus | None = None
        self._next_context: ssl.SSLContext | None = None
        self._awaited: tuple[int, float] = (0, 0.0)
        self.round_trip = 0.0

    @property
    def status(self) -> ServerStatus | None:
        """What the member said last, even if it is silent since; None before it said anything."""
        return self._status

    @property
    def answer(self) -> Answer | None:
        """The last outcome, None before the first."""
        return self._answer

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        self._wake.set()

    def renew(self, member: MemberRecord) -> None:
        """Ask again now: what is recorded of the member changed, so what it said may be old."""
        with self._answered:
            self.member = member
            self._answer = None
        self._wake.set()

    def ask_every(self, seconds: float) -> None:
        """Ask so often from now on."""
        self.interval = seconds

    def use(self, context: ssl.SSLContext) -> None:
        """Ask over a new connection, with this certificate, from the next time on."""
        self._next_context = context

    def asked_since(
        self, since: float, seconds: float, enough: Callable[[Answer], bool] = lambda _: True
    ) -> Answer | None:
        """Return an outcome of a question asked at a time or later, waiting at most so long.

        Args:
            since: monotonic seconds.
            seconds: how long to wait.
            enough: whether an outcome need not be waited for any longer.
        """

        def settled() -> bool:
            answer = self._answer
            return answer is not None and answer.when >= since and enough(answer)

        with self._answered:
            self._answered.wait_for(settled, seconds)
            return self._answer if self.is_since(since) else None

    def await_index(self, index: int, seconds: float) -> None:
        """Ask now, and for so long again and again, until the member has an entry."""
        self._awaited = index, elapsed() + seconds
        self._wake.set()

    def is_since(self, since: float) -> bool:
        """Tell whether the last outcome is of a question asked at a time or later."""
        return self._answer is not None and self._answer.when >= since

    def heard(self, status: ServerStatus | None) -> None:
        """Tell that the member is back, where it did not answer when it was asked last.

        Args:
            status: what it says of itself, None where it has asked.
        """
        if self._silent:
            self._on_return(self.member, status or self._status)

    def ask_now(self) -> None:
        """Ask again without waiting for the next turn."""
        self._wake.set()

    def run(self) -> None:
        """Ask until stopped."""
        while not self._stopped:
            member = self.member
            asked = elapsed()
            answer = self._ask()
            if answer.status is not None:
                self.heard(answer.status)
            self._silent = answer.status is None
            with self._answered:
                self._status = answer.status or self._status
                if self.member is member:
                    self._answer = answer
                    self._answered.notify_all()
            self._wake.wait(self._pause_after(answer, asked))
            self._wake.clear()
        self._peer.close()

    def _pause_after(self, answer: Answer, asked: float) -> float:
        index, until = self._awaited
        behind = answer.status is not None and is_behind(answer.status, index)
        if behind and elapsed() < until:
            return _AGAIN_SECONDS
        # Of a member that is silent a question takes long: when it is back is wanted soon.
        return max(_LEAST_PAUSE_SECONDS, self.interval - (elapsed() - asked))

    def _ask(self) -> Answer:
        answer = self._ask_once()
        # This connection may have been opened with a certificate that was replaced and revoked
        # since: only a new one tells whether this server itself was deleted.
        return self._ask_once() if answer.removed else answer

    def _ask_once(self) -> Answer:
        asked = elapsed()
        context, self._next_context = self._next_context, None
        if context is not None:
            self._peer.use(context)
        with suppress(UnreachableError):
            # What was recorded when this connection was opened need not be so any more; if it is
            # not, it is closed, and another one tells.
            self._peer.insist(self._check)
        try:
            raw = self._peer.call("GET", messages.STATUS, None, ANSWER_SECONDS)
            self.round_trip = self._peer.round_trip or 0.0
            return Answer(ServerStatus.from_wire(raw), "", asked)
        except CollectiveError as error:
            self._peer.close()
            return self._failed(error, asked)
        except Exception:
            log.exception("a member could not be asked name=%s", self.member.name)
            self._peer.close()
            return Answer(None, "it could not be asked, see the log", asked)

    def _failed(self, error: CollectiveError, asked: float) -> Answer:
        foreign = isinstance(error, IdentityError)
        if foreign or is_refusal(error):
            found = self._find_out()
            if found.deleted:
                return Answer(None, "this server was deleted", self._last_asked, removed=True)
            if found.recognised:
                return Answer(None, "its certificate has changed", asked)
        if foreign:
            place = where(self._peer.host, self._peer.port)
            text = f"a certificate that is not recorded is shown at {place}"
            return Answer(None, text, asked, foreign=True)
        return Answer(None, error.message, asked, isinstance(error, RemovedError))

    def _find_out(self) -> Found:
        """Ask now and then only: as strangers we are let in so many times a second."""
        if elapsed() - self._last_asked >= INTERVAL_SECONDS:
            self._last_asked, self._last_found = elapsed(), Found()
            try:
                self._last_found = self._ask_again(self.member)
            except Exception:  # a stranger answers: this thread must go on whatever he says
                log.exception("a stranger could not be asked name=%s", self.member.name)
        return self._last_found


class FailureDetector:
    """One line to each other member."""

    def __init__(
        self,
        here: str,
        context: ssl.SSLContext,
        check: Callable[[str], Check],
        ask_again: AskAgain,
        on_return: OnReturn,
    ) -> None:
        """Prepare; ``follow`` begins.

        Args:
            here: our name, which is not asked.
            context: with our certificate.
            check: makes, for a member's name, the check of the certificate that is served.
            ask_again: asks, as a stranger, a member that we do not know or that refuses us.
            on_return: is told of each member that answers again, or for the first time.
        """
        self._here = here
        self._context = context
        self._check = check
        self._ask_again = ask_again
        self._on_return = on_return
        self._lock = threading.Lock()
        self._lines: dict[str, _Probe] = {}
        self._commits = Commits()

    def note_committed(self, index: int) -> None:
        """Note how far the log is committed, as this server's etcd says."""
        self._commits.note(index, elapsed())

    def follow(self, members: Iterable[MemberRecord]) -> None:
        """Ask these members from now on, and no others."""
        wanted = {m.name: m for m in members}
        own = wanted.pop(self._here, None)
        votes = own is None or own.role is not Role.NONVOTING
        with self._lock:
            for name in [n for n, line in self._lines.items() if _moved(line, wanted.get(n))]:
                self._lines.pop(name).stop()
            for name, member in wanted.items():
                line = self._lines.get(name)
                if line is not None and line.member != member:
                    line.renew(member)
                elif line is None:
                    self._lines[name] = _Probe(
                        member, self._context, self._check(name), self._ask_again, self._on_return
                    )
                    self._lines[name].start()
                seldom = not votes and member.role is Role.NONVOTING
                self._lines[name].ask_every(_SELDOM_SECONDS if seldom else INTERVAL_SECONDS)

    def use(self, context: ssl.SSLContext) -> None:
        """Ask with another certificate from now on, over new connections."""
        with self._lock:
            self._context = context
            lines = list(self._lines.values())
        for line in lines:
            line.use(context)

    def stop(self) -> None:
        """Ask nobody any more."""
        self.follow(())

    def answers(self, seconds: float, since: float | None = None) -> Mapping[str, Answer]:
        """Return an outcome for every member that is asked.

        Args:
            seconds: how long to wait for those of which there is none.
            since: take only what was asked at this time (monotonic) or later, and ask now; None
                for what is known to be at most ``INTERVAL_SECONDS + ANSWER_SECONDS`` old.
        """
        with self._lock:
            lines = dict(self._lines)
        now = elapsed()
        oldest = now - _FRESH_SECONDS if since is None else since
        for line in lines.values():
            if since is not None or (line.interval > _FRESH_SECONDS and not line.is_since(oldest)):
                line.ask_now()
        silent = Answer(None, "no answer yet", now)
        return {
            name: line.asked_since(oldest, max(0.0, now + seconds - elapsed())) or silent
            for name, line in lines.items()
        }

    def heard(self, name: str) -> None:
        """Note that a member has asked: it may be back before it answers here."""
        with self._lock:
            line = self._lines.get(name)
        if line is not None:
            line.heard(None)

    def answers_at(
        self, index: int, since: float, seconds: float, patient: bool = False
    ) -> Mapping[str, Answer]:
        """Return an outcome for every member that is asked; voters are asked for an entry, anew.

        Who is known not to follow is not waited for.

        Args:
            index: of a commit that each voter is to have.
            since: as for ``answers``, of voters.
            seconds: how long to wait for those that do not have it.
            patient: whether to wait so long for those that were silent before, too, and to ask
                members without a vote anew.
        """
        with self._lock:
            lines = dict(self._lines)
        now = elapsed()
        silent = Answer(None, f"no answer within {seconds:g} s", now)
        voters = {n: line for n, line in lines.items() if line.member.role is Role.VOTER}
        spoke = {n: _has_spoken(line, now) for n, line in voters.items()}
        for line in voters.values():
            line.await_index(index, seconds)

        def enough(answer: Answer) -> bool:
            status = answer.status
            return status is None or not is_behind(status, index) or self._is_late(answer)

        def found(name: str) -> Answer:
            allowed = seconds if patient or spoke[name] else _SILENT_SECONDS
            left = max(0.0, now + allowed - elapsed())
            answer = voters[name].asked_since(since, left, enough)
            return answer or self._said_to_be_unwell(voters[name], now) or silent

        known = self.answers(seconds, since) if patient else self.answers(_SILENT_SECONDS)
        return {**known, **{name: found(name) for name in voters}}

    def _said_to_be_unwell(self, line: _Probe, now: float) -> Answer | None:
        """Return what a member said a moment ago, if it does not count by that anyway."""
        answer = line.answer
        told = answer is not None and answer.status is not None
        fresh = line.is_since(now - _FRESH_SECONDS)
        return answer if answer and told and fresh and not self.follows(answer) else None

    def follows(self, answer: Answer, index: int = 0) -> bool:
        """Tell whether a member answers, its etcd is well, and its log goes on.

        Args:
            answer: of that member.
            index: of an entry that it has, if it votes; besides what each must have by now.
        """
        status = answer.status
        return (
            status is not None
            and status.healthy
            and not is_behind(status, index)
            and not self._is_late(answer)
        )

    def _is_late(self, answer: Answer) -> bool:
        status = answer.status
        return status is not None and is_behind(status, self._commits.owed(answer.when))

    def last_answers(self) -> Mapping[str, Answer]:
        """Return the last outcome, however old, of every member that was asked at all."""
        with self._lock:
            answers = {name: line.answer for name, line in self._lines.items()}
        return {name: answer for name, answer in answers.items() if answer is not None}

    def round_trips(self) -> Mapping[str, float]:
        """Return the seconds that a packet takes to each member and back; 0.0 while unknown."""
        with self._lock:
            return {name: line.round_trip for name, line in self._lines.items()}

    def last_statuses(self) -> Mapping[str, ServerStatus]:
        """Return what every member said last, also of those that are silent since."""
        with self._lock:
            said = {name: line.status for name, line in self._lines.items()}
        return {name: status for name, status in said.items() if status is not None}

    def who_say_removed(self) -> list[str]:
        """Return who says that this server was deleted; nobody where any says otherwise."""
        answers = self.last_answers()
        if any(answer.status is not None for answer in answers.values()):
            return []
        return sorted(name for name, answer in answers.items() if answer.removed)

    def told_removed(self) -> bool:
        """Tell whether any member says that this server was deleted; one may err, or lie."""
        return any(answer.removed for answer in self.last_answers().values())

    def answering(self, seconds: float, since: float | None = None) -> frozenset[str]:
        """Return the names of the members that answer and follow.

        Args:
            seconds, since: as for ``answers``.
        """
        found = self.answers(seconds, since)
        return frozenset(name for name, answer in found.items() if self.follows(answer))


def _has_spoken(line: _Probe, now: float) -> bool:
    """Tell whether a member has answered a moment ago, or was not asked yet."""
    answer = line.answer
    return answer is None or (answer.status is not None and answer.when >= now - _FRESH_SECONDS)


def _moved(line: _Probe, member: MemberRecord | None) -> bool:
    """Tell whether a line no longer leads to where the member is."""
    if member is None:
        return True
    old = line.member
    return (old.address, old.door_port) != (member.address, member.door_port)
