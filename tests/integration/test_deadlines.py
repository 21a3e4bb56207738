"""Calls x states, on a real etcd and daemon: what ``unit/test_deadlines.py`` does on a fake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from time import monotonic

import pytest

import collective
from collective.errors import CollectiveError
from tests.harness import Cluster, Server
from tests.harness.api_table import CALLS, tried
from tests.harness.states import all_stopped, etcd_stopped

pytestmark = pytest.mark.integration

GIVEN, GRACE = 0.4, 0.3
TRIES = 3
AT_A_TIME = 8


@contextmanager
def killed(server: Server) -> Iterator[None]:
    """Kill both: their sockets are there, and nobody behind them."""
    server.kill()
    yield
    server.start()
    server.wait_for_quorum()


@pytest.mark.parametrize("state", [etcd_stopped, all_stopped, killed])
def test_every_call_ends_when_its_time_is_up(
    make_cluster: Callable[..., Cluster], state: Callable[[Server], object]
) -> None:
    """Its seconds, and three tenths; so does ``connect``, which took 6.4 of 5 s."""
    (server,) = make_cluster(1).servers.values()

    def overshoots(names: list[str]) -> dict[str, float]:
        late: dict[str, float] = {}
        with ExitStack() as stack:

            def connect() -> collective.Collective:
                handle = collective.connect(server.root)
                stack.callback(handle.close, 1.0)
                return handle

            shared = connect()
            shared.store.put("a", b"")
            runs = {name: CALLS[name][0](shared, connect) for name in names if name in CALLS}
            runs["connect"] = lambda seconds: collective.connect(server.root, seconds=seconds)

            def run(name: str) -> None:
                most = CALLS[name][1] if name in CALLS else None
                begun = monotonic()
                tried(runs[name], GIVEN)
                over = monotonic() - begun - (GIVEN if most is None else most)
                if over > GRACE:
                    late[name] = over

            with state(server), ThreadPoolExecutor(AT_A_TIME) as pool:  # type: ignore[attr-defined]
                for done in [pool.submit(run, name) for name in names]:
                    done.result()
        return late

    late = overshoots([*CALLS, "connect"])
    for _ in range(TRIES):
        late = {n: over for name in late for n, over in overshoots([name]).items()}
    assert late == {}


def test_connect_that_ran_out_of_time_hints_at_no_handle(
    make_cluster: Callable[..., Cluster],
) -> None:
    """Its caller has none."""
    (server,) = make_cluster(1).servers.values()
    with etcd_stopped(server), pytest.raises(CollectiveError) as caught:
        collective.connect(server.root, seconds=0.5)
    assert caught.value.hint is not None
    assert "wait_until_ready" not in caught.value.hint
