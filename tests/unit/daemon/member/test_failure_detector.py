"""When a member counts as back."""

from __future__ import annotations

import ssl

from collective.daemon.member.failure_detector import _Probe
from collective.daemon.member.recognition import Found
from collective.model.records import MemberRecord
from collective.protocol.messages import ServerStatus
from tests.unit.identities import record_of


def test_member_that_asks_before_it_has_answered_is_back() -> None:
    """Its question may come through before ours does, after a partition."""
    told: list[tuple[MemberRecord, ServerStatus | None]] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    member = record_of("mgt2")
    probe = _Probe(
        member, context, lambda _: None, lambda _: Found(), lambda *back: told.append(back)
    )
    probe.heard(None)
    assert told == [(member, None)]
