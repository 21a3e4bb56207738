"""What the tests of certificates share: a server's key and its certificate."""

from __future__ import annotations

import pytest

from collective import pki


@pytest.fixture(scope="session")
def key_pem() -> bytes:
    """The private key of a server."""
    return pki.new_key()


@pytest.fixture(scope="session")
def certificate(key_pem: bytes) -> pki.Certificate:
    """The certificate of that server."""
    return pki.make_certificate(key_pem, "mgt2", ["10.0.0.2", "fd00::2"])
