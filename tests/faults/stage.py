"""A collective of a few servers that the matrix plays its cells on, one after the other.

It knows how to let a server in and to put it out, and no fault.

Invariants:
  * A stage on which something went wrong is torn down; the next cell gets a new one.
  * So is one that has been played on often: etcd goes through every change of its members again
    when it starts, up to its last snapshot, which comes after 100,000 entries. Ten joins and ten
    deletions make a start cost 0.1 s of processor time more; hundreds are no collective's life.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness import Cluster, Server, temporary_folder, wait_until
from tests.harness.failpoints import FailPoints
from tests.harness.health import WITNESS, is_in_company, state_of, wait_until_whole
from tools.etcd_versions import Etcd

_SECONDS = 20.0
_CELLS = 50


@dataclass(frozen=True)
class Stage:
    """Some servers, of which all but one at least are members of the collective.

    Attributes:
        cluster: they.
        points: where they can be held.
        etcd: the program that they run.
    """

    cluster: Cluster
    points: FailPoints
    etcd: Path

    @property
    def servers(self) -> list[Server]:
        """All of them."""
        return list(self.cluster.servers.values())

    def members(self) -> list[Server]:
        """Return those that are in, the leader first."""
        inside = [server for server in self.servers if is_in_company(server)]
        leader = self.cluster.wait_for_leader(inside)
        return sorted(inside, key=lambda server: server is not leader)

    def all_in(self) -> list[Server]:
        """Have all servers be members, and return them, the leader first."""
        inside = self.members()
        for server in self.servers:
            if server not in inside:
                self.cluster.join(server, inside[-1])
        wait_until_whole(self.servers)
        return self.members()

    def one_out(self, *, with_etcd: bool) -> tuple[Server, list[Server]]:
        """Have one server be no member.

        Args:
            with_etcd: whether that one is a collective of one, or rests after its removal.

        Returns:
            That one; the members, the leader first.
        """
        inside = self.members()
        if len(inside) == len(self.servers):
            self.put_out(inside.pop())
        out = next(server for server in self.servers if server not in inside)
        if with_etcd and state_of(out)["mode"] == "removed":
            out.run("gencert", check=True)
            out.wait_for_quorum()
        return out, inside

    def put_out(self, server: Server) -> None:
        """Delete a member, and wait until it rests."""
        by = next(s for s in self.members() if s is not server)
        by.run("delete", server.name, "--force", check=True)
        wait_until(lambda: server.is_removed, _SECONDS, f"{server.name} rests")

    def one_without_vote(self) -> tuple[Server, list[Server]]:
        """Have one server be a member that does not vote.

        Returns:
            That one; the voters, the leader first.
        """
        out, voters = self.one_out(with_etcd=False)
        token = voters[-1].run("invite", "-n", out.name, check=True).out
        out.run("join", voters[-1].door_name, "-i", "-", input=token, check=True)
        wait_until_whole([*voters, out])
        return out, voters


class Arena:
    """At most one stage at a time, kept from one cell to the next."""

    def __init__(self) -> None:
        self._kind: tuple[Etcd, int] | None = None
        self._stage: Stage | None = None
        self._cells = 0
        self._stack = ExitStack()

    @contextmanager
    def lend(self, etcd: Etcd, servers: int) -> Iterator[Stage]:
        """Lend a stage with this version of etcd; what is raised in here spoils it.

        A spoilt stage stands until the next one is wanted: its logs are to be read first.
        """
        if self._stage is None or self._kind != (etcd, servers) or self._cells >= _CELLS:
            self.close()
            self._stage, self._kind = _build(self._stack, etcd, servers), (etcd, servers)
            self._cells = 0
        self._cells += 1
        stage, self._stage = self._stage, None
        yield stage
        self._stage = stage

    def close(self) -> None:
        """End everything that runs."""
        self._stage = None
        self._stack.close()


def _build(stack: ExitStack, etcd: Etcd, servers: int) -> Stage:
    folder = stack.enter_context(temporary_folder())
    cluster = stack.enter_context(Cluster(folder, etcd.etcd))
    points = stack.enter_context(FailPoints(cluster))
    cluster.grow(servers)
    stage = Stage(cluster, points, etcd.etcd)
    stage.servers[0].etcdctl("put", WITNESS, "kept")
    return stage
