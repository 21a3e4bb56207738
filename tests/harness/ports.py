"""Pairs of free TCP ports, one for the daemon and one for etcd, on many loopback addresses.

Runs at the same time reserve their pairs by binding a name in the abstract socket namespace
(unix(7)): it belongs to the same network namespace as the ports do, leaves no file, and is free
again when its owner ends, however it ends.

Invariants:
  * Ports are outside of the ephemeral range, so that no connection of others takes one meanwhile.
  * No pair is given out twice at the same time.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Iterator, Sequence

from tests.harness.waiting import HarnessError

#: Below Linux's default ip_local_port_range (32768 to 60999), above what is usually taken.
_FIRST, _LAST = 15000, 31998


class PortPair:
    """Two ports that are ours until ``release``.

    Attributes:
        door: for the daemon.
        peer: for etcd.
    """

    def __init__(self, door: int, peer: int, reservation: socket.socket) -> None:
        self.door = door
        self.peer = peer
        self._reservation = reservation

    def release(self) -> None:
        """Let others have them."""
        self._reservation.close()


def claim_ports(addresses: Sequence[str], preferred: tuple[int, int] | None = None) -> PortPair:
    """Reserve a pair of ports that are free on all of these addresses.

    Args:
        addresses: IPv4 addresses of this machine.
        preferred: taken if they are free.

    Raises:
        HarnessError: there is none.
    """
    for door, peer in _candidates(preferred):
        reservation = _reserve(door)
        if reservation is None:
            continue
        if not taken(addresses, (door, peer)):
            return PortPair(door, peer, reservation)
        reservation.close()
    raise HarnessError(f"no pair of ports is free on {', '.join(addresses)}")


def taken(addresses: Iterable[str], ports: Sequence[int]) -> list[str]:
    """Return those of the addresses, each with each of the ports, that somebody listens on."""
    pairs = [(address, port) for address in addresses for port in ports]
    return [f"{address}:{port}" for address, port in pairs if not _is_free(address, port)]


def _candidates(preferred: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
    if preferred is not None:
        yield preferred
    doors = list(range(_FIRST, _LAST, 2))
    random.shuffle(doors)
    for door in doors:
        yield door, door + 1


def _reserve(door: int) -> socket.socket | None:
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reservation.bind(f"\0collective-harness/{door}")
    except OSError:
        reservation.close()
        return None
    return reservation


def _is_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the daemon and etcd do: a connection in TIME_WAIT does not keep a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
