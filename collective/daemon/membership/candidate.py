"""A server that wants in and has shown its proof: what the parts of sponsoring hand each other."""

from __future__ import annotations

from dataclasses import dataclass

from collective.model.names import peer_url
from collective.model.records import Role
from collective.pki import Certificate


@dataclass(frozen=True)
class Candidate:
    """A server whose proof was good.

    Attributes:
        name: as invited.
        role: as invited; before the invitation was looked at, None.
        asked: the role that it asked for, as it signed it.
        certificate: its own, judged; with it the invitation is claimed.
        addresses: the advertised one first, which is dialled back; then others that it sends from.
        door_port, peer_port: its TCP ports.
    """

    name: str
    role: Role | None
    asked: str
    certificate: Certificate
    addresses: tuple[str, ...]
    door_port: int
    peer_port: int

    @property
    def address(self) -> str:
        """The address that it wants to be reached at."""
        return self.addresses[0]

    @property
    def url(self) -> str:
        """The URL of its etcd's peer door."""
        return peer_url(self.address, self.peer_port)
