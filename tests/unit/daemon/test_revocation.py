"""What a server tells strangers of whom its CAs have revoked."""

from __future__ import annotations

import socket
from datetime import datetime, timezone
from pathlib import Path

import pytest

from collective import pki
from collective.daemon import credentials
from collective.daemon.credentials import Credentials
from collective.daemon.revocation import ask_lists, tell_lists
from collective.errors import ProtocolError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


@pytest.fixture
def here(tmp_path: Path) -> Credentials:
    """The credentials of a collective of one that has revoked a certificate."""
    path = tmp_path / "pki"
    credentials.prepare_fresh(path, "mgt1", ["127.0.0.1"], NOW)
    credentials.install(path)
    made = Credentials(path)
    made.revoke({"abc"}, NOW)
    return made


def test_lists_of_those_pins_that_are_known_are_told(here: Credentials) -> None:
    """Each with the certificate that it is verified with."""
    answer = tell_lists(here, {"format": 1, "pins": ["0" * 64, here.pin.hex()]})
    (told,) = answer["lists"]
    crl, ca = bytes.fromhex(told["crl"]), told["ca"].encode()
    assert pki.revoked_by(crl, ca, here.pin) == {"abc"}


@pytest.mark.parametrize(
    "pins", [None, "0" * 64, [1], ["0" * 64] * 5, ["\ud800"], ["0" * 9000], {"a": 1}]
)
def test_question_that_is_broken_is_refused(here: Credentials, pins: object) -> None:
    """It comes from anybody."""
    with pytest.raises(ProtocolError):
        tell_lists(here, {"format": 1, "pins": pins})


def test_server_that_does_not_answer_tells_nothing() -> None:
    """It is asked while another trouble is looked into: it must not make one of its own."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert ask_lists("127.0.0.1", nobody.getsockname()[1], ["0" * 64]) == []
