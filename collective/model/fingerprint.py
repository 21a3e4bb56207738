"""The fingerprint of a certificate: SHA-256 of its DER form, by which servers are known.

It does not judge a certificate; ``collective.pki`` does. It is here since records are compared
by it, which must not need ``cryptography``.
"""

from __future__ import annotations

import binascii
import hashlib
from functools import lru_cache

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_MOST_CACHED = 1024
#: What a fingerprint is: 64 lower-case hexadecimal digits.
DIGITS = 64


@lru_cache(_MOST_CACHED)
def fingerprint_of(pem: str) -> str:
    """Return the fingerprint of a certificate, "" for what is none: that is nobody's."""
    text = pem.strip()
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        return ""
    try:
        der = binascii.a2b_base64(text[len(_BEGIN) : -len(_END)])
    except (binascii.Error, ValueError):
        return ""
    return hashlib.sha256(der).hexdigest()


def is_fingerprint(text: object) -> bool:
    """Tell whether something is a fingerprint."""
    return isinstance(text, str) and len(text) == DIGITS and set(text) <= set("0123456789abcdef")
