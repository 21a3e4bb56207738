"""The other side of the rows about the store: etcd3gw and bare transactions, on the same socket.

It knows nothing of our store but where its keys lie, so that both sides write alike.
"""

from __future__ import annotations

import base64
from typing import Any

from etcd3gw.client import Etcd3Client

from bench.requests_session import UnixSession
from collective.model.keyspace import STORE
from tests.harness import Server

BATCH = 128


class Bare:
    """A client as anybody would make it, but for the socket."""

    def __init__(self, server: Server) -> None:
        session = UnixSession(server.layout.etcd_socket)
        self.client = Etcd3Client("etcd", 1, session=session, api_path="/v3/")

    def close(self) -> None:
        """Close its connections."""
        self.client.session.close()

    def put(self, key: str, value: bytes) -> None:
        """Write one key."""
        self.client.put(STORE + key, value.decode())

    def get(self, key: str) -> bytes:
        """Read one key, linearizably, as etcd3gw does."""
        found: list[Any] = self.client.get(STORE + key)
        return bytes(found[0])

    def put_many(self, items: list[tuple[str, bytes]]) -> None:
        """Write keys in transactions of 128."""
        for begin in range(0, len(items), BATCH):
            puts = [
                {"request_put": {"key": _encoded((STORE + k).encode()), "value": _encoded(v)}}
                for k, v in items[begin : begin + BATCH]
            ]
            self.client.transaction({"compare": [], "success": puts, "failure": []})


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
