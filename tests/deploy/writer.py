"""Writes at the etcd of the server that it runs on, without a pause, and tells of each answer.

It is sent to a host and run there by its own Python: ``python3 - SOCKET NAME SECONDS``. Each line
that it prints is a moment (of the clock that all hosts on one machine have in common) and a key
that was acknowledged.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import sys
import time

_DEADLINE_SECONDS = 0.2
_PAUSE_SECONDS = 0.01


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("etcd", timeout=_DEADLINE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_DEADLINE_SECONDS)
        self.sock.connect(self._path)


def main(path: str, name: str, seconds: float) -> None:
    """Write for so many seconds."""
    end = time.monotonic() + seconds
    number = 0
    connection = _Connection(path)
    while time.monotonic() < end:
        number += 1
        key = f"written/{name}/{number}"
        try:
            _put(connection, key)
        except (OSError, http.client.HTTPException):
            connection.close()
            time.sleep(_PAUSE_SECONDS)
            continue
        print(time.monotonic(), key, flush=True)
        time.sleep(_PAUSE_SECONDS)


def _put(connection: _Connection, key: str) -> None:
    body = {"key": base64.b64encode(key.encode()).decode(), "value": "eA=="}
    connection.request("POST", "/v3/kv/put", json.dumps(body))
    answer = connection.getresponse()
    answer.read()
    if answer.status != http.client.OK:
        raise http.client.HTTPException(str(answer.status))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
