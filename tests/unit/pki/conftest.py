"""What the tests of certificates share: authorities, a server's key and request, and a clock."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from collective import pki


@pytest.fixture(scope="session")
def now() -> datetime:
    """A fixed moment with a fraction of a second, which certificates cannot hold."""
    return datetime(2026, 3, 1, 12, 0, 0, 654321, tzinfo=timezone.utc)


@pytest.fixture(scope="session")
def authority(now: datetime) -> pki.Authority:
    """The CA of a collective, with its key."""
    return pki.Authority.create("collective", now)


@pytest.fixture(scope="session")
def other_authority(now: datetime) -> pki.Authority:
    """The CA of another collective, which has the same name."""
    return pki.Authority.create("collective", now)


@pytest.fixture(scope="session")
def key_pem() -> bytes:
    """The private key of a server."""
    return pki.new_key()


@pytest.fixture(scope="session")
def csr_pem(key_pem: bytes) -> bytes:
    """The request of that server."""
    return pki.make_request(key_pem, "mgt2")


@pytest.fixture(scope="session")
def leaf_pem(authority: pki.Authority, csr_pem: bytes, now: datetime) -> bytes:
    """The certificate of that server."""
    return authority.issue(csr_pem, "mgt2", ["10.0.0.2", "fd00::2"], now)
