"""Row 14: a follower is killed with -9; when does ``show`` on another member call it offline?

``show`` runs over and over, on the leader and on the other follower in turns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from bench.place import Place, say, settle
from bench.report import Row
from bench.sample import Sample
from bench.signals import kill, start_again
from bench.timing import Timed, collective
from tests.harness import Cluster, HarnessError, Server

_ROUNDS = 10
_BAR_SECONDS = 2.0
_GIVE_UP_SECONDS = 60.0


def measure(place: Place) -> Iterator[Row]:
    """Measure the row."""
    rounds = []
    with place.collective() as cluster:
        for number in range(place.count(_ROUNDS)):
            at_leader = number % 2 == 0
            rounds.append((at_leader, _round(place, cluster, at_leader)))
            say(f"shown as offline after {rounds[-1][1] * 1000:.0f} ms")
    sample = Sample.of(seconds for _, seconds in rounds)
    notes = []
    for at_leader, where in ((True, "the leader"), (False, "the other follower")):
        some = [seconds for was, seconds in rounds if was is at_leader]
        if some:
            notes.append(f"where `show` ran on {where}: {Sample.of(some)}")
    yield Row(
        "14",
        "follower killed with -9, until `show` on another member names it as offline",
        sample,
        f"{_BAR_SECONDS * 1000:.0f} ms",
        sample.median <= _BAR_SECONDS,
        notes=tuple(notes),
    )


def _round(place: Place, cluster: Cluster, at_leader: bool) -> float:
    leader = settle(cluster)
    dead, other = (server for server in cluster.servers.values() if server is not leader)
    asked = leader if at_leader else other
    place.quiet.wait()
    begun = time.monotonic()
    kill(dead)
    ended = _show_until_offline(asked, dead)
    start_again(dead)
    return ended - begun


def _show_until_offline(asked: Server, dead: Server) -> float:
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    while time.monotonic() < deadline:
        timed = collective(asked, "show", "--json")
        ended = time.monotonic()
        if _state(timed, dead) == "offline":
            return ended
    raise HarnessError(
        f"'show' on {asked.name} did not name {dead.name} as offline in {_GIVE_UP_SECONDS:.0f} s"
    )


def _state(timed: Timed, server: Server) -> str | None:
    """Return the state of a member as ``show --json`` printed it, None if it did not."""
    try:
        members = json.loads(timed.out)["members"]
    except ValueError:
        return None
    return next((str(m["state"]) for m in members if m["name"] == server.name), None)
