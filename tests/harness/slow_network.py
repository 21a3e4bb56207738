"""Hosts in network namespaces, on a wire on which every packet takes its time.

A thread of this process passes packets on between their interfaces (tun(4)), so no module of the
kernel for delays (netem) is needed. It needs root and ip(8).

Invariants:
  * Packets of one host to another stay in their order, but for a moment after the delay shrank.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import os
import select
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from tests.harness.network import Host, Network, NoNetworkError, Wire, run_ip

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MOST_BYTES = 65536
_IDLE_SECONDS = 0.2
_TO = slice(16, 20)


class SlowNetwork(Network):
    """Hosts mgt1 and so on, on 10.77.0.1 and so on, each a delay away from each other.

    Attributes:
        delay: seconds that a packet takes, one way; may be changed while it runs.
    """

    def __init__(self, count: int, delay: float) -> None:
        super().__init__({f"mgt{n}": (f"10.77.0.{n}/24",) for n in range(1, count + 1)})
        self.delay = delay
        self._ends: dict[bytes, int] = {}
        self._stopped = threading.Event()
        self._carrier = threading.Thread(target=self._carry, name="slow-network", daemon=True)

    def __enter__(self) -> SlowNetwork:
        super().__enter__()
        self._carrier.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._carrier.join()
        for end in self._ends.values():
            os.close(end)
        super().__exit__(kind, error, trace)

    def _plug_in(self, host: Host, number: int) -> None:
        wire = host.wires[number]
        with ThreadPoolExecutor(1, "plug-in") as other_thread:
            end = other_thread.submit(_interface, host, wire).result()
        address = bytes(map(int, host.address.split(".")))
        self._ends[address] = end
        there = ("-n", host.namespace)
        run_ip(*there, "address", "add", wire.address, "dev", wire.device)
        run_ip(*there, "link", "set", wire.device, "up")

    def _carry(self) -> None:
        """Pass each packet on when its time has come."""
        waiting: list[tuple[float, int, int, bytes]] = []
        numbers = itertools.count()
        ends = list(self._ends.values())
        while not self._stopped.is_set():
            left = waiting[0][0] - time.monotonic() if waiting else _IDLE_SECONDS
            for end in select.select(ends, [], [], min(max(left, 0.0), _IDLE_SECONDS))[0]:
                packet = os.read(end, _MOST_BYTES)
                to = self._ends.get(packet[_TO])
                if to is not None:
                    due = time.monotonic() + self.delay
                    heapq.heappush(waiting, (due, next(numbers), to, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, to, packet = heapq.heappop(waiting)
                os.write(to, packet)


def _interface(host: Host, wire: Wire) -> int:
    """Make an interface in a host's namespace, by a thread that is there; return our end."""
    with open(f"/run/netns/{host.namespace}") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
            raise NoNetworkError(f"no thread may enter it: {os.strerror(ctypes.get_errno())}")
    try:
        end = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        raise NoNetworkError(f"no interface can be made: {error}") from error
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", wire.device.encode(), _IFF_TUN | _IFF_NO_PI))
    return end
