"""The member's side of a preflight: what it does for whoever holds a token."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from collective.daemon.joining import remote_dry_run
from collective.daemon.member.proof_limiter import OneEach
from collective.daemon.membership.candidate import Candidate
from collective.errors import RefusedError
from collective.model.records import Invitation, Role
from collective.policy.admission import Proof
from collective.protocol.messages import Prospect
from tests.unit.identities import identity, record_of, view_of

SECONDS = 20.0
KEY = "aa" * 32
MGT2 = identity("mgt2", "10.0.0.2")
VIEW = view_of(
    record_of("mgt1", address="10.0.0.1"),
    Invitation("mgt2", Role.NONVOTING, KEY, "mgt1", 0.0, 3600.0),
)
CANDIDATE = Candidate(
    "mgt2", None, "invited", MGT2.certificate, ("10.0.0.2",), door_port=13002, peer_port=13003
)
PROOF = Proof("mgt2", "invited", MGT2.fingerprint, lambda key: key == KEY)


def test_token_is_tried_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dial-back that hangs holds no more threads, however often it is asked for."""
    inside, go, done = threading.Event(), threading.Event(), []

    def hang(*_: object) -> None:
        inside.set()
        assert go.wait(SECONDS)

    monkeypatch.setattr(remote_dry_run, "dial_back", hang)
    monkeypatch.setattr(remote_dry_run, "prospect", lambda *_: Prospect())
    plan = SimpleNamespace(address="10.0.0.1")
    runtime: Any = SimpleNamespace(name="mgt1", plan=plan, dialled=OneEach())

    def rehearse() -> None:
        done.append(remote_dry_run.rehearse(runtime, VIEW, PROOF, CANDIDATE))

    first = threading.Thread(target=rehearse)
    first.start()
    assert inside.wait(SECONDS)
    with pytest.raises(RefusedError, match="is being tried already"):
        rehearse()
    go.set()
    first.join(SECONDS)
    rehearse()
    assert [[f["ok"] for f in answer.findings] for answer in done] == [[True] * 3] * 2
