"""Functions that run step by step: each waits at every call it makes until somebody lets it go on.

Each runs in a thread of its own, and only one thread runs at any time, so a history is the same
whenever it is repeated. Threads and not generators, since what runs is the product's own code.

Invariants:
  * An actor that was killed executes nothing more: each further call raises ``Killed`` again.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from collective.errors import CollectiveError, UnreachableError


class Fate(enum.Enum):
    """What becomes of a call: done; lost; done, but unheard; or done later, and unheard."""

    DONE = "done"
    LOST = "lost"
    UNHEARD = "unheard"
    LATE = "late"


class Killed(BaseException):
    """The server died; no code of the product catches this."""


class Worker:
    """A thread that runs one actor after the other: making threads is what takes time."""

    idle: ClassVar[list[Worker]] = []

    def __init__(self) -> None:
        self._work = threading.Semaphore(0)
        self._actor: Actor | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @classmethod
    def take(cls) -> Worker:
        """Return one that has nothing to do."""
        return cls.idle.pop() if cls.idle else cls()

    def begin(self, actor: Actor) -> None:
        """Run an actor until its first call."""
        self._actor = actor
        self._work.release()

    def _run(self) -> None:
        while True:
            self._work.acquire()
            assert self._actor is not None
            self._actor.run(self)


class Actor:
    """One function on one server.

    Attributes:
        host: the server.
        label: for people.
        notes: what ``promises`` remembers of it.
        child: the request that it waits for on another server.
        result, error: how it ended.
    """

    def __init__(self, host: object, label: str, body: Callable[[], Any]) -> None:
        self.host, self.label = host, label
        self.notes: dict[str, Any] = {}
        self.child: Actor | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.killed = False
        self._body = body
        self._fate = Fate.DONE
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._worker: Worker | None = None

    def __repr__(self) -> str:
        return f"{self.label}@{self.host}"

    @property
    def ident(self) -> int | None:
        """The id of its thread."""
        return None if self._worker is None else self._worker.thread.ident

    def resume(self, fate: Fate) -> None:
        """Let it go on until its next call, or its end."""
        self._fate = fate
        if self._worker is None:
            self._worker = Worker.take()
            self._worker.begin(self)
        else:
            self._go.release()
        self._back.acquire()

    def wait(self) -> Fate:
        """Be held until somebody lets us go on; called in the actor's thread."""
        if not self.killed:
            self._back.release()
            self._go.acquire()
        if self.killed:
            raise Killed
        return self._fate

    def kill(self) -> None:
        """End it here."""
        if self.done:
            return
        self.killed = True
        if self._worker is None:
            self.done = True
        else:
            self.resume(Fate.LOST)

    def run(self, worker: Worker) -> None:
        """Run to the end; called in a worker's thread."""
        try:
            self.result = self._body()
        except Killed:
            self.killed = True
        except BaseException as error:
            self.error = error
        finally:
            self.done = True
            self._worker = None
            Worker.idle.append(worker)
            self._back.release()


class Actors:
    """All actors of a world."""

    def __init__(self) -> None:
        self.running: list[Actor] = []
        self._crashed: list[Actor] = []
        self._at_once = 0

    def spawn(self, host: object, label: str, body: Callable[[], Any]) -> Actor:
        """Make an actor; it runs when it is stepped."""
        actor = Actor(host, label, body)
        self.running.append(actor)
        return actor

    def current(self) -> Actor | None:
        """The actor whose thread this is."""
        ident = threading.get_ident()
        return next((actor for actor in self.running if actor.ident == ident), None)

    def step(self, actor: Actor, fate: Fate = Fate.DONE) -> None:
        """Let an actor make its next call; one that waits for a request: that request's next."""
        while fate is Fate.DONE and actor.child is not None and not actor.child.done:
            actor = actor.child
        actor.resume(fate)
        self._sweep()

    def run(self, actor: Actor, steps: int = 2000) -> None:
        """Let an actor run to its end, or for so many steps."""
        while not actor.done and steps:
            self.step(actor)
            steps -= 1

    def interrupt(self) -> Fate:
        """Hold the current actor, unless what it does is done at once."""
        actor = None if self._at_once else self.current()
        return Fate.DONE if actor is None else actor.wait()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Have the current actor make calls that another thread of its server makes in life."""
        self._at_once += 1
        try:
            yield
        finally:
            self._at_once -= 1

    @property
    def holds(self) -> bool:
        """Whether a call that is made now is held: an actor makes it, and not at once."""
        return not self._at_once and self.current() is not None

    def call(self, child: Actor) -> Any:
        """Wait, in an actor, for what another one returns.

        Raises:
            UnreachableError: it died, or we lost patience; then it goes on without us.
        """
        actor = self.current()
        assert actor is not None
        actor.child = child
        fate = actor.wait()
        actor.child = None
        if fate is not Fate.DONE or child.killed or not child.done:
            raise UnreachableError(f"{child} did not answer")
        if child.error is not None:
            raise child.error
        return child.result

    def kill(self, host: object) -> None:
        """Kill all that runs on a server."""
        for actor in [a for a in self.running if a.host is host]:
            actor.kill()
        self._sweep()

    def kill_all(self) -> None:
        """Kill all actors, so that no thread is left."""
        for actor in list(self.running):
            actor.kill()
        self.running.clear()

    def crashed(self) -> list[BaseException]:
        """Return what actors raised that no command may raise."""
        return [
            a.error
            for a in self._crashed
            if a.error is not None and not isinstance(a.error, CollectiveError)
        ]

    def _sweep(self) -> None:
        self._crashed += [a for a in self.running if a.done and a.error is not None]
        self.running = [a for a in self.running if not a.done]
