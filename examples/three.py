"""``make example``: three servers of ``examples.node_table``, and kill -9 for each in turn.

    python -m examples.three

It starts a collective of three on this machine, in a temporary folder, and a node server beside
each; then it kills one node server after the other, and starts it again. It fails if a node is
left without a manager for too long, or if two say that they have it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from examples.node_table import GRACE_SECONDS, SESSION_SECONDS
from sandbox.choice import NoEtcdError, about_etcd, choose_etcd
from sandbox.interrupts import INTERRUPTED, interruptible
from tests.harness import Cluster, HarnessError, temporary_folder, wait_until
from tests.harness.server import CHECKOUT, Server

NODES = tuple(f"n{number}" for number in range(1, 13))
_START_SECONDS = 20.0
# A session, the grace time, and a moment for what has to be decided and told, on a busy machine.
_TAKE_OVER_SECONDS = SESSION_SECONDS + GRACE_SECONDS + 10.0


class Part:
    """One node server, and what it said."""

    def __init__(self, server: Server, nodes: tuple[str, ...]) -> None:
        """Start it."""
        self.name = server.name
        self.mine: set[str] = set()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "examples.node_table", *nodes],
            cwd=CHECKOUT,
            env={"COLLECTIVE_ROOT": str(server.root), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        with self._lock:
            self.mine.clear()

    def stop(self) -> int:
        """Tell it to stop, and return its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(_START_SECONDS)
        finally:
            self._process.kill()
            self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(line, end="", flush=True)
            words = line.split()
            with self._lock:
                if words[1:2] == ["manages"]:
                    self.mine |= set(words[2:])
                elif words[1:4] == ["no", "longer", "manages"]:
                    self.mine -= set(words[4:])


class Play:
    """The three of them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._parts: dict[str, Part] = {}

    def run(self) -> None:
        """Play it.

        Raises:
            HarnessError: a node was without a manager for too long, or had two.
        """
        servers = self._cluster.grow(3)
        try:
            for server in servers:
                self._parts[server.name] = Part(server, () if self._parts else NODES)
            self._wait("at the start")
            for server in servers:
                say(f"kill -9 of the node server on {server.name}")
                begun = time.monotonic()
                self._parts.pop(server.name).kill()
                self._wait(f"after {server.name} was killed")
                say(f"all nodes are looked after again after {time.monotonic() - begun:.1f} s")
                self._parts[server.name] = Part(server, ())
            say("stop of all, one after the other")
            for name in sorted(self._parts):
                code = self._parts.pop(name).stop()
                if code != 0:
                    raise HarnessError(f"the node server on {name} ended with {code}")
        finally:
            for part in self._parts.values():
                part.kill()

    def _wait(self, when: str) -> None:
        wait_until(self._is_covered, _TAKE_OVER_SECONDS, f"each node has a manager {when}")

    def _is_covered(self) -> bool:
        """Tell whether each node has one manager.

        Raises:
            HarnessError: one has two.
        """
        said = [node for part in self._parts.values() for node in sorted(part.mine)]
        twice = {node for node in said if said.count(node) > 1}
        if twice:
            raise HarnessError(f"two servers say that they manage {min(twice)}")
        return set(said) == set(NODES)


def say(text: str) -> None:
    """Tell what happens."""
    print(f"--- {text}", flush=True)


def main() -> int:
    """Play it; return the exit status."""
    try:
        etcd = choose_etcd()
        print(about_etcd(etcd), flush=True)
        with interruptible(), temporary_folder() as folder, Cluster(folder, etcd.etcd) as cluster:
            Play(cluster).run()
    except (HarnessError, NoEtcdError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
