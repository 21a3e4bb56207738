"""Fuzz the door of a daemon in a collective of two for some minutes, and say what was found.

    python -m tests.fuzz --minutes 60

It ends with 1 where there is a finding; the same input can be made again from the seed.
"""

from __future__ import annotations

import argparse
import sys
import time

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from collective.errors import CollectiveError
from collective.model.records import Invitation, MemberRecord, from_json
from collective.model.token import Token
from collective.pki import read_leaf, request_key_id
from tests.fuzz.inputs import Input, csrs, inputs, tokens
from tests.fuzz.target import Target, secrets_of
from tests.harness import Cluster, temporary_folder
from tests.harness.trouble import one_etcd

_AT_ONCE = 200
_PHASES = (Phase.generate, Phase.shrink)


def main() -> int:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    arguments = parser.parse_args()
    with temporary_folder() as folder, Cluster(folder, one_etcd().etcd) as cluster:
        server, member = cluster.grow(2)
        token = server.run("invite", "mgt9", check=True).out
        target = Target(server, member, secrets_of(server, token))
        return _fuzz(target, arguments.minutes * 60, arguments.seed)


def _fuzz(target: Target, seconds: float, first: int) -> int:
    found: list[str] = []
    began = time.monotonic()
    count = parsed = 0
    memory, slowest, number = 0, 0.0, first
    while time.monotonic() - began < seconds:

        @seed(number)
        @_settings()
        @given(inputs)
        def at_the_door(attempt: Input) -> None:
            nonlocal count
            count += 1
            target.attack(attempt)

        @seed(number)
        @_settings()
        @given(csrs, tokens, st.binary(max_size=200))
        def at_the_parsers(csr: str, token: str, octets: bytes) -> None:
            nonlocal parsed
            parsed += 5
            parse(csr, token, octets)

        for test in (at_the_door, at_the_parsers):
            try:
                test()
            except Exception as error:  # any kind is a finding, and the next seed may find more
                found.append(f"seed {number}: {error!r} {getattr(error, '__notes__', '')}")
                print(found[-1], flush=True)
        slowest = max(slowest, target.ask_as_member())
        memory = memory or target.memory()  # after the first round: what is loaded late counts
        number += 1
    grown = (target.memory() - memory) / 2**20
    print(
        f"connections={count} requests={target.sent} parsed={parsed} seconds="
        f"{time.monotonic() - began:.0f} seeds={first}..{number - 1} findings={len(found)}\n"
        f"statuses={dict(sorted(target.answers.items()))}\n"
        f"slowest answer to a member={slowest:.3f} s, memory grown by {grown:.1f} MiB"
        f" from {memory / 2**20:.1f} MiB"
    )
    return 1 if found else 0


def _settings() -> settings:
    return settings(
        max_examples=_AT_ONCE,
        deadline=None,
        database=None,
        phases=_PHASES,
        suppress_health_check=list(HealthCheck),
    )


def parse(csr: str, token: str, octets: bytes) -> None:
    """Give garbage to the parsers that the network reaches; they refuse in their own words."""
    for attempt in (
        lambda: request_key_id(csr.encode()),
        lambda: Token.parse(token),
        lambda: read_leaf(octets),
        lambda: from_json(Invitation, octets),
        lambda: from_json(MemberRecord, octets),
    ):
        try:
            attempt()
        except CollectiveError as error:
            if len(token) > 40 and token in str(error):
                raise AssertionError("the token is in the error") from error


if __name__ == "__main__":
    sys.exit(main())
