"""The request that turns a connection through a door into a tunnel, and what is answered to it.

Pure: bytes in, bytes out (RFC 9110, section 7.8). It imports no parser of HTTP, since software
beside the daemon has none: what is answered is a head, and a body for a refusal.
"""

from __future__ import annotations

import json
import re

from collective.errors import CollectiveError, ProtocolError, UnreachableError, from_wire

#: What is asked for.
NAME = "collective-call"
_MOST_HEAD, _MOST_REFUSAL = 16384, 65536
_AGREED = 101
_REQUEST = (
    "POST {} HTTP/1.1\r\nHost: collective\r\nConnection: Upgrade\r\nUpgrade: " + NAME + "\r\n\r\n"
)
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\Z")
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,9})[ \t]*\r?$")


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
        self._where = where
        self._heard = bytearray()
        self.request = _REQUEST.format(target).encode("ascii")

    def hear(self, data: bytes) -> bool:
        """Take what was answered, and return whether it was agreed; nothing is said after that.

        Args:
            data: bytes as they come, none where the connection has ended.

        Raises:
            CollectiveError: it was refused, with what the other side says.
            UnreachableError: it broke off.
            ProtocolError: that is no such answer.
        """
        self._heard += data
        head, gap, body = bytes(self._heard).partition(b"\r\n\r\n")
        if not gap:
            return self._wait_for_more(data, head)
        lines = head.split(b"\r\n", 1)
        status = _STATUS.match(lines[0])
        if status is None:
            raise self._strange()
        if int(status[1]) == _AGREED:
            return True
        return self._hear_refusal(data, b"".join(lines[1:]), body)

    def _hear_refusal(self, data: bytes, fields: bytes, body: bytes) -> bool:
        """Raise what a whole refusal says; one that goes on may have more than is looked at."""
        length = _LENGTH.search(fields)
        wanted = _MOST_REFUSAL if length is None else min(int(length[1]), _MOST_REFUSAL)
        if len(body) >= wanted or (not data and length is None):
            raise self._refused(body[:wanted])
        if not data:
            raise self._broken()
        return False

    def _wait_for_more(self, data: bytes, head: bytes) -> bool:
        if not data:
            raise self._broken()
        if len(head) > _MOST_HEAD or not b"HTTP/1."[: len(head)] == head[:7]:
            raise self._strange()
        return False

    def _refused(self, body: bytes) -> CollectiveError:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or "error" not in value:
            return self._broken()
        return from_wire(value["error"])

    def _strange(self) -> ProtocolError:
        return ProtocolError(f"{self._where} does not answer as it should")

    def _broken(self) -> UnreachableError:
        return UnreachableError(f"{self._where} broke off before the call began")
