"""Where a member's etcd is; that of a server that votes is in a process of its own.

It does not decide when one starts or ends; ``etcd_supervisor`` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from collective.daemon.member.credentials import Credentials
from collective.daemon.member.etcd_trust import EtcdTrust
from collective.etcd.api import EtcdApi
from collective.etcd.arguments import Files, Timing, etcd_arguments
from collective.etcd.client import etcd3gw_client
from collective.etcd.gateway import Gateway
from collective.etcd.process import EtcdProcess
from collective.model.layout import Layout
from collective.model.plan import Plan
from collective.model.records import MemberRecord

STOP_SECONDS = 8.0


@dataclass(frozen=True)
class Frame:
    """What stays the same over all lives of this server.

    Attributes:
        layout, etcd, timing, listen: where things are, and how etcd is run.
        locate: returns a member's record with the address at which it was found.
    """

    layout: Layout
    etcd: EtcdProcess
    timing: Timing
    listen: Sequence[str]
    locate: Callable[[MemberRecord], MemberRecord] = lambda member: member


class Backend(Protocol):
    """The etcd of one life.

    Attributes:
        gateway: the way to it.
    """

    gateway: EtcdApi

    @property
    def failure(self) -> str | None:
        """Why it does not run, or None."""

    @property
    def runs(self) -> bool:
        """Whether it is well, or is at least there, so that its port is its own."""

    def start(self, plan: Plan, alone: bool) -> None:
        """Begin, as the only voter or not; returns at once."""

    def relocate(self, listen: Sequence[str]) -> None:
        """Listen on other addresses from the next start on."""

    def take_detour(self, variables: Mapping[str, str], leaf_file: Path | None) -> None:
        """Have further variables and another certificate from the next start on."""

    def has_answered(self) -> None:
        """Note that it is well."""

    def stop(self) -> None:
        """End it."""

    def kill(self) -> None:
        """End it at once; another start may follow."""

    def held(self) -> AbstractContextManager[None]:
        """Have calls wait while it is restarted on purpose."""

    def has_lost_socket(self) -> bool:
        """Tell whether it runs and nobody can reach it any more: its socket was removed."""

    def close(self) -> None:
        """Close the way to it."""


class OwnEtcd:
    """The etcd in this server's process."""

    def __init__(self, frame: Frame, credentials: Credentials, trust: EtcdTrust) -> None:
        self._frame = frame
        self._credentials = credentials
        self._trust = trust
        self._variables: Mapping[str, str] = {}
        self._leaf_file: Path | None = None
        #: Whose socket was seen.
        self._reached: int | None = None
        self._own = Gateway(Path(frame.layout.etcd_socket), etcd3gw_client)
        self.gateway: EtcdApi = self._own

    @property
    def failure(self) -> str | None:
        """Why it does not run, or None."""
        return self._frame.etcd.failure

    @property
    def runs(self) -> bool:
        """Whether it is well, or there is a process."""
        return self.failure is None or self._frame.etcd.pid is not None

    def start(self, plan: Plan, alone: bool) -> None:
        """Start the process with what the files and the plan say now."""
        paths = Files(
            self._frame.layout.etcd_data,
            str(self._leaf_file or self._credentials.identity_file),
            str(self._trust.trust_file),
            str(self._trust.crl_file),
        )
        timing = self._frame.timing.alone if alone else self._frame.timing
        arguments = etcd_arguments(plan, paths, timing, self._frame.listen)
        data = Path(self._frame.layout.etcd_log)
        self._frame.etcd.start(arguments, data, plan.started, self._variables)

    def relocate(self, listen: Sequence[str]) -> None:
        """Listen on other addresses from the next start on."""
        self._frame = replace(self._frame, listen=tuple(listen))

    def take_detour(self, variables: Mapping[str, str], leaf_file: Path | None) -> None:
        """Have further variables and another certificate from the next start on.

        Args:
            variables: of the environment.
            leaf_file: key and certificate, PEM; None for those of this server.
        """
        self._variables, self._leaf_file = dict(variables), leaf_file

    def has_answered(self) -> None:
        """Forget why it ended the last time."""
        self._frame.etcd.has_answered()

    def stop(self) -> None:
        """End the process."""
        self._frame.etcd.stop(STOP_SECONDS)

    def kill(self) -> None:
        """End the process at once."""
        self._frame.etcd.kill()

    def held(self) -> AbstractContextManager[None]:
        """Have calls wait for the next start."""
        return self._own.held()

    def has_lost_socket(self) -> bool:
        """Tell whether the process runs that had made its socket, and that is gone.

        Not so while its folder is gone: the next process could make no socket either.
        """
        pid = self._frame.etcd.pid
        if os.path.lexists(self._frame.layout.etcd_socket):
            self._reached = pid
            return False
        there = os.path.isdir(self._frame.layout.etcd_run)
        return there and pid is not None and pid == self._reached

    def close(self) -> None:
        """Close the connections to it."""
        self.gateway.close()
