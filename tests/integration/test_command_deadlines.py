"""Command lines x states: whatever etcd and the daemon do, a command ends when its time is up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from collective.cli.deadlines import REFUSED_SECONDS, SECONDS, SILENCE_SECONDS
from tests.harness import Cluster, Server, wait_until
from tests.harness.at_once import Ended
from tests.harness.command_table import LINES, SPONSOR
from tests.harness.states import (
    State,
    all_stopped,
    etcd_stopped,
    out_of_descriptors,
    socket_gone,
    states_of_own_disk,
)

pytestmark = pytest.mark.integration

GRACE = 0.3
# A machine that is busy just then is no fault of the command: it is tried again by itself.
TRIES = 3
#: What was told before it ended: each step has its own time.
_STEP = re.compile(r"collective: (?!error|hint|warning|pause)[a-z]+: ")
JOINS = ("join --check", "join")


@contextmanager
def killed(*servers: Server) -> Iterator[None]:
    """Have no quorum."""
    for server in servers:
        server.kill()
    yield


@dataclass(frozen=True)
class Typing:
    """Where the lines are typed, and the server that wants to join there, None for nobody."""

    server: Server
    joiner: Server | None
    token: str

    def late(self, names: list[str]) -> dict[str, float]:
        """Type lines, all at once; return by how much each was late, those in time left out."""
        over: dict[str, float] = {}
        with ThreadPoolExecutor() as pool:
            own = pool.submit(self._over, self.server, names)
            if self.joiner is not None:
                for name in JOINS:  # one after the other: a second one would be refused at once
                    over |= self._over(self.joiner, [name])
        over |= own.result()
        return {name: seconds for name, seconds in over.items() if seconds > GRACE}

    def _over(self, server: Server, names: list[str]) -> dict[str, float]:
        door = self.server.door_name
        lines = [[door if word == SPONSOR else word for word in LINES[name]] for name in names]
        seconds = max(SECONDS.values()) + 60.0
        ended = server.run_at_once(lines, input=self.token, timeout=seconds)
        return {n: e.seconds - longest(n, e) for n, e in zip(names, ended, strict=True)}


def longest(name: str, ended: Ended) -> float:
    """Return how long a command that ended so may take."""
    if "collectived did not answer" in ended.err:
        return SILENCE_SECONDS
    went_on = ended.code == 0 or "no further" in ended.err or _STEP.search(ended.err)
    return SECONDS[name] if went_on else min(SECONDS[name], REFUSED_SECONDS)


def overshoots(typing: Typing, names: list[str]) -> dict[str, float]:
    """Try lines, those that are late again; return those that were late each time."""
    late = typing.late(names)
    for _ in range(TRIES):
        if late:
            again = typing.late([name for name in late if name in names])
            late = {name: over for name, over in again.items() if name in late}
    return late


def test_every_command_ends_when_its_time_is_up(new_cluster: Callable[..., Cluster]) -> None:
    """Its seconds, and three tenths; ``invite`` took 61 s on a server that was stopped."""
    cluster = new_cluster()
    first, *others = [cluster.add() for _ in range(3)]
    on_disk = states_of_own_disk(first)
    cluster.start_all(cluster.servers.values())
    cluster.join_all()
    fresh = cluster.add()
    fresh.start()
    late: dict[str, dict[str, float]] = {}

    def attempt(state: str, server: Server, joiner: Server | None, token: str) -> None:
        # A server that joins itself takes nobody in.
        names = [n for n in LINES if joiner is None or n not in JOINS]
        late[state] = overshoots(Typing(server, joiner, token), names)

    states: dict[str, State] = {
        "socket gone": socket_gone,
        "out of descriptors": out_of_descriptors,
        **on_disk,
        "etcd stopped": etcd_stopped,
        "all stopped": all_stopped,
        "no quorum": lambda _: killed(*others),
    }
    for state, begin in states.items():
        cluster.have_lead(first)
        if fresh.name in first.run("show", "--names", check=True).lines:
            # One of a moment that had descriptors left was taken in.
            first.run("delete", fresh.name, "--force", check=True)
            wait_until(lambda: fresh.is_removed, 30.0, "it rests")
        token = first.run("invite", fresh.name, check=True).out
        with begin(first):
            if state == "all stopped":
                attempt("leader stopped", others[0], None, token)
            # Where all goes on, it would be taken in.
            attempt(state, first, None if state in ("socket gone", "disk full") else fresh, token)
    assert {state: found for state, found in late.items() if found} == {}
