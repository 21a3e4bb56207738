"""A connection to one etcd, over its socket, that can be asked again and again.

It is not the product's gateway: a bench that used that would measure it on both sides.

Invariants:
  * Every call has a deadline; a connection on which one failed is not used again.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from typing import Any

_KEY = base64.b64encode(b"bench").decode()


class LineError(Exception):
    """No answer in time, or one that is not 200."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("etcd", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Line:
    """A client of one etcd."""

    def __init__(self, path: str, seconds: float) -> None:
        """Prepare; the first call connects.

        Args:
            path: of etcd's socket.
            seconds: deadline of each call.
        """
        self._connection = _Connection(path, seconds)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def leader(self) -> int:
        """Return the id of the member that this etcd takes for the leader, 0 for none.

        Raises:
            LineError: no answer.
        """
        return int(self._call("maintenance/status", {}).get("leader", 0))

    def member(self) -> int:
        """Return the id of the member that this etcd is.

        Raises:
            LineError: no answer.
        """
        return int(self._call("maintenance/status", {})["header"]["member_id"])

    def is_learner(self) -> bool:
        """Tell whether this member does not vote yet.

        Raises:
            LineError: no answer.
        """
        return bool(self._call("maintenance/status", {}).get("isLearner", False))

    def read(self) -> None:
        """Read a key, linearizable.

        Raises:
            LineError: no answer, so no quorum yet.
        """
        self._call("kv/range", {"key": _KEY})

    def write(self) -> None:
        """Write a key.

        Raises:
            LineError: no answer; it may be written or not.
        """
        self._call("kv/put", {"key": _KEY, "value": _KEY})

    def add_learner(self, url: str) -> int:
        """Add a learner with this peer URL, and return its id.

        Raises:
            LineError: no answer; it may be added or not.
        """
        answer = self._call("cluster/member/add", {"peerURLs": [url], "isLearner": True})
        return int(answer["member"]["ID"])

    def promote(self, number: int) -> None:
        """Make a voter of the learner with this id.

        Raises:
            LineError: it has not caught up, or there was no answer.
        """
        self._call("cluster/member/promote", {"ID": str(number)})

    def hand_over(self, number: int) -> None:
        """Have the member with this id lead; only the leader takes this.

        Raises:
            LineError: no answer, or it does not lead.
        """
        self._call("maintenance/transfer-leadership", {"targetID": str(number)})

    def _call(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            self._connection.request("POST", f"/v3/{route}", json.dumps(body).encode())
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise LineError(str(error)) from error
        if response.status != 200:
            raise LineError(f"etcd answered {response.status}")
        answer: dict[str, Any] = json.loads(raw)
        return answer
