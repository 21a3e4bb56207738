"""A BMC that is none: pyghmi's own example, whose console answers, and which says what it takes.

It is run by an interpreter that has pyghmi, which 3.15 needs. admin's password is "password".

    fake_bmc.py
"""

from __future__ import annotations

import importlib
from typing import Any

_SHA256 = 3
_NOT_TAKEN = 4
_ALGORITHM = slice(12, 13)

fakebmc: Any = importlib.import_module("pyghmi.cmd.fakebmc")
serversession: Any = importlib.import_module("pyghmi.ipmi.private.serversession")
_agree = serversession.ServerSession.create_open_session_response


def agree(session: Any, request: Any) -> Any:
    """Refuse what it cannot do; as it is, it agrees to SHA-256, and then speaks SHA-1."""
    if bytes(request)[_ALGORITHM] == bytes([_SHA256]):
        return bytearray([request[0], _NOT_TAKEN, 0, 0]) + bytearray(request[4:8])
    return _agree(session, request)


class FakeBmc(fakebmc.FakeBmc):  # type: ignore[misc]
    """One whose console says again what it is told."""

    def iohandler(self, data: Any) -> None:
        """Answer."""
        if self.sol:
            self.sol.send_data(b"heard " + data)


if __name__ == "__main__":
    serversession.ServerSession.create_open_session_response = agree
    FakeBmc({"admin": "password"}, port=623).listen()
