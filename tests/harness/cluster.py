"""Several servers on the loopback addresses of this machine: mgt1 on 127.0.0.1, and so on.

It knows no more of a collective than its commands tell.

Invariants:
  * All servers of a cluster have the same two ports, and a hosts file in which each finds all.
  * ``close`` ends every process, whatever happened before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from collective.model.closing import Closing
from tests.harness.ports import PortPair, claim_ports
from tests.harness.processes import end_processes_in
from tests.harness.server import Result, Server
from tests.harness.waiting import wait_until

_MOST_SERVERS = 14
_LEADER_SECONDS = 20.0
ADDRESSES = tuple(f"127.0.0.{number}" for number in range(1, _MOST_SERVERS + 1))


class Cluster(Closing):
    """Servers that may or may not be in one collective.

    Attributes:
        root: the folder of all of them.
        etcd: the program that they run.
        servers: by name, in the order in which they were added.
        environment: variables for all servers that are added from now on.
        ports: what they listen on.
    """

    def __init__(
        self,
        root: Path,
        etcd: Path,
        *,
        settings: Mapping[str, str] | None = None,
        preferred_ports: tuple[int, int] | None = None,
        outlive: bool = False,
    ) -> None:
        """Reserve ports; there is no server yet.

        Args:
            root: a folder with a short path, whose removal is up to the caller.
            etcd: the program to use; etcdctl is expected beside it.
            settings: for all servers, over the harness's own.
            preferred_ports: daemon's and etcd's, used if they are free.
            outlive: whether the daemons live on when this process ends.
        """
        self.root = root
        self.servers: dict[str, Server] = {}
        self.environment: dict[str, str] = {}
        self.etcd = etcd
        self._settings = dict(settings or {})
        self._outlive = outlive
        self._hosts = root / "hosts"
        self.ports: PortPair = claim_ports(ADDRESSES, preferred_ports)

    def __getitem__(self, name: str) -> Server:
        return self.servers[name]

    def add(self, name: str | None = None, **settings: str) -> Server:
        """Make the files of one more server; it is not started.

        Args:
            name: None for mgt1, mgt2 and so on.
            settings: further lines of its settings file.
        """
        address = ADDRESSES[len(self.servers)]
        name = name or f"mgt{len(self.servers) + 1}"
        own = {
            "name": name,
            "address": address,
            "port": str(self.ports.door),
            "peer_port": str(self.ports.peer),
            "hosts": str(self._hosts),
            "allow_unsafe_etcd": "yes",
        }
        with self._hosts.open("a") as hosts:
            hosts.write(f"{address} {name}\n")
        values = {**own, **self._settings, **settings}
        server = Server(self.root / name, self.etcd, values, outlive=self._outlive)
        server.environment.update(self.environment)
        self.servers[name] = server
        return server

    def add_running(self, count: int, **settings: str) -> list[Server]:
        """Add servers and start them, all at once: each is a collective of one."""
        servers = [self.add(**settings) for _ in range(count)]
        self.start_all(servers)
        for server in servers:
            server.wait_for_quorum()
        return servers

    def grow(self, count: int, **settings: str) -> list[Server]:
        """Add servers, start them, and join them to one collective, which the first one leads."""
        self.add_running(count, **settings)
        return self.join_all()

    def join_all(self) -> list[Server]:
        """Join the servers, all of which run, to one collective, which the first one leads."""
        servers = list(self.servers.values())
        for server in servers[1:]:
            self.join(server, servers[0])
        return self.settle()

    def settle(self) -> list[Server]:
        """Wait until all see all as active, under the first one, and nothing is under way."""
        servers = list(self.servers.values())
        for server in servers:
            self.wait_until_all_active(server, servers)
        self.have_lead(servers[0])
        for server in servers:
            wait_until(lambda s=server: is_calm(s), _LEADER_SECONDS, f"{server.name} has calmed")  # type: ignore[misc]
        return servers

    def have_lead(self, server: Server) -> None:
        """Give leadership to a server: a join restarts every etcd, and hands it over."""

        def leads() -> bool:
            document = server.ask_show()
            if document is None or not document["quorum"]:
                return False
            if document["leader"] == server.name:
                return True
            ids = {member["name"]: member["id"] for member in document["members"]}
            leader = self.servers[document["leader"]]
            leader.etcdctl("move-leader", ids[server.name], check=False)
            return False

        wait_until(leads, _LEADER_SECONDS, f"{server.name} leads")

    def start_all(self, servers: Iterable[Server]) -> None:
        """Start servers at the same time, and wait until all take commands."""
        started = list(servers)
        for server in started:
            server.launch()
        for server in started:
            server.wait_until_ready()

    def join(self, server: Server, via: Server, *, invited_by: Server | None = None) -> Result:
        """Invite a server and have it join.

        Args:
            server: the joiner.
            via: the member that it asks.
            invited_by: the member that makes the token, if it is another one.

        Raises:
            CommandError: one of the two commands failed.
        """
        token = (invited_by or via).run("invite", server.name, check=True).out
        return server.run("join", via.door_name, "-i", "-", input=token, check=True)

    def wait_for_leader(
        self,
        of: Sequence[Server] | None = None,
        other_than: Server | None = None,
        seconds: float = _LEADER_SECONDS,
    ) -> Server:
        """Wait until all of some servers prove a quorum under one leader, and return it.

        Args:
            of: whom to ask; None for all that run.
            other_than: a server that is not it.
            seconds: the deadline.
        """
        asked = of or [server for server in self.servers.values() if server.is_running]

        def agreed() -> str | None:
            documents = [server.ask_show() for server in asked]
            names = {document["leader"] if document else None for document in documents}
            name = names.pop() if len(names) == 1 else None
            return None if other_than is not None and name == other_than.name else name

        name = wait_until(agreed, seconds, f"one leader for {[s.name for s in asked]}")
        assert name is not None
        return self.servers[name]

    def wait_until_all_active(
        self, seen_by: Server, members: Iterable[Server], seconds: float = _LEADER_SECONDS
    ) -> None:
        """Wait until a server shows these members, no others, and all of them active."""
        wanted = {server.name: "active" for server in members}

        def shown() -> bool:
            return states(seen_by) == wanted

        names = ", ".join(wanted)
        wait_until(shown, seconds, f"{seen_by.name} shows as active: {names}")

    def end_all(self) -> None:
        """Kill every daemon and every etcd."""
        end_processes_in(self.root)
        for server in self.servers.values():
            server.end()

    def close(self) -> None:
        """End everything that runs, and give the ports back."""
        try:
            self.end_all()
        finally:
            self.ports.release()

    def logs(self) -> dict[str, str]:
        """Return what each daemon printed, by server."""
        return {name: server.log_text for name, server in self.servers.items()}


def is_calm(server: Server) -> bool:
    """Tell whether a server shows nothing that is wrong or under way."""
    document = server.ask_show()
    return document is not None and not document["errors"] and document["restarting"] is None


def states(seen_by: Server) -> dict[str, str]:
    """Return the state of each member as one server shows it, empty if it does not answer."""
    document = seen_by.ask_show()
    if document is None:
        return {}
    return {member["name"]: member["state"] for member in document["members"]}
