"""Row 11: the voter through which a server that does not vote reaches etcd is killed with -9.

Two clients ask that server's daemon over and over, until both were answered again: one for
``show``, whose quorum is proven by a read at a voter; the other for ``invite``, which writes. The
voter leads in every other round: then an election is in the figure too.

Invariants:
  * Only a request that began after the signal counts, with the moment of its answer.
  * Which voter is used is read from the kernel's table of connections, not asked of the product,
    right before the signal. The server is started anew for each round: it keeps connections to
    the voters that it used before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.connections import most_used
from bench.place import Place, rest, say, settle
from bench.report import Row
from bench.sample import Sample
from bench.signals import kill, start_again
from bench.timing import checked
from collective.client import ask
from collective.errors import CollectiveError
from tests.harness import Cluster, HarnessError, Server, wait_until

_ROUNDS = 10
_BAR_SECONDS = 1.0
_BEFORE_SECONDS = 1.0
_GIVE_UP_SECONDS = 60.0
_ASK_SECONDS = 10.0
_PAUSE_SECONDS = 0.01
_TRIES = 5


@dataclass(frozen=True)
class Round:
    """Seconds since the signal.

    Attributes:
        led: whether the voter led.
        read: when a ``show`` had proven a quorum.
        written: when an ``invite`` was answered.
    """

    led: bool
    read: float
    written: float

    @property
    def both(self) -> float:
        """When both were answered again."""
        return max(self.read, self.written)


def measure(place: Place) -> Iterator[Row]:
    """Measure the row."""
    rounds = []
    with place.collective({"nonvoting_commands": "invite"}) as cluster:
        voters = list(cluster.servers.values())
        (server,) = cluster.add_running(1)
        token = checked(voters[0], "invite", "-n", server.name).out
        checked(server, "join", voters[0].door_name, "-i", "-", input=token)
        for number in range(place.count(_ROUNDS)):
            rounds.append(_round(place, cluster, server, voters, number % 2 == 1))
            say(f"voter lost: {rounds[-1]}")
    yield _row(rounds)


def _row(rounds: Sequence[Round]) -> Row:
    notes, kept = [], True
    for led, did in ((False, "followed"), (True, "led")):
        some = [one for one in rounds if one.led is led]
        if some:
            both = Sample.of(one.both for one in some)
            kept = kept and both.median <= _BAR_SECONDS
            read = Sample.of(one.read for one in some)
            written = Sample.of(one.written for one in some)
            notes.append(f"where the voter {did}: {both}; reads {read}, writes {written}")
    return Row(
        "11",
        "voter killed with -9 that a server without a vote uses, until a read and a write through "
        "that server are answered",
        Sample.of(one.both for one in rounds),
        f"{_BAR_SECONDS * 1000:.0f} ms, for both",
        kept,
        notes=tuple(notes),
    )


def _round(
    place: Place, cluster: Cluster, server: Server, voters: Sequence[Server], led: bool
) -> Round:
    victim = _used(cluster, server, voters, led)
    place.quiet.wait()
    reader, writer = _Client(server, _read), _Client(server, _write)
    reader.start()
    writer.start()
    try:
        rest(_BEFORE_SECONDS)
        if most_used(server, voters) is not victim:
            raise HarnessError(f"{server.name} uses {victim.name} no more")
        begun = time.monotonic()
        kill(victim)
        read, written = reader.answered_after(begun), writer.answered_after(begun)
    finally:
        reader.stop()
        writer.stop()
    start_again(victim)
    return Round(led, read - begun, written - begun)


def _used(cluster: Cluster, server: Server, voters: Sequence[Server], led: bool) -> Server:
    """Return the voter that the server uses, once it leads, or does not, as is wanted."""
    server.restart()
    for _ in range(_TRIES):
        leader = settle(cluster)
        used = most_used(server, voters)
        if (used is leader) is led:
            return used
        successor = used if led else next(v for v in voters if v is not used)
        _hand_over(leader, successor)
        cluster.wait_for_leader(other_than=leader)
    raise HarnessError(f"{server.name} does not stay with a voter")


def _hand_over(leader: Server, successor: Server) -> None:
    members = leader.show_json()["members"]
    number = next(member["id"] for member in members if member["name"] == successor.name)
    leader.etcdctl("move-leader", str(number))


def _read(server: Server) -> bool:
    shown = ask(server.layout.control_socket, "GET", "/v1/show", None, _ASK_SECONDS)
    return bool(shown["quorum"])


def _write(server: Server) -> bool:
    body = {"server": "mgt9"}
    ask(server.layout.control_socket, "POST", "/v1/invite", body, _ASK_SECONDS)
    return True


class _Client(threading.Thread):
    """Asks a daemon for the same thing over and over."""

    def __init__(self, server: Server, call: Callable[[Server], bool]) -> None:
        super().__init__(name="client", daemon=True)
        self._server = server
        self._call = call
        self._stopped = threading.Event()
        self._answers: list[tuple[float, float]] = []

    def run(self) -> None:
        """Ask until stopped, and note when what was answered began and ended."""
        while not self._stopped.wait(_PAUSE_SECONDS):
            begun = time.monotonic()
            try:
                answered = self._call(self._server)
            except CollectiveError:
                continue
            if answered:
                self._answers.append((begun, time.monotonic()))

    def stop(self) -> None:
        """End the stream."""
        self._stopped.set()
        self.join()

    def answered_after(self, moment: float) -> float:
        """Wait for the answer to a request that began after a moment; return when it came."""

        def answered() -> float | None:
            return next((ended for begun, ended in self._answers if begun >= moment), None)

        what = f"{self._server.name} answers again"
        ended = wait_until(answered, _GIVE_UP_SECONDS, what)
        assert ended is not None
        return ended
