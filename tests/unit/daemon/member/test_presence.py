"""The key that says a daemon is there: made once, prolonged, made again, and taken away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from collective.daemon.member.presence import Presence
from collective.model.keyspace import COORDINATION, online_key
from collective.model.lease_ids import is_of
from tests.harness.fake_etcd import FakeEtcd

KEY = COORDINATION + online_key("mgt1")


def presence_on(etcd: FakeEtcd) -> Presence:
    runtime: Any = SimpleNamespace(name="mgt1", gateway=etcd)
    return Presence(runtime)


def leases_of_key(etcd: FakeEtcd) -> list[int]:
    return [kv.lease for kv in etcd.range(KEY)[1]]


def test_key_is_made_once_under_a_lease_of_this_server() -> None:
    """Whoever prolongs it writes nothing."""
    etcd = FakeEtcd()
    presence = presence_on(etcd)
    presence._round()
    before = etcd.range(KEY)
    presence._round()
    assert etcd.range(KEY) == before
    (lease,) = leases_of_key(etcd)
    assert is_of("mgt1", lease)


def test_key_that_ended_with_its_lease_is_made_again() -> None:
    """As after a time without a quorum."""
    etcd = FakeEtcd()
    presence = presence_on(etcd)
    presence._round()
    (lease,) = leases_of_key(etcd)
    etcd.expire(lease)
    assert leases_of_key(etcd) == []
    presence._round()
    assert leases_of_key(etcd) not in ([], [lease])


def test_key_is_gone_when_the_daemon_stops() -> None:
    """At once: the others need not wait for the end of the lease."""
    etcd = FakeEtcd()
    presence = presence_on(etcd)
    presence._round()
    presence.stop()
    presence._run()
    assert leases_of_key(etcd) == []
