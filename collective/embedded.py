"""This server's daemon inside another Python server, in place of ``collectived`` beside it.

It sets up no log and catches no signals: the process is the other server's. One thing it does to
all of it: asyncio's TLS takes pieces of 16 KiB, not 256, for connections that come after.

Invariants:
  * It is the daemon that ``collectived`` runs, on the same folders: so either of them may be
    used, one at a time.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

from collective.daemon.app import Daemon
from collective.daemon.lifecycle.state_file import known_name
from collective.daemon.settings import Settings, load_settings
from collective.errors import ClosedError, RefusedError
from collective.handle import CONNECT_SECONDS, Collective, connect
from collective.model.layout import ROOT_VARIABLE, Layout


class Server:
    """The daemon, in threads of this process and an etcd of its own.

    Use it as a context manager, or ``start`` and ``stop`` it. To stop it ends etcd: the other
    members go on without this server.
    """

    def __init__(
        self, root: str | Path | None = None, *, settings: str | Path | None = None
    ) -> None:
        """Read the settings, take the lock and find etcd; nothing runs yet.

        Args:
            root: what COLLECTIVE_ROOT is for ``collectived``; None for what the environment says.
            settings: the settings file; None for the usual one.

        Raises:
            InputError: a setting is not valid, or the file that was named is not there.
            RefusedError: a daemon runs on these folders.
            EtcdError: etcd is missing or not fit.
            AccessError: a folder cannot be used.
        """
        environment = os.environ if root is None else {ROOT_VARIABLE: str(root)}
        layout = Layout.from_environment(environment)
        named = settings is not None
        path = Path(layout.settings_file if settings is None else settings)
        self._root = root

        def load() -> Settings:
            return load_settings(path, named, known_name(Path(layout.state)))

        self._daemon = Daemon(load(), layout, load)
        # A signal may come while it is stopped, and its handler stop it, too.
        self._lock = threading.RLock()
        self._started = self._stopped = False
        self._process = os.getpid()

    def __enter__(self) -> Server:
        self._begin()
        try:
            self._daemon.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, once; returns when commands and members are answered. After an error, stop it.

        Raises:
            RefusedError, ClosedError: it was started already, or was stopped.
            CollectiveError: the state cannot be used, or a door cannot be opened.
        """
        self._begin()
        self._daemon.start()

    def _begin(self) -> None:
        with self._lock:
            if self._stopped:
                raise ClosedError("this server was stopped; make another one")
            if self._started:
                raise RefusedError("this server was started already")
            self._started = True

    def connect(self, *, seconds: float = CONNECT_SECONDS) -> Collective:
        """Return a handle, see ``collective.connect``; close it before the server is stopped.

        Raises:
            ClosedError: the server was stopped.
        """
        if self._stopped:
            raise ClosedError("this server was stopped")
        return connect(self._root, seconds=seconds)

    def stop(self) -> None:
        """Hand leadership over, end etcd, close the doors, release the lock.

        In a child process that was forked it does nothing: the server is its parent's.
        """
        if self._process != os.getpid():
            return
        with self._lock:
            if not self._stopped:
                self._daemon.stop()
                self._stopped = True
