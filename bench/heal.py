"""Rows 27 and 28: a network drops packets without a word and heals; when are writes answered?

Three hosts, and on each three etcds, of a cluster each: a bare one without TLS, a bare one with
it, and that of our daemon. All three clusters are led from the same host, meet the same cut, and
are written to at the same time, on each host, from the moment of the heal on.

Invariants:
  * Who leads is settled before the cut, and the same host in all three.
  * The time ends when the last of the three hosts has had a write answered that began after the
    heal.
  * No host forgets its neighbours meanwhile, see ``Network.pin``: that would shorten the wait.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from bench.bare_etcds import BareEtcd
from bench.line import Line, LineError
from bench.network import network
from bench.place import Place, rest, say, settle
from bench.report import Row
from bench.sample import Sample
from tests.harness import HarnessError, temporary_folder, wait_until
from tests.harness.network import Network
from tests.harness.spread import spread

_ROUNDS = 10
_BAR = 2.0
_PLAIN, _TLS, _OURS = "bare etcd without TLS", "bare etcd with TLS", "ours"
_PORTS = {_PLAIN: 14001, _TLS: 14002}
_WRITE_SECONDS = 0.25
_CALL_SECONDS = 2.0
_POLL_SECONDS = 0.005
_SETTLE_SECONDS = 60.0
_CALM_SECONDS = 6.0
_GIVE_UP_SECONDS = 120.0

#: Of a cluster: the path of etcd's socket by host.
Sockets = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """What is cut.

    Attributes:
        key: letter of its rows.
        what: is said in the row.
        strike: cuts, given the network, who leads, the others, and the number of the round.
    """

    key: str
    what: str
    strike: Callable[[Network, str, Sequence[str], int], None]


def _silence(net: Network, *names: str) -> None:
    for name in names:
        net.deafen(name)
        net.mute(name)


def _one_way(net: Network, leader: str, followers: Sequence[str], number: int) -> None:
    """Take each of two servers, and each direction, in turn."""
    act = net.mute if number % 2 else net.deafen
    act(leader if number % 4 > 1 else followers[0])


CASES = (
    Case("a", "a follower", lambda net, _, followers, __: _silence(net, followers[0])),
    Case("b", "the leader", lambda net, leader, _, __: _silence(net, leader)),
    Case("c", "all from all", lambda net, led, others, _: _silence(net, led, *others)),
    Case("d", "one server, in one direction", _one_way),
)


def short(place: Place) -> Iterator[Row]:
    """Measure row 27."""
    return _measure(place, "27", 20.0)


def long(place: Place) -> Iterator[Row]:
    """Measure row 28."""
    return _measure(place, "28", 60.0)


def _measure(place: Place, row: str, seconds: float) -> Iterator[Row]:
    with network(3) as net:
        net.pin()
        with _clusters(place, net) as clusters:
            for case in CASES:
                rounds = _rounds(place, net, clusters, case, seconds)
                yield _row(f"{row}{case.key}", case, seconds, rounds)


def _rounds(
    place: Place, net: Network, clusters: Mapping[str, Sockets], case: Case, seconds: float
) -> list[Mapping[str, float]]:
    rounds = []
    for number in range(place.count(_ROUNDS)):
        leader, *followers = list(net.hosts)
        for sockets in clusters.values():
            _have_lead(sockets, leader)
        rest(_CALM_SECONDS)
        case.strike(net, leader, followers, number)
        rest(seconds)
        rounds.append(_healed(net, clusters))
        told = ", ".join(f"{side} {took:.2f} s" for side, took in rounds[-1].items())
        say(f"{case.what} cut off for {seconds:.0f} s: {told}")
    return rounds


def _row(key: str, case: Case, seconds: float, rounds: Sequence[Mapping[str, float]]) -> Row:
    samples = {side: Sample.of(one[side] for one in rounds) for side in rounds[0]}
    ours = samples.pop(_OURS)
    return Row(
        key,
        f"{case.what} cut off without a word for {seconds:.0f} s, until writes are answered on "
        "every server",
        ours,
        f"{_BAR * 1000:.0f} ms",
        ours.median <= _BAR,
        ", ".join(f"{side} {sample}" for side, sample in samples.items()),
    )


def _healed(net: Network, clusters: Mapping[str, Sockets]) -> Mapping[str, float]:
    """Heal, and return the seconds until each cluster answers writes on every host."""
    writers = {
        side: [_Write(path) for path in sockets.values()] for side, sockets in clusters.items()
    }
    for name in net.hosts:
        net.restore(name)
    begun = time.monotonic()
    for writer in (w for some in writers.values() for w in some):
        writer.start()
    return {side: max(w.answered() - begun for w in some) for side, some in writers.items()}


class _Write(threading.Thread):
    """Writes at one etcd until that is answered once."""

    def __init__(self, path: str) -> None:
        super().__init__(name="write", daemon=True)
        self._line = Line(path, _WRITE_SECONDS)
        self._answered: float | None = None

    def run(self) -> None:
        """Try again and again, for two minutes."""
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while self._answered is None and time.monotonic() < deadline:
            try:
                self._line.write()
                self._answered = time.monotonic()
            except LineError:
                rest(_POLL_SECONDS)
        self._line.close()

    def answered(self) -> float:
        """Return when it was, seconds of the monotonic clock.

        Raises:
            HarnessError: it never was.
        """
        self.join(_GIVE_UP_SECONDS + 1.0)
        if self._answered is None:
            raise HarnessError(f"no write was answered for {_GIVE_UP_SECONDS:.0f} s")
        return self._answered


def _have_lead(sockets: Sockets, name: str) -> None:
    """Have a host's etcd lead, and return when all know it."""
    lines = {host: Line(path, _CALL_SECONDS) for host, path in sockets.items()}

    def leads() -> bool:
        with suppress(LineError):
            ids = {line.member(): host for host, line in lines.items()}
            found = {line.leader() for line in lines.values()}
            wanted = next(number for number, host in ids.items() if host == name)
            if found == {wanted}:
                return True
            leader = ids.get(found.pop())
            if leader is not None and leader != name and not found:
                lines[leader].hand_over(wanted)
        return False

    wait_until(leads, _SETTLE_SECONDS, f"{name} leads", _POLL_SECONDS * 10)
    for line in lines.values():
        line.close()


@contextmanager
def _clusters(place: Place, net: Network) -> Iterator[Mapping[str, Sockets]]:
    """Start all three, and end them."""
    with temporary_folder() as folder, place.cluster() as cluster:
        spread(cluster, net)
        cluster.join_all()
        settle(cluster)
        ours = {name: server.layout.etcd_socket for name, server in cluster.servers.items()}
        bare = {}
        for side, port in _PORTS.items():
            below = folder / str(port)
            below.mkdir()
            members = [
                BareEtcd(
                    below,
                    place.etcd.etcd,
                    host.name,
                    host.address,
                    port,
                    prefix=host.prefix,
                    tls=side is _TLS,
                )
                for host in net.hosts.values()
            ]
            token = secrets.token_hex(16)
            for member in members:
                member.trust(members)
                member.launch(token, members, existing=False)
            bare[side] = {member.name: member.socket for member in members}
        yield {**bare, _OURS: ours}
