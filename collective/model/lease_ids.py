"""Whose a lease is: its id says so, since whoever grants it chooses the id.

It asks nobody, and keeps nothing: any voter can tell whose a lease is, whichever voter granted it.

Invariants:
  * An id is a positive number of 63 bits: the upper 31 name the owner, the lower 32 are random.
  * None is 0, which stands for no lease.
"""

from __future__ import annotations

import secrets
from hashlib import sha256

#: The owner of leases that no server holds: those that the collective's own records hang on.
COLLECTIVE = ""

_RANDOM_BITS = 32
_NAME_BITS = 31


def new_lease_id(name: str) -> int:
    """Return an id for a lease that a server grants itself; etcd refuses one that is taken.

    Args:
        name: of the server, or ``COLLECTIVE``.
    """
    return _tag(name) << _RANDOM_BITS | (secrets.randbelow((1 << _RANDOM_BITS) - 1) + 1)


def is_of(name: str, lease_id: int) -> bool:
    """Tell whether a lease is that of a server; an id that etcd chose is nobody's."""
    return 0 < lease_id < 1 << (_NAME_BITS + _RANDOM_BITS) and (
        lease_id >> _RANDOM_BITS == _tag(name)
    )


def _tag(name: str) -> int:
    digest = sha256(b"lease " + name.encode()).digest()
    return int.from_bytes(digest[:4], "big") >> (32 - _NAME_BITS)
