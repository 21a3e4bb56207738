"""Whole Confluents on three servers, each in namespaces, driven by their own programs."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

import collective
from tests.confluent.conftest import VARIABLE, Kind, kinds
from tests.confluent.typed import (
    BEGUN,
    DUMP,
    IN_DOUBT,
    REFUSED,
    SHARED,
    comparable,
    dump,
    type_until_made,
    typed,
)
from tests.harness import Cluster, Server, wait_until
from tests.harness.network import Network
from tests.harness.spread import spread
from tests.harness.whole_confluents import Installed, WholeConfluent, missing

pytestmark = [pytest.mark.faults, pytest.mark.root, pytest.mark.slow]

NAMES = ("mgt1", "mgt2", "mgt3")
SECONDS = 60.0
STEPS = 50
ConfluentOf = Callable[..., WholeConfluent]


def whole_kinds() -> list[Kind | None]:
    """Return the real Confluents that are named here; None for there is none."""
    return [kind for kind in kinds() if kind.real] or [None]


@pytest.fixture(params=whole_kinds(), ids=lambda kind: kind.name if kind else "none")
def installed(request: pytest.FixtureRequest) -> Installed:
    """One whole Confluent after the other."""
    kind: Kind | None = request.param
    if kind is None or kind.programs is None:
        pytest.skip(f"no whole Confluent: {VARIABLE} names no programs of one")
    if missing():
        pytest.skip(f"no whole Confluent: there is no {', '.join(missing())}")
    return Installed(kind.python, kind.library, (kind.programs,))


@pytest.fixture
def network(make_network: Callable[..., Network]) -> Network:
    """Three hosts, and one for a Confluent that is alone."""
    hosts = {name: (f"10.77.0.{number}/24",) for number, name in enumerate(NAMES, 1)}
    return make_network(**hosts, plain=("10.77.0.9/24",))


@pytest.fixture
def whole_of(installed: Installed, cluster: Cluster, network: Network) -> Iterator[ConfluentOf]:
    """Makes a Confluent on a host, beside a server or alone, and ends it."""
    with ExitStack() as stack:

        def make(name: str, server: Server | None = None) -> WholeConfluent:
            folder = cluster.root / f"cf-{name}"
            made = WholeConfluent(installed, name, folder, network[name].prefix, server)
            stack.callback(made.close)
            made.prepare()
            # Sets of names have the same order on all, so that nodes get the same indexes.
            made.environment["PYTHONHASHSEED"] = "0"
            return made

        yield make


@pytest.fixture
def three(cluster: Cluster, network: Network, whole_of: ConfluentOf) -> list[WholeConfluent]:
    """Three of them on a collective, whose configuration was that of the first one."""
    spread(cluster, network, NAMES)
    cluster.join_all()
    made = [whole_of(name) for name in NAMES]
    first = made[0]
    first.start()
    for words in BEGUN:
        first.run(*words, check=True)
    first.stop()
    for each in made:
        each.server = cluster[each.name]
    first.adapter("import", check=True)
    for each in made:
        each.start()
    for each in made:
        wait_for_quorum(each)
    return made


def wait_for_quorum(confluent: WholeConfluent) -> None:
    """Wait until its own command shows a quorum."""
    wait_until(
        lambda: "Quorum: True" in confluent.run("collective", "show").out,
        SECONDS,
        f"{confluent.name} knows of the quorum",
    )


def same_everywhere(confluents: list[WholeConfluent]) -> dict[str, str]:
    """Wait until what is shared is the same in the dumps of all, and return that of the first."""

    def same() -> dict[str, str] | None:
        dumps = [dump(each) for each in confluents]
        first = {name: dumps[0].get(name, "") for name in SHARED}
        is_same = all({n: each.get(n, "") for n in SHARED} == first for each in dumps)
        return dumps[0] if is_same else None

    found = wait_until(same, SECONDS, "the dumps are the same byte for byte")
    assert found is not None
    return found


def kill_one(chance: random.Random, three: list[WholeConfluent], step: int) -> Callable[[], None]:
    """Kill a Confluent, a daemon or an etcd; return what starts it again."""
    confluent = chance.choice(three)
    server = confluent.server
    assert server is not None
    if step % 3 == 0:
        confluent.kill()
        return confluent.start
    if step % 3 == 1:
        server.kill()
        return server.start
    assert server.etcd_pid is not None
    os.kill(server.etcd_pid, signal.SIGKILL)
    return lambda: None


def test_script_of_commands_makes_what_it_makes_on_a_plain_confluent(
    three: list[WholeConfluent], whole_of: ConfluentOf
) -> None:
    """Though Confluents, daemons and etcds are killed: the same bytes on all, and in a new one."""
    plain = whole_of("plain")
    plain.start()
    for words in BEGUN:
        plain.run(*words, check=True)
    chance = random.Random(16)
    refused, kills = 0, 0
    revive: Callable[[], None] | None = None
    for number, words in enumerate(typed(16, STEPS)):
        plain.run(*words, check=True)
        if number % 4 == 1:
            revive = kill_one(chance, three, kills)
            kills += 1
        up = [each for each in three if each.is_running and each.server and each.server.is_running]
        refused += type_until_made(chance.choice(up), words)
        if revive is not None and number % 4 == 3:
            revive()
            revive = None
    if revive is not None:
        revive()
    found = same_everywhere(three)
    print(f"{kills} kills, {refused} refusals")
    assert comparable(found["main.json"]) == comparable(dump(plain)["main.json"])
    assert imported(three, DUMP)["main.json"] == found["main.json"]


def imported(three: list[WholeConfluent], folder: str) -> dict[str, str]:
    """Replace the shared configuration by a dump on the first one, as the page says; return it."""
    for each in three:
        each.stop()
    first = three[0]
    assert first.server is not None
    with collective.connect(first.server.root) as handle:
        handle.store.delete_prefix("confluent/v1/")
    first.adapter("import", folder, check=True)
    for each in three:
        each.start()
        wait_for_quorum(each)
    return same_everywhere(three)


def test_own_command_shows_the_members_and_says_what_to_type(
    three: list[WholeConfluent], cluster: Cluster
) -> None:
    """On each of them: show, invite, join and delete."""
    for each in three:
        others = sorted(set(NAMES) - {each.name})
        shown = each.run("collective", "show", check=True).out
        assert shown.splitlines() == [
            "Quorum: True",
            f"Leader: {each.name}",
            "Active collective members:",
            *(f"    {name}" for name in others),
        ]
        for words in (("invite", "mgt4"), ("join", "mgt4", "-i", "x"), ("delete", "mgt2")):
            told = each.run("collective", *words)
            assert f"type /usr/bin/collective {words[0]} " in told.out + told.err
    three[2].kill()
    wait_until(
        lambda: "Offline" in three[0].run("collective", "show").out, SECONDS, "it is offline"
    )
    shown = three[0].run("collective", "show", check=True).out
    assert shown.splitlines()[-2:] == ["Offline collective members:", "    mgt3"]
    cluster["mgt2"].kill()
    cluster["mgt3"].kill()
    wait_until(
        lambda: "Quorum: False" in three[0].run("collective", "show").out, SECONDS, "it is lost"
    )


@dataclass
class Writer:
    """Defines one node after the other on one member.

    Attributes:
        confluent: the member.
        name: the nodes' names begin with it.
        made: the nodes whose definition was acknowledged.
        refused: those whose definition was refused, with when, and how long it took.
        doubtful: those of which nobody could say whether they were.
        failed: what else was said.
    """

    confluent: WholeConfluent
    name: str
    made: list[str] = field(default_factory=list)
    refused: dict[str, tuple[float, float]] = field(default_factory=dict)
    doubtful: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def write(self, stopped: threading.Event) -> None:
        """Define nodes until it is stopped."""
        for number in itertools.count():
            if stopped.is_set():
                return
            name = f"{self.name}w{number}"
            begun = time.monotonic()
            done = self.confluent.run("nodedefine", name, "groups=rack")
            if done.code == 0:
                self.made.append(name)
            elif REFUSED in done.err:
                self.refused[name] = (begun, done.seconds)
            elif IN_DOUBT in done.err:
                self.doubtful.append(name)
            else:
                self.failed.append(f"{name}: {done}")


def test_partition_with_writers_on_both_sides_loses_nothing(
    three: list[WholeConfluent], network: Network
) -> None:
    """The side without a quorum refuses, at once; what was acknowledged is there after it."""
    stopped = threading.Event()
    # Two where the quorum is lost: one of them is in doubt at first.
    mgt1, mgt2, *minority = writers = [
        *(Writer(each, each.name) for each in three),
        Writer(three[2], "other"),
    ]
    threads = [threading.Thread(target=each.write, args=(stopped,)) for each in writers]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(len(each.made) > 2 for each in writers), SECONDS, "all write")
        network.cut("mgt3")
        cut = time.monotonic()
        wait_until(lambda: all(len(w.refused) > 5 for w in minority), SECONDS, "mgt3 refuses")
        before = len(mgt1.made)
        wait_until(lambda: len(mgt1.made) > before + 3, SECONDS, "mgt1 writes on")
        network.mend("mgt3")
        mended, before = time.monotonic(), len(minority[0].made)
        wait_until(lambda: len(minority[0].made) > before, SECONDS, "mgt3 writes again")
        healed = time.monotonic() - mended
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    first, *later = sorted(each for writer in minority for each in writer.refused.values())
    longest = max(seconds for _, seconds in later)
    print(f"first refusal {sum(first) - cut:.1f} s after the cut, which took {first[1]:.1f} s")
    print(f"{len(later)} later ones, the longest {longest:.2f} s; healed in {healed:.1f} s")
    print({w.name: (len(w.made), len(w.refused), len(w.doubtful)) for w in writers})
    assert [each.failed for each in writers] == [[], [], [], []]
    assert mgt1.refused == mgt2.refused == {}
    nodes = comparable(same_everywhere(three)["main.json"])["nodes"]
    for each in writers:
        assert set(each.made) <= nodes.keys()
        assert not each.refused.keys() & nodes.keys()
    indexes = [node["id.index"]["value"] for node in nodes.values()]
    assert len(set(indexes)) == len(indexes)
    assert sum(first) - cut < 15.0
