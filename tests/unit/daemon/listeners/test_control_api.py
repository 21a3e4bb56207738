"""The control socket: what each route takes, and how a request is refused that cannot be read."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from collective.daemon.listeners import control_api, services
from collective.daemon.listeners.commands.context import request_of
from collective.errors import InputError, ProtocolError
from collective.policy import roles
from collective.protocol.control import Request as ControlRequest
from collective.protocol.web import Request, Requester


def answer(
    path: str, body: dict[str, Any] | None, query: dict[str, str] | None = None, text: bool = True
) -> list[str]:
    """Return the lines that come back, of a daemon that has no server behind it."""
    server: Any = SimpleNamespace()
    handle = control_api.handler(server, server, server)
    octets = b"" if body is None else json.dumps(body).encode()
    request = Request("POST", path, query or {}, octets, Requester("unix", "uid=0"), {}, text)
    parts = handle(request).body
    assert isinstance(parts, Iterator)
    return b"".join(parts).decode().splitlines()


@pytest.mark.parametrize(
    "command", [*(r.run for r in control_api._ROUTES.values()), *services._COMMANDS.values()]
)
def test_every_command_says_what_it_takes(command: Any) -> None:
    """By its annotation, which decides how a request is read."""
    assert issubclass(request_of(command), ControlRequest)


def test_commands_for_others_are_those_that_may_be_allowed() -> None:
    """Or one would be let through that nobody can carry out."""
    assert services._COMMANDS.keys() == roles.COMMANDS.keys()


@pytest.mark.parametrize(
    ("body", "says", "status"),
    [
        ({"format": 1, "server": "mgt3", "dryrun": True}, "takes no 'dryrun'", InputError),
        ({"format": 1, "server": "mgt3", "force": 1}, "'force' must be true", InputError),
        ({"format": 2, "server": "mgt3"}, "has format 2", ProtocolError),
        ({"server": "mgt3"}, "without a format", ProtocolError),
    ],
)
def test_request_that_cannot_be_read_is_an_error_like_any_other(
    body: dict[str, Any], says: str, status: type[InputError | ProtocolError]
) -> None:
    """With its text, its hint and its exit status, as lines and as an object."""
    first, *_, last = answer("/v1/delete", body)
    assert (first[:9], last) == ("n error: ", f"x {status.exit_code}")
    assert says in first
    assert any(line == "o {" for line in answer("/v1/delete", {**body, "json": True}))
    (line,) = answer("/v1/delete", body, text=False)
    error = json.loads(line)["error"]
    assert (error["code"], says in error["message"]) == (status.code, True)


def test_command_in_a_route_is_read_like_any_other() -> None:
    """Which is how a plain ``invite`` comes; it cannot say anything but a name."""
    first, *_ = answer("/v1/invite", None, {"server": "mgt2", "nonvoting": "1"})
    assert "'nonvoting' must be true or false" in first
    first, *_ = answer("/v1/invite", None, {"server": "mgt2", "zeal": "1"})
    assert "takes no 'zeal'" in first


def test_route_that_is_not_known_is_refused() -> None:
    """A command of a later release."""
    with pytest.raises(InputError, match="knows no POST /v1/show"):
        answer("/v1/show", {"format": 1})


@pytest.mark.parametrize(("path", "told"), [("/v1/gencert", True), ("/v1/invite/list", False)])
def test_command_that_changes_something_is_in_the_log(
    path: str, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With who typed it, before it begins: what it does may end this daemon."""
    with caplog.at_level(logging.INFO):
        answer(path, {"format": 1})
    assert ("a command was typed command=gencert uid=0 login=root" in caplog.text) is told
    assert ("a command was typed" in caplog.text) is told
