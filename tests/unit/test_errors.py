"""The tree of errors: exit codes, wire codes and the way over a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from collective import errors
from collective.errors import (
    CollectiveError,
    DegradedCollective,
    EtcdError,
    EtcdUnavailableError,
    InvitationError,
    PreflightError,
    QuorumError,
    RefusedError,
    StoreError,
    UnreachableError,
    from_wire,
)

# The documented table: scripts of other people depend on it.
PUBLISHED = {
    "failed": 1,
    "input": 2,
    "quorum": 3,
    "refused": 4,
    "daemon": 5,
    "removed": 6,
    "unreachable": 7,
    "identity": 7,
    "invitation": 8,
    "etcd": 9,
    "etcd-unavailable": 9,
    "access": 10,
    "protocol": 11,
    "preflight": 12,
    "lost": 13,
    "pending": 14,
    "degraded": 3,
    "not-reached": 9,
    "store": 15,
    "deadline": 15,
    "in-doubt": 15,
    "conflict": 15,
    "lease-expired": 15,
    "closed": 15,
    "not-ready": 15,
    "slow-reader": 15,
    "handler": 15,
    "no-service": 7,
    "output": 16,
}
#: Below these are kinds of the same thing, which a script need not tell apart.
KINDS = (EtcdError, QuorumError, StoreError, UnreachableError)


def tree(cls: type[CollectiveError] = CollectiveError) -> Iterator[type[CollectiveError]]:
    """Yield every class that is defined in ``collective.errors``."""
    if cls.__module__ == errors.__name__:
        yield cls
    for below in cls.__subclasses__():
        yield from tree(below)


EVERY = list(tree())


def test_published_codes_never_change() -> None:
    """Wire code and exit code of each class are those that were published."""
    assert {cls.code: cls.exit_code for cls in EVERY} == PUBLISHED
    assert len(EVERY) == len(PUBLISHED)


def test_exit_code_belongs_to_one_class_and_its_kinds() -> None:
    """A script can tell the classes apart; etcd that does not answer is still an etcd error."""
    kinds = [cls for cls in EVERY if issubclass(cls, KINDS) and cls not in KINDS]
    apart = [cls for cls in EVERY if cls not in kinds]
    assert len({cls.exit_code for cls in apart}) == len(apart)
    for kind in kinds:
        assert kind.exit_code in {cls.exit_code for cls in kind.__mro__[1:] if cls in KINDS}
    assert issubclass(EtcdUnavailableError, EtcdError)


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("hint", [None, "do this"])
def test_error_that_crosses_a_socket_comes_back_whole(
    cls: type[CollectiveError], hint: str | None
) -> None:
    """Class, message and hint are the same at the other end."""
    back = from_wire(json.loads(json.dumps(cls("it failed", hint).to_wire())))
    assert (type(back), back.message, back.hint, str(back)) == (
        cls,
        "it failed",
        hint,
        "it failed",
    )


@pytest.mark.parametrize("wire", [None, 3, "oops", [], ["code"]])
def test_error_without_a_form_is_a_protocol_error(wire: object) -> None:
    """What is not even an object is the other side's fault."""
    assert type(from_wire(wire)) is errors.ProtocolError


@pytest.mark.parametrize("wire", [{}, {"code": 7}, {"code": "of-a-later-release", "message": "m"}])
def test_error_of_an_unknown_code_is_a_plain_one(wire: object) -> None:
    """A later release may have more classes; its errors still fail the command, with 1."""
    back = from_wire(wire)
    assert (type(back), back.exit_code) == (CollectiveError, 1)


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_error_class_says_when_it_is_raised(cls: type[CollectiveError]) -> None:
    """Each class has a sentence of its own."""
    assert cls.__doc__
    assert cls.__name__.endswith("Error") or cls is DegradedCollective


def test_problems_of_a_preflight_come_back_with_their_checks() -> None:
    """Each keeps its own class, message and hint, in order."""
    problems = (
        ("name", InvitationError("the token is for mgt3", "invite mgt2")),
        ("clock", RefusedError("the clock is wrong")),
    )
    sent = PreflightError("2 problems", None, problems)
    back = from_wire(json.loads(json.dumps(sent.to_wire())))
    assert isinstance(back, PreflightError)
    assert [(c, type(p), p.message, p.hint) for c, p in back.problems] == [
        (c, type(p), p.message, p.hint) for c, p in problems
    ]


@pytest.mark.parametrize("problems", [None, 3, "x", ["x"], [{"code": "preflight", "problems": 3}]])
def test_broken_problems_of_a_preflight_are_passed_over(problems: object) -> None:
    """What another server sends is never trusted to have a form."""
    back = from_wire({"code": "preflight", "message": "m", "problems": problems})
    assert isinstance(back, PreflightError)
    assert all(not getattr(problem, "problems", ()) for _, problem in back.problems)
