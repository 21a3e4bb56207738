"""What a voter says of the new address of a member."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from collective.daemon.addresses import readdress
from collective.errors import IdentityError, UnreachableError
from collective.model.records import Role
from tests.unit.identities import record_of

VOTER = record_of("mgt2", address="10.0.0.66")


class Door:
    """What is at an address."""

    def __init__(self, found: UnreachableError | None) -> None:
        self._found = found
        self.closed = False

    def open(self, _seconds: float) -> None:
        if self._found is not None:
            raise self._found

    def close(self) -> None:
        self.closed = True


def told(
    monkeypatch: pytest.MonkeyPatch, found: UnreachableError | None, port: OSError | None
) -> UnreachableError:
    """Return what the member is told of its address."""

    def connect(*_: object, **__: object) -> Any:
        raise port or AssertionError("not looked at")

    door = Door(found)
    runtime: Any = SimpleNamespace(name="mgt1", peers=SimpleNamespace(client=lambda _: door))
    monkeypatch.setattr("socket.create_connection", connect)
    with pytest.raises(UnreachableError) as caught:
        readdress._reach(runtime, VOTER)
    assert door.closed
    return caught.value


@pytest.mark.parametrize(
    ("found", "port"),
    [
        (UnreachableError("cannot reach 10.0.0.66:13002: connection refused"), None),
        (UnreachableError("cannot reach 10.0.0.66:13002: no answer within 3 s"), None),
        (UnreachableError("cannot reach 10.0.0.66:13002: TLS failed: WRONG_VERSION_NUMBER"), None),
        (IdentityError("will not talk to 10.0.0.66:13002: it is mgt3"), None),
        (None, ConnectionRefusedError(111, "Connection refused")),
        (None, TimeoutError("timed out")),
    ],
)
def test_member_is_told_the_same_of_every_place_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    found: UnreachableError | None,
    port: OSError | None,
) -> None:
    """It had a voter dial what it liked, and was told what is there; the voter's log says it."""
    caplog.set_level("INFO")
    error = told(monkeypatch, found, port)
    assert type(error) is UnreachableError
    assert error.message == (
        "mgt1 does not find mgt2 at 10.0.0.66: nothing answers there, or another server does"
    )
    assert "the log of collectived on mgt1 says more" in str(error.hint)
    why = found.message if found is not None else "cannot reach 10.0.0.66:13003"
    assert why in caplog.text


def test_server_without_a_vote_needs_no_peer_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no etcd."""
    runtime: Any = SimpleNamespace(name="mgt1", peers=SimpleNamespace(client=lambda _: Door(None)))
    monkeypatch.setattr(readdress, "_knock", lambda *_: pytest.fail("it was looked at"))
    readdress._reach(runtime, record_of("mgt3", Role.NONVOTING))
