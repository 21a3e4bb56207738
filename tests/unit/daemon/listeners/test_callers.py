"""What the log says of a command that was typed."""

from __future__ import annotations

import os
import pwd

import pytest

from collective.daemon.listeners.callers import typed
from collective.protocol import control
from collective.protocol.web import Request, Requester


def request(path: str, uid: str = "uid=0") -> Request:
    """Return what came over the control socket."""
    return Request("POST", path, {}, b"", Requester("unix", uid), {})


def test_command_is_told_with_its_options_and_who_typed_it() -> None:
    """By number and by name; an option that was not given is left out."""
    asked = control.DeleteRequest(server="mgt3", force=True)
    uid = os.getuid()
    told = typed(request("/v1/delete", f"uid={uid}"), asked)
    name = pwd.getpwuid(uid).pw_name
    assert told == f"command=delete server=mgt3 force=True uid={uid} login={name}"


def test_token_is_not_told() -> None:
    """It would let in whoever reads the log (P9)."""
    asked = control.JoinRequest(server="mgt1", token="cct-secret")
    assert "secret" not in typed(request("/v1/join"), asked)


@pytest.mark.parametrize("uid", ["uid=4000000000", "uid=-1", "uid=", "uid=99999999999999999999"])
def test_user_without_a_name_is_told_by_number(uid: str) -> None:
    """A container's users need not be known here."""
    told = typed(request("/v1/gencert", uid), control.Request())
    assert told == f"command=gencert {uid} login=?"


def test_what_was_typed_stays_one_line_and_one_fact() -> None:
    """A name that is none is refused later, and logged before."""
    asked = control.DeleteRequest(server="mgt3 uid=7\nERROR x\u2028" + "y" * 500)
    told = typed(request("/v1/delete"), asked)
    assert len(told.splitlines()) == 1
    assert "server='mgt3 uid=7\\nERROR" in told
    assert len(told) < 200
