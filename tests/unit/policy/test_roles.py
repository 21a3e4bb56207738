"""Which commands a voter carries out for whom."""

from __future__ import annotations

import pytest

from collective.errors import InputError, RefusedError
from collective.model.records import MemberRecord, Role
from collective.policy.roles import ALLOWABLE, COMMANDS, check_command


def member(role: Role) -> MemberRecord:
    return MemberRecord("mgt4", "", role, "127.0.0.4", 1, 2, (), 0.0)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("role", [Role.NONVOTING, Role.LEARNER])
def test_command_of_a_server_without_a_vote_is_refused(command: str, role: Role) -> None:
    """With the name of a voter to type it on, and the setting."""
    with pytest.raises(RefusedError, match="mgt4 does not vote") as caught:
        check_command(member(role), command, (), "mgt1")
    assert "on mgt1" in str(caught.value.hint)
    assert "nonvoting_commands = " in str(caught.value.hint)


@pytest.mark.parametrize("command", COMMANDS)
def test_voter_may_all(command: str) -> None:
    """It could do it itself."""
    check_command(member(Role.VOTER), command, (), "mgt1")


@pytest.mark.parametrize("allowed", ALLOWABLE)
def test_setting_allows_what_it_names_and_no_more(allowed: str) -> None:
    """A replacement is a deletion and an invitation."""
    passed = set()
    for command in COMMANDS:
        try:
            check_command(member(Role.NONVOTING), command, (allowed,), "mgt1")
            passed.add(command)
        except RefusedError:
            continue
    assert passed == {allowed} | ({"revoke"} if allowed == "invite" else set())
    check_command(member(Role.NONVOTING), "replace", ("invite", "delete"), "mgt1")


@pytest.mark.parametrize("role", list(Role))
def test_unknown_command_is_none(role: Role) -> None:
    """For nobody."""
    with pytest.raises(InputError):
        check_command(member(role), "show", ALLOWABLE, "mgt1")
