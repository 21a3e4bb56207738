"""Writers to the store of running servers, who remember what was acknowledged.

They use etcd's gateway and none of our records, so what they find lost was lost by etcd or by
how we run it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from collective.errors import EtcdError
from collective.etcd.deadline import within
from collective.etcd.gateway import Gateway
from collective.etcd.requests import PutRequest
from tests.harness import Server, wait_until

_PREFIX = "test/power-cut/"
_WRITE_SECONDS = 2.0
_READ_SECONDS = 5.0


class Ledger:
    """Keys that were acknowledged, over all writers."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self._lock = threading.Lock()
        self._count = 0

    def write(self, gateway: Gateway) -> None:
        """Write one key; only an answer counts."""
        with self._lock:
            self._count += 1
            key = f"{_PREFIX}{self._count:08d}"
        with within(_WRITE_SECONDS):
            written, _ = gateway.transact({key: 0}, [PutRequest(key, key)])
        if written:
            with self._lock:
                self.acknowledged.add(key)

    def missing(self, server: Server) -> set[str]:
        """Return what was acknowledged and a server, read linearizably, does not have."""
        gateway = Gateway(Path(server.layout.etcd_socket))
        try:
            with within(_READ_SECONDS):
                _, found = gateway.range(_PREFIX)
        finally:
            gateway.close()
        return self.acknowledged - {kv.key for kv in found if kv.value.decode() == kv.key}


@contextmanager
def writers(ledger: Ledger, servers: Iterable[Server], at_least: int = 20) -> Iterator[None]:
    """Write on each server until the block ends, which begins when enough was acknowledged.

    Args:
        ledger: remembers it.
        servers: each gets a writer.
        at_least: how many keys.
    """
    stopped = threading.Event()

    def write(server: Server) -> None:
        gateway = Gateway(Path(server.layout.etcd_socket))
        while not stopped.is_set():
            try:
                ledger.write(gateway)
            except EtcdError:
                stopped.wait(0.01)
        gateway.close()

    enough = len(ledger.acknowledged) + at_least
    threads = [threading.Thread(target=write, args=(s,), daemon=True) for s in servers]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(ledger.acknowledged) >= enough, 20.0, "acknowledged writes")
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join(2 * _WRITE_SECONDS)
