"""The invitation token: its text and what it holds.

It does not sign or verify; ``collective.pki`` does that. It does not know whether an invitation
exists; the store does.

The text is base64 (RFC 4648, section 4) of ``name@``, a 32 byte Ed25519 private seed, the 32
bytes of the SHA-256 of the guest list (``guest_list``), and 0 to 2 random bytes, so that the
base64 needs no ``=`` at its end.

Invariants:
  * The seed is in no representation, message or log.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field

from collective.errors import InputError, InvitationError
from collective.model.names import parse_server_name

SEED_BYTES = 32
HASH_BYTES = 32
_LONGEST = 1024
_MOST_PADDING = 2
_HINT = "copy the whole line that 'collective invite' printed"


@dataclass(frozen=True)
class Token:
    """What an invited server holds.

    Attributes:
        name: the server that the invitation is for.
        seed: 32 bytes, the Ed25519 private seed.
        guests: 32 bytes, the hash of the guest list.
    """

    name: str
    seed: bytes = field(repr=False)
    guests: bytes

    def to_text(self) -> str:
        """Return the token as one line of base64 without padding."""
        raw = self.name.encode("ascii") + b"@" + self.seed + self.guests
        return base64.b64encode(raw + os.urandom(-len(raw) % 3)).decode("ascii")

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read a token.

        Args:
            text: the line that ``collective invite`` printed; white space around it is ignored.

        Raises:
            InvitationError: it is garbled, cut short, or not a token at all. The text itself is
                never repeated in the message.
        """
        raw = _decode(text.strip())
        name, at, rest = raw.partition(b"@")
        if not at:
            raise InvitationError("the token is garbled: it names no server", _HINT)
        try:
            server = parse_server_name(name.decode("ascii"))
        except (UnicodeDecodeError, InputError):
            raise InvitationError("the token is garbled: it names no server", _HINT) from None
        if len(rest) < SEED_BYTES + HASH_BYTES:
            raise InvitationError(
                f"the token for {server} is cut short: {len(rest)} bytes of "
                f"{SEED_BYTES + HASH_BYTES} after the name",
                _HINT,
            )
        if len(rest) > SEED_BYTES + HASH_BYTES + _MOST_PADDING:
            raise InvitationError(f"the token for {server} is garbled: it is too long", _HINT)
        return cls(server, rest[:SEED_BYTES], rest[SEED_BYTES : SEED_BYTES + HASH_BYTES])


def _decode(text: str) -> bytes:
    if not text:
        raise InvitationError("the token is empty", _HINT)
    if len(text) > _LONGEST:
        raise InvitationError(f"the token is too long: {len(text)} characters", _HINT)
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvitationError("the token is garbled: it is not base64", _HINT) from None
