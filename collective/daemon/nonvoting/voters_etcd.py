"""Where the etcd of a server without a vote is: at whichever voter answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from collective.daemon.nonvoting.remote_etcd import RemoteGateway
from collective.etcd.api import EtcdApi
from collective.model.plan import Plan
from collective.model.records import MemberRecord
from collective.protocol.peer import PeerClient


class VotersEtcd:
    """The etcd of whichever voter answers."""

    def __init__(
        self,
        voters: Callable[[], Iterable[MemberRecord]],
        connect: Callable[[MemberRecord], PeerClient],
    ) -> None:
        self.gateway: EtcdApi = RemoteGateway(voters, connect)

    @property
    def failure(self) -> str | None:
        """None: whether a voter answers shows with each call."""
        return None

    @property
    def runs(self) -> bool:
        """False: nothing here uses the port of an etcd."""
        return False

    def start(self, plan: Plan, alone: bool) -> None:
        """Do nothing: the voters' run already."""

    def relocate(self, listen: Sequence[str]) -> None:
        """Do nothing: no etcd listens here."""

    def take_detour(self, variables: Mapping[str, str], leaf_file: Path | None) -> None:
        """Do nothing: no etcd dials from here."""

    def has_answered(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """End what is under way."""
        self.gateway.close()

    def kill(self) -> None:
        """Do nothing: the voters' run on."""

    def held(self) -> AbstractContextManager[None]:
        """Hold nothing."""
        return nullcontext()

    def has_lost_socket(self) -> bool:
        """False: the socket here is the daemon's own."""
        return False

    def close(self) -> None:
        """Close the connections."""
        self.gateway.close()
