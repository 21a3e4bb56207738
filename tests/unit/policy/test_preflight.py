"""Each check before a join, and the one error that all findings make."""

from __future__ import annotations

import json

import pytest

from collective.errors import (
    CollectiveError,
    InputError,
    InvitationError,
    PreflightError,
    RefusedError,
)
from collective.policy import preflight
from collective.policy.preflight import Finding, good, problem, skipped, verdict

HERE = ["127.0.0.1", "10.0.0.2", "2001:db8::2"]


@pytest.mark.parametrize(
    ("finding", "error", "words"),
    [
        (preflight.check_name("mgt3", "mgt2"), InvitationError, ("mgt3", "this server is mgt2")),
        (preflight.check_server("MGT2", "mgt2"), RefusedError, ("that is this server",)),
        (preflight.check_address("10.0.0.9", HERE), InputError, ("10.0.0.9", "10.0.0.2")),
        (preflight.check_address("2001:db8::3", HERE), InputError, ("2001:db8::3",)),
        (preflight.check_address("::1", []), InputError, ("which has none",)),
        (preflight.check_disk("/var", 255 << 20), RefusedError, ("/var", "255 MiB", "256 MiB")),
        (preflight.check_source("192.0.2.7", HERE, "mgt1"), RefusedError, ("192.0.2.7", "NAT")),
        (preflight.check_source("2001:db8::9", HERE, "mgt1"), RefusedError, ("2001:db8::9",)),
    ],
)
def test_what_is_wrong_is_an_error_with_what_was_found(
    finding: Finding, error: type[CollectiveError], words: tuple[str, ...]
) -> None:
    """And with a hint, wherever something can be done."""
    assert finding.ok is False
    assert type(finding.error) is error
    for word in words:
        assert word in finding.message
    assert finding.error.hint or finding.check == "server"


@pytest.mark.parametrize(
    "finding",
    [
        preflight.check_name("mgt2", "mgt2"),
        preflight.check_server("mgt1", "mgt2"),
        preflight.check_address(None, []),
        preflight.check_address("10.0.0.2", HERE),
        preflight.check_address("2001:DB8:0::2", HERE),
        preflight.check_address("127.0.0.5", HERE),
        preflight.check_disk("/var", 256 << 20),
        preflight.check_clock(600, "mgt1"),
        preflight.check_clock(-600, "mgt1"),
        preflight.check_clock(601, "mgt1"),
        preflight.check_clock(-4e9, "mgt1"),
        preflight.check_round_trip("mgt1", 0.001, 450),
        preflight.check_round_trip("mgt1", 2.0, 450),
        preflight.check_source("10.0.0.2", HERE, "mgt1"),
        preflight.check_source("127.0.0.9", HERE, "mgt1"),
        preflight.check_source("::1", HERE, "mgt1"),
    ],
)
def test_what_is_good_says_so(finding: Finding) -> None:
    """Loopback comes from loopback, however it is written; a limit is still good."""
    assert finding.ok is True
    assert finding.error is None
    assert finding.message


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (600, "the clock here is 600 s ahead of that of mgt1"),
        (-600, "the clock here is 600 s behind that of mgt1"),
        (601, "warning: the clock here is 601 s ahead of that of mgt1"),
        (-1.8e9, "warning: the clock here is 1800000000 s behind that of mgt1"),
    ],
)
def test_clocks_that_are_apart_are_told_and_hinder_nothing(offset: float, words: str) -> None:
    """Time has no part in trust: a server born in 1970 joins."""
    finding = preflight.check_clock(offset, "mgt1")
    assert finding.ok is True
    assert finding.message.partition(";")[0] == words


ONE = problem("name", InvitationError("the token is for mgt3", "invite mgt2"))
OTHER = problem("disk", RefusedError("full"))


def test_one_problem_is_the_very_error_that_it_is() -> None:
    """Scripts know its exit code; skipped checks are no problem."""
    assert verdict([good("a", "b"), ONE, skipped("c", "d")], "join mgt1") is ONE.error
    assert verdict([good("a", "b"), skipped("c", "d")], "join mgt1") is None


def test_several_problems_are_one_error_that_has_them_all() -> None:
    """In their order, with the checks that found them."""
    error = verdict([ONE, good("a", "b"), OTHER], "join mgt1")
    assert isinstance(error, PreflightError)
    assert error.message == "cannot join mgt1: 2 problems were found, and nothing was changed"
    assert error.problems == (("name", ONE.error), ("disk", OTHER.error))


def test_findings_cross_a_door() -> None:
    """What the member found is told by the joiner, as the error that it is."""
    sent = [good("a", "b"), ONE, skipped("c", "d"), OTHER]
    back = preflight.findings_from_wire(json.loads(json.dumps([f.to_wire() for f in sent])))
    assert [(f.check, f.message, f.ok, type(f.error)) for f in back] == [
        (f.check, f.message, f.ok, type(f.error)) for f in sent
    ]
    assert back[1].error is not None
    assert back[1].error.hint == "invite mgt2"


@pytest.mark.parametrize("raw", [None, 3, "x", {}, [3, "x", None], [[]]])
def test_findings_without_a_form_are_left_out(raw: object) -> None:
    """Another server sent them."""
    assert preflight.findings_from_wire(raw) == []


def test_finding_that_says_nothing_is_not_taken_for_good() -> None:
    """Only a plain yes is one."""
    (told,) = preflight.findings_from_wire([{"check": "x", "ok": "yes"}])
    assert told.ok is None
