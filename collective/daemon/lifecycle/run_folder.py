"""The folder of the sockets: what of it was removed under the running daemon is made again.

Somebody may clear it: a service that has the same folder, when it stops (systemd issue 5394), or
a hand. It does not look after the sockets of software that serves calls; that does so itself.

Invariants:
  * Whoever is connected stays so.
  * A socket or file that somebody else has put there is left alone.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from collective.daemon.certificates.turn import turn
from collective.daemon.member.worker import Worker
from collective.errors import AccessError, CollectiveError, EtcdUnavailableError
from collective.files import make_private_folder
from collective.model.layout import Layout
from collective.protocol.door import DoorServer

log = logging.getLogger(__name__)

RUN_MODE = 0o755
_PRIVATE_MODE = 0o700
_HOPELESS_SECONDS = 2.0
_TURN_SECONDS = 1.5


class RunFolder:
    """The folder, and the sockets of the doors in it."""

    def __init__(self, doors: DoorServer, layout: Layout) -> None:
        self._doors = doors
        self._folders = (
            (Path(layout.run), RUN_MODE),
            (Path(layout.calls), _PRIVATE_MODE),
            (Path(layout.etcd_run), _PRIVATE_MODE),
        )
        #: Why something cannot be made again.
        self._trouble = ""
        #: Why the folders cannot be, and since when.
        self._lost: tuple[CollectiveError, float] | None = None
        self._hopeless = False

    def look(self, now: float) -> None:
        """Make again what was removed.

        Args:
            now: monotonic seconds.
        """
        gone = self._doors.vanished()
        try:
            self._make_folders(now)
            for path in gone:
                self._doors.listen_again(path)
            if gone:
                log.warning("removed sockets were made again paths=%s", ",".join(map(str, gone)))
            self._trouble = ""
        except CollectiveError as error:
            if self._trouble != error.message:
                log.error("a socket was removed and cannot be made again: %s", error)
            self._trouble = error.message

    def _make_folders(self, now: float) -> None:
        try:
            for folder, mode in self._folders:
                if not os.path.lexists(folder):
                    make_private_folder(folder, mode)
            self._lost, self._hopeless = None, False
        except CollectiveError as error:
            _, since = self._lost = self._lost or (error, now)
            self._hopeless = now - since >= _HOPELESS_SECONDS
            raise

    def check(self) -> None:
        """Refuse to go on where nobody can reach this server any more.

        Under systemd the folder is the service manager's to make, which it does at the next start.

        Raises:
            AccessError: a folder was removed, and could not be made again for seconds.
        """
        lost = self._lost
        if self._hopeless and lost is not None:
            raise AccessError(
                f"the folder of its sockets was removed under collectived: {lost[0].message}",
                "start it again: systemctl restart collectived; see who has removed it",
            )


class EtcdSocketKeeper(Worker):
    """A thread that has etcd make its socket again: it does so only when it starts."""

    name = "etcd-socket"
    idle_seconds = eager_seconds = 0.5
    level = logging.WARNING

    def _round(self) -> bool:
        etcd = self._runtime.etcd
        if not etcd.has_lost_socket():
            return False
        log.warning("etcd is restarted: its socket was removed")
        try:
            # Connections that are open still lead to it: with luck, enough of them.
            with turn(self._runtime, "a removed socket", _TURN_SECONDS, spare=False):
                etcd.restart()
        except EtcdUnavailableError:
            # Nobody here can ask for a turn; the others are spared a server that none can use.
            if etcd.has_lost_socket():
                etcd.restart()
        return True
