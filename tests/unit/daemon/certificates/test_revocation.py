"""What a server tells strangers of whom its CAs have revoked."""

from __future__ import annotations

import json
import socket
from datetime import datetime, timezone
from pathlib import Path

import pytest

from collective import pki
from collective.daemon.certificates import credentials, revocation
from collective.daemon.certificates.credentials import Credentials
from collective.daemon.certificates.revocation import ask_list, is_revoked, tell_lists
from collective.errors import ProtocolError
from tests.harness.impostor import server_context
from tests.harness.trouble import answers_tls, serving

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """How soon a stranger must answer is not what is tried here."""
    monkeypatch.setattr(revocation, "_ASK_SECONDS", 30.0)


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
        assert ask_list("127.0.0.1", nobody.getsockname()[1], "0" * 64) == frozenset()


def told_by(authority: pki.Authority, serials: set[str], count: int = 1) -> bytes:
    """Return the answer of a server that holds an authority's key."""
    crl = authority.crl(serials, NOW).hex()
    each = {"ca": authority.certificate_pem.decode(), "crl": crl}
    return json.dumps({"format": 1, "lists": [each] * count}).encode()


def ask(here: Credentials, body: bytes, recorded: tuple[str, ...] = ()) -> bool:
    """Ask a server that answers so."""
    with serving(answers_tls(server_context(here.leaf_file), body)) as false:
        return is_revoked(here, lambda: recorded, "127.0.0.1", false.port)


def test_list_of_the_trusted_authority_is_believed(here: Credentials) -> None:
    """If it names the certificate in use, or all that our record had."""
    ours, authority = here.leaf.serial, here.authority()
    assert ask(here, told_by(authority, {ours, "1"}))
    assert not ask(here, told_by(authority, {"1"}))
    assert ask(here, told_by(authority, {"1", "2"}), ("1", "2"))
    assert not ask(here, told_by(authority, {"1"}), ("1", "2"))


def test_list_of_any_other_authority_is_not(here: Credentials) -> None:
    """Nor, in a re-keying, of the one before: a server that was deleted may have kept its key."""
    ours, former = here.leaf.serial, here.authority()
    other = pki.Authority.create("another", NOW)
    assert not ask(here, told_by(other, {ours}))
    here.trust((former, other))
    assert not ask(here, told_by(former, {ours}))
    assert ask(here, told_by(other, {ours}))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"null",
        b'{"format": 1, "lists": 7}',
        b'{"format": 1, "lists": [7, {"ca": "x"}]}',
        b'{"format": 1, "lists": [{"ca": "\\ud800", "crl": "00"}]}',
        b'{"format": 1, "lists": [{"ca": "x", "crl": "zz"}]}',
    ],
)
def test_nonsense_is_no_answer(here: Credentials, body: bytes) -> None:
    """A stranger says it: whoever asked goes on."""
    assert not ask(here, body)


def test_flood_of_lists_costs_little(here: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more are looked at than were asked for."""
    other = pki.Authority.create("another", NOW)
    looked_at: list[bytes] = []

    def look(crl: bytes, ca_pem: bytes, pin: bytes) -> frozenset[str]:
        looked_at.append(crl)
        return pki.revoked_by(crl, ca_pem, pin)

    monkeypatch.setattr(revocation, "revoked_by", look)
    assert not ask(here, told_by(other, {"1"}, count=300))
    assert len(looked_at) == 1
