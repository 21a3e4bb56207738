"""Who does not know us, or whom we do not know: what is believed of what a stranger answers."""

from __future__ import annotations

import json
import socket
import ssl
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collective.daemon.member import recognition
from collective.daemon.member.recognition import Found, ask
from collective.daemon.member.succession import Succession
from tests.harness.trouble import FalseServer, answers_tls, serving
from tests.unit.identities import Identity, identity, record_of

FORMER, NEXT, STRANGER = (identity("mgt1", number=n) for n in (1, 2, 3))
OURS = "ab" * 32
KNOWN = frozenset({FORMER.fingerprint})
PROOF = Succession().followed_by(FORMER.certificate, FORMER.key, NEXT.certificate).to_wire()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """How soon a stranger must answer is not what is tried here."""
    monkeypatch.setattr(recognition, "_ASK_SECONDS", 30.0)


def showing(held: Identity, folder: Path, body: object) -> AbstractContextManager[FalseServer]:
    """Serve with a certificate, and answer whatever is asked so."""
    path = folder / "server.pem"
    path.write_bytes(held.key + held.pem.encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return serving(answers_tls(context, body if isinstance(body, bytes) else _json(body)))


def _json(body: object) -> bytes:
    return json.dumps(body).encode()


def found_at(false: FalseServer) -> Found:
    member = replace(record_of("mgt1"), address="127.0.0.1", door_port=false.port)
    return ask(member, KNOWN, OURS)


def asked(false: FalseServer) -> list[bytes]:
    """Return the first lines of what was asked."""
    return [request.split(b" HTTP")[0] for request in false.received if request]


@pytest.mark.parametrize("deleted", [True, False])
def test_server_that_is_known_says_whether_we_were_deleted(tmp_path: Path, deleted: bool) -> None:
    """It is told which certificate was ours, and nothing else."""
    with showing(FORMER, tmp_path, {"format": 1, "deleted": deleted}) as false:
        assert found_at(false) == Found("", deleted)
    assert asked(false) == [b"POST /v1/deleted"]
    assert json.loads(false.received[0].split(b"\r\n\r\n")[1]) == {
        "format": 1,
        "fingerprint": OURS,
    }


def test_certificate_that_took_the_place_of_a_recorded_one_is_recognised(tmp_path: Path) -> None:
    """And then it is asked whether we were deleted."""
    with showing(NEXT, tmp_path, {**PROOF, "deleted": True}) as false:
        assert found_at(false) == Found(NEXT.fingerprint, True)
    assert asked(false) == [b"GET /v1/succession", b"POST /v1/deleted"]


@pytest.mark.parametrize(
    "body",
    [
        {**PROOF, "deleted": True},
        {"format": 1, "steps": [], "deleted": True},
        {"format": 1, "deleted": True},
        {"format": 2, "steps": [], "deleted": True},
        {"format": 1, "steps": [{"certificate": "?", "signature": ""}]},
        [],
        b"[" * 100_000,
        b"\xff",
        b"",
    ],
    ids=["another's", "fresh", "none", "newer", "odd", "list", "deep", "binary", "empty"],
)
def test_stranger_is_recognised_by_nothing_that_it_says(tmp_path: Path, body: Any) -> None:
    """Nor is it asked whether we were deleted, and nothing that it answers is an error here.

    A server that never changed its certificate has an empty succession, as every fresh one: that
    once raised an error where it was asked.
    """
    with showing(STRANGER, tmp_path, body) as false:
        assert found_at(false) == Found()
    assert asked(false) == [b"GET /v1/succession"]


@pytest.mark.parametrize(
    "body",
    [{"deleted": True}, {"format": 2, "deleted": True}, {"format": 1, "deleted": "yes"}, []],
)
def test_nonsense_of_a_known_server_does_not_delete_us(tmp_path: Path, body: Any) -> None:
    """Only a plain yes does."""
    with showing(FORMER, tmp_path, body) as false:
        assert found_at(false) == Found()


def test_server_that_does_not_answer_tells_nothing() -> None:
    """It is asked while another trouble is looked into: it must not make one of its own."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert found_at(FalseServer(nobody.getsockname()[1])) == Found()
