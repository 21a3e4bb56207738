"""What a sponsor gives a joiner."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from collective.daemon.joining.sponsor import _ADMITTED, _for_joiner, admit
from collective.daemon.membership.candidate import Candidate
from collective.errors import EtcdUnavailableError, ProtocolError
from collective.etcd.api import EtcdMember
from collective.model.records import Revocation, Role
from collective.model.view import View
from tests.unit.identities import identity, record_of, view_of

TOKEN = "a collective"
ANSWER_BYTES = 1 << 18


def given(view: View) -> tuple[View, str]:
    """Return what mgt9 is given, and the text of it, when etcd's voters are recorded as such."""
    members = [
        EtcdMember(int(m.member_id, 16), m.name, (m.url,), m.role is Role.LEARNER)
        for m in view.members.values()
        if m.is_peer
    ]
    waited: list[bool] = []
    runtime: Any = SimpleNamespace(
        store=SimpleNamespace(read=lambda: view),
        plan=SimpleNamespace(cluster_token=TOKEN),
        gateway=SimpleNamespace(members=lambda: members),
        records_view=SimpleNamespace(
            wait_until=lambda holds, _: waited.extend([holds(view), holds(View(1))])
        ),
    )
    text = _for_joiner(runtime, "mgt9")
    assert waited == [True, False]
    return View.from_json(text, TOKEN), text


def test_joiner_is_given_the_voters_and_itself_however_many_others_there_are() -> None:
    """1,020 revocations made the answer too long for one line: nobody could join any more."""
    voters = [replace(record_of(f"mgt{n}"), member_id=f"{n:016x}") for n in (1, 2)]
    joiner = replace(record_of("mgt9", Role.LEARNER), member_id=f"{9:016x}")
    others = [record_of(f"site{n}", Role.NONVOTING) for n in range(20)]
    revoked = [Revocation(f"{n:064x}", "site1", 0.0) for n in range(2000)]
    view, text = given(view_of(*voters, joiner, *others, *revoked, revision=7))
    assert dict(view.members) == {m.name: m for m in (*voters, joiner)}
    assert view.members["mgt9"].fingerprints == (identity("mgt9").fingerprint,)
    assert not view.revoked
    assert view.revision == 7
    assert len(text) < ANSWER_BYTES


def test_join_that_fails_after_its_claim_says_whose_etcd_and_what_to_do() -> None:
    """The joiner has an etcd of its own, and "etcd did not answer" is read as that one."""
    shown = identity("mgt9").certificate
    candidate = Candidate("mgt9", Role.VOTER, "voter", shown, ("10.0.0.9",), 13002, 13003)

    def read() -> View:
        raise EtcdUnavailableError("etcd did not answer in time")

    runtime: Any = SimpleNamespace(store=SimpleNamespace(read=read), name="mgt1")
    request: Any = SimpleNamespace(memory={_ADMITTED: candidate})
    with pytest.raises(EtcdUnavailableError) as caught:
        list(admit(runtime, request))
    assert "the etcd of mgt1 did not do its part while mgt1 took mgt9 in" in caught.value.message
    assert "run the same 'collective join' again" in str(caught.value.hint)
    # The claim was good for one admission.
    with pytest.raises(ProtocolError):
        list(admit(runtime, request))
