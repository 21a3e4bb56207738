"""The document of ``show``: states, what is counted, and what is told besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collective.daemon import clock
from collective.daemon.clock import elapsed
from collective.daemon.listeners.commands import show as command
from collective.daemon.listeners.show import document
from collective.daemon.member.failure_detector import Answer, FailureDetector
from collective.errors import EtcdUnavailableError, RemovedError
from collective.model.plan import Mode
from collective.model.records import Role, Turn, to_json
from collective.model.view import TURN_KEY, Item, View
from collective.policy.addressing import vacating
from collective.protocol.messages import ServerStatus
from tests.unit.identities import record_of, view_of

RECORDS = view_of(
    *(record_of(f"mgt{n}", member_id=f"{n:016x}") for n in (1, 2, 3)),
    record_of("mgt4", Role.NONVOTING, member_id=""),
)
LEADER = f"{1:016x}"


def status_of(name: str, **changes: Any) -> ServerStatus:
    """Return what a voter says that has the log up to entry 100."""
    member_id = f"{int(name[3:]):016x}"
    well = ServerStatus(name, "1", "3.5.16", member_id, LEADER, 1, 100, 100, 1, False, "", ())
    return replace(well, **changes)


class Others(FailureDetector):
    """The other servers answer what a test says, without a network."""

    def __init__(self, said: Mapping[str, ServerStatus | None], removed: bool) -> None:
        super().__init__("mgt1", *[cast(Any, None)] * 4)
        self._said, self._removed = said, removed

    def answers(self, seconds: float, since: float | None = None) -> Mapping[str, Answer]:
        return self.last_answers()

    def answers_at(self, *_asked: Any) -> Mapping[str, Answer]:
        return self.last_answers()

    def last_answers(self) -> Mapping[str, Answer]:
        silent = {"removed": self._removed}
        return {
            name: Answer(status, "" if status else "no answer", elapsed(), **silent)
            for name, status in self._said.items()
        }

    def round_trips(self) -> Mapping[str, float]:
        return {"mgt2": 0.0001, "mgt3": 0.2, "mgt4": 9.0}


class Clock(clock.Time):
    """A clock that goes on when somebody waits."""

    now = 1000.0

    def elapsed(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def quick_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_time", Clock())


class Store:
    """Records that are proven, or a store that does not answer."""

    proven_at = float("-inf")

    def __init__(self, view: View, proven: bool) -> None:
        self._view, self._proven = view, proven

    def read_at_commit(self, seconds: float) -> View:
        if not self._proven:
            clock.pause(seconds)
            raise EtcdUnavailableError("etcd did not answer in time")
        return self._view


def runtime_of(
    proven: bool = True,
    turn: Turn | None = None,
    starting: bool = False,
    election_ms: int = 5000,
    removed: bool = False,
    **said: ServerStatus | None,
) -> Any:
    """Return a voter mgt1 with the entry 101, to which the others say what is given, or well."""
    answers = {"mgt2": status_of("mgt2", applied=101), "mgt3": status_of("mgt3", applied=101)}
    answers["mgt4"] = replace(status_of("mgt4", nonvoting=True), member_id="")
    items = dict(RECORDS.items) | ({TURN_KEY: Item(to_json(turn).encode(), 1)} if turn else {})
    view = View(7, items)
    own = status_of("mgt1", index=101, applied=101)
    return SimpleNamespace(
        plan=SimpleNamespace(name="mgt1", mode=Mode.MEMBER, aside=()),
        store=Store(view, proven),
        records_view=SimpleNamespace(view=view),
        detector=Others({**answers, **said}, removed),
        election_ms=election_ms,
        etcd=SimpleNamespace(failure=None, waits_for="", is_starting=starting),
        reporter=SimpleNamespace(trouble="", status=lambda: own),
    )


def states(shown: Mapping[str, Any]) -> dict[str, str]:
    return {member["name"]: member["state"] for member in shown["members"]}


def test_all_that_follow_are_active_and_counted() -> None:
    """Who does not vote has no log of its own, and is active all the same."""
    shown = document(runtime_of())
    assert set(states(shown).values()) == {"active"}
    assert (shown["quorum"], shown["proof"], shown["spare"]) == (True, "proven", 1)
    assert (shown["leader"], shown["restarting"]) == ("mgt1", None)


def test_member_whose_address_another_one_has_is_said_to_have_none() -> None:
    """It was shown at 100::b177:38ba:b877:3bd9, which nobody had ever given it."""
    runtime = runtime_of(mgt3=None)
    runtime.records_view.view = vacating(runtime.records_view.view, {"mgt3"})
    runtime.store = Store(runtime.records_view.view, proven=True)
    mgt3 = document(runtime)["members"][2]
    assert (mgt3["name"], mgt3["address"]) == ("mgt3", None)
    assert mgt3["errors"] == ["another member has its address now, and it has told no other one"]


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (status_of("mgt3", applied=100, index=500), "not_following"),
        (status_of("mgt3", leader=""), "degraded"),
        (status_of("mgt3", leader="", member_id=""), "degraded"),
        (None, "offline"),
    ],
)
def test_voter_without_the_entry_of_now_is_not_counted(
    said: ServerStatus | None, state: str
) -> None:
    """What it says of its own commits is no matter (etcd 15247)."""
    shown = document(runtime_of(mgt3=said))
    assert states(shown) == dict.fromkeys(("mgt1", "mgt2", "mgt4"), "active") | {"mgt3": state}
    assert (shown["answering"], shown["spare"]) == (2, 0)
    told = [line for line in shown["errors"] if "does not follow" in line]
    assert len(told) == (state == "not_following")


def test_own_status_that_comes_too_late_takes_no_quorum_away() -> None:
    """What was committed came by its own etcd, be the machine too busy to tell more."""
    runtime = runtime_of()
    runtime.reporter.status = lambda: status_of("mgt1", member_id="", leader="", index=0)
    shown = document(runtime)
    assert (shown["quorum"], shown["leader"], states(shown)["mgt1"]) == (True, None, "active")
    assert shown["etcd_failure"] is None


@pytest.mark.parametrize(
    ("runtime", "who"),
    [
        (runtime_of(turn=Turn("mgt2", "taking up mgt5")), "mgt2"),
        (runtime_of(False, Turn("mgt1", "taking up mgt5"), mgt2=None, mgt3=None), "mgt1"),
        (runtime_of(False, Turn("mgt2", "x"), mgt2=status_of("mgt2", member_id="")), "mgt2"),
        (runtime_of(False, starting=True, mgt2=None, mgt3=None), "mgt1"),
        (runtime_of(False, Turn("mgt2", "x"), mgt2=None, mgt3=None), None),
        (runtime_of(starting=True), None),
        (runtime_of(False, mgt2=None, mgt3=None), None),
    ],
)
def test_restart_on_purpose_is_told_while_it_is_one(runtime: Any, who: str | None) -> None:
    """A server that was lost in its turn is not restarting, it is off."""
    shown = document(runtime)
    assert (shown["restarting"] or {}).get("name") == who
    told = [line for line in shown["errors"] if "restarts its etcd" in line]
    assert len(told) == (who is not None)


def test_voter_that_is_too_far_away_is_named() -> None:
    """Of members without a vote raft asks nothing, however far they are."""
    shown = document(runtime_of(election_ms=450))
    told = [line for line in shown["errors"] if "a packet to" in line]
    assert len(told) == 1
    assert "a packet to mgt3 and back takes 200 ms" in told[0]
    trips = {member["name"]: member["round_trip_ms"] for member in shown["members"]}
    assert trips == {"mgt1": None, "mgt2": 0.1, "mgt3": 200.0, "mgt4": 9000.0}


GONE: dict[str, Any] = dict.fromkeys(("mgt2", "mgt3", "mgt4"))


def shown_by(runtime: Any) -> Mapping[str, Any]:
    """Return what the command is told on a server that lives."""
    server = SimpleNamespace(runtime=runtime, plan=SimpleNamespace(name="mgt1", mode=Mode.MEMBER))
    server.plan.former_data, server.plan.aside = "", ()
    return cast(Mapping[str, Any], command.run(cast(Any, server)))


def test_server_that_all_others_call_deleted_says_so_before_it_rests() -> None:
    """But only without a quorum, and while nobody says that it is a member."""
    told = shown_by(runtime_of(False, removed=True, **GONE))
    assert told["idle"]["code"] == "removed"
    assert "mgt2 and mgt3 and mgt4 say" in told["idle"]["message"]
    assert "idle" not in shown_by(runtime_of(False, removed=False, **GONE))
    assert "idle" not in shown_by(runtime_of(True, removed=True, **GONE))
    assert "idle" not in shown_by(runtime_of(False, removed=True, mgt2=None, mgt3=None))


SILENT = "etcd on this server does not answer"
ENDED = "etcd ended with code 1"


def broken(
    failure: str | None = None,
    waits_for: str = "",
    mode: Mode = Mode.MEMBER,
    runs: bool = False,
    turn: Turn | None = None,
    **said: ServerStatus | None,
) -> Any:
    """Return a voter without a quorum whose own etcd does not answer."""
    made = cast(Any, runtime_of)(False, turn, **said)
    made.etcd.failure, made.etcd.waits_for, made.plan.mode = failure, waits_for, mode
    own = status_of("mgt1", member_id="1" if runs else "", leader="", index=0)
    made.reporter.status = lambda: own
    return made


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        (broken(ENDED), ENDED),
        (broken(ENDED, **GONE), ENDED),
        (broken(mgt3=None), SILENT),
        # One that starts answers nobody before there is a quorum: the others are to be started.
        (broken(**GONE), None),
        (broken("it waits for mgt2", waits_for="it waits for mgt2"), None),
        (broken(mode=Mode.JOINING), None),
        (broken(runs=True), None),
        # It is restarted on purpose; another server's turn is no reason for it.
        (broken(turn=Turn("mgt1", "taking up mgt5")), None),
        (broken(turn=Turn("mgt2", "taking up mgt5")), SILENT),
    ],
)
def test_etcd_that_does_not_work_here_is_told_apart_from_others_that_are_off(
    runtime: Any, said: str | None
) -> None:
    """Whatever keeps it from starting, and also where nothing does and it hangs."""
    shown = document(runtime)
    assert (shown["quorum"], shown["etcd_failure"]) == (False, said)
    told = [line for line in shown["errors"] if line in (SILENT, ENDED)]
    assert told == ([said] if said else [])


def test_names_are_told_without_asking_anybody() -> None:
    """In the order of people; a server that is nothing says why."""
    runtime = runtime_of(False, **GONE)
    runtime.store = runtime.detector = runtime.reporter = None
    server = SimpleNamespace(runtime=runtime)
    assert command.names(cast(Any, server)) == {"names": ["mgt1", "mgt2", "mgt3", "mgt4"]}
    server = SimpleNamespace(runtime=None, why_idle=lambda: RemovedError("mgt1 was deleted"))
    with pytest.raises(RemovedError):
        command.names(cast(Any, server))
