"""Linearizable answers: is there a quorum, and how far is the store?

One request answers all who asked before it began.

Invariants:
  * The answer is of a request that began after the call: it is never an older one.
"""

from __future__ import annotations

import threading
from time import monotonic

from collective.errors import CollectiveError, DegradedCollective
from collective.etcd.api import EtcdApi
from collective.etcd.deadline import within
from collective.model.closing import closed_handle
from collective.store.deadline import deadline_in
from collective.store.leadership import Leadership, NoLeaderError
from collective.store.slot import Slot
from collective.store.values import Moment

_PAUSE_SECONDS = 0.02
_LEAST_SECONDS = 0.001
# However patient a caller is, an etcd that hangs must not keep others waiting behind it.
_REQUEST_SECONDS = 2.0
# Who gives the answer just now needs no more than a moment.
_SETTLED_SECONDS = 5.0


class Question:
    """One caller's question.

    Attributes:
        deadline: of the monotonic clock.
        slot: gets the moment, or the error.
    """

    __slots__ = ("deadline", "refused", "slot")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.slot: Slot[Moment] = Slot()
        self.refused: CollectiveError | None = None


class ReadBatcher:
    """The requests, and the thread that makes them."""

    def __init__(self, calls: EtcdApi, leadership: Leadership | None = None) -> None:
        """Prepare; the thread is begun with the first question.

        Args:
            calls: the way to etcd.
            leadership: what others find out too, None for its own.
        """
        self._calls = calls
        self._leadership = leadership or Leadership(calls)
        self._changed = threading.Condition(threading.Lock())
        self._waiting: list[Question] = []
        self._closed, self._forked = threading.Event(), False
        self._thread: threading.Thread | None = None

    def newest(self, seconds: float) -> Moment:
        """Return the newest moment of the store: it has all writes that were acknowledged.

        Args:
            seconds: deadline.

        Raises:
            DegradedCollective: there was no answer in time, so no quorum is proven.
            ClosedError: the handle was closed.
        """
        question = self.ask(seconds)
        if not question.slot.wait(question.deadline - monotonic()):
            self.give_up(question)
            question.slot.wait(_SETTLED_SECONDS)
        return question.slot.get()

    def ask(self, seconds: float) -> Question:
        """Ask, and return at once; ``give_up`` is for whoever waits for longer.

        Raises:
            ClosedError: this was closed.
        """
        question = Question(deadline_in(seconds))
        with self._changed:
            if self._closed.is_set():
                raise closed_handle(self._forked)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="read_batcher", daemon=True)
                thread.start()
                self._thread = thread
            self._waiting.append(question)
            self._changed.notify()
        return question

    def give_up(self, question: Question) -> None:
        """Settle a question whose time is up, if it is not settled yet."""
        why = "no answer in time" if question.refused is None else question.refused.message
        question.slot.settle(
            DegradedCollective(
                f"there is no quorum, as far as this server can tell ({why})",
                "see 'collective show' on this server",
            ),
        )

    def close(self) -> None:
        """Answer nothing more."""
        with self._changed:
            self._closed.set()
            left, self._waiting = self._waiting, []
            self._changed.notify()
        for question in left:
            question.slot.settle(closed_handle(forked=False))

    def after_fork(self) -> None:
        """Answer nothing in a child process, whose threads are the parent's."""
        self._changed, self._closed = threading.Condition(threading.Lock()), threading.Event()
        self._closed.set()
        self._forked = True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed.is_set())
                asked, self._waiting = self._waiting, []
            if self._closed.is_set():
                for question in asked:
                    question.slot.settle(closed_handle(forked=False))
                return
            self._answer([question for question in asked if not question.slot.is_settled])

    def _answer(self, asked: list[Question]) -> None:
        if not asked:
            return
        left = max(question.deadline for question in asked) - monotonic()
        try:
            if (why := self._leadership.missing(max(left, _LEAST_SECONDS))) is not None:
                raise why
            begun = monotonic()
            with within(min(max(left, _LEAST_SECONDS), _REQUEST_SECONDS)):
                moment = Moment(*self._calls.newest())
        except Exception as error:
            self._ask_again(asked, error)
        else:
            self._leadership.note_answer(begun)
            for question in asked:
                question.slot.settle(moment)

    def _ask_again(self, asked: list[Question], why: Exception) -> None:
        refused = why if isinstance(why, CollectiveError) else CollectiveError(str(why))
        at_once = isinstance(why, NoLeaderError) and why.lasts
        if not at_once:
            self._closed.wait(_PAUSE_SECONDS)
        for question in asked:
            question.refused = refused
            if at_once or question.deadline <= monotonic():
                self.give_up(question)
        with self._changed:
            left = [question for question in asked if not question.slot.is_settled]
            if not self._closed.is_set():
                self._waiting[:0] = left
                return
        for question in left:
            question.slot.settle(closed_handle(forked=False))
