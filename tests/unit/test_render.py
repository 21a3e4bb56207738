"""What each command prints, line by line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from collective import render
from collective.errors import (
    CollectiveError,
    InputError,
    InvitationError,
    PreflightError,
    QuorumError,
    RefusedError,
    RemovedError,
    from_wire,
)
from collective.render import Rendered

_LOG = "hint: see 'journalctl -u collectived' on this server"
_PROJECT = Path(__file__).parents[2]
_NO_QUORUM = (
    "hint: start the servers listed as offline; if they are lost for good, see RECOVERY in "
    "collective(1)"
)


FORECAST = ("now: 3 voters, quorum 2, 1 more may be lost", "without m: 2 voters, quorum 2")
OK_CHECK = {"check": "name", "ok": True, "message": "good"}


def document(leader: str | None, *members: tuple[str, str], **changes: Any) -> dict[str, Any]:
    """Return what ``show`` is told, of members with their states."""
    answering = sum(state == "active" for _, state in members)
    return {
        "format": 1,
        "name": "mgt1",
        "mode": "member",
        "quorum": leader is not None,
        "leader": leader,
        "members": [{"name": name, "state": state} for name, state in members],
        "voters": len(members),
        "answering": answering,
        "needed": len(members) // 2 + 1,
        "tolerance": "1 more server may be lost",
        "errors": [],
        **changes,
    }


THREE = document("mgt1", ("mgt1", "active"), ("mgt2", "active"), ("mgt3", "active"))
THREE_BY_ANOTHER = {**THREE, "leader": "mgt2"}


def idle(problem: CollectiveError, **changes: Any) -> dict[str, Any]:
    """Return the document of a server that is a member of nothing."""
    short = document(None, idle=problem.to_wire(), former_data="", **changes)
    return {k: v for k, v in short.items() if k not in ("voters", "answering", "needed")}


@pytest.mark.parametrize(
    ("rendered", "lines"),
    [
        (
            render.gencert({"fingerprint": "ab", "replaced": ""}),
            ["o Certificate generated successfully", "n its SHA-256 is ab", "x 0"],
        ),
        (render.invite({"token": "bWd0Mk"}), ["o bWd0Mk", "x 0"]),
        (render.join({}), ["o Success", "x 0"]),
        (Rendered(("a",), ("b", "c"), 3), ["o a", "n b", "n c", "x 3"]),
        (Rendered(), ["x 0"]),
    ],
)
def test_result_crosses_the_socket_line_by_line(rendered: Rendered, lines: list[str]) -> None:
    """The result first, then what is for people, then the status; a result has its one line."""
    assert list(rendered.lines()) == lines


def test_certificate_is_told_as_the_manual_does_with_its_fingerprint_beside_it() -> None:
    """The result is the manual's line; which one counts, and which one no more, is for people."""
    rendered = render.gencert({"fingerprint": "ab" * 32, "replaced": "cd" * 32})
    assert rendered.out == ("Certificate generated successfully",)
    assert rendered.notes == (
        f"its SHA-256 is {'ab' * 32}",
        f"the former one, {'cd' * 32}, opens no door any more",
    )
    assert rendered.status == 0


@pytest.mark.parametrize(
    ("confirmed", "unconfirmed", "notes"),
    [
        ([], [], ()),
        (["mgt1", "mgt2"], [], ("mgt3 is locked out of: mgt1, mgt2",)),
        (
            ["mgt1"],
            ["mgt2", "mgt4"],
            (
                "mgt3 is locked out of: mgt1",
                "warning: not confirmed by mgt2, mgt4: who is offline learns it on return",
            ),
        ),
        (
            [],
            ["mgt2"],
            ("warning: not confirmed by mgt2: who is offline learns it on return",),
        ),
    ],
)
def test_deletion_says_who_has_confirmed_it(
    confirmed: list[str], unconfirmed: list[str], notes: tuple[str, ...]
) -> None:
    """And who remains, by fingerprint; last, what it has done to the quorum."""
    result = {
        "name": "mgt3",
        "left": False,
        "dry_run": False,
        "forecast": {"lines": FORECAST},
        "confirmed": confirmed,
        "unconfirmed": unconfirmed,
        "remaining": [
            {"name": "mgt1", "role": "voter", "fingerprints": ["ab" * 32, "cd" * 32]},
            {"name": "mgt2", "role": "nonvoting", "fingerprints": ["ef" * 32]},
        ],
        "pending": [{"name": "mgt9", "role": "voter", "issuer": "mgt1"}],
    }
    remaining = (
        "members now, with the SHA-256 of their certificates:",
        f"  mgt1 (voter) {'ab' * 32} {'cd' * 32}",
        f"  mgt2 (nonvoting) {'ef' * 32}",
        "invitations are pending for: mgt9 (by mgt1); 'invite --revoke' ends one",
    )
    expected = Rendered(("mgt3 is deleted",), (*notes, *remaining, *FORECAST), 0)
    assert render.delete(result) == expected


def test_server_that_left_says_where_its_data_is() -> None:
    """P7: nothing is deleted."""
    told = {"name": "mgt3", "left": True, "dry_run": False, "former_data": "/aside/1/etcd"}
    rendered = render.delete({**told, "forecast": {"lines": FORECAST}})
    assert rendered.out == ("mgt3 left its collective",)
    assert rendered.notes == ("its former data is in /aside/1/etcd", *FORECAST)
    assert rendered.status == 0


@pytest.mark.parametrize(
    "rendered",
    [
        render.delete(
            {"name": "m", "left": True, "dry_run": True, "forecast": {"lines": FORECAST}}
        ),
        render.invite({"name": "m", "dry_run": True, "forecast": {"lines": FORECAST}}),
        render.join_dry_run(
            {"checks": [OK_CHECK], "error": None, "forecast": {"lines": FORECAST}}
        ),
    ],
)
def test_dry_run_prints_the_forecast_alone(rendered: Rendered) -> None:
    """There is no result: nothing was done."""
    assert rendered == Rendered((), FORECAST, 0)


def test_demotion_names_the_invitations_that_are_pending() -> None:
    """Not where it was only asked for, nor where a voter of an earlier release has made it."""
    result = {"name": "mgt3", "dry_run": False, "forecast": {"lines": FORECAST}}
    assert render.demote(result) == Rendered(("mgt3 does not vote",), FORECAST, 0)
    pending = [{"name": "mgt9", "role": "voter", "issuer": "mgt1"}]
    assert render.demote({**result, "pending": pending}).notes == (
        "invitations are pending for: mgt9 (by mgt1); 'invite --revoke' ends one",
        *FORECAST,
    )


def test_replacement_prints_the_token_alone() -> None:
    """Who confirmed is told, and who remains."""
    rest = [{"name": "mgt1", "role": "voter", "fingerprints": ["ab"]}]
    replaced = {
        "name": "mgt3",
        "confirmed": ["mgt1"],
        "unconfirmed": ["mgt2"],
        "remaining": rest,
        "pending": [],
    }
    rendered = render.invite({"token": "bWd0", "forecast": None, "replaced": replaced})
    assert rendered.out == ("bWd0",)
    assert rendered.notes[0] == "mgt3 is locked out of: mgt1"
    assert rendered.notes[1].startswith("warning: ")
    assert rendered.notes[2:] == (
        "members now, with the SHA-256 of their certificates:",
        "  mgt1 (voter) ab",
    )


def test_invitations_are_listed_in_a_table() -> None:
    """One line each, with the two largest units of the time that is left; claimed ones say so."""
    listed = {"role": "voter", "issuer": "mgt1", "expires_in": 3725, "claimed": False}
    longer = {**listed, "expires_in": 42, "claimed": True}
    rendered = render.invitations(
        {"invitations": [{"name": "mgt2", **listed}, {"name": "mgt10", **longer}]}
    )
    assert rendered.out == (
        "mgt2   voter  invited by mgt1, expires in 1h 2m",
        "mgt10  voter  invited by mgt1, expires in 42s, claimed by a server that joins",
    )
    assert render.invitations({"invitations": []}) == Rendered(
        (), ("no invitation is pending",), 0
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.9, "0s"), (60, "1m"), (86399, "23h 59m"), (90061, "1d 1h"), (3601, "1h 1s")],
)
def test_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    """Units of which there are none are left out."""
    assert render.duration(seconds) == text


PROBLEMS = PreflightError(
    "cannot join mgt1: 2 problems were found",
    None,
    [("name", InvitationError("the token is for mgt3", "invite mgt2")), ("disk", InputError("d"))],
)


def test_several_problems_have_a_line_each_with_its_hint() -> None:
    """The first line counts them; each begins with the name of its check."""
    rendered = render.error(PROBLEMS)
    assert rendered.out == ()
    assert rendered.notes == (
        "error: cannot join mgt1: 2 problems were found",
        "error: name: the token is for mgt3",
        "hint: invite mgt2",
        "error: disk: d",
    )
    assert rendered.status == PreflightError.exit_code == 12


def test_error_is_json_beside_its_lines() -> None:
    """For ``--json``: the object has all, and the lines and the status stay what they are."""
    rendered = render.error_json(PROBLEMS)
    assert json.loads("\n".join(rendered.out)) == {"format": 1, "error": PROBLEMS.to_wire()}
    assert (rendered.notes, rendered.status) == (render.error(PROBLEMS).notes, 12)


def test_result_as_json_has_no_lines_for_people() -> None:
    """All that they say is in the object."""
    result = {"name": "m", "dry_run": True, "forecast": {"lines": list(FORECAST)}}
    rendered = render.as_json(render.invite(result), result)
    assert json.loads("\n".join(rendered.out)) == {
        "format": 1,
        **result,
        "messages": list(FORECAST),
    }
    assert (rendered.notes, rendered.status) == ((), 0)


def test_check_lists_what_is_good_bad_and_left_out() -> None:
    """The list is the result, and each problem is told once; what to do is for people."""
    checks = [
        OK_CHECK,
        {"check": "disk", "ok": False, "message": "full", "code": "refused", "hint": "h"},
        {"check": "guests", "ok": None, "message": "no token"},
    ]
    error = RefusedError("full", "h").to_wire()
    told = {"checks": checks, "error": error, "forecast": None}
    rendered = render.join_check(told)
    assert rendered.out == (
        "ok       name: good",
        "problem  disk: full",
        "skipped  guests: no token",
    )
    assert rendered.notes == (
        "error: a problem was found, and nothing was changed",
        "hint: disk: h",
    )
    assert rendered.status == RefusedError.exit_code
    taken = {"check": "name", "ok": False, "message": "taken", "hint": "h"}
    again = {**told, "checks": [*checks, taken]}
    assert render.join_check(again).notes == (
        "error: 2 problems were found, and nothing was changed",
        "hint: disk: h",
        "hint: name: h",
    )
    assert render.join_dry_run(told) == render.error(RefusedError("full", "h"))
    as_json = render.as_json(rendered, told)
    assert json.loads("\n".join(as_json.out))["checks"] == checks
    assert (as_json.notes, as_json.status) == (rendered.notes, rendered.status)


def manual(page: str) -> tuple[str, ...]:
    """Return the lines that a page shows under ``collective show``."""
    text = (_PROJECT / page).read_text()
    found = re.search(
        r"collective show(?:\\fR)?\n((?:[ ]*Quorum: .*\n)(?:.+\n)+?)(?:\.EE|\n)", text
    )
    assert found is not None
    lines = found[1].splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    return tuple(line[margin:] for line in lines)


@pytest.mark.parametrize("page", ["man/collective.include", "README.md"])
def test_show_prints_what_the_manual_shows(page: str) -> None:
    """Scripts read these lines: the leader is not among the active ones."""
    rendered = render.show(THREE_BY_ANOTHER)
    assert rendered.out == manual(page)
    assert rendered.out == (
        "Quorum: True",
        "Leader: mgt2",
        "Active collective members:",
        "  mgt1",
        "  mgt3",
        "1 more server may be lost.",
    )
    assert (rendered.notes, rendered.status) == ((), 0)


def test_members_that_are_not_active_have_sections_of_their_own() -> None:
    """After the manual's lines; who answers and takes no part is neither active nor offline."""
    told = document(
        "mgt2",
        ("mgt1", "active"),
        ("mgt2", "active"),
        ("mgt3", "offline"),
        ("mgt4", "learner"),
        ("mgt5", "degraded"),
        ("mgt6", "not_following"),
        errors=["disk is slow"],
    )
    rendered = render.show(told)
    assert rendered.out == (
        "Quorum: True",
        "Leader: mgt2",
        "Active collective members:",
        "  mgt1",
        "Joining collective members:",
        "  mgt4",
        "Not following collective members:",
        "  mgt5",
        "  mgt6",
        "Offline collective members:",
        "  mgt3",
        "1 more server may be lost.",
    )
    assert (rendered.notes, rendered.status) == (("warning: disk is slow",), 0)


def test_member_whose_address_another_one_has_is_said_to_have_none() -> None:
    """What stands in its record for none is an address that leads nowhere."""
    shown = document("mgt1", ("mgt1", "active"), ("mgt3", "offline"))
    shown["members"][1]["address"] = None
    assert "  mgt3 (no address is recorded)" in render.show(shown).out


def test_collective_of_one_says_how_to_go_on() -> None:
    """The one note of a fresh server; the list of active ones is empty, as in the manual."""
    rendered = render.show(document("mgt1", ("mgt1", "active"), tolerance="No more"))
    assert rendered.out == (
        "Quorum: True",
        "Leader: mgt1",
        "Active collective members:",
        "No more.",
    )
    assert rendered.notes == (
        "this server is a collective of one; 'collective invite SERVER' lets another one in",
    )


def test_show_without_a_quorum_counts_and_says_what_to_do() -> None:
    """Its status is not 0, so that a script that waits for the quorum can."""
    told = document(
        None, ("mgt1", "active"), ("mgt2", "offline"), ("mgt3", "offline"), errors=["no quorum"]
    )
    rendered = render.show(told)
    assert rendered.out == (
        "Quorum: False",
        "Leader: unknown",
        "Active collective members:",
        "  mgt1",
        "Offline collective members:",
        "  mgt2",
        "  mgt3",
        "1 of 3 voters answer, 2 are needed.",
    )
    assert rendered.notes == ("warning: no quorum", _NO_QUORUM)
    assert rendered.status == QuorumError.exit_code == 3


@pytest.mark.parametrize(
    ("changes", "states", "first", "hint"),
    [
        ({"proof": "not in time"}, "active", "False (not proven in time)", "need not be a loss"),
        ({"proof": "none"}, "offline", "False", "start the servers listed as offline"),
        ({"proof": "none"}, "degraded", "False", "etcd takes no part on mgt2"),
        ({"proof": "none"}, "active", "False", "'journalctl -u collectived' on this server"),
        (
            {"proof": "none", "restarting": {"name": "mgt1", "doing": "taking up mgt3"}},
            "offline",
            "False",
            "this is on purpose",
        ),
        ({"proof": "none", "mode": "joining"}, "offline", "False", "this server is joining"),
    ],
)
def test_hint_of_a_server_without_a_quorum_is_about_what_is_so(
    changes: dict[str, Any], states: str, first: str, hint: str
) -> None:
    """To start servers that are not off, or that are restarted on purpose, would be no way out."""
    told = document(None, ("mgt1", "active"), ("mgt2", states), **changes)
    rendered = render.show(told)
    assert rendered.out[0] == f"Quorum: {first}"
    assert len(rendered.notes) == 1
    assert hint in rendered.notes[0]
    assert rendered.status == 3


def test_join_that_runs_is_shown_whatever_else_is() -> None:
    """Its command was ended with Ctrl-C, and the daemon goes on."""
    join = {"server": "mgt2:13002", "step": "confirm", "seconds": 65}
    rendered = render.show({**THREE, "joining": join})
    assert rendered.notes == (
        "a join by way of mgt2:13002 runs here since 1m 5s, its last step is confirm; the same "
        "'collective join' attaches to it, 'collective join --abort' gives it up",
    )
    assert rendered.status == 0


def test_readdress_says_whether_the_member_answers_at_the_address_given() -> None:
    """Who mistyped it hears so, and is not told that the member was found."""
    places = [
        {"name": "mgt2", "address": "10.0.0.2", "error": None},
        {"name": "mgt3", "address": "10.0.0.9", "error": "another server answers there"},
    ]
    result = {"name": "mgt1", "found": ["mgt2"], "missing": ["mgt3"], "places": places}
    assert render.readdress(result).notes[:2] == (
        "mgt2 answers at 10.0.0.2",
        "warning: at 10.0.0.9 nobody answers as mgt3: another server answers there; it is asked "
        "there again and again",
    )


def test_broken_etcd_here_is_not_said_to_be_a_server_to_start() -> None:
    """The server that is listed as offline is the one that one sits at."""
    told = document(
        None,
        ("mgt1", "degraded"),
        ("mgt2", "offline"),
        errors=["etcd ended with code 1"],
        etcd_failure="etcd ended with code 1",
    )
    rendered = render.show(told)
    assert rendered.notes == (
        "warning: etcd ended with code 1",
        "hint: it is etcd on this server that does not work: mend what is said of it, or see "
        "'journalctl -u collectived'; it is tried again by itself",
    )
    assert render.show({**told, "mode": "joining"}).notes == rendered.notes
    assert rendered.status == QuorumError.exit_code


def test_broken_etcd_elsewhere_is_told_with_its_reason() -> None:
    """With a quorum or without; where no server is off, there is none to start."""
    broken = {"name": "mgt2", "state": "degraded", "errors": ["etcd ended with code 1"]}
    well = document("mgt1", ("mgt1", "active"), ("mgt3", "active"))
    well["members"].append(broken)
    assert render.show(well).notes == ("warning: mgt2: etcd ended with code 1",)
    ill = document(None, ("mgt1", "active"), etcd_failure=None)
    ill["members"].append(broken)
    assert render.show(ill).notes == (
        "warning: mgt2: etcd ended with code 1",
        "hint: etcd takes no part on mgt2: see why with 'journalctl -u collectived' there",
    )
    ill["members"].append({"name": "mgt3", "state": "offline"})
    assert render.show(ill).notes == ("warning: mgt2: etcd ended with code 1", _NO_QUORUM)


def test_show_without_a_quorum_or_a_member_says_no_numbers() -> None:
    """Nothing was read yet, so 0 of 0 would be no news."""
    rendered = render.show(document(None))
    assert rendered.out == ("Quorum: False", "Leader: unknown", "Active collective members:")
    assert (rendered.notes, rendered.status) == ((_LOG,), 3)


def test_server_that_joins_is_told_to_wait_or_join_again() -> None:
    """No server is offline, so it is not told to start one."""
    rendered = render.show(document(None, mode="joining"))
    assert rendered.out == ("Quorum: False", "Leader: unknown", "Active collective members:")
    assert rendered.notes == (
        "hint: this server is joining; if that does not end, run the same 'collective join' again",
    )
    assert rendered.status == 3


def test_names_are_printed_one_a_line() -> None:
    """For scripts, and for the completion of the shells."""
    rendered = render.names({"names": ["mgt2", "mgt10"]})
    assert rendered == Rendered(("mgt2", "mgt10"), (), 0)


def test_removed_server_says_why_and_what_to_do() -> None:
    """It has no quorum, but its status is that of a server that was removed."""
    problem = RemovedError("mgt3 was deleted from this collective", "join it again")
    rendered = render.show(idle(problem, mode="removed"))
    assert rendered.out == ("Quorum: False", "Leader: unknown", "Active collective members:")
    assert rendered.notes == (
        "error: mgt3 was deleted from this collective",
        "hint: join it again",
    )
    assert rendered.status == RemovedError.exit_code == 6


@pytest.mark.parametrize(
    "told",
    [THREE, document(None, ("mgt1", "active")), idle(RemovedError("gone"), mode="removed")],
)
def test_json_is_the_document_with_the_status_of_show(told: dict[str, Any]) -> None:
    """Notes are left out: all that they say is in it."""
    rendered = render.show_json(told)
    assert json.loads("\n".join(rendered.out)) == told
    assert not any("\n" in line for line in rendered.out)
    assert (rendered.notes, rendered.status) == ((), render.show(told).status)


@pytest.mark.parametrize(
    "problem",
    [
        InputError("bad name", "use letters"),
        RefusedError("not now"),
        InvitationError("it expired", "invite again"),
        QuorumError("no quorum"),
    ],
)
def test_error_has_its_hint_and_status_and_no_result(problem: CollectiveError) -> None:
    """Standard output stays empty, so ``$(collective invite mgt2)`` is never an error's text."""
    hint = [f"n hint: {problem.hint}"] if problem.hint else []
    expected = [f"n error: {problem.message}", *hint, f"x {problem.exit_code}"]
    assert list(render.error(problem).lines()) == expected


@pytest.mark.parametrize("message", ["no\no Success\nx 0", "no\r\nx 0"])
def test_message_cannot_speak_for_the_command(message: str) -> None:
    """A message may come from a server that we do not trust yet: it is no result and no status."""
    problem = from_wire({"code": "refused", "message": message, "hint": message})
    wire = "".join(f"{line}\n" for line in render.error(problem).lines())
    assert [line[:2] for line in wire.split("\n")] == ["n ", "n ", "x ", ""]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [("promote", "", "s promote"), ("dial", "10.0.0.1:13002", "s dial: 10.0.0.1:13002")],
)
def test_step_has_its_text_where_there_is_one(name: str, text: str, line: str) -> None:
    """No colon is left at the end of a step that says nothing more."""
    assert render.step(name, text) == line
