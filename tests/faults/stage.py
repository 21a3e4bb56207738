"""A collective of a few servers that the matrix plays its cells on, one after the other.

It knows how to let a server in and to put it out, and no fault.

Invariants:
  * A stage on which something went wrong is torn down; the next cell gets a new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.harness import Cluster, Server, temporary_folder, wait_until
from tests.harness.failpoints import FailPoints
from tests.harness.health import WITNESS, is_in_company, state_of, wait_until_whole
from tools.etcd_versions import Etcd

_SECONDS = 20.0


@dataclass(frozen=True)
class Stage:
    """Some servers, of which all but one at least are members of the collective.

    Attributes:
        cluster: they.
        points: where they can be held.
    """

    cluster: Cluster
    points: FailPoints

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
                self.cluster.join(server, inside[0])
            elif state_of(server)["mode"] == "nonvoting":
                inside[0].run("promote", server.name, check=True)
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
            gone = inside.pop()
            inside[0].run("delete", gone.name, "--force", "--no-rekey", check=True)
            wait_until(lambda: gone.is_removed, _SECONDS, f"{gone.name} rests")
        out = next(server for server in self.servers if server not in inside)
        if with_etcd and state_of(out)["mode"] == "removed":
            out.run("gencert", check=True)
            out.wait_for_quorum()
        return out, inside

    def one_nonvoting(self) -> tuple[Server, list[Server]]:
        """Have one server be a member that does not vote, and all others voters.

        Returns:
            That one; the others, the leader first.
        """
        found = [s for s in self.members() if state_of(s)["mode"] == "nonvoting"]
        if not found:
            *_, found_last = self.all_in()
            found = [found_last]
            self.members()[0].run("demote", found_last.name, check=True)
        wait_until_whole(self.servers)
        return found[0], [s for s in self.members() if s is not found[0]]

    def move(self, server: Server) -> str:
        """Set another loopback address in a server's settings, and return it."""
        first, _, last = server.address.rpartition(".")
        number = int(last)
        server.address = f"{first}.{number + 40 if number < 40 else number - 40}"
        server.configure(address=server.address)
        return server.address


class Arena:
    """At most one stage at a time, kept from one cell to the next."""

    def __init__(self) -> None:
        self._kind: tuple[Etcd, int] | None = None
        self._stage: Stage | None = None
        self._stack = ExitStack()

    @contextmanager
    def lend(self, etcd: Etcd, servers: int) -> Iterator[Stage]:
        """Lend a stage with this version of etcd; what is raised in here spoils it.

        A spoilt stage stands until the next one is wanted: its logs are to be read first.
        """
        if self._stage is None or self._kind != (etcd, servers):
            self.close()
            self._stage, self._kind = _build(self._stack, etcd, servers), (etcd, servers)
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
    stage = Stage(cluster, points)
    stage.servers[0].etcdctl("put", WITNESS, "kept")
    return stage
