"""What this server is and what it is doing: the state file, which is also the joiner's journal.

It does not read or write the file; ``collective.daemon.lifecycle.state_file`` does.

Invariants:
  * The file is replaced whole, so each value of ``Plan`` is a state that was once true.
  * It holds no secret.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any

from collective.errors import ProtocolError
from collective.model.records import Role
from collective.model.typed import fields_of, plain

FORMAT = 1


class Mode(enum.Enum):
    """The state of this server; which follows which is in ``collective.policy.transitions``."""

    MEMBER = "member"
    ADOPTING = "adopting"
    JOINING = "joining"
    LEAVING = "leaving"
    REMOVED = "removed"
    NONVOTING = "nonvoting"
    LOST = "lost"


@dataclass(frozen=True)
class Plan:
    """Which member of which collective this server is.

    Attributes:
        mode: what this server is doing.
        name: server name.
        address: advertised IP address.
        door_port, peer_port: TCP ports.
        cluster_token: etcd's initial cluster token.
        initial_cluster: etcd's ``name=url`` list.
        existing: whether etcd joins an existing cluster.
        member_id: etcd member id in hex, "" while not known.
        sponsor: ``host:port`` of the door that took this server in, or "".
        started: whether etcd ever answered on this data directory.
        reason: for a removed server, why it rests.
        joined_by: public key (hex) of the token that this server came in with, or "".
        moving_to: the address that this server is changing to, or "".
        aside: where data that was replaced has gone, newest last.
        role: what it is, or is to be when it has joined: voter or nonvoting.
        fallback: what it goes back to if it is given up as a learner; None: it is put out.
    """

    mode: Mode
    name: str
    address: str
    door_port: int
    peer_port: int
    cluster_token: str
    initial_cluster: str
    existing: bool
    member_id: str = ""
    sponsor: str = ""
    started: bool = False
    reason: str = ""
    joined_by: str = ""
    moving_to: str = ""
    aside: tuple[str, ...] = ()
    role: Role = Role.VOTER
    fallback: Role | None = None

    @property
    def votes(self) -> bool:
        """Whether it has an etcd of its own, be it as a learner: one that votes, or is to."""
        return self.role is Role.VOTER

    @property
    def former_data(self) -> str:
        """Where the newest data of etcd that was moved aside is, or ""."""
        return next((place for place in reversed(self.aside) if place.endswith("/etcd")), "")

    def given(self) -> dict[str, Any]:
        """Return all of it but the mode and what is aside, for another plan of the same life."""
        return {k: v for k, v in vars(self).items() if k not in ("mode", "aside")}

    def to_json(self) -> str:
        """Return the text of the state file."""
        return json.dumps({"format": FORMAT, **plain(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read the text of a state file.

        Raises:
            ProtocolError: it has a newer format or is broken.
        """
        try:
            raw = json.loads(text)
            if int(raw["format"]) > FORMAT:
                raise ProtocolError(
                    f"the state file has format {raw['format']}, this release reads up to "
                    f"{FORMAT}",
                    "a newer release wrote it: install that release again",
                )
            return cls(**fields_of(cls, raw))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ProtocolError(f"the state file is broken: {error!r}") from None
