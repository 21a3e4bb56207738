"""Certificates and signatures: those that servers make for themselves, and what they sign.

The only importer of ``cryptography``. It does no input or output and reads no clock.

Invariants:
  * No type of ``cryptography`` crosses its public functions, and neither does one of its errors.
  * Secrets (keys, seeds) are in no repr and in no message.
"""

from __future__ import annotations

from collective.pki.certificate import (
    MOST_BYTES,
    Certificate,
    judge_certificate,
    make_certificate,
    new_key,
    read_certificate,
)
from collective.pki.revocation_list import make_revocation_list
from collective.pki.statements import (
    EnrollmentStatement,
    ReplacementStatement,
    new_seed,
    public_key_of,
    sign_enrollment,
    sign_replacement,
    verify_enrollment,
    verify_replacement,
)

__all__ = [
    "MOST_BYTES",
    "Certificate",
    "EnrollmentStatement",
    "ReplacementStatement",
    "judge_certificate",
    "make_certificate",
    "make_revocation_list",
    "new_key",
    "new_seed",
    "public_key_of",
    "read_certificate",
    "sign_enrollment",
    "sign_replacement",
    "verify_enrollment",
    "verify_replacement",
]
