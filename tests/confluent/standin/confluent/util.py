"""In the place of Confluent's helpers."""

from __future__ import annotations

import hashlib


def get_certificate_from_file(path: str) -> bytes:
    """Return a certificate."""
    return path.encode()


def get_fingerprint(certificate: bytes) -> str:
    """Return a fingerprint in Confluent's form."""
    return "sha512$" + hashlib.sha512(certificate).hexdigest()
