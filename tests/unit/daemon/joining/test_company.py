"""Whether a server may leave what it is for another collective."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from collective.daemon.joining.company import why_not_free
from collective.errors import CollectiveError
from collective.model.plan import Mode, Plan


@pytest.mark.parametrize("mode", Mode)
def test_server_without_a_life_is_free_unless_it_has_not_come_to_rest(mode: Mode) -> None:
    """One that was deleted, and is not at rest, has a certificate prepared that nobody knows."""
    plan = Plan(mode, "mgt1", "10.0.0.1", 1, 2, "ab", "", True)
    server: Any = SimpleNamespace(
        runtime=None, plan=plan, trouble=CollectiveError("disk full"), settle=lambda: None
    )
    why = why_not_free(server)
    if mode is not Mode.LEAVING:
        assert why is None
        return
    assert why is not None
    assert "could not be moved aside: disk full" in why.message
    assert "restart collectived" in str(why.hint)


def test_server_whose_life_ends_just_now_is_judged_when_it_has_ended() -> None:
    """It has no life already, and its etcd still has the port: seen at a loaded host."""
    plan = Plan(Mode.MEMBER, "mgt1", "10.0.0.1", 1, 2, "ab", "", True)
    server: Any = SimpleNamespace(runtime=None, plan=plan, trouble=CollectiveError("disk full"))

    def settle() -> None:
        server.plan = replace(plan, mode=Mode.LEAVING)

    server.settle = settle
    assert why_not_free(server) is not None
