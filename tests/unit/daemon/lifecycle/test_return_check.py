"""What a returning voter waits for before its etcd starts."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collective.daemon.lifecycle.return_check import ReturnCheck
from collective.errors import UnreachableError
from collective.model.high_water_mark import HighWaterMark
from collective.model.records import MemberRecord
from collective.policy.returning import Report
from tests.unit.identities import identity, record_of, view_of

VIEW = view_of(*(record_of(f"mgt{n}") for n in (1, 2, 3)))


class Returning:
    """mgt3, which returns; what the others answer is given."""

    def __init__(self, *places: str | None) -> None:
        self.told: list[str] = []
        self._places = list(places)
        self.heard = 0
        etcd = SimpleNamespace(waits_for="", note_waiting=self.told.append)
        view = SimpleNamespace(view=VIEW, take=lambda _: None)
        runtime = SimpleNamespace(
            name="mgt3",
            plan=SimpleNamespace(started=True),
            records_view=view,
            stopping=Ending(),
            etcd=etcd,
            detector=SimpleNamespace(told_removed=lambda: False, last_answers=dict),
        )
        self.check = ReturnCheck(
            cast(Any, runtime),
            cast(Any, None),
            lambda member: member,
            lambda *_: None,
            lambda *_: self._places.pop(0),
        )


class Ending(threading.Event):
    """Nobody waits here."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once."""
        return self.is_set()


def report(member: MemberRecord, index: int) -> tuple[Report, HighWaterMark]:
    shown = identity(member.name).fingerprint
    return Report(shown, VIEW), HighWaterMark("1", 1, index)


def test_voter_that_answers_a_moment_later_is_heard_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer is a majority of three with this server; the other may remember more."""
    first = threading.Event()

    def ask(member: MemberRecord) -> tuple[Report, HighWaterMark]:
        if member.name == "mgt2":
            first.set()
            return report(member, 5)
        first.wait(10)
        return report(member, 9)

    seen: dict[str, HighWaterMark] = {}
    returning = Returning(None)
    monkeypatch.setattr(returning.check, "_ask", ask)
    monkeypatch.setattr(
        "collective.daemon.lifecycle.return_check.objection_to",
        lambda _layout, _plan, _view, known: seen.update(known),
    )
    assert returning.check.may_start()
    assert {name: mark.index for name, mark in seen.items()} == {"mgt1": 9, "mgt2": 5}


def test_server_that_is_there_twice_hears_the_others_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the other one runs it waits, and then its data may be old: it is judged anew."""
    asked: list[str] = []
    judged: list[int] = []

    def ask(member: MemberRecord) -> tuple[Report, HighWaterMark]:
        asked.append(member.name)
        if member.name == "mgt1":
            raise UnreachableError("it is off")
        return report(member, len(asked))

    returning = Returning("10.0.0.3:13002", "10.0.0.3:13002", None)
    monkeypatch.setattr(returning.check, "_ask", ask)
    monkeypatch.setattr(
        "collective.daemon.lifecycle.return_check.objection_to",
        lambda *_: judged.append(len(asked)),
    )
    assert returning.check.may_start()
    assert len(judged) == 1
    assert asked.count("mgt2") == 3
    assert "another server answers as mgt3 at 10.0.0.3:13002" in returning.told[0]
    assert returning.told[-1] == ""
