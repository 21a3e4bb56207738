"""Leases on an etcd that is slow to prolong them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from collective.errors import EtcdUnavailableError, InputError
from collective.etcd.deadline import seconds_allowed
from collective.store.leases import Lease
from tests.harness import wait_until
from tests.harness.fake_etcd import FakeEtcd

SECONDS = 10.0


class Distant(FakeEtcd):
    """One whose first answer to a prolongation is lost; it notes how long each may take."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed: list[float] = []

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call, see ``EtcdApi``."""
        if path == "/lease/keepalive":
            self.allowed.append(seconds_allowed())
            if len(self.allowed) == 1:
                raise EtcdUnavailableError("etcd did not answer in time")
        return super().call(path, body)


def test_prolongation_after_a_failure_has_as_much_time_as_the_first() -> None:
    """Where the leader is far away a fifth of a second is not enough for any."""
    etcd = Distant()
    with Lease(etcd, 3, SECONDS) as lease:
        wait_until(lambda: len(etcd.allowed) >= 2, SECONDS, "it was tried again")
        assert min(etcd.allowed) > 0.8
        assert lease.is_held


@pytest.mark.parametrize("seconds", [1, 0, -5, 2.5, float("nan"), 1e12])
def test_time_that_is_none_is_refused(seconds: Any) -> None:
    """Before etcd is asked."""
    etcd = FakeEtcd()
    with pytest.raises(InputError, match="a lease cannot live"):
        Lease(etcd, seconds, SECONDS)
    assert etcd.requests == []


def test_whole_number_of_another_type_is_one() -> None:
    """etcd takes 10, and not 10.0."""
    seconds: Any = 10.0
    with Lease(FakeEtcd(), seconds, SECONDS) as lease:
        assert (lease.seconds, type(lease.seconds)) == (10, int)
