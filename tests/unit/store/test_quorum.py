"""The quorum as it was last proven: its age, and who is told that it is lost and back."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, Queue

import pytest

from collective.errors import ClosedError, DegradedCollective
from collective.handle import Collective
from collective.store import quorum
from collective.store.quorum import QuorumState
from tests.harness import wait_until
from tests.harness.fake_etcd import FakeEtcd, nowhere

SECONDS = 20.0


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> FakeEtcd:
    monkeypatch.setattr(quorum, "EVERY_SECONDS", 0.01)
    return FakeEtcd()


@pytest.fixture
def handle(etcd: FakeEtcd) -> Iterator[Collective]:
    with Collective("mgt1", etcd, nowhere()) as made:
        made.wait_until_ready(SECONDS)
        yield made


def is_known(handle: Collective, holds: bool) -> None:
    wait_until(lambda: handle.last_quorum.holds is holds, SECONDS, f"the quorum is {holds}")


def test_nothing_is_known_and_nothing_asked_before_somebody_looks(handle: Collective) -> None:
    """And the first look waits for nothing."""
    assert handle._quorum_watch._thread is None
    first = handle.last_quorum
    assert not first.holds or first.age < SECONDS
    is_known(handle, True)


def test_age_counts_from_the_last_proof(handle: Collective, etcd: FakeEtcd) -> None:
    """A proof makes it small; without one it grows."""
    is_known(handle, True)
    assert handle.last_quorum.age < SECONDS
    etcd.leads = False
    is_known(handle, False)
    before = handle.last_quorum.age
    assert handle.last_quorum.age > before
    assert before > 0


def test_a_write_is_a_proof_too(handle: Collective) -> None:
    """Whatever a quorum has answered counts."""
    before = handle._quorum_watch._leadership.proven
    handle.store.put("a", b"")
    assert handle._quorum_watch._leadership.proven > before


def test_write_made_meanwhile_counts_for_more_than_an_answer_that_is_late(
    handle: Collective, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine answers some questions late, and has lost no quorum."""
    is_known(handle, True)
    asked = 0

    def late(_seconds: float) -> int:
        nonlocal asked
        handle.store.put("a", b"")
        asked += 1
        raise DegradedCollective("no answer in time")

    told: Queue[bool] = Queue()
    handle.on_quorum_change(lambda state: told.put(state.holds))
    monkeypatch.setattr(handle._read_batcher, "newest", late)
    wait_until(lambda: asked > 3, SECONDS, "it was asked")
    assert told.empty()
    assert handle.last_quorum.holds


def test_loss_and_return_are_told_in_order(handle: Collective, etcd: FakeEtcd) -> None:
    """Each once, though asked many times."""
    told: Queue[bool] = Queue()
    watch = handle.on_quorum_change(lambda state: told.put(state.holds), initial=True)
    assert told.get(timeout=SECONDS) is True
    etcd.leads = False
    assert told.get(timeout=SECONDS) is False
    etcd.leads = True
    assert told.get(timeout=SECONDS) is True
    watch.close()
    etcd.leads = False
    is_known(handle, False)
    with pytest.raises(Empty):
        told.get_nowait()


def test_callback_that_raises_is_told_the_next_change(handle: Collective, etcd: FakeEtcd) -> None:
    """It is logged."""
    told: Queue[bool] = Queue()

    def call(state: QuorumState) -> None:
        told.put(state.holds)
        raise SystemExit

    handle.on_quorum_change(call, initial=True)
    assert told.get(timeout=SECONDS) is True
    etcd.leads = False
    assert told.get(timeout=SECONDS) is False


def test_closed_handle_asks_no_more(etcd: FakeEtcd) -> None:
    """And takes no callback."""
    handle = Collective("mgt1", etcd, nowhere())
    handle.wait_until_ready(SECONDS)
    is_known(handle, True)
    thread = handle._quorum_watch._thread
    handle.close()
    assert thread is not None
    thread.join(SECONDS)
    assert not thread.is_alive()
    with pytest.raises(ClosedError):
        handle.on_quorum_change(print)


def test_closed_handle_claims_no_quorum(handle: Collective) -> None:
    """Nobody asks any more, so nobody would find out that it is lost."""
    is_known(handle, True)
    handle.close()
    assert not handle.last_quorum.holds
