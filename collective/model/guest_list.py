"""The guest list: the voters' certificates when a token was made, which holds their hash.

It does not know which servers these are now.

Invariants:
  * The hash of a published format never changes, whatever the order of the fingerprints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_PREFIX = b"collective guest list v1\0"


def guest_list_hash(fingerprints: Iterable[str]) -> bytes:
    """Return the hash (32 bytes) of a guest list.

    Args:
        fingerprints: SHA-256 (hex) of each certificate.

    Raises:
        ValueError: one is not hexadecimal.
    """
    octets = sorted({bytes.fromhex(fingerprint) for fingerprint in fingerprints})
    return hashlib.sha256(_PREFIX + b"".join(octets)).digest()


def collective_id(cluster_token: str) -> str:
    """Return what tells a collective from others, and nothing else, to a stranger (hex)."""
    return hashlib.sha256(b"collective id v1\0" + cluster_token.encode()).hexdigest()
