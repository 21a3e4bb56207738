"""Where the network door listens, and how that changes when the address of the server does.

It does not know what is asked there.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence

from collective.model.listen import covers
from collective.protocol.door import Door, DoorServer


class NetworkListener:
    """The listening sockets of the network door."""

    def __init__(
        self, doors: DoorServer, port: int, context: Callable[[], ssl.SSLContext]
    ) -> None:
        self._doors = doors
        self._port = port
        self._context = context
        self._door: Door | None = None
        self._hosts: tuple[str, ...] = ()

    def open(self, door: Door, addresses: Sequence[str]) -> None:
        """Open the door.

        Raises:
            InputError: an address is taken or not here.
            AccessError: the port is not ours to use.
        """
        self._door = door
        for address in addresses:
            self._listen(door, address)

    def listen_at(self, address: str) -> None:
        """Listen on one more address, unless that is covered.

        Raises:
            InputError, AccessError: as ``open``.
        """
        if self._door is not None and not covers(self._hosts, address):
            self._listen(self._door, address)

    def only(self, addresses: Sequence[str]) -> None:
        """Listen on none but these from now on; connections that are open stay open."""
        for host in self._hosts:
            if host not in addresses:
                self._doors.stop_listening_at(host, self._port)
        self._hosts = tuple(host for host in self._hosts if host in addresses)

    def _listen(self, door: Door, address: str) -> None:
        self._doors.listen_tls(door, address, self._port, self._context)
        self._hosts = (*self._hosts, address)
