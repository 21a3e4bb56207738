"""Sets of addresses to listen on: what they cover, and how two of them go together.

It opens nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

ANY4, ANY6 = "0.0.0.0", "::"


def covers(listen: Iterable[str], address: str) -> bool:
    """Tell whether who listens on these is reached at an address; ``::`` takes IPv4 as well."""
    found = set(listen)
    is_4 = ipaddress.ip_address(address).version == 4
    return address in found or ANY6 in found or (is_4 and ANY4 in found)


def together(*sets: Iterable[str]) -> tuple[str, ...]:
    """Return what covers all sets, without two that the kernel would not bind side by side."""
    found = list(dict.fromkeys(address for one in sets for address in one))
    if ANY6 in found:
        return (ANY6,)
    if ANY4 in found:
        return tuple(a for a in found if a == ANY4 or ":" in a)
    return tuple(found)
