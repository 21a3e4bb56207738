"""A stream of writes at every host, and the longest time in which none of them was answered."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from tests.deploy.hosts import CONTROLLER, Hosts

_SOCKET = "/run/confluent-collective/etcd/etcd:1"
_SCRIPT = Path(__file__).with_name("writer.py")
_LONGEST_SECONDS = 900
_STOP_SECONDS = 10.0


class Writers:
    """Clients on some hosts, each of which writes at the etcd of its own server.

    Attributes:
        marks: when a write was answered, on any of them, in order; seconds of the clock that all
            hosts on one machine have in common.
        keys: all that were acknowledged.
        own_gaps: for each host, the longest time in which its own server answered no write.
    """

    def __init__(self, hosts: Hosts, names: Sequence[str]) -> None:
        """Prepare."""
        self._hosts = hosts
        self._names = names
        self._children: list[subprocess.Popen[bytes]] = []
        self.marks: list[float] = []
        self.keys: set[str] = set()
        self.own_gaps: dict[str, float] = {}

    def __enter__(self) -> Writers:
        """Begin to write."""
        for name in self._names:
            command = f"exec python3 - {_SOCKET} {name} {_LONGEST_SECONDS}"
            ssh = ["ssh", *self._hosts.ssh_options(), f"root@{self._hosts.address(name)}", command]
            prefix = self._hosts.network[CONTROLLER].prefix
            # A file: nobody reads meanwhile, and a pipe that is full would hold the writer up.
            with _SCRIPT.open() as script, self._told(name).open("wb") as out:
                child = subprocess.Popen([*prefix, *ssh], stdin=script, stdout=out)
            self._children.append(child)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._children:
            child.terminate()  # the writer's next line ends it
            child.wait(_STOP_SECONDS)
        for name in self._names:
            # The last line may be cut off.
            told = [line.partition(" ") for line in self._told(name).read_text().split("\n")[:-1]]
            own = [float(moment) for moment, _, _ in told]
            self.own_gaps[name] = _longest(own)
            self.marks += own
            self.keys |= {key for _, _, key in told}
        self.marks.sort()

    @property
    def longest_gap(self) -> float:
        """The longest time in which no write was answered anywhere, in seconds."""
        return _longest(self.marks)

    def lost(self, name: str) -> set[str]:
        """Return the acknowledged keys that a member does not have."""
        first, last = (base64.b64encode(t).decode() for t in (b"written/", b"written0"))
        body = json.dumps({"key": first, "range_end": last, "keys_only": True})
        fetch = f"curl -s --unix-socket {_SOCKET} http://etcd/v3/kv/range -d '{body}'"
        document = json.loads(self._hosts.ssh(name, fetch).stdout)
        return self.keys - {base64.b64decode(kv["key"]).decode() for kv in document["kvs"]}

    def _told(self, name: str) -> Path:
        return self._hosts.folder / f"written-{name}"


def _longest(marks: Sequence[float]) -> float:
    return max((b - a for a, b in pairwise(marks)), default=float("inf"))
