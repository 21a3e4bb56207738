"""Calls x states, on a real etcd and daemon: what ``unit/test_deadlines.py`` does on a fake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

import collective
from collective.errors import CollectiveError
from tests.harness import Cluster, Server
from tests.harness.api_table import CALLS, public, tried
from tests.harness.calls_table import CALLS as CALLS_OF_CALLS
from tests.harness.calls_table import CLASSES, INHERITED
from tests.harness.states import (
    State,
    all_stopped,
    caller_out_of_descriptors,
    etcd_out_of_descriptors,
    etcd_stopped,
    out_of_descriptors,
    socket_gone,
    states_of_own_disk,
)
from tests.harness.stopwatch import Stopwatch

pytestmark = pytest.mark.integration

GIVEN, GRACE = 0.4, 0.3
TRIES = 3
AT_A_TIME = 8
TABLE = {**CALLS, **CALLS_OF_CALLS}


@contextmanager
def killed(server: Server) -> Iterator[None]:
    """Kill both: their sockets are there, and nobody behind them."""
    server.kill()
    yield
    server.start()
    server.wait_for_quorum()


def test_every_method_of_a_call_is_in_the_table() -> None:
    """What is in the other table is compared with the classes in ``unit/test_deadlines.py``."""
    assert {name for cls in CLASSES for name in public(cls)} | INHERITED == set(CALLS_OF_CALLS)


@dataclass(frozen=True)
class Trying:
    """Calls that are made to a server in a state.

    Attributes:
        server: asked by all of them.
        state: of it, while they run.
        strange: which calls have raised what is no error of ours.
    """

    server: Server
    state: State
    strange: dict[str, str] = field(default_factory=dict)

    def overshoots(self, names: Iterable[str]) -> dict[str, float]:
        """Make calls; return by how much each was late, those in time left out."""
        late: dict[str, float] = {}
        with ExitStack() as stack:

            def connect() -> collective.Collective:
                handle = collective.connect(self.server.root)
                stack.callback(handle.close, 1.0)
                return handle

            shared = connect()
            shared.store.put("a", b"")
            runs = {n: TABLE[n][0](shared, connect) for n in names if n in TABLE}
            runs["connect"] = lambda seconds: collective.connect(self.server.root, seconds=seconds)

            def run(name: str) -> None:
                most = TABLE[name][1] if name in TABLE else None
                watch = Stopwatch()
                try:
                    tried(runs[name], GIVEN)
                except Exception as error:
                    self.strange[name] = repr(error)
                over = watch.seconds - (GIVEN if most is None else most)
                if over > GRACE:
                    late[name] = over

            with self.state(self.server), ThreadPoolExecutor(AT_A_TIME) as pool:
                for done in [pool.submit(run, name) for name in names]:
                    done.result()
        return late

    def faults(self) -> dict[str, float | str]:
        """Make all calls, and those again that were late; return what was late each time.

        And what raised something that is no error of ours.
        """
        late = self.overshoots([*TABLE, "connect"])
        for _ in range(TRIES):
            late = {n: over for name in late for n, over in self.overshoots([name]).items()}
        return {**late, **self.strange}


@pytest.mark.parametrize(
    "state",
    [
        etcd_stopped,
        all_stopped,
        killed,
        socket_gone,
        out_of_descriptors,
        etcd_out_of_descriptors,
        caller_out_of_descriptors,
    ],
)
def test_every_call_ends_when_its_time_is_up(
    make_cluster: Callable[..., Cluster], state: State
) -> None:
    """Its seconds, and three tenths; so does ``connect``, which took 6.4 of 5 s."""
    (server,) = make_cluster(1).servers.values()
    assert Trying(server, state).faults() == {}


def test_every_call_ends_when_its_time_is_up_and_the_disk_is_in_trouble(cluster: Cluster) -> None:
    """Full, or frozen."""
    server = cluster.add()
    states = states_of_own_disk(server)
    if not states:
        pytest.skip("no disk can be made here")
    server.start()
    server.wait_for_quorum()
    found = {name: Trying(server, state).faults() for name, state in states.items()}
    assert {name: late for name, late in found.items() if late} == {}


def test_every_call_ends_when_its_time_is_up_and_nobody_leads(
    make_cluster: Callable[..., Cluster],
) -> None:
    """Two of three are gone."""
    server, *others = make_cluster(3).servers.values()

    @contextmanager
    def no_leader(_: Server) -> Iterator[None]:
        for other in others:
            other.kill()
        yield
        for other in others:
            other.start()
        server.wait_for_quorum()

    assert Trying(server, no_leader).faults() == {}


def test_connect_that_ran_out_of_time_hints_at_no_handle(
    make_cluster: Callable[..., Cluster],
) -> None:
    """Its caller has none."""
    (server,) = make_cluster(1).servers.values()
    with etcd_stopped(server), pytest.raises(CollectiveError) as caught:
        collective.connect(server.root, seconds=0.5)
    assert caught.value.hint is not None
    assert "wait_until_ready" not in caught.value.hint
