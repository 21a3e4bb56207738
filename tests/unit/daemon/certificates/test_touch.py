"""When an etcd counts as out of touch, and is restarted without a turn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from collective.daemon.certificates.trust_round import TrustRound
from collective.errors import EtcdError, EtcdUnavailableError


def round_of(leader: int | None, answers: bool) -> TrustRound:
    """Return the round of a voter whose etcd knows a leader (0: none), or does not answer."""

    def status() -> Any:
        if leader is None:
            raise EtcdError("etcd does not run")
        return SimpleNamespace(leader=leader)

    def prove(_seconds: float) -> int:
        if not answers:
            raise EtcdUnavailableError("etcd did not answer in time")
        return 7

    runtime = SimpleNamespace(
        etcd=SimpleNamespace(status=status), store=SimpleNamespace(prove=prove)
    )
    return TrustRound(cast(Any, runtime), lambda: None)


@pytest.mark.parametrize(
    ("leader", "answers", "out"),
    [(5, True, False), (0, False, True), (5, False, True), (None, False, False)],
    ids=["in touch", "no leader", "hears of one that it does not reach", "does not run"],
)
def test_etcd_is_out_of_touch_when_no_leader_answers_it(
    leader: int | None, answers: bool, out: bool
) -> None:
    """One that was frozen heard its leader over old connections and refused its new ones."""
    assert round_of(leader, answers)._is_out_of_touch() is out
