"""A line to a server's own etcd on which an answer gets lost: for writes that are in doubt.

Invariants:
  * Who was connected before stays connected to etcd itself; new connections go through here.
  * An answer is dropped after etcd has given it, so what was asked for is done.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

from collective.model.closing import Closing
from tests.harness.server import Server
from tests.harness.spellings import is_in

_PIECE = 65536


class LostAnswers(Closing):
    """Stands in the place of etcd's socket until it is closed."""

    def __init__(self, server: Server) -> None:
        self._place = Path(server.layout.etcd_socket)
        self._etcd = self._place.with_name("behind")
        self._told = b""
        self._lock = threading.Lock()
        #: How many answers were dropped.
        self.dropped = 0
        self._place.rename(self._etcd)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(self._place))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Give the place back."""
        if self._listener.fileno() < 0:
            return
        self._listener.close()
        self._etcd.rename(self._place)

    def lose(self, told: bytes) -> None:
        """Drop the answer to the next transaction that says something, in whatever form."""
        with self._lock:
            self._told = told

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                etcd = socket.socket(socket.AF_UNIX)
                etcd.connect(os.fspath(self._etcd))
                line = _Line(client, etcd, self)
                for relays in (line.to_etcd, line.to_client):
                    threading.Thread(target=relays, daemon=True).start()

    def is_lost(self, asked: bytes) -> bool:
        """Tell whether the answer to this is to be dropped; each is asked for once."""
        with self._lock:
            if not (self._told and b"/kv/txn" in asked and is_in(self._told, asked)):
                return False
            self._told = b""
            return True


class _Line:
    """One connection through here."""

    def __init__(self, client: socket.socket, etcd: socket.socket, over: LostAnswers) -> None:
        self._client, self._etcd, self._over = client, etcd, over
        self._drops = False

    def to_etcd(self) -> None:
        asked = b""
        with suppress(OSError):
            while piece := self._client.recv(_PIECE):
                asked = (asked + piece)[-4 * _PIECE :]
                if self._over.is_lost(asked):
                    self._drops = True
                self._etcd.sendall(piece)
        self._end()

    def to_client(self) -> None:
        with suppress(OSError):
            while piece := self._etcd.recv(_PIECE):
                if self._drops:
                    self._over.dropped += 1
                    break
                self._client.sendall(piece)
        self._end()

    def _end(self) -> None:
        for each in (self._client, self._etcd):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
