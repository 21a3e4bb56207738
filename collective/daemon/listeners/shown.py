"""What ``show`` asks of a member's runtime."""

from __future__ import annotations

from typing import Protocol

from collective.daemon.member.failure_detector import FailureDetector
from collective.daemon.member.records_view import RecordsView
from collective.etcd.record_store import RecordStore
from collective.model.plan import Plan
from collective.protocol.messages import ServerStatus


class _Etcd(Protocol):
    waits_for: str

    @property
    def failure(self) -> str | None: ...

    @property
    def is_starting(self) -> bool: ...


class _Reporter(Protocol):
    trouble: str

    def status(self) -> ServerStatus: ...


class Shown(Protocol):
    """What ``show`` asks of a member's runtime.

    Attributes:
        election_ms: the silence of a leader that makes its etcd start an election.
    """

    plan: Plan
    store: RecordStore
    records_view: RecordsView
    detector: FailureDetector
    election_ms: int

    @property
    def etcd(self) -> _Etcd:
        """Why it does not run."""

    @property
    def reporter(self) -> _Reporter:
        """What this server says of itself."""
