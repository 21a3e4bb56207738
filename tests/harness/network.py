"""Network namespaces: one a server, and a bridge a network, all of them in one of their own.

The machine's own network is not touched. It needs root, ip(8) and tc(8).

Invariants:
  * Every namespace has our process id in its name, and that of our PID namespace: another one
    cannot tell whether we live. What a process that was killed left behind, the next network
    removes before it is made.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_PREFIX = f"clvnet{Path('/proc/self/ns/pid').stat().st_ino}x"
_NAME = re.compile(rf"{_PREFIX}(\d+)-\w+-\w+")
_SECONDS = 10.0
_numbers = itertools.count(1)


class NoNetworkError(Exception):
    """No network can be made here; the text says why, as a part of a sentence."""


@dataclass(frozen=True)
class Wire:
    """One interface of a host.

    Attributes:
        device: its name there.
        port: its other end, on a bridge.
        bridge: that bridge.
        address: what it has at first, with the length of the prefix.
    """

    device: str
    port: str
    bridge: str
    address: str


@dataclass(frozen=True)
class Host:
    """Where one server lives.

    Attributes:
        name: of the server.
        namespace: its network namespace.
        wires: one a network that it is in.
    """

    name: str
    namespace: str
    wires: tuple[Wire, ...]

    @property
    def address(self) -> str:
        """Its first address."""
        return self.wires[0].address.partition("/")[0]

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before a command that is to run there.

        Not ``ip netns exec``: that gives the process mounts of its own, too.
        """
        return ("nsenter", f"--net=/run/netns/{self.namespace}", "--")


class Network:
    """Hosts, and a bridge for each network that they are in.

    Attributes:
        hosts: by name.
    """

    def __init__(self, hosts: Mapping[str, Sequence[str]]) -> None:
        """Plan it; nothing is made.

        Args:
            hosts: for each, its addresses with the length of the prefix, such as 10.77.0.1/24.
                Hosts with addresses of one network are on one wire.
        """
        own = f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
        self._switch = f"{own}-switch"
        networks: dict[str, str] = {}
        self.hosts: dict[str, Host] = {}
        for number, (name, addresses) in enumerate(hosts.items(), 1):
            wires = []
            for place, address in enumerate(addresses):
                network = str(ipaddress.ip_interface(address).network)
                bridge = networks.setdefault(network, f"bridge{len(networks)}")
                wires.append(Wire(f"wire{place}", f"port{number}-{place}", bridge, address))
            self.hosts[name] = Host(name, f"{own}-{name}", tuple(wires))
        self._bridges = tuple(networks.values())

    @classmethod
    def of(cls, count: int) -> Network:
        """Return a network of mgt1 to so many, on 10.77.0.1 and so on; it is not made yet."""
        return cls({f"mgt{n}": (f"10.77.0.{n}/24",) for n in range(1, count + 1)})

    def __enter__(self) -> Network:
        """Make it.

        Raises:
            NoNetworkError: that needs root, ip(8), tc(8) or the right to make namespaces.
        """
        _require()
        sweep()
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def cut(self, name: str) -> None:
        """Let nothing reach a server, or come from it."""
        for wire in self.hosts[name].wires:
            run_ip("-n", self._switch, "link", "set", wire.port, "down")

    def mend(self, name: str) -> None:
        """Undo ``cut``."""
        for wire in self.hosts[name].wires:
            run_ip("-n", self._switch, "link", "set", wire.port, "up")

    def deafen(self, name: str) -> None:
        """Let nothing reach a server, without a word to anybody: its wires stay up."""
        for wire in self.hosts[name].wires:
            _tc(self._switch, "add", wire.port)

    def mute(self, name: str) -> None:
        """Let nothing come from a server, without a word to anybody, itself included."""
        for wire in self.hosts[name].wires:
            _tc(self.hosts[name].namespace, "add", wire.device)

    def restore(self, name: str) -> None:
        """Undo ``deafen`` and ``mute``."""
        for wire in self.hosts[name].wires:
            with suppress(subprocess.CalledProcessError):
                _tc(self._switch, "delete", wire.port)
            with suppress(subprocess.CalledProcessError):
                _tc(self.hosts[name].namespace, "delete", wire.device)

    def pin(self) -> None:
        """Have no host forget where the others on its first wire are.

        As if routers were between them: a host that finds its neighbour gone says so to its TCP,
        which then tries again at once, and not after longer and longer pauses (RFC 6069).
        """
        found = {}
        for host in self.hosts.values():
            told = _run("ip", "-j", "-n", host.namespace, "link", "show", host.wires[0].device)
            found[host.name] = json.loads(told)[0]["address"]
        for host in self.hosts.values():
            for other, hardware in found.items():
                if other != host.name:
                    to = (self.hosts[other].address, "lladdr", hardware, "nud", "permanent")
                    device = ("dev", host.wires[0].device)
                    run_ip("-n", host.namespace, "neighbour", "replace", *to, *device)

    def add(self, name: str, address: str, wire: int = 0) -> None:
        """Give a host one more address, with the length of its prefix."""
        host = self.hosts[name]
        # Without the search for a duplicate (DAD) an IPv6 address is good at once.
        nodad = ("nodad",) if ":" in address else ()
        device = host.wires[wire].device
        run_ip("-n", host.namespace, "address", "add", address, "dev", device, *nodad)

    def drop(self, name: str, address: str, wire: int = 0) -> None:
        """Take an address from a host."""
        host = self.hosts[name]
        run_ip("-n", host.namespace, "address", "delete", address, "dev", host.wires[wire].device)

    def route(self, name: str, to: str, via: str) -> None:
        """Have a host send what is for a network by way of another host."""
        run_ip("-n", self.hosts[name].namespace, "route", "add", to, "via", via)

    def route_nowhere(self, name: str, address: str) -> None:
        """Have a host drop what is for an address."""
        namespace = self.hosts[name].namespace
        run_ip("-n", namespace, "route", "add", "blackhole", address)

    def forward(self, name: str) -> None:
        """Make a host pass on what is not for itself."""
        script = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        _run(*self.hosts[name].prefix, "sh", "-c", script)

    def _make(self) -> None:
        try:
            run_ip("netns", "add", self._switch)
        except subprocess.CalledProcessError as error:
            raise NoNetworkError(f"no network namespace can be made: {error.stderr}") from error
        for bridge in self._bridges:
            run_ip("-n", self._switch, "link", "add", bridge, "type", "bridge")
            run_ip("-n", self._switch, "link", "set", bridge, "up")
        for host in self.hosts.values():
            run_ip("netns", "add", host.namespace)
            run_ip("-n", host.namespace, "link", "set", "lo", "up")
            for number in range(len(host.wires)):
                self._plug_in(host, number)

    def _plug_in(self, host: Host, number: int) -> None:
        wire = host.wires[number]
        there, here = ("-n", host.namespace), ("-n", self._switch)
        peer = ("peer", "name", wire.port, "netns", self._switch)
        run_ip(*there, "link", "add", wire.device, "type", "veth", *peer)
        run_ip(*there, "link", "set", wire.device, "up")
        self.add(host.name, wire.address, number)
        run_ip(*here, "link", "set", wire.port, "master", wire.bridge, "up")

    def _remove(self) -> None:
        for namespace in (*(host.namespace for host in self.hosts.values()), self._switch):
            _remove(namespace)


def _require() -> None:
    missing = [tool for tool in ("ip", "nsenter", "tc") if shutil.which(tool) is None]
    if missing:
        raise NoNetworkError(f"network namespaces need {' and '.join(missing)}")
    if os.geteuid() != 0:
        raise NoNetworkError("network namespaces need root")


def sweep() -> None:
    """Remove the namespaces of processes that are gone."""
    folder = Path("/run/netns")
    for namespace in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(namespace.name)
        if match is not None and not Path("/proc", match[1]).exists():
            _remove(namespace.name)


def _remove(namespace: str) -> None:
    with suppress(subprocess.CalledProcessError):  # never made, or removed by another sweep
        run_ip("netns", "delete", namespace)


def run_ip(*arguments: str) -> None:
    """Run ip(8)."""
    _run("ip", *arguments)


def _tc(namespace: str, act: str, device: str) -> None:
    """Have what is sent at a device vanish (``blackhole`` of tc(8)), or no more."""
    where = ("nsenter", f"--net=/run/netns/{namespace}", "--")
    _run(*where, "tc", "qdisc", act, "dev", device, "root", *(("blackhole",) * (act == "add")))


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
    return done.stdout
