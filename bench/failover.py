"""Rows 4 to 6: the leader is killed, stopped or cut off, until ``show`` names the next one.

One survivor runs ``show`` over and over; the etcd of the other is asked, meanwhile, for the end
of its own election: first its status, which is cheap and disturbs nobody, until that names
another leader, then a linearizable read until one is answered.

Invariants:
  * Both times begin at the same moment, right before the leader is struck.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from bench.line import Line, LineError
from bench.network import network
from bench.place import Place, say, settle
from bench.report import Row
from bench.sample import Sample, differences
from bench.signals import kill, start_again
from bench.timing import collective
from tests.harness import Cluster, HarnessError, Server
from tests.harness.spread import spread

_ROUNDS = 10
_GIVE_UP_SECONDS = 60.0
_POLL_SECONDS = 0.005
_READ_SECONDS = 0.5
_EXCESS_BAR = 0.15


@dataclass(frozen=True)
class Fault:
    """What happens to the leader.

    Attributes:
        key: of the row.
        what: is said in the row.
        bar: seconds until ``show`` names the next leader.
        excess_bar: seconds over etcd's own election, or None.
        strike: does it, at once.
        mend: undoes it.
    """

    key: str
    what: str
    bar: float
    excess_bar: float | None
    strike: Callable[[Server], None]
    mend: Callable[[Server], None]


@dataclass(frozen=True)
class Round:
    """Seconds since the strike.

    Attributes:
        shown: when ``show`` had named the next leader.
        named: when a survivor's etcd named it.
        served: when that etcd answered a linearizable read.
        shows: how many times ``show`` ran.
    """

    shown: float
    named: float
    served: float
    shows: int


def killed(place: Place) -> Iterator[Row]:
    """Measure row 4."""
    fault = Fault("4", "killed with -9", 0.70, _EXCESS_BAR, kill, start_again)
    with place.collective() as cluster:
        yield _measure(place, cluster, fault)


def stopped(place: Place) -> Iterator[Row]:
    """Measure row 5."""
    fault = Fault("5", "stopped by SIGSTOP, with its etcd", 0.75, None, _pause, Server.resume)
    with place.collective() as cluster:
        yield _measure(place, cluster, fault)


def cut_off(place: Place) -> Iterator[Row]:
    """Measure row 6.

    Raises:
        SkippedError: no right to make networks, or no ip(8).
    """
    with network(3) as net, place.cluster() as cluster:
        spread(cluster, net)
        cluster.join_all()
        settle(cluster)
        fault = Fault(
            "6",
            "cut off by a partition",
            0.75,
            None,
            lambda server: net.cut(server.name),
            lambda server: net.mend(server.name),
        )
        yield _measure(place, cluster, fault)


def _measure(place: Place, cluster: Cluster, fault: Fault) -> Row:
    rounds = []
    for number in range(place.count(_ROUNDS)):
        leader = settle(cluster)
        survivors = [server for server in cluster.servers.values() if server is not leader]
        asked, watched = survivors[number % 2], survivors[1 - number % 2]
        place.quiet.wait()
        rounds.append(_round(leader, asked, watched, fault))
        fault.mend(leader)
        say(f"leader {fault.what}: {rounds[-1]}")
    return _row(fault, rounds)


def _row(fault: Fault, rounds: list[Round]) -> Row:
    shown = Sample.of(one.shown for one in rounds)
    served = Sample.of(one.served for one in rounds)
    named = Sample.of(one.named for one in rounds)
    excess = differences(shown.values, served.values)
    bar, kept = f"{fault.bar * 1000:.0f} ms", shown.median <= fault.bar
    if fault.excess_bar is not None:
        bar += f", and {fault.excess_bar * 1000:.0f} ms over etcd's own election"
        kept = kept and excess.median <= fault.excess_bar
    runs = sum(one.shows for one in rounds) / len(rounds)
    return Row(
        fault.key,
        f"leader {fault.what}, until `show` on a survivor names the new one with a quorum",
        shown,
        bar,
        kept,
        f"etcd's own election {served}",
        f"excess {excess}",
        (
            f"etcd's status named the new leader after {named}",
            f"`show` ran {runs:.1f} times a round",
        ),
    )


def _round(leader: Server, asked: Server, watched: Server, fault: Fault) -> Round:
    election = _Election(watched)
    begun = time.monotonic()
    fault.strike(leader)
    election.start()
    shown, shows = _show_until_named(asked, leader)
    election.join(_GIVE_UP_SECONDS)
    if election.served is None or election.named is None:
        raise HarnessError("the other survivor's etcd has not answered a read")
    return Round(shown - begun, election.named - begun, election.served - begun, shows)


def _show_until_named(asked: Server, old: Server) -> tuple[float, int]:
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    shows = 0
    while time.monotonic() < deadline:
        timed = collective(asked, "show")
        ended = time.monotonic()
        shows += 1
        if timed.code == 0 and timed.value_of("Leader") != old.name:
            return ended, shows
    raise HarnessError(f"'show' on {asked.name} named no new leader in {_GIVE_UP_SECONDS:.0f} s")


class _Election(threading.Thread):
    """Waits for the end of an election as one etcd sees it."""

    def __init__(self, server: Server) -> None:
        super().__init__(name="election", daemon=True)
        self._line = Line(server.layout.etcd_socket, _READ_SECONDS)
        self._old = self._line.leader()
        self.named: float | None = None
        self.served: float | None = None

    def run(self) -> None:
        """Ask until a read is answered under another leader, or for a minute."""
        pause = threading.Event()
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while self.served is None and time.monotonic() < deadline:
            with suppress(LineError):
                self._ask()
            if self.named is None:
                pause.wait(_POLL_SECONDS)
        self._line.close()

    def _ask(self) -> None:
        if self.named is None:
            if self._line.leader() in (0, self._old):
                return
            self.named = time.monotonic()
        self._line.read()
        self.served = time.monotonic()


def _pause(server: Server) -> None:
    # Not the harness's pause: it looks for the processes first, which takes a while.
    pids = [server.etcd_pid, server.pid]
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
