"""What a server that is a member of nothing says of itself."""

from __future__ import annotations

from typing import Any, cast

import pytest

from collective.daemon.lifecycle.inactive import idle_error
from collective.errors import AccessError, DaemonError
from collective.model.plan import Mode


class Plan:
    """What idle_error looks at."""

    name, existing, reason = "mgt1", True, ""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode


@pytest.mark.parametrize("mode", [Mode.MEMBER, Mode.JOINING])
def test_server_that_is_not_started_is_not_said_to_be_deleted(mode: Mode) -> None:
    """What cannot be written, or read, is named, and what to do then."""
    error = idle_error(cast(Any, Plan(mode)), AccessError("cannot read state: is a directory"))
    assert error.message == "mgt1 is not started: cannot read state: is a directory"
    assert "restart collectived" in (error.hint or "")


def test_server_that_leaves_says_so() -> None:
    """Here its data could not be moved aside."""
    error = idle_error(cast(Any, Plan(Mode.LEAVING)), AccessError("cannot write"))
    assert error.message.startswith("mgt1 was deleted, and its data could not be moved aside")
    assert isinstance(idle_error(cast(Any, Plan(Mode.LEAVING))), DaemonError)
