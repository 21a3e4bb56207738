"""Remember how far the log of each member goes, so that old data is recognised when it returns.

A server's own memory may be as old as its data (an image of the whole machine), so each member
keeps that of all. It does not judge; ``policy.old_data`` does, before etcd starts.

Invariants:
  * Only what is on a member's disk is remembered. etcd tells an index a moment before it writes
    the entry. But it answers a linearizable read that was asked later only when it has written
    it, since its raft loop takes one batch after the other (etcdserver/raft.go).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from collective.daemon.clock import elapsed
from collective.daemon.lifecycle.state_file import StateFile
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import CollectiveError
from collective.etcd.api import hex_id
from collective.model.high_water_mark import HighWaterMark, newest

log = logging.getLogger(__name__)

_ROUND_SECONDS = 1.0
_SAVE_SECONDS = 30.0
_PROOF_SECONDS = 0.5


class HighWaterMarks:
    """A thread that remembers, for one life of this server."""

    def __init__(self, runtime: MemberRuntime, state: StateFile) -> None:
        self._runtime = runtime
        self._state = state
        self._saved: Mapping[str, HighWaterMark] = state.load_promises(runtime.plan.cluster_token)
        self._promises = dict(self._saved)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="high-water-marks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take a last look while etcd still runs, and write it down."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(2 * _PROOF_SECONDS + _ROUND_SECONDS)
        self._look()
        self._save()

    def of(self, name: str) -> HighWaterMark | None:
        """Return what is remembered of a member."""
        self._hear()
        return self._promises.get(name)

    def _run(self) -> None:
        saved = elapsed()
        while not self._stopped.wait(_ROUND_SECONDS):
            self._look()
            if elapsed() - saved > _SAVE_SECONDS:
                self._save()
                saved = elapsed()

    def _look(self) -> None:
        try:
            own = self._prove_own()
        except CollectiveError as error:
            log.debug("nothing to remember now: %s", error)
            own = None
        if own is not None:
            self._keep(self._runtime.name, own)
        self._hear()

    def _hear(self) -> None:
        """Take what the others said last, also those that are gone since."""
        for name, status in self._runtime.detector.last_statuses().items():
            if status.member_id and status.durable_index:
                said = HighWaterMark(status.member_id, status.durable_term, status.durable_index)
                self._keep(name, said)

    def _keep(self, name: str, promise: HighWaterMark) -> None:
        with self._lock:
            self._promises[name] = newest(self._promises.get(name), promise)

    def _prove_own(self) -> HighWaterMark | None:
        """Find out what our etcd has on its disk; None where there is none."""
        if not self._runtime.votes:
            return None
        status = self._runtime.etcd.status(_PROOF_SECONDS)
        told = HighWaterMark(hex_id(status.member_id), status.term, status.index)
        known = self._runtime.reporter.durable
        if not told.index or (known is not None and newest(known, told) == known):
            return known
        self._runtime.store.prove(_PROOF_SECONDS)
        self._runtime.reporter.note_durable(told)
        return told

    def _save(self) -> None:
        promises = dict(self._promises)
        if promises == self._saved:
            return
        try:
            self._state.save_promises(promises, self._runtime.plan.cluster_token)
            self._saved = promises
        except CollectiveError as error:
            log.error("what the members have cannot be remembered: %s", error)
