"""What one transaction of a server without a vote costs the voters: promise P12."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

import collective
from tests.attacks.hostile import Answer, identity, through_relay
from tests.harness import Cluster, wait_until
from tests.integration.test_nonvoting import join_nonvoting

pytestmark = pytest.mark.integration

BLOCKS, BLOCK = 3, 6_000
REMOVALS = 4_000
ATTACKERS = 6
FOLDER = "collective/store/x/"
#: A put takes some milliseconds here, some hundredths of a second on a busy machine. With the
#: attack so long, or so many times as long as without it.
MOST_SECONDS, MOST_TIMES = 2.0, 40


def coded(key: str) -> str:
    """Return a key as etcd's gateway has it."""
    return base64.b64encode(key.encode()).decode("ascii")


def longest_of(times: int, put: Callable[[int], object], pause: Callable[[], object]) -> float:
    """Return how long the slowest of so many puts took, with a pause behind each."""
    longest = 0.0
    for number in range(times):
        begun = monotonic()
        put(number)
        longest = max(longest, monotonic() - begun)
        pause()
    return longest


def test_ranges_in_a_transaction_hold_no_voter_up(cluster: Cluster) -> None:
    """Every etcd looks through each range that is to be removed, before it does anything else."""
    (mgt1,) = cluster.add_running(1)
    mgt2 = join_nonvoting(cluster, mgt1)
    pem = identity(Path(mgt2.layout.pki))
    for block in range(BLOCKS):
        puts = [
            {"request_put": {"key": coded(f"{FOLDER}{block}/{n}"), "value": ""}}
            for n in range(BLOCK)
        ]
        assert through_relay(mgt1, pem, "/kv/txn", {"success": puts}).is_good
    removal = {
        "request_delete_range": {"key": coded(FOLDER), "range_end": coded(FOLDER[:-1] + "0")}
    }
    answers: list[Answer] = []
    attack = threading.Thread(
        target=lambda: answers.append(
            through_relay(mgt1, pem, "/kv/txn", {"success": [removal] * REMOVALS})
        )
    )

    def put(number: int) -> None:
        words = ("put", "collective/store/other", str(number), "--command-timeout=60s")
        mgt1.etcdctl(*words, check=False, timeout=70.0)

    usual = longest_of(5, put, lambda: None)
    attack.start()
    longest = longest_of(20, put, lambda: attack.join(0.1))
    attack.join()
    assert longest < max(MOST_SECONDS, MOST_TIMES * usual), (longest, usual, answers)


def test_large_transactions_at_once_leave_the_others_served(cluster: Cluster) -> None:
    """One member has one under way at a time; between two of them each put of others is made."""
    (mgt1,) = cluster.add_running(1)
    mgt2 = join_nonvoting(cluster, mgt1)
    pem = identity(Path(mgt2.layout.pki))
    over, told = threading.Event(), list[bool]()

    def send(number: int) -> None:
        puts = [
            {"request_put": {"key": coded(f"{FOLDER}{number}/{n}"), "value": ""}}
            for n in range(BLOCK)
        ]
        through_relay(mgt1, pem, "/kv/txn", {"success": puts})

    def attack(number: int) -> None:
        while not over.is_set():
            send(number)

    with collective.connect(mgt1.root, seconds=20.0) as handle:
        handle.on_quorum_change(lambda state: told.append(state.holds), initial=True)
        wait_until(lambda: told == [True], 20.0, "the quorum is known")

        def put(number: int) -> None:
            assert handle.store.put("probe", str(number).encode(), seconds=60.0)

        threads = [threading.Thread(target=attack, args=(number,)) for number in range(ATTACKERS)]
        for thread in threads:
            thread.start()
        longest = longest_of(50, put, lambda: over.wait(0.1))
        over.set()
        for thread in threads:
            thread.join()
    # How long says how busy the machine is, too: 0.8 s where nothing else runs, 7.8 s before.
    print(f"slowest put: {longest:.2f} s, quorum as told: {told}")
