"""Fuzz the door of a daemon in a collective of two for some minutes, and say what was found.

    python -m tests.fuzz --minutes 60

It ends with 1 where there is a finding; the same input can be made again from the seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from collective.daemon.joining.guests import listed_guests
from collective.daemon.member.recorded import certificates_of
from collective.daemon.member.succession import Succession
from collective.errors import CollectiveError
from collective.model.records import (
    Invitation,
    LoadedTrust,
    MemberRecord,
    Revocation,
    Role,
    from_json,
)
from collective.model.token import Token
from collective.model.view import View
from collective.pki import judge_certificate, read_certificate
from tests.fuzz.hostile_server import join_without_vote, try_certificates
from tests.fuzz.inputs import TOKEN, Input, certificates, inputs, tokens, values
from tests.fuzz.target import Target, secrets_of
from tests.harness import Cluster, temporary_folder
from tests.harness.trouble import one_etcd

_AT_ONCE = 200
_TOKEN = Token.parse(TOKEN)
_PHASES = (Phase.generate, Phase.shrink)


def main() -> int:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    arguments = parser.parse_args()
    with temporary_folder() as folder, Cluster(folder, one_etcd().etcd) as cluster:
        server, member = cluster.grow(2)
        (guest,) = cluster.add_running(1)
        join_without_vote(guest, server)
        token = server.run("invite", "mgt9", check=True).out
        target = Target(server, member, secrets_of(server, token))
        found = try_certificates(target, guest, token)
        for sentence in found:
            print(sentence, flush=True)
        return _fuzz(target, arguments.minutes * 60, arguments.seed, found)


def _fuzz(target: Target, seconds: float, first: int, found: list[str]) -> int:
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
        @given(certificates, tokens, st.binary(max_size=200), values)
        def at_the_parsers(certificate: str, token: str, octets: bytes, value: object) -> None:
            nonlocal parsed
            parsed += parse(certificate, token, octets, value)

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


def parse(certificate: str, token: str, octets: bytes, value: Any) -> int:
    """Give garbage to the parsers that the network reaches; they refuse in their own words.

    Args:
        certificate: PEM, or what is said to be that.
        token: as it was typed.
        octets: of whatever.
        value: what a message may hold.

    Returns:
        How many parsers there are.
    """
    steps = [{"certificate": certificate, "signature": octets.hex()}]
    attempts: tuple[Callable[[], object], ...] = (
        lambda: judge_certificate(certificate, "mgt9"),
        lambda: read_certificate(certificate),
        lambda: read_certificate(octets),
        lambda: Token.parse(token),
        lambda: from_json(Invitation, octets),
        lambda: from_json(MemberRecord, octets),
        lambda: from_json(Revocation, octets),
        lambda: from_json(LoadedTrust, octets),
        lambda: certificates_of([_record(certificate)]),
        lambda: Succession.from_wire(value),
        lambda: Succession.from_wire({"format": 1, "steps": value}),
        lambda: Succession.from_wire({"format": 1, "steps": steps}).proves("mgt9", (), "00"),
        lambda: listed_guests(value, _TOKEN, "mgt1"),
        lambda: listed_guests([value], _TOKEN, "mgt1"),
        lambda: View.from_json(octets.decode("latin-1"), ""),
        lambda: View.from_json(_view(value), ""),
    )
    for attempt in attempts:
        try:
            attempt()
        except CollectiveError as error:
            if len(token) > 40 and token in str(error):
                raise AssertionError("the token is in the error") from error
    return len(attempts)


def _record(certificate: str) -> MemberRecord:
    return MemberRecord("mgt9", "", Role.VOTER, "127.0.0.9", 1, 2, (certificate,), 0.0)


def _view(value: Any) -> str:
    items = {"collective/v1/members/mgt9": value}
    try:
        return json.dumps({"format": 1, "collective": "", "revision": 1, "items": items})
    except ValueError:  # a number of more digits than Python writes
        return ""


if __name__ == "__main__":
    sys.exit(main())
