"""Certificates and signatures of a collective: its CA, its servers' leaves, its invitations.

The only importer of ``cryptography``. It does no input or output and reads no clock: octets and
``now`` come in, octets and values go out.

Invariants:
  * No type of ``cryptography`` crosses its public functions, and neither does one of its errors.
  * Secrets (keys, seeds) are in no repr and in no message.
"""

from __future__ import annotations

from collective.pki.authority import (
    AUTHORITY_LIFETIME,
    BACKDATED,
    LEAF_LIFETIME,
    Authority,
)
from collective.pki.bundle import issuer_of, read_bundle, with_key, write_bundle
from collective.pki.invitation import (
    DialBackStatement,
    EnrollmentStatement,
    new_seed,
    public_key_of,
    sign_dial_back,
    sign_enrollment,
    verify_dial_back,
    verify_enrollment,
)
from collective.pki.leaf import (
    LeafInfo,
    authority_in_chain,
    issued_by,
    key_id_of_private,
    make_request,
    new_key,
    read_leaf,
    request_key_id,
)
from collective.pki.lists import revoked_by

__all__ = [
    "AUTHORITY_LIFETIME",
    "BACKDATED",
    "LEAF_LIFETIME",
    "Authority",
    "DialBackStatement",
    "EnrollmentStatement",
    "LeafInfo",
    "authority_in_chain",
    "issued_by",
    "issuer_of",
    "key_id_of_private",
    "make_request",
    "new_key",
    "new_seed",
    "public_key_of",
    "read_bundle",
    "read_leaf",
    "request_key_id",
    "revoked_by",
    "sign_dial_back",
    "sign_enrollment",
    "verify_dial_back",
    "verify_enrollment",
    "with_key",
    "write_bundle",
]
