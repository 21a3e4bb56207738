"""No clock has a part in trust: a server's certificate is good whatever time a clock says."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509

from collective.pki import make_certificate, new_key

_YEARS = (1970, 1980, 2012, 2026, 2099, 9999)
_MOMENTS = [datetime(year, 6, 1, tzinfo=timezone.utc) for year in _YEARS]


@pytest.fixture(scope="module")
def certificate() -> str:
    """The certificate of a server, made now."""
    return make_certificate(new_key(), "mgt1", ["192.0.2.1"]).pem


@pytest.mark.peers(16, 17, 38)
@pytest.mark.parametrize("now", _MOMENTS, ids=map(str, _YEARS))
def test_certificate_is_good_whatever_the_clock_says(certificate: str, now: datetime) -> None:
    """On a machine without a clock battery, and after a hundred years without power."""
    found = x509.load_pem_x509_certificate(certificate.encode())
    assert found.not_valid_before_utc < now < found.not_valid_after_utc - timedelta(days=1)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to ask")
@pytest.mark.parametrize("now", _MOMENTS, ids=map(str, _YEARS))
def test_openssl_takes_it_at_that_time(certificate: str, now: datetime, tmp_path: Path) -> None:
    """As its own anchor, which is how doors trust it."""
    file = tmp_path / "server.pem"
    file.write_text(certificate)
    seconds = int(now.timestamp())
    command = ["openssl", "verify", "-attime", str(seconds), "-partial_chain", "-CAfile"]
    done = subprocess.run([*command, file, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
