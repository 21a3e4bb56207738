"""Whole Confluents on three servers, each in namespaces, driven by their own programs."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

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
from tests.harness import Cluster, HarnessError, Result, Server, wait_until
from tests.harness.network import Network
from tests.harness.processes import with_us
from tests.harness.spread import spread
from tests.harness.terminals import Terminal
from tests.harness.whole_confluents import Installed, WholeConfluent, missing

pytestmark = [pytest.mark.faults, pytest.mark.root, pytest.mark.slow]

NAMES = ("mgt1", "mgt2", "mgt3")
BMC = "10.78.0.9"
FAKE_BMC = Path(__file__).with_name("fake_bmc.py")
SECONDS = 60.0
STEPS = 50
# Within which something is killed after a command was typed.
IN_FLIGHT = 0.8
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
def network(installed: Installed, make_network: Callable[..., Network]) -> Network:
    """Three hosts, one for a Confluent that is alone, and a BMC that only the second reaches."""
    assert installed.programs  # where there are none, no network is made
    return make_network(
        mgt1=("10.77.0.1/24",),
        mgt2=("10.77.0.2/24", "10.78.0.2/24"),
        mgt3=("10.77.0.3/24",),
        plain=("10.77.0.9/24",),
        bmc=(f"{BMC}/24",),
    )


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


class Killer:
    """Kills a Confluent, a daemon or an etcd, one after the other, and starts it again."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._revive: Callable[[], None] | None = None
        self.count = 0

    @contextmanager
    def kill(self, others: list[WholeConfluent]) -> Iterator[None]:
        """Kill something of one of the others while the ``with`` block runs."""
        timer = threading.Timer(self._chance.uniform(0.0, IN_FLIGHT), self._kill, [others])
        timer.start()
        try:
            yield
        finally:
            timer.join()

    def _kill(self, others: list[WholeConfluent]) -> None:
        confluent = self._chance.choice(others)
        server = confluent.server
        assert server is not None
        self.count += 1
        if self.count % 3 == 0:
            confluent.kill()
            self._revive = confluent.start
        elif self.count % 3 == 1:
            server.kill()
            self._revive = server.start
        elif server.etcd_pid is not None:  # which its daemon starts again
            os.kill(server.etcd_pid, signal.SIGKILL)

    def revive(self) -> None:
        """Start again what was killed."""
        revive, self._revive = self._revive, None
        if revive is not None:
            revive()


def is_up(confluent: WholeConfluent) -> bool:
    """Tell whether a Confluent and the daemon beside it run."""
    return confluent.is_running and confluent.server is not None and confluent.server.is_running


def test_script_of_commands_makes_what_it_makes_on_a_plain_confluent(
    three: list[WholeConfluent], whole_of: ConfluentOf
) -> None:
    """Though Confluents, daemons and etcds are killed: the same bytes on all, and in a new one."""
    plain = whole_of("plain")
    plain.start()
    for words in BEGUN:
        plain.run(*words, check=True)
    chance = random.Random(16)
    killer, refused = Killer(chance), 0
    for number, words in enumerate(typed(16, STEPS)):
        plain.run(*words, check=True)
        member = chance.choice([each for each in three if is_up(each)])
        with ExitStack() as stack:
            if number % 4 == 1:
                stack.enter_context(killer.kill([each for each in three if each is not member]))
            refused += type_until_made(member, words)
        if number % 4 == 3:
            killer.revive()
    killer.revive()
    found = same_everywhere(three)
    print(f"{killer.count} kills, {refused} refusals")
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


@pytest.fixture
def bmc(installed: Installed, network: Network, tmp_path: Path) -> Iterator[Path]:
    """A BMC on its host; what it prints is in a file."""
    known = subprocess.run([installed.python, "-c", "import pyghmi.cmd.fakebmc"], check=False)
    if known.returncode != 0:
        pytest.skip("no BMC: the interpreter of this Confluent has no pyghmi")
    command = [*with_us(), *network["bmc"].prefix, installed.python, str(FAKE_BMC)]
    log = tmp_path / "bmc"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    yield log
    process.kill()
    process.wait()


MANAGED = (
    *("nodedefine", "n9", "collective.manager=mgt2"),
    *("hardwaremanagement.method=ipmi", "console.method=ipmi", "console.logging=none"),
    *(f"hardwaremanagement.manager={BMC}", "secret.hardwaremanagementuser=admin"),
    "secret.hardwaremanagementpassword=password",
)


def test_power_and_console_of_a_node_go_through_the_member_that_manages_it(
    three: list[WholeConfluent], bmc: Path
) -> None:
    """It alone reaches the BMC; the others know it by the certificate that it has recorded."""
    mgt1, mgt2, mgt3 = three
    mgt3.run(*MANAGED, check=True)
    for each in three:  # the one that manages it is to know it, too
        wait_until(partial(knows, each, "n9"), SECONDS, "it knows the node")
    first: list[Result] = []
    with naming(lambda: f"{first[-1]}\n{mgt2.log_text[-5000:]}"):
        wait_until(partial(powered, mgt1, first), SECONDS, "the BMC is reached")
    print(f"before it was: {[each.err for each in first[:-1]]}")
    assert first[-1].out == "n9: off\n"
    assert mgt3.run("nodepower", "n9", "on", check=True).out == "n9: on\n"
    for each in three:
        assert each.run("nodepower", "n9", check=True).out == "n9: on\n"
    mgt2.stop()
    mgt2.run("collective", "gencert", check=True)
    mgt2.start()
    said: list[Result] = []
    with naming(lambda: f"{said[-1]}, the BMC: {bmc.read_text()}"):
        wait_until(partial(powered, mgt1, said), SECONDS, "its new one is known")
    assert said[-1].out == "n9: on\n"
    # Last: this BMC goes on to talk to a console that has died, and is slow then.
    with Terminal(lambda tty: mgt1.popen("nodeconsole", "n9", tty=tty)) as console:
        console.wait_for("\x1b", SECONDS)
        wait_until(lambda: typed_is_heard(console), SECONDS, "the console answers")


@contextmanager
def naming(facts: Callable[[], str]) -> Iterator[None]:
    """Add facts to what could not be waited for."""
    try:
        yield
    except HarnessError as error:
        raise HarnessError(f"{error}: {facts()}") from None


def knows(confluent: WholeConfluent, node: str) -> bool:
    """Tell whether a member lists a node, and all members as active."""
    others = confluent.run("collective", "show").out.count("    mgt")
    return others == len(NAMES) - 1 and node in confluent.run("nodelist").out.split()


def powered(confluent: WholeConfluent, said: list[Result]) -> bool:
    """Tell whether ``nodepower`` works on a member; note what it says."""
    said.append(confluent.run("nodepower", "n9"))
    return said[-1].code == 0


def typed_is_heard(console: Terminal) -> bool:
    """Type a letter; tell whether the BMC says that it has heard it."""
    console.type("x")
    try:
        console.wait_for("heard x", 2.0)
    except HarnessError:
        return False
    return True


def test_nodes_of_a_killed_server_change_their_manager_and_come_back(
    three: list[WholeConfluent], cluster: Cluster
) -> None:
    """To a candidate that is there; and when that one is killed, to the one that is back."""
    mgt1, mgt2, mgt3 = three
    mgt2.run("nodedefine", ",".join(NAMES), check=True)
    candidates = "collective.managercandidates=mgt1,mgt3"
    mgt2.run("nodeattrib", "n1", "collective.manager=mgt3", candidates, check=True)
    print(f"to mgt1 in {seconds_until_managed_by(mgt3, 'mgt1', mgt2, cluster):.1f} s")
    cluster["mgt3"].start()
    mgt3.start()
    wait_for_quorum(mgt3)
    print(f"back to mgt3 in {seconds_until_managed_by(mgt1, 'mgt3', mgt2, cluster):.1f} s")


def seconds_until_managed_by(
    killed: WholeConfluent, manager: str, seen_by: WholeConfluent, cluster: Cluster
) -> float:
    """Kill all that runs on a server, and wait until a node has another manager."""

    def managed() -> bool:
        wanted = f"n1: collective.manager: {manager}\n"
        return seen_by.run("nodeattrib", "n1", "collective.manager", check=True).out == wanted

    begun = time.monotonic()
    killed.kill()
    cluster[killed.name].kill()
    wait_until(managed, SECONDS, f"{manager} manages the node")
    return time.monotonic() - begun


def test_start_without_a_daemon_reads_at_once_and_follows_when_there_is_one(
    three: list[WholeConfluent], cluster: Cluster
) -> None:
    """Its own files serve until then; a change that was made meanwhile is taken up."""
    mgt1, mgt2, _ = three
    mgt1.stop()
    cluster["mgt1"].stop()
    begun = time.monotonic()
    mgt1.start()
    print(f"started in {time.monotonic() - begun:.1f} s")
    assert mgt1.run("nodelist", check=True).out == "n1\n"
    assert REFUSED in mgt1.run("nodedefine", "n2").err
    mgt2.run("nodedefine", "n3", check=True)
    cluster["mgt1"].start()
    begun = time.monotonic()
    wait_for_quorum(mgt1)
    print(f"follows {time.monotonic() - begun:.1f} s after the daemon's start")
    assert mgt1.run("nodelist", check=True).out == "n1\nn3\n"
    mgt1.run("nodedefine", "n4", check=True)
    same_everywhere(three)
