"""One ``delete`` of a voter of three, with the code of the checkout that this runs in.

``bench.deletion`` runs it, in this checkout and in one of a former release, with the Python of
each. So it imports the harness that is there, needs no more of it than both have, and nothing of
the bench. It prints JSON, see ``Deleted`` there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from collective.client import ask
from collective.errors import CollectiveError
from tests.harness import Cluster, HarnessError, Server, temporary_folder

_ASK_SECONDS = 10.0
_PAUSE_SECONDS = 0.005
_SETTLE_SECONDS = 1.0
_AFTER_SECONDS = 1.0
_COMMAND_SECONDS = 120.0


class _Asker(threading.Thread):
    """Asks a daemon over and over for what ``show --json`` prints.

    Attributes:
        asked: how often it was answered.
        without: how often without a proven quorum.
        silent: how often it was not answered, or with an error.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(name="asker", daemon=True)
        self._socket = server.layout.control_socket
        self._stopped = threading.Event()
        self.asked = self.without = self.silent = 0

    def run(self) -> None:
        """Ask until stopped."""
        while not self._stopped.wait(_PAUSE_SECONDS):
            try:
                shown = ask(self._socket, "GET", "/v1/show", None, _ASK_SECONDS)
            except CollectiveError:
                self.silent += 1
                continue
            self.asked += 1
            self.without += not shown["quorum"]

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        self.join()


def main(etcd: str, victim: str, *options: str) -> None:
    """Make a collective of three and delete one.

    Args:
        etcd: the path of the program.
        victim: ``leader`` or ``follower``, which it is that is deleted.
        options: of ``delete``, besides ``--force``.
    """
    with temporary_folder() as folder, Cluster(folder, Path(etcd)) as cluster:
        servers = cluster.grow(3)
        leader = cluster.wait_for_leader(servers)
        followers = [server for server in servers if server is not leader]
        deleted, runner = (leader, followers[0]) if victim == "leader" else followers
        threading.Event().wait(_SETTLE_SECONDS)
        askers = [_Asker(server) for server in servers if server is not deleted]
        for asker in askers:
            asker.start()
        try:
            seconds = _delete(runner, deleted.name, options)
            threading.Event().wait(_AFTER_SECONDS)
        finally:
            for asker in askers:
                asker.stop()
    figures = {name: sum(vars(a)[name] for a in askers) for name in ("asked", "without", "silent")}
    print(json.dumps({"seconds": seconds, **figures}))


def _delete(runner: Server, name: str, options: tuple[str, ...]) -> float:
    """Run the installed script, as an administrator does; return how long the process took."""
    command = [str(Path(sys.executable).with_name("collective")), "delete", "--force", name]
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    begun = time.monotonic()
    done = subprocess.run(
        [*command, *options],
        env={**kept, "COLLECTIVE_ROOT": str(runner.root), "PYTHONPATH": os.getcwd()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )
    seconds = time.monotonic() - begun
    if done.returncode != 0:
        raise HarnessError(f"delete ended with {done.returncode}: {done.stderr}")
    return seconds


if __name__ == "__main__":
    main(*sys.argv[2:])
