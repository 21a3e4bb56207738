"""The joiner's answer to a dial-back: proof that it is at this address, with the key of its CSR.

``dialback`` is the other side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from collective.errors import ProtocolError
from collective.pki import DialBackStatement, sign_dial_back
from collective.protocol import messages


@dataclass
class Dialled:
    """What the dial-back is answered with, while a join is under way.

    Attributes:
        key: private key of the CSR, PEM.
        address: the one that we asked to be reached at.
        sponsor: fingerprint of the sponsor's certificate, as we saw it.
    """

    key: bytes = field(repr=False)
    name: str
    address: str
    door_port: int
    sponsor: str

    def answer(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Prove the key of our CSR to whoever dials back.

        Raises:
            ProtocolError: the message is broken, or it dialled what we never advertised.
        """
        messages.check_format(raw)
        address = messages.text(raw, "address")
        if address != self.address:
            raise ProtocolError(f"{self.name} does not ask to be known at {address[:60]}")
        statement = DialBackStatement(
            nonce=messages.text(raw, "nonce", 128),
            name=self.name,
            server_fingerprint=self.sponsor,
            address=address,
            door_port=self.door_port,
        )
        signature = sign_dial_back(self.key, statement)
        return {"format": messages.FORMAT, "signature": signature.hex()}
