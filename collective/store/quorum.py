"""Whether there is a quorum, as it was last proven: asked for over and over, and told at once.

Whoever has to decide without waiting looks here; who wants a proof of now asks ``read_batcher``.

Invariants:
  * ``age`` counts from before the request that was answered: it is never less than it was.
  * A callback is told each change, in order, one at a time, and holds up nobody else.
  * Nothing is asked before somebody has looked, and nothing holds once it is closed.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from collective.errors import ClosedError, CollectiveError
from collective.model.closing import Closing
from collective.store.leadership import Leadership
from collective.store.read_batcher import ReadBatcher
from collective.store.runner import Runner

log = logging.getLogger(__name__)

#: How long after an answer a quorum is asked again, and how long it has to answer.
EVERY_SECONDS = 1.0
ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class QuorumState:
    """What is known of the quorum, without asking.

    Attributes:
        holds: whether the last question, or a write made meanwhile, was answered by a quorum.
        age: seconds since a quorum was proven last, by that question or by any other or write of
            this handle; infinite where none was.
    """

    holds: bool
    age: float


Callback = Callable[[QuorumState], object]


class QuorumSubscription(Closing):
    """Somebody who is told of changes, until it is closed."""

    def __init__(self, watch: QuorumWatch, runner: Runner, callback: Callback) -> None:
        self._watch = watch
        self._callback = callback
        self._told: deque[QuorumState] = deque()
        self._line = runner.line(self._step)
        self._closed = False

    def tell(self, state: QuorumState) -> None:
        """Have the callback called, in a thread of the runner."""
        self._told.append(state)
        self._line.wake()

    def close(self) -> None:
        """Tell nothing more."""
        self._closed = True
        self._watch.drop(self)

    def _step(self) -> bool:
        if self._closed or not self._told:
            return False
        try:
            self._callback(self._told.popleft())
        except BaseException:  # not even SystemExit ends what others count on
            log.exception("a callback failed quorum")
        return bool(self._told)


class QuorumWatch:
    """The thread that asks, and those who are told."""

    def __init__(self, read_batcher: ReadBatcher, leadership: Leadership, runner: Runner) -> None:
        """Prepare; the thread is begun when somebody looks.

        Args:
            read_batcher: asks a quorum.
            leadership: knows of every answer of one.
            runner: runs callbacks.
        """
        self._read_batcher = read_batcher
        self._leadership = leadership
        self._runner = runner
        self._lock = threading.Lock()
        self._holds = False
        self._asked = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._subscriptions: list[QuorumSubscription] = []

    def state(self) -> QuorumState:
        """Return what is known now; the first call begins to ask, and knows nothing yet."""
        self._begin()
        return QuorumState(self._holds, self._age())

    def subscribe(self, callback: Callback, initial: bool) -> QuorumSubscription:
        """Have something called with each change.

        Args:
            callback: gets the state.
            initial: whether to tell first what is known, as soon as anything is.
        """
        made = QuorumSubscription(self, self._runner, callback)
        self._begin()
        with self._lock:
            self._subscriptions.append(made)
            if initial and self._asked.is_set():
                made.tell(QuorumState(self._holds, self._age()))
        return made

    def drop(self, subscription: QuorumSubscription) -> None:
        """Tell somebody nothing more."""
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def close(self) -> None:
        """Ask no more, and know nothing."""
        with self._lock:
            self._closed.set()
            self._holds = False

    def after_fork(self) -> None:
        """Ask nothing in a child process, and know nothing."""
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._closed.set()
        self._holds, self._subscriptions = False, []

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="quorum", daemon=True)
                self._thread.start()

    def _age(self) -> float:
        proven = self._leadership.proven
        return monotonic() - proven if proven > -math.inf else math.inf

    def _run(self) -> None:
        while not self._closed.is_set():
            asked = monotonic()
            try:
                self._read_batcher.newest(ANSWER_SECONDS)
            except ClosedError:
                return
            except CollectiveError:
                # A write that was made meanwhile says more than an answer that is late.
                self._note(self._leadership.proven > asked)
            else:
                self._note(True)
            self._closed.wait(EVERY_SECONDS)

    def _note(self, holds: bool) -> None:
        """Take an outcome; the first one is told as a change, since nothing was known before."""
        with self._lock:
            if self._closed.is_set():
                return
            changed = holds is not self._holds or not self._asked.is_set()
            self._holds = holds
            self._asked.set()
            if not changed:
                return
            state = QuorumState(holds, self._age())
            for subscription in self._subscriptions:
                subscription.tell(state)
