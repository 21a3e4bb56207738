"""Calls whose ends take their time, or end in the middle of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import collective
from collective.errors import (
    ClosedError,
    CollectiveError,
    DaemonError,
    InDoubtError,
    RefusedError,
    UnreachableError,
)
from collective.protocol.streams import VANISHED_SECONDS
from tests.harness import Cluster, Server, wait_until
from tests.harness.trouble import one_etcd
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

SECONDS = 20.0
MakeCluster = Callable[..., Cluster]
Connect = Callable[[Server], collective.Collective]


@pytest.fixture
def etcd() -> Etcd:
    """One version: calls do not pass through etcd."""
    return one_etcd()


def test_reader_that_pauses_long_loses_nothing(
    make_cluster: MakeCluster, connect: Connect
) -> None:
    """Longer than a server may be silent, with the way between full: either end, at one time."""
    cluster = make_cluster(2)
    mgt1, mgt2 = (connect(server) for server in cluster.servers.values())
    part, count = b"x" * (1 << 20), 30

    def pause(call: collective.ServedCall) -> bytes:
        threading.Event().wait(VANISHED_SECONDS + 2.0)
        return str(sum(len(message) for message in call)).encode()

    def give(call: collective.ServedCall) -> None:
        for _ in range(count):
            call.send(part)

    for handler in (pause, give):
        mgt2.serve(handler.__name__, handler)
    with (
        mgt1.call("mgt2", "pause", seconds=60.0) as there,
        mgt1.call("mgt2", "give", seconds=60.0) as back,
    ):

        def fill() -> None:
            for _ in range(count):
                there.send(part)
            there.finish()

        sender = threading.Thread(target=fill)
        sender.start()
        threading.Event().wait(VANISHED_SECONDS + 2.0)
        assert sum(len(message) for message in back) == count << 20
        assert there.receive() == str(count << 20).encode()
        sender.join(SECONDS)


def test_closed_handle_begins_nothing(make_cluster: MakeCluster, connect: Connect) -> None:
    """The handler does not run; where it does already, that is not told as nothing."""
    mgt1, mgt2 = (connect(server) for server in make_cluster(2).servers.values())
    begun, go_on = list[str](), threading.Event()

    def act(call: collective.ServedCall) -> None:
        begun.append(call.caller.name)
        go_on.wait(SECONDS)

    mgt2.serve("act", act)
    caught: list[CollectiveError] = []

    def ask() -> None:
        try:
            mgt1.ask("mgt2", "act", seconds=SECONDS)
        except CollectiveError as error:
            caught.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: begun, SECONDS, "the handler runs")
    mgt1.close()
    asking.join(SECONDS)
    assert isinstance(caught[0], InDoubtError)
    for _ in range(20):
        with pytest.raises(ClosedError):
            mgt1.call("mgt2", "act")
    go_on.set()
    threading.Event().wait(0.5)
    assert begun == ["mgt1"]


def test_server_that_is_stopped_says_so(make_cluster: MakeCluster, connect: Connect) -> None:
    """While it hands over: that it is ending, here and there, and nothing worse."""
    cluster = make_cluster(3)
    mgt1, mgt2, _ = cluster.servers.values()
    here, there = connect(mgt1), connect(mgt2)
    here.serve("act", lambda call: b"done")
    told: list[CollectiveError] = []
    shown: list[str] = []
    ended = threading.Event()

    def ask(handle: collective.Collective) -> None:
        while not ended.is_set():
            try:
                handle.ask("mgt1", "act", seconds=2.0)
            except CollectiveError as error:
                told.append(error)

    def show() -> None:
        while not ended.is_set():
            shown.append(mgt1.run("show").err)

    threads = [threading.Thread(target=ask, args=(handle,)) for handle in (here, there)]
    threads.append(threading.Thread(target=show))
    for thread in threads:
        thread.start()
    mgt1.stop()
    ended.set()
    for thread in threads:
        thread.join(SECONDS)
    kinds = (DaemonError, RefusedError, UnreachableError, InDoubtError)
    assert [error for error in told if not isinstance(error, kinds)] == []
    assert "deleted" not in " ".join([*shown, *(error.message for error in told)])
