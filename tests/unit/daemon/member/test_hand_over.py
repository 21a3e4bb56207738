"""To whom leadership is handed over: never to an etcd that does not follow."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from collective.daemon.clock import elapsed
from collective.daemon.member.etcd_supervisor import EtcdSupervisor
from collective.daemon.member.failure_detector import Answer, FailureDetector
from collective.errors import EtcdUnavailableError
from collective.etcd.api import Status
from collective.protocol.messages import ServerStatus
from tests.unit.identities import record_of, view_of

SAID = ServerStatus("mgt2", "1", "3.5.16", "2", "1", 1, 101, 101, 1, False, "", ())
VIEW = view_of(*(record_of(f"mgt{n}", member_id=f"{n:016x}") for n in (1, 2, 3)))


class Detector(FailureDetector):
    """The others answer what a test says, without a network."""

    def __init__(self, said: Mapping[str, ServerStatus]) -> None:
        nothing = cast(Any, None)
        super().__init__("mgt1", nothing, nothing, nothing, nothing)
        self._said = said

    def answers(self, seconds: float, since: float | None = None) -> Mapping[str, Answer]:
        return {name: Answer(status, "", elapsed()) for name, status in self._said.items()}

    def answers_at(self, *_asked: Any) -> Mapping[str, Answer]:
        return self.answers(0.0)


class Etcd:
    """An etcd that leads, or whose log stands still."""

    def __init__(self, commits: bool) -> None:
        self.index, self.commits, self.moved = 100, commits, list[int]()

    def status(self) -> Status:
        return Status(1, 1, 1, self.index, self.index, 1, "3.5.16", 1, False, ())

    def commit_and_range(self, _prefix: str) -> None:
        if not self.commits:
            raise EtcdUnavailableError("etcd did not answer in time")
        self.index += 1

    def move_leader(self, member_id: int) -> None:
        self.moved.append(member_id)


def handed_over(said: Mapping[str, ServerStatus], commits: bool = True) -> list[int]:
    """Return to whom an etcd that leads has handed over."""
    etcd = Etcd(commits)
    backend = SimpleNamespace(gateway=etcd, failure=None, has_answered=lambda: None)
    supervisor = EtcdSupervisor(
        cast(Any, backend),
        cast(Any, lambda: SimpleNamespace(votes=True)),
        cast(Any, None),
        cast(Any, SimpleNamespace(view=VIEW)),
        Detector(said),
        threading.Event(),
    )
    supervisor.hand_over()
    return etcd.moved


def test_leadership_goes_to_a_voter_that_follows() -> None:
    """One that has not applied the entry of now is passed over, whatever index it has heard of."""
    frozen = replace(SAID, index=500, applied=100)
    assert handed_over({"mgt2": frozen, "mgt3": SAID}) == [3]
    assert handed_over({"mgt2": SAID, "mgt3": frozen}) == [2]
    assert handed_over({"mgt2": frozen, "mgt3": frozen}) == []


def test_leadership_stays_where_nothing_is_committed() -> None:
    """Nobody can be known to follow then."""
    assert handed_over({"mgt2": SAID, "mgt3": SAID}, commits=False) == []
