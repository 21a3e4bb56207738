"""Have the others know that this server is there: a key under a lease that its daemon prolongs.

It says nothing of etcd, quorum or software here, and nobody decides membership by it: whoever
shares the store asks ``Member.online``.

Invariants:
  * The key is gone ``LEASE_SECONDS`` after the daemon, at the latest.
"""

from __future__ import annotations

import logging

from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.member.worker import Worker
from collective.errors import CollectiveError
from collective.etcd.deadline import within
from collective.etcd.requests import put_request
from collective.model.keyspace import COORDINATION, online_key

LEASE_SECONDS = 10
_CALL_SECONDS = 2.0
_LEAVE_SECONDS = 0.3
_FORMAT = b'{"format":1}'


class Presence(Worker):
    """A thread that makes the key, and prolongs its lease."""

    name = "presence"
    idle_seconds = LEASE_SECONDS / 4
    eager_seconds = 0.5
    level = logging.DEBUG

    def __init__(self, runtime: MemberRuntime) -> None:
        super().__init__(runtime)
        self._lease = 0

    def _round(self) -> bool:
        """Prolong the lease; where it has ended, or there was none, the key is made anew."""
        etcd = self._runtime.gateway
        with within(_CALL_SECONDS):
            if self._lease and etcd.prolong_lease(self._lease):
                return False
            # Of a put that fails, the lease ends by itself.
            lease = etcd.grant_lease(LEASE_SECONDS, self._runtime.name)
            put = put_request(COORDINATION + online_key(self._runtime.name), _FORMAT, lease)
            etcd.call("/kv/txn", {"success": [put]})
        self._lease = lease
        return False

    def _run(self) -> None:
        super()._run()
        if not self._lease:
            return
        try:
            with within(_LEAVE_SECONDS):
                self._runtime.gateway.call("/lease/revoke", {"ID": str(self._lease)})
        except CollectiveError:
            pass  # it ends by itself
