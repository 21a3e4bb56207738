"""Which certificate of a server took the place of which, signed with the key of the former one.

A server that was off meanwhile has a former certificate recorded. With this it knows the one that
is shown now for the same server's, and needs nobody else's word.

It says nothing of who is a member: a server that was deleted can prove its succession too.

Invariants:
  * Each step is signed with the key of the certificate that it replaces.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from collective.errors import CollectiveError
from collective.files import read_private, write_atomically
from collective.model.fingerprint import fingerprint_of
from collective.pki import (
    Certificate,
    ReplacementStatement,
    sign_replacement,
    verify_replacement,
)
from collective.protocol.messages import MOST_STEPS, Former, Replaced


@dataclass(frozen=True)
class Succession(Former):
    """The certificates that a server has shown before, oldest first."""

    def followed_by(
        self, former: Certificate, former_key: bytes, following: Certificate
    ) -> Succession:
        """Return the succession with one more step; one that was noted before is not doubled."""
        known = [step for step in self.steps if step.certificate != former.pem]
        statement = ReplacementStatement(
            name=former.name, former=former.fingerprint, following=following.fingerprint
        )
        signature = sign_replacement(former_key, statement).hex()
        return Succession((*known, Replaced(former.pem, signature))[-MOST_STEPS:])

    def proves(self, name: str, recorded: Collection[str], shown: str) -> bool:
        """Tell whether a certificate took the place of one that is recorded, over however many.

        Args:
            name: of the server.
            recorded: fingerprints of its certificates as they are known.
            shown: fingerprint of the one that it shows.
        """
        found = [fingerprint_of(step.certificate) for step in self.steps]
        if not self.steps:
            return False
        reached = False
        next_ones = [*found, shown][1:]
        for step, former, following in zip(self.steps, found, next_ones, strict=True):
            reached = reached or former in recorded
            reached = reached and _is_signed(name, step, former, following)
            if reached and following == shown:
                return True
        return False

    def save(self, path: Path) -> None:
        """Write it down."""
        write_atomically(path, json.dumps(self.to_wire()).encode())

    @classmethod
    def load(cls, path: Path) -> Succession:
        """Read what ``save`` wrote; a broken one proves nothing, and is no error."""
        try:
            return cls.from_wire(json.loads(read_private(path)))
        except (FileNotFoundError, ValueError, CollectiveError):
            return cls()


def _is_signed(name: str, step: Replaced, former: str, following: str) -> bool:
    if not former:
        return False
    statement = ReplacementStatement(name=name, former=former, following=following)
    return verify_replacement(step.certificate, statement, bytes.fromhex(step.signature))
