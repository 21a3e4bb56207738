"""Locks and elections of several handles on one etcd in memory."""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from collective.coordination.lock_queue import Contender
from collective.errors import (
    ConflictError,
    DeadlineError,
    InDoubtError,
    InputError,
    LeaseExpiredError,
    RefusedError,
)
from collective.handle import Collective
from collective.model.keyspace import COORDINATION
from tests.harness import wait_until
from tests.harness.fake_etcd import FakeEtcd, Trouble
from tests.unit.coordination.conftest import SECONDS, Connect


def held_lease(etcd: FakeEtcd) -> int:
    """The only lease of a session that there is."""
    (lease,) = etcd.leases(3600)
    return lease


def test_one_at_a_time_holds_a_lock_and_each_token_is_higher(connect: Connect) -> None:
    """Three servers, four threads each."""
    handles = [connect(f"mgt{n}") for n in (1, 2, 3)]
    inside: list[str] = []
    tokens: list[int] = []

    def work(handle: Collective) -> None:
        for _ in range(5):
            with handle.lock("config") as hold:
                assert hold.is_held
                inside.append(handle.name)
                assert len(inside) == 1
                tokens.append(hold.token)
                inside.pop()

    with ThreadPoolExecutor(12) as pool:
        for done in [pool.submit(work, handle) for handle in handles * 4]:
            done.result()
    assert len(tokens) == 60
    assert tokens == sorted(set(tokens))


def test_those_who_wait_have_it_in_the_order_in_which_they_came(connect: Connect) -> None:
    """And their names can be read meanwhile."""
    handles = [connect(f"mgt{n}") for n in (1, 2, 3)]
    first = handles[0].lock("config").acquire()
    order: list[str] = []

    def work(handle: Collective) -> None:
        with handle.lock("config"):
            order.append(handle.name)

    threads = []
    election = handles[0].lock("config")._places
    for count, handle in enumerate(handles[1:], start=2):
        threads.append(threading.Thread(target=work, args=(handle,)))
        threads[-1].start()
        wait_until(lambda count=count: len(election.contenders()) == count, SECONDS, "it waits")  # type: ignore[misc]
    assert [contender.name for contender in election.contenders()] == ["mgt1", "mgt2", "mgt3"]
    first.release()
    for thread in threads:
        thread.join()
    assert order == ["mgt2", "mgt3"]


def test_lock_that_is_held_is_not_to_be_had_in_time(connect: Connect) -> None:
    """The error names its holder, and nobody stands in the queue afterwards."""
    mgt1, mgt2 = connect("mgt1"), connect("mgt2")
    with mgt1.lock("config"):
        with pytest.raises(DeadlineError, match="mgt1 holds lock config"):
            mgt2.lock("config").acquire(1.0)
        assert mgt2.lock("config").try_acquire() is None
        holder = mgt2.lock("config").holder()
        assert holder is not None
        assert holder.name == "mgt1"
    got = mgt2.lock("config").try_acquire()
    assert got is not None
    got.release()
    wait_until(lambda: mgt1.lock("config").holder() is None, SECONDS, "nobody stands there")


def test_holder_that_is_gone_frees_its_lock_and_writes_nothing_late(
    etcd: FakeEtcd, connect: Connect
) -> None:
    """It was paused, or cut off: its session ended meanwhile, and it does not know."""
    mgt1, mgt2 = connect("mgt1"), connect("mgt2")
    late = mgt1.lock("config").acquire()
    mgt1.store.put("a", b"1", when=(late.fence,))
    etcd.expire(held_lease(etcd))
    with mgt2.lock("config") as hold:
        mgt2.store.put("a", b"2", when=(hold.fence,))
        assert hold.token > late.token
        with pytest.raises(ConflictError, match="the lock that it was made under is lost"):
            mgt1.store.put("a", b"3", when=(late.fence,))
    assert not late.is_held
    with pytest.raises(LeaseExpiredError):
        late.check()
    assert mgt2.store.get("a", linearizable=True) == b"2"


def test_session_that_is_lost_is_told_and_another_one_opened(
    etcd: FakeEtcd, connect: Connect
) -> None:
    """Whoever holds something in it can stop in time."""
    mgt1 = connect("mgt1")
    session = mgt1.session(2)
    lost = threading.Event()
    session.when_lost(lost.set)
    hold = mgt1.lock("config", session).acquire()
    etcd.expire(session.lease.id)
    assert lost.wait(SECONDS)
    assert not hold.is_held
    with pytest.raises(LeaseExpiredError, match="the session of 2 s on mgt1 has ended"):
        mgt1.lock("other", session).acquire()
    with mgt1.lock("config") as again:
        assert again.is_held


def test_place_in_doubt_is_looked_up_and_not_taken_twice(etcd: FakeEtcd, connect: Connect) -> None:
    """The answer to the first try was lost; the second finds its place."""
    mgt1 = connect("mgt1")
    with mgt1.lock("warm"):
        pass
    wait_until(lambda: mgt1.lock("warm").holder() is None, SECONDS, "it is released")
    etcd.plan(Trouble.UNHEARD)
    hold = mgt1.lock("config").acquire(SECONDS)
    assert hold.is_held
    assert len(mgt1.lock("config")._places.contenders()) == 1


def test_release_that_cannot_be_made_is_made_later(etcd: FakeEtcd, connect: Connect) -> None:
    """Nobody has to wait until the session ends."""
    mgt1, mgt2 = connect("mgt1"), connect("mgt2")
    hold = mgt1.lock("config").acquire()
    etcd.plan(Trouble.LOST)
    hold.release()
    assert not hold.is_held
    with mgt2.lock("config") as got:
        assert got.is_held


def test_lock_is_not_re_entrant(connect: Connect) -> None:
    """It says so, where it would wait for itself for ever."""
    lock = connect("mgt1").lock("config")
    with lock, pytest.raises(RefusedError, match="held already"):
        lock.__enter__()


def test_names_are_any_text_and_do_not_meet(connect: Connect) -> None:
    """A slash in one makes it no part of another."""
    mgt1 = connect("mgt1")
    for name in ("a", "a/b", "a b", "ä", "a%2Fb"):
        held = mgt1.lock(name).acquire(0.5)
        assert held.is_held


def test_leaders_are_told_in_order(etcd: FakeEtcd, connect: Connect) -> None:
    """Now and at each change, nobody in between left out."""
    mgt1, mgt2 = connect("mgt1"), connect("mgt2")
    told: list[str | None] = []

    def hear(leader: Contender | None) -> None:
        told.append(None if leader is None else leader.value)

    watch = connect("mgt3").election("chief").on_change(hear)
    first = mgt1.election("chief").campaign("one")
    election = mgt2.election("chief")
    leader = wait_until(election.leader, SECONDS, "mgt2 hears who leads")
    assert leader is not None
    assert (leader.name, leader.value) == ("mgt1", "one")
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(election.campaign, "two")
        wait_until(lambda: len(election.candidates()) == 2, SECONDS, "it stands")
        first.release()
        second.result().release()
    wait_until(lambda: told[-2:] == ["two", None], SECONDS, "all is told")
    assert told == ["one", "two", None]
    watch.close()


def test_candidate_that_never_led_is_never_told(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys come in the order of their names, and those say nothing of who came first."""
    names = iter(("b" * 16, "a" * 16))
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(names))
    mgt1, mgt2 = connect("mgt1"), connect("mgt2")
    first = mgt1.election("chief").campaign("one")
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(mgt2.election("chief").campaign, "two")
        election = connect("mgt3").election("chief")
        wait_until(lambda: len(election.candidates()) == 2, SECONDS, "both stand")
        told: list[str | None] = []
        election.on_change(lambda leader: told.append(leader.value if leader else None))
        first.release()
        second.result().release()
        wait_until(lambda: None in told, SECONDS, "all is told")
    assert told == ["one", "two", None]


def _count(etcd: FakeEtcd, prefix: str) -> int:
    with etcd.in_secret():
        return len(etcd.range(prefix)[1])


def test_place_that_comes_late_blocks_nobody(etcd: FakeEtcd, connect: Connect) -> None:
    """Its write was on its way when its caller had long given up."""
    mgt1, mgt2 = connect("mgt1"), connect("mgt2")
    session = mgt1.session(60)
    etcd.plan(*[Trouble.LATE] * 1000)
    with pytest.raises(InDoubtError):
        mgt1.lock("config", session).acquire(0.0)
    etcd.calm()
    assert _count(etcd, COORDINATION + "locks/") == 0
    while etcd.late:
        etcd.deliver()
    wait_until(lambda: _count(etcd, COORDINATION + "locks/") == 0, SECONDS, "it is taken back")
    with mgt2.lock("config") as hold:
        assert hold.is_held


@pytest.mark.parametrize("kind", ["lock", "election", "assignments"])
def test_name_that_fits_into_no_key_is_refused_at_once(connect: Connect, kind: str) -> None:
    """It left a thread that tried for ever to take back a place that was never taken."""
    mgt1 = connect("mgt1")
    for name in ("n" * 600, "\u00e4" * 90):
        with pytest.raises(InputError, match="of a key, at most"):
            getattr(mgt1, kind)(name)
    getattr(mgt1, kind)("n" * 250)
    wrong: Any = 5
    with pytest.raises(InputError, match="expected str"):
        getattr(mgt1, kind)(wrong)


def test_key_that_cannot_be_taken_back_hinders_no_other(etcd: FakeEtcd, connect: Connect) -> None:
    """Each is tried by itself, as often as it takes."""
    mgt1 = connect("mgt1")
    with mgt1.session(60) as session:
        session._left.add("no key")
        hold = mgt1.lock("config", session).acquire()
        etcd.plan(*[Trouble.DROPPED] * 50)
        hold.release()
        etcd.calm()
        wait_until(lambda: mgt1.lock("config").holder() is None, SECONDS, "it is taken back")
