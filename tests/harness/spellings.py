"""How bytes may stand in a file: as they are, in hexadecimal, in base64 at any place of a text."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode


def spellings(value: bytes) -> set[bytes]:
    """Return what to look for, to find a value in whatever form it was written.

    Args:
        value: of six bytes at least: what is found of shorter ones says nothing.
    """
    found = {value, value.hex().encode(), value.hex().upper().encode()}
    for before in range(3):
        for encode in (b64encode, urlsafe_b64encode):
            text = encode(b"\0" * before + value)
            # What depends on the bytes before and after it is left out.
            first = -(-before * 8 // 6)
            found.add(text[first : (before + len(value)) * 8 // 6])
    return found


def is_in(value: bytes, where: bytes) -> bool:
    """Tell whether a value stands somewhere, in whatever form."""
    return any(spelling in where for spelling in spellings(value))
