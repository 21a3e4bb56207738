"""When an etcd counts as out of touch, and is restarted without a turn; whom a turn waits for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from collective.daemon.certificates import trust_round
from collective.daemon.certificates.trust_round import TrustRound
from collective.daemon.certificates.turn import _is_hurt
from collective.errors import EtcdError, EtcdUnavailableError
from collective.model.records import LoadedTrust
from collective.policy.membership import Observed
from tests.unit.identities import identity, record_of, view_of


def round_of(leader: int | None, answers: bool, silent: bool = False) -> TrustRound:
    """Return the round of a voter whose etcd knows a leader (0: none), or does not answer."""

    def status() -> Any:
        if leader is None:
            raise EtcdError("etcd does not answer")
        return SimpleNamespace(leader=leader)

    def prove(_seconds: float) -> int:
        if not answers:
            raise EtcdUnavailableError("etcd did not answer in time")
        return 7

    runtime = SimpleNamespace(
        etcd=SimpleNamespace(status=status, is_silent=silent), store=SimpleNamespace(prove=prove)
    )
    return TrustRound(cast(Any, runtime), lambda: None)


@pytest.mark.parametrize(
    ("leader", "answers", "silent", "way"),
    [
        (5, True, False, ""),
        (0, False, False, "knows no leader"),
        (5, False, False, "does not answer"),
        (None, False, False, ""),
        (None, False, True, "found none since"),
    ],
    ids=[
        "in touch",
        "no leader",
        "hears of one that it does not reach",
        "does not run",
        "has found none since its start",
    ],
)
def test_etcd_is_out_of_touch_when_no_leader_answers_it(
    leader: int | None, answers: bool, silent: bool, way: str
) -> None:
    """One that was frozen heard its leader over old connections and refused its new ones.

    One that was off while the others changed their certificates answers nobody.
    """
    found = round_of(leader, answers, silent)._out_of_touch()
    assert way in found
    assert bool(way) is bool(found)


def test_etcd_that_has_found_a_leader_at_last_is_not_restarted_where_that_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found by the histories: it had none for seconds, and two answers of the leader were lost."""
    now = 100.0
    monkeypatch.setattr(trust_round, "elapsed", lambda: now)
    found = round_of(0, answers=False)
    assert not found._has_lost_touch()
    now += 60.0
    assert found._has_lost_touch()
    found._runtime = round_of(5, answers=False)._runtime
    assert not found._has_lost_touch()
    now += 60.0
    assert found._has_lost_touch()


MGT1, MGT2 = record_of("mgt1"), record_of("mgt2")


@pytest.mark.parametrize(
    ("loaded", "hurt"), [((), False), (MGT2.fingerprints, True)], ids=["a stranger", "let in"]
)
def test_voter_that_our_etcd_does_not_let_in_yet_does_not_hold_its_restart_up(
    loaded: tuple[str, ...], hurt: bool
) -> None:
    """It had shown its new certificate for a moment; the leader waited for it, and it for that."""
    answer = SimpleNamespace(takes_no_part=True)
    detector: Any = SimpleNamespace(answers=lambda _: {"mgt2": answer})
    observed = Observed("mgt1", view_of(MGT1, MGT2), frozenset({"mgt1", "mgt2"}), frozenset())
    assert _is_hurt(detector, observed, loaded) is hurt


def test_leader_waits_for_nobody_to_take_up_what_is_shown_by_a_detour() -> None:
    """Who shows it does not say that it has it: the last turn of a round never came."""
    mgt1, shown = identity("mgt1"), identity("mgt2", number=2)
    view = view_of(MGT1, MGT2, LoadedTrust("mgt2", (mgt1.fingerprint,)))
    runtime: Any = SimpleNamespace(
        name="mgt1",
        etcd=SimpleNamespace(status=lambda: SimpleNamespace(leader=1, member_id=1)),
        records_view=SimpleNamespace(view=view),
        detector=SimpleNamespace(answering=lambda _: frozenset({"mgt2"})),
        trust=SimpleNamespace(wanted_peers=lambda: {i.fingerprint: i for i in (mgt1, shown)}),
    )
    assert not TrustRound(runtime, lambda: None)._is_others_turn()
