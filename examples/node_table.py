"""A small management server: it shares a table of nodes, and looks after its part of them.

    COLLECTIVE_ROOT=/path/of/a/server python -m examples.node_table [NODE ...]

Start it beside each ``collectived``. The nodes that are given are added to the table. Each server
"looks after" the nodes that it was given by writing down how often it has looked; it prints what
it gains and loses, and every second the table: who manages which node. Kill one with ``kill -9``,
and the others take its nodes over.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence

import collective
from collective.errors import CollectiveError

# Short, so that there is something to see soon: a session ends 3 s after its process. Outside of
# an example leave the grace time at 10 s: below 5 s "lost" may come after another's "gained".
SESSION_SECONDS = 3
GRACE_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_PRINT_EVERY = 5


class NodeServer:
    """One server's part."""

    def __init__(self, handle: collective.Collective) -> None:
        """Follow the table.

        Args:
            handle: on the collective.
        """
        self._handle = handle
        self._group = handle.assignments("table", grace=GRACE_SECONDS)

    def run(self, stopped: threading.Event) -> None:
        """Look after our nodes until it is time to stop."""
        with self._group.manage(
            self._gained, self._lost, session_seconds=SESSION_SECONDS
        ) as manager:
            rounds = 0
            while not stopped.wait(_LOOK_SECONDS):
                for node in sorted(manager.nodes):
                    self._look(manager, node)
                rounds += 1
                if rounds % _PRINT_EVERY == 0:
                    self._print()

    def add(self, nodes: Sequence[str]) -> None:
        """Add nodes to the table; any server may manage them."""
        self._group.define(nodes)

    def _look(self, manager: collective.Manager, node: str) -> None:
        """Look after a node once. The fence makes sure that it is still ours as we write."""
        try:
            looked = int(self._handle.store.get(f"looked/{node}") or b"0")
            self._handle.store.put(
                f"looked/{node}", str(looked + 1).encode(), when=(manager.fence(node),)
            )
        except CollectiveError as error:
            self._say(f"{node} was not looked at: {error}")

    def _gained(self, nodes: list[str]) -> None:
        self._say(f"manages {' '.join(nodes)}")

    def _lost(self, nodes: list[str]) -> None:
        self._say(f"no longer manages {' '.join(nodes)}")

    def _print(self) -> None:
        for name in self._group.managers():
            self._say(f"| {name}: {' '.join(self._group.nodes_of(name)) or '(none)'}")

    def _say(self, text: str) -> None:
        print(f"{self._handle.name}: {text}", flush=True)


def main(nodes: Sequence[str]) -> int:
    """Run until told to stop; return the exit status."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with collective.connect() as handle:
            server = NodeServer(handle)
            if nodes:
                server.add(nodes)
            server.run(stopped)
    except CollectiveError as error:
        print(f"node_table: error: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
