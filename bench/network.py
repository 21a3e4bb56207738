"""Network namespaces for a partition: one a server, and a bridge in one of its own.

The machine's own network is not touched. It needs root and ip(8).

Invariants:
  * Every namespace has our process id in its name. What a bench that was killed left behind, the
    next one removes before it makes its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.place import SkippedError

_PREFIX = "clvbench"
_NAME = re.compile(rf"{_PREFIX}(\d+)-\w+")
_SECONDS = 10.0


@dataclass(frozen=True)
class Host:
    """Where one server lives.

    Attributes:
        name: of the server.
        namespace: its network namespace.
        address: IPv4.
        port: its end of the wire, on the bridge.
    """

    name: str
    namespace: str
    address: str
    port: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before a command that is to run there.

        Not ``ip netns exec``: that gives the process mounts of its own, too.
        """
        return ("nsenter", f"--net=/run/netns/{self.namespace}", "--")


class Network:
    """Hosts on one bridge.

    Attributes:
        hosts: mgt1 and so on.
    """

    def __init__(self, count: int) -> None:
        self._bridge = f"{_PREFIX}{os.getpid()}-bridge"
        self.hosts = tuple(
            Host(f"mgt{n}", f"{_PREFIX}{os.getpid()}-mgt{n}", f"10.77.0.{n}", f"port{n}")
            for n in range(1, count + 1)
        )

    @classmethod
    def of(cls, count: int) -> Network:
        """Return a network that is not made yet.

        Raises:
            SkippedError: it could not be made here.
        """
        missing = [tool for tool in ("ip", "nsenter") if shutil.which(tool) is None]
        if missing:
            raise SkippedError(f"a partition needs {' and '.join(missing)}")
        if os.geteuid() != 0:
            raise SkippedError("a partition needs root, for network namespaces")
        return cls(count)

    def __enter__(self) -> Network:
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

    def cut(self, name: str) -> None:
        """Let nothing reach a server, or come from it."""
        _ip("-n", self._bridge, "link", "set", self._port(name), "down")

    def mend(self, name: str) -> None:
        """Undo ``cut``."""
        _ip("-n", self._bridge, "link", "set", self._port(name), "up")

    def _port(self, name: str) -> str:
        return next(host.port for host in self.hosts if host.name == name)

    def _make(self) -> None:
        try:
            _ip("netns", "add", self._bridge)
        except subprocess.CalledProcessError as error:
            raise SkippedError(f"no network namespace can be made: {error.stderr}") from error
        _ip("-n", self._bridge, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._bridge, "link", "set", "bridge", "up")
        for host in self.hosts:
            self._plug_in(host)

    def _plug_in(self, host: Host) -> None:
        there, here = ("-n", host.namespace), ("-n", self._bridge)
        _ip("netns", "add", host.namespace)
        peer = ("peer", "name", host.port, "netns", self._bridge)
        _ip(*there, "link", "add", "wire", "type", "veth", *peer)
        _ip(*there, "address", "add", f"{host.address}/24", "dev", "wire")
        _ip(*there, "link", "set", "lo", "up")
        _ip(*there, "link", "set", "wire", "up")
        _ip(*here, "link", "set", host.port, "master", "bridge", "up")

    def _remove(self) -> None:
        for namespace in (*(host.namespace for host in self.hosts), self._bridge):
            _remove(namespace)


def sweep() -> None:
    """Remove the namespaces of benches that are gone."""
    folder = Path("/run/netns")
    for namespace in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(namespace.name)
        if match is not None and not Path("/proc", match[1]).exists():
            _remove(namespace.name)


def _remove(namespace: str) -> None:
    with suppress(subprocess.CalledProcessError):  # never made, or removed by another sweep
        _ip("netns", "delete", namespace)


def _ip(*arguments: str) -> None:
    subprocess.run(
        ["ip", *arguments], check=True, capture_output=True, text=True, timeout=_SECONDS
    )
