"""Bare etcds that do what ours do when a voter joins: the other side of the rows about joins.

They have the arguments that ``collectived`` gives its own, and trust each other's self-signed
certificates. No daemon is there: who joins is trusted after one restart of each voter, is added as
a learner, started and promoted, by calls to etcd over its socket and nothing between them.

Invariants:
  * What is timed begins with the first restart and ends with the answer to the promotion.
  * A voter is restarted when the one before has a leader again; who leads is the last.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from bench.leaves import empty_list, make_leaf
from bench.line import Line, LineError
from collective.etcd.arguments import CLIENT_SOCKET, Files, Timing, etcd_arguments
from collective.model.names import peer_url
from collective.model.plan import Mode, Plan
from tests.harness import temporary_folder, wait_until
from tests.harness.cluster import ADDRESSES
from tests.harness.ports import claim_ports
from tests.harness.processes import spawn

T = TypeVar("T")

#: As the settings are by default.
_TIMING = Timing(heartbeat_ms=50, election_ms=450)
_WAIT_SECONDS = 30.0
_CALL_SECONDS = 5.0
_POLL_SECONDS = 0.005
#: Connections between loopback addresses come from the first one.
_ALSO = ("127.0.0.1", "::1")
#: The arguments that a peer port without TLS has not.
_OF_TLS = (
    "--peer-cert",
    "--peer-key",
    "--peer-trusted",
    "--peer-crl",
    "--peer-client",
    "--cipher",
)


@dataclass(frozen=True)
class Steps:
    """How long each step of a bare join took, in seconds.

    Attributes:
        followers: the restart of each voter that did not lead, until it had a leader.
        leader: the restart of the one that led.
        add, start, promote: the call; until the new etcd answered; until it was promoted.
    """

    followers: tuple[float, ...]
    leader: float
    add: float
    start: float
    promote: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(self.followers) + self.leader + self.add + self.start + self.promote


class BareEtcd:
    """One etcd, its files and its process.

    Attributes:
        name: as etcd knows it.
        url: of its peer port.
        leaf: its key and certificate.
        socket: where clients reach it.
        line: to it.
    """

    def __init__(
        self,
        folder: Path,
        program: Path,
        name: str,
        address: str,
        port: int,
        *,
        prefix: Sequence[str] = (),
        tls: bool = True,
    ) -> None:
        """Make its files, but for those of others that it trusts; it is not started.

        Args:
            folder: of all etcds, with a short path.
            program: etcd.
            name: its name.
            address: where others reach it.
            port: its peer port.
            prefix: a command that runs it.
            tls: whether its peer port wants certificates.
        """
        self.name, self.url = name, _plain(peer_url(address, port), not tls)
        self._prefix, self._tls = tuple(prefix), tls
        self.leaf = make_leaf(name, sorted({address, *_ALSO}))
        self._address, self._port = address, port
        self._folder, self._program = folder / name, program
        self._run = self._folder / "run"
        self._run.mkdir(parents=True)
        self.socket = str(self._run / CLIENT_SOCKET)
        self.line = Line(self.socket, _CALL_SECONDS)
        self._own, self._trusted, self._revoked = (
            self._folder / name for name in ("server.pem", "trusted.pem", "crl.der")
        )
        self._own.write_bytes(self.leaf.key + self.leaf.certificate)
        self._revoked.write_bytes(empty_list())
        self._arguments: Sequence[str] = ()
        self._process: subprocess.Popen[bytes] | None = None

    def trust(self, members: Sequence[BareEtcd]) -> None:
        """Write the file of those that it trusts from its next start on."""
        self._trusted.write_bytes(b"".join(member.leaf.certificate for member in members))

    def begin(self, token: str, members: Sequence[BareEtcd]) -> None:
        """Start it for the first time, and return when it answers.

        Args:
            token: of the cluster.
            members: all of them; it alone where it is the first one.
        """
        self.launch(token, members, len(members) > 1)
        self._ask(self.line.leader, "it answers")

    def launch(self, token: str, members: Sequence[BareEtcd], existing: bool) -> None:
        """Start it for the first time, and return at once.

        Args:
            token: of the cluster.
            members: all of them.
            existing: whether the cluster is there, and this one joins it.
        """
        self._arguments = self._words(token, members, existing)
        self._start()

    def restart(self) -> float:
        """Kill it with -9, start it, and return the seconds until it had a leader."""
        begun = time.monotonic()
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(_WAIT_SECONDS)
        self._start()
        self._ask(lambda: self.line.leader() != 0, "it has a leader")
        return time.monotonic() - begun

    def promote(self, number: int) -> None:
        """Promote a learner, as soon as it has caught up."""

        def promoted() -> bool:
            self.line.promote(number)
            return True

        self._ask(promoted, "a learner is promoted")

    def leads(self) -> bool:
        """Whether it is the leader."""
        return self._ask(lambda: self.line.leader() or None, "a leader") == self.line.member()

    def hand_over(self, successor: BareEtcd) -> None:
        """Have another one lead, and return when it does."""
        number = successor.line.member()
        self.line.hand_over(number)
        self._ask(lambda: self.line.leader() == number, f"{successor.name} leads")

    def _words(self, token: str, members: Sequence[BareEtcd], existing: bool) -> list[str]:
        """Return what ``collectived`` would start its etcd with."""
        plan = Plan(
            mode=Mode.MEMBER,
            name=self.name,
            address=self._address,
            door_port=self._port - 1,
            peer_port=self._port,
            cluster_token=token,
            initial_cluster=",".join(f"{member.name}={member.url}" for member in members),
            existing=existing,
        )
        paths = (self._folder / "etcd", self._own, self._trusted, self._revoked)
        files = Files(*map(str, paths))
        words = etcd_arguments(plan, files, _TIMING, [self._address])
        kept = words if self._tls else [word for word in words if not word.startswith(_OF_TLS)]
        return [_plain(word, not self._tls) for word in kept]

    def _start(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.socket)  # what a killed etcd leaves
        environment = {"PATH": os.environ["PATH"]}
        command = [*self._prefix, str(self._program), *self._arguments]
        log = self._folder / "log"
        self._process = spawn(command, self._run, environment, log, outlive=False)

    def _ask(self, call: Callable[[], T], what: str) -> T:
        """Call until it raises nothing and returns something that is not False or None."""

        def asked() -> tuple[T] | None:
            with suppress(LineError):
                answer = call()
                return None if answer is None or answer is False else (answer,)
            return None

        found = wait_until(asked, _WAIT_SECONDS, f"bare etcd {self.name}: {what}", _POLL_SECONDS)
        assert found is not None
        return found[0]


class BareEtcds:
    """A cluster of them, which begins with one.

    Attributes:
        members: in the order in which they came.
    """

    def __init__(self, folder: Path, program: Path, port: int) -> None:
        """Start the first one.

        Args:
            folder: for all files, with a short path.
            program: etcd.
            port: peer port of each, on an address of its own.
        """
        self._folder, self._program, self._port = folder, program, port
        self._token = secrets.token_hex(16)
        self.members: list[BareEtcd] = []
        first = self._new()
        self.members.append(first)
        first.trust(self.members)
        first.begin(self._token, self.members)

    def grow(self, count: int) -> None:
        """Have so many members."""
        while len(self.members) < count:
            self.join()

    def join(self, *, hand_over: bool = False) -> Steps:
        """Have one more member, and return how long each step took.

        Args:
            hand_over: whether who leads hands that over before its restart, where there is
                another one; else its restart is an election.
        """
        joiner = self._new()
        everybody = [*self.members, joiner]
        for member in everybody:
            member.trust(everybody)
        leader, followers = self._roles()
        restarts = tuple(member.restart() for member in followers)
        begun = time.monotonic()
        if hand_over and followers:
            leader.hand_over(followers[0])
        leader.restart()
        marks = [begun, time.monotonic()]
        asked, _ = self._roles()
        number = asked.line.add_learner(joiner.url)
        marks.append(time.monotonic())
        joiner.begin(self._token, everybody)
        marks.append(time.monotonic())
        asked.promote(number)
        marks.append(time.monotonic())
        self.members = everybody
        last, add, start, promote = (b - a for a, b in pairwise(marks))
        return Steps(restarts, last, add, start, promote)

    def follower(self) -> BareEtcd:
        """Return one that does not lead."""
        return self._roles()[1][0]

    def _roles(self) -> tuple[BareEtcd, list[BareEtcd]]:
        """Return who leads, and the others."""
        leader = next(member for member in self.members if member.leads())
        return leader, [member for member in self.members if member is not leader]

    def _new(self) -> BareEtcd:
        number = len(self.members)
        name, address = f"etcd{number + 1}", ADDRESSES[number]
        return BareEtcd(self._folder, self._program, name, address, self._port)


def _plain(text: str, plain: bool) -> str:
    return text.replace("https://", "http://") if plain else text


@contextmanager
def bare_etcds(program: Path) -> Iterator[BareEtcds]:
    """Start one, for a cluster that grows, and end all of them afterwards."""
    ports = claim_ports(ADDRESSES)
    try:
        with temporary_folder() as folder:
            yield BareEtcds(folder, program, ports.peer)
    finally:
        ports.release()
