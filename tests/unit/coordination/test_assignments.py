"""Assignments of nodes to managers: several servers on one etcd in memory."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from collective.coordination.assignments import Assignments, Manager
from collective.errors import (
    ConflictError,
    DeadlineError,
    InputError,
    LeaseExpiredError,
    ProtocolError,
)
from collective.model.names import natural_key
from tests.harness import wait_until
from tests.harness.fake_etcd import FakeEtcd
from tests.unit.coordination.conftest import SECONDS, Connect

NODES = [f"n{number}" for number in range(30)]
GRACE = 0.3


@dataclass
class Desk:
    """One server's part: the group, the manager, and what it was told."""

    group: Assignments
    manager: Manager
    mine: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)

    @property
    def session(self) -> int:
        """The id of the manager's session."""
        session = self.manager._session
        assert session is not None
        return session.lease.id


@dataclass
class Office:
    """All desks, and who had each node, as they were told."""

    etcd: FakeEtcd
    connect: Connect
    desks: dict[str, Desk] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, name: str, block: threading.Event | None = None) -> Desk:
        """Have a server take part."""
        handle = self.connect(name)
        group = handle.assignments(grace=GRACE)
        desk: Desk

        def gained(nodes: list[str]) -> None:
            with self.lock:
                others = [d for d in self.desks.values() if d is not desk and d.manager.nodes]
                for other in others:
                    assert other.mine.isdisjoint(nodes), "two managers have a node"
                desk.mine |= set(nodes)
                desk.calls.append(f"+{len(nodes)}")

        def lost(nodes: list[str]) -> None:
            if block is not None:
                block.wait(SECONDS)
            with self.lock:
                desk.mine -= set(nodes)
                desk.calls.append(f"-{len(nodes)}")

        with self.lock:
            desk = Desk(group, group.manage(gained, lost))
            self.desks[name] = desk
        wait_until(lambda: name in group.managers(), SECONDS, f"{name} is there")
        return desk

    def kill(self, name: str) -> None:
        """Have a server vanish, and its session end."""
        desk = self.desks.pop(name)
        session = desk.session
        desk.manager.abandon()
        self.etcd.expire(session)

    def settle(self, nodes: int = len(NODES)) -> Counter[str]:
        """Wait until all nodes are managed and all have been told; return how many by whom."""

        def settled() -> bool:
            with self.lock:
                return sum(len(desk.mine) for desk in self.desks.values()) == nodes

        wait_until(settled, SECONDS, "all nodes have a manager")
        return Counter({name: len(desk.mine) for name, desk in self.desks.items()})


@pytest.fixture
def office(etcd: FakeEtcd, connect: Connect) -> Iterator[Office]:
    """An office without desks."""
    made = Office(etcd, connect)
    yield made
    for desk in made.desks.values():
        desk.manager.close(0.5)
        desk.group.close()


def test_nodes_are_spread_and_told_many_at_a_time(office: Office) -> None:
    """Whoever comes later gets nothing by itself, and a level share when it is asked for."""
    mgt1, mgt2 = office.open("mgt1"), office.open("mgt2")
    mgt1.group.define(NODES)
    assert office.settle() == {"mgt1": 15, "mgt2": 15}
    assert mgt1.calls == mgt2.calls == ["+15"]
    mgt3 = office.open("mgt3")
    assert office.settle() == {"mgt1": 15, "mgt2": 15, "mgt3": 0}
    mgt3.group.rebalance()
    wait_until(lambda: len(mgt3.mine) == 10, SECONDS, "the loads are level")
    assert office.settle() == {"mgt1": 10, "mgt2": 10, "mgt3": 10}
    for node in mgt3.mine:
        assert mgt1.group.manager_of(node) == "mgt3"
    assert mgt1.group.nodes_of("mgt3") == sorted(mgt3.mine, key=natural_key)


def test_nodes_of_a_lost_manager_move_after_the_grace_time(office: Office) -> None:
    """And only these."""
    mgt1, mgt2, _mgt3 = (office.open(name) for name in ("mgt1", "mgt2", "mgt3"))
    mgt1.group.define(NODES)
    office.settle()
    before = set(mgt1.mine), set(mgt2.mine)
    office.kill("mgt3")
    assert office.settle() == {"mgt1": 15, "mgt2": 15}
    assert before[0] <= mgt1.mine
    assert before[1] <= mgt2.mine


def test_the_one_who_decides_may_be_lost_too(office: Office) -> None:
    """The next one goes on where it was."""
    for name in ("mgt1", "mgt2", "mgt3"):
        office.open(name)
    office.desks["mgt2"].group.define(NODES)
    office.settle()
    office.kill("mgt1")
    office.settle()
    office.kill("mgt2")
    assert office.settle() == {"mgt3": 30}


def test_manager_that_leaves_gives_its_nodes_up_at_once(office: Office) -> None:
    """After its callback, and with no grace time."""
    mgt1, mgt2 = office.open("mgt1"), office.open("mgt2")
    mgt1.group.define(NODES)
    office.settle()
    office.desks.pop("mgt2")
    mgt2.manager.close()
    assert mgt2.calls == ["+15", "-15"]
    assert office.settle() == {"mgt1": 30}


def test_who_leaves_in_peace_is_not_given_nodes_again(office: Office, connect: Connect) -> None:
    """No grace time is waited for: it would be longer than this test waits."""
    groups = [connect(name).assignments("slow", grace=60.0) for name in ("mgt1", "mgt2")]
    told: list[str] = []
    stays = groups[0].manage(told.extend, told.extend)
    with groups[1].manage(lambda _: None, lambda _: None) as leaves:
        wait_until(lambda: len(groups[0].managers()) == 2, SECONDS, "both are there")
        groups[0].define(NODES)
        wait_until(lambda: len(stays.nodes) + len(leaves.nodes) == 30, SECONDS, "all are managed")
        leaves.close()
        leaves.close()
        wait_until(lambda: len(stays.nodes) == 30, SECONDS, "all are managed by one")
    assert groups[1].managers() == ["mgt1"]


def test_manager_that_is_closed_while_it_begins_is_not_there(
    office: Office, connect: Connect
) -> None:
    """Nor is its session, which would be given nodes that nobody manages."""
    group = connect("mgt1").assignments(grace=GRACE)
    office.etcd.hold()
    manager = group.manage(lambda _: None, lambda _: None)
    manager.close(0.0)
    office.etcd.release()
    wait_until(lambda: not manager._threads[0].is_alive(), 20.0, "its thread ends")
    wait_until(lambda: not office.etcd.leases(3600), SECONDS, "no session is left")
    assert group.managers() == []


def test_group_knows_at_once_what_is_there(office: Office, connect: Connect) -> None:
    """Whoever asks does not have to wait for anything first."""
    office.open("mgt1").group.define(NODES)
    late = connect("mgt2").assignments(grace=GRACE)
    assert late.manager_of("n1") in (None, "mgt1")
    late.remove(["n1"])
    wait_until(lambda: late._table.seat("n1") is None, SECONDS, "it is taken out")


@pytest.mark.parametrize("nodes", ["n1", {"": []}, {"n1": ["no name"]}, {"n1": ["m"] * 2 + ["?"]}])
def test_what_is_no_node_or_candidate_is_refused(office: Office, nodes: dict[str, str]) -> None:
    """Before anything is written."""
    mgt1 = office.open("mgt1")
    with pytest.raises(InputError):
        mgt1.group.define(nodes)
    assert mgt1.group._table.seats() == {}


def test_times_that_are_none_are_refused(office: Office, connect: Connect) -> None:
    """Where they are given, and not in a thread later."""
    handle = connect("mgt1")
    for grace in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="grace time"):
            handle.assignments(grace=grace)
    with pytest.raises(InputError, match="cannot live"):
        handle.assignments().manage(print, print, session_seconds=1)


def test_nobody_gets_a_node_while_its_manager_has_not_let_go(office: Office) -> None:
    """However long its callback takes; it lives, and so does its session."""
    block = threading.Event()
    mgt1, mgt2 = office.open("mgt1", block), office.open("mgt2")
    mgt1.group.define({"n1": ["mgt1"]})
    wait_until(lambda: mgt1.mine == {"n1"}, SECONDS, "mgt1 has it")
    mgt1.group.define({"n1": ["mgt2"]})
    wait_until(lambda: not mgt1.manager.is_mine("n1"), SECONDS, "it is asked to give it up")
    assert mgt2.mine == set()
    assert mgt2.group.manager_of("n1") == "mgt1"
    block.set()
    wait_until(lambda: mgt2.mine == {"n1"}, SECONDS, "mgt2 has it")
    assert mgt1.mine == set()


def test_lost_session_takes_all_nodes_and_another_life_brings_them_back(office: Office) -> None:
    """The process was there all the time, but the others could not know."""
    mgt1 = office.open("mgt1")
    mgt1.group.define(NODES)
    office.settle()
    first = mgt1.session
    office.etcd.expire(first)
    wait_until(lambda: mgt1.calls[-2:] == ["-30", "+30"], 20.0, "it has them in another life")
    assert mgt1.session != first


def test_late_write_of_a_former_manager_is_fenced(office: Office, connect: Connect) -> None:
    """What it thinks does not count."""
    mgt1 = office.open("mgt1")
    mgt1.group.define(["n1"])
    wait_until(lambda: mgt1.mine == {"n1"}, SECONDS, "mgt1 has it")
    fence = mgt1.manager.fence("n1")
    store = connect("elsewhere").store
    store.put("power/n1", b"on", when=(fence,))
    office.open("mgt2")
    office.kill("mgt1")
    wait_until(lambda: office.desks["mgt2"].mine == {"n1"}, SECONDS, "mgt2 has it")
    with pytest.raises(ConflictError):
        store.put("power/n1", b"off", when=(fence,))
    with pytest.raises(LeaseExpiredError, match="mgt1 does not manage n1"):
        mgt1.manager.fence("n1")


def test_node_that_is_taken_out_is_given_up_first(office: Office) -> None:
    """And then it is unknown."""
    mgt1 = office.open("mgt1")
    mgt1.group.define(["n1", "n2"])
    wait_until(lambda: mgt1.mine == {"n1", "n2"}, SECONDS, "mgt1 has both")
    mgt1.group.remove(["n1", "n9"])
    wait_until(lambda: mgt1.mine == {"n2"}, SECONDS, "it is lost")
    wait_until(lambda: mgt1.group._table.seat("n1") is None, SECONDS, "it is gone")
    with pytest.raises(InputError, match="n1 is no node of nodes"):
        mgt1.group.manager_of("n1")
    assert mgt1.group.manager_of("n2") == "mgt1"


def test_candidates_that_are_one_text_are_refused(office: Office) -> None:
    """Its letters would be the candidates."""
    mgt1 = office.open("mgt1")
    with pytest.raises(InputError, match="are a text, expected a list"):
        mgt1.group.define({"n1": "mgt1"})


def test_seat_that_a_newer_release_wrote_is_left_to_it(office: Office, connect: Connect) -> None:
    """And named; the other nodes are managed as ever."""
    mgt1 = connect("mgt1")
    key = "assignments/nodes/nodes/n1"
    mgt1._coordination.put(key, b'{"format": 2}')
    desk = office.open("mgt1")
    with pytest.raises(ProtocolError, match="assignment of n1 has format 2"):
        desk.group.manager_of("n1")
    with pytest.raises(ProtocolError, match="assignment of n1 has format 2"):
        desk.group.define(["n1", "n2"])
    desk.group.define(["n2", "n3"])
    office.settle(2)
    mgt1._coordination.delete(key)
    wait_until(lambda: not desk.group._table._unread, SECONDS, "it is heard that it is gone")
    desk.group.define(["n1"])
    office.settle(3)


def test_change_that_others_made_first_is_not_tried_without_a_pause(
    etcd: FakeEtcd, connect: Connect
) -> None:
    """A server that hears nothing must not flood etcd, and says why it does not get on."""
    mgt1, mgt2 = connect("mgt1"), connect("mgt2")
    group, other = mgt1.assignments(), mgt2.assignments()
    etcd.deaf = True
    etcd.break_streams()
    wait_until(lambda: not mgt1.store.is_following, SECONDS, "nothing is heard")
    other.define(["n1"], seconds=1.0)
    before = len(etcd.requests)
    with pytest.raises(DeadlineError, match="does not hear of changes"):
        group.define(["n1"], seconds=1.5)
    assert len(etcd.requests) - before < 40
    etcd.deaf = False


def test_group_that_nobody_holds_follows_no_longer(connect: Connect) -> None:
    """It looks as cheap as a lock, and is asked for in a loop."""
    mgt1 = connect("mgt1")
    for _ in range(20):
        mgt1.assignments().managers()
    gc.collect()
    assert not mgt1._coordination_hub._by_prefix


def test_callback_that_raises_is_as_one_that_returned(office: Office, connect: Connect) -> None:
    """The nodes are managed; the log has the trace."""
    group = connect("mgt1").assignments(grace=GRACE)

    def raises(nodes: list[str]) -> None:
        raise ValueError(nodes)

    with group.manage(raises, raises) as manager:
        group.define(["n1"])
        wait_until(lambda: manager.is_mine("n1"), SECONDS, "it has the node")
    group.close()


def test_manager_whose_group_nobody_holds_ends_with_its_handle(connect: Connect) -> None:
    """As the first example of the manual has it: ``handle.assignments().manage(...)``."""
    handle, lost = connect("mgt1"), list[str]()
    have = threading.Event()
    manager = handle.assignments("g", grace=GRACE).manage(lambda nodes: have.set(), lost.extend)
    handle.assignments("g", grace=GRACE).define(["n1"])
    assert have.wait(SECONDS)
    gc.collect()
    handle.close()
    for thread in manager._threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert lost == ["n1"]
