"""The request that turns a connection through a door into a tunnel, and what is answered to it.

Pure: bytes in, bytes out (RFC 9110, section 7.8). Rules of HTTP are h11's.
"""

from __future__ import annotations

import json

import h11

from collective.errors import CollectiveError, ProtocolError, UnreachableError, from_wire

#: What is asked for.
NAME = "collective-call"
_MOST_REFUSAL = 65536

#: What a door answers where it agrees.
AGREED = h11.InformationalResponse(
    status_code=101, headers=[("Connection", "Upgrade"), ("Upgrade", NAME)]
)


class Upgrade:
    """One request, and its answer.

    Attributes:
        request: what is sent.
    """

    def __init__(self, target: str, where: str) -> None:
        """Prepare.

        Args:
            target: path and query.
            where: who is asked, for errors.
        """
        self._http = h11.Connection(h11.CLIENT)
        self._where = where
        self._refusal = bytearray()
        headers = [("Host", "collective"), ("Connection", "Upgrade"), ("Upgrade", NAME)]
        head = h11.Request(method="POST", target=target, headers=headers)
        parts = (self._http.send(head), self._http.send(h11.EndOfMessage()))
        self.request = b"".join(part or b"" for part in parts)

    def hear(self, data: bytes) -> bool:
        """Take what was answered, and return whether it was agreed; nothing is said after that.

        Args:
            data: bytes as they come, none where the connection has ended.

        Raises:
            CollectiveError: it was refused, with what the other side says.
            UnreachableError: it broke off.
            ProtocolError: that is no such answer.
        """
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                    return True
                if isinstance(event, h11.Data) and len(self._refusal) < _MOST_REFUSAL:
                    self._refusal += event.data
                elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    raise self._refused()
        except h11.RemoteProtocolError as error:
            if not data:
                raise self._broken() from error
            raise ProtocolError(f"{self._where} does not answer as it should") from error
        return False

    def _refused(self) -> CollectiveError:
        try:
            value = json.loads(self._refusal)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or "error" not in value:
            return self._broken()
        return from_wire(value["error"])

    def _broken(self) -> CollectiveError:
        return UnreachableError(f"{self._where} broke off before the call began")
