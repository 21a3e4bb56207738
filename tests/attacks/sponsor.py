"""A false sponsor: it shows a genuine certificate of the collective, and takes joiners elsewhere.

It speaks both the enrollment with an authority and the one with a guest list, and answers whatever
a joiner asks as if all were well. What it hands out leads into a collective of its own, which does
not exist: who goes there has lost what it had.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks.forging import Forger
from tests.attacks.stand import Heard, Said, Stand
from tests.harness import Server

#: Where its collective is said to be: on an address that nobody has.
ELSEWHERE = "127.0.0.14"


@dataclass
class FalseSponsor:
    """What it says, and what it heard.

    Attributes:
        server: whose certificate it shows, where it stands, and under whose name.
        pem: that key and certificate, and whatever it shows after it.
        guests: the guest list that it claims.
        members: of the genuine collective, for who asks whom it must reach.
        cluster_token, authority: of the collective that it takes joiners into.
        claimed: what a joiner has said of itself.
        requests: that came, in order: of joiners, and of members that know the server.
    """

    server: Server
    pem: Path
    guests: Sequence[str]
    members: Sequence[Server]
    cluster_token: str = field(default_factory=lambda: secrets.token_hex(16))
    requests: list[Heard] = field(default_factory=list)
    authority: Forger = field(default_factory=lambda: Forger.authority("collective of evil"))
    claimed: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def standing(self) -> Iterator[FalseSponsor]:
        """Stand at the server's own door, which must be free."""
        place = (self.server.address, self.server.port)
        with Stand(place, self.pem, self._say, self.requests).standing():
            yield self

    def _say(self, path: str, raw: dict[str, Any]) -> Said:
        return Said(tuple(self.answer(path, raw)))

    def answer(self, path: str, raw: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what is said to a request, an object a line."""
        if path.endswith("/challenge"):
            return [self._challenge()]
        if path.endswith("/admit"):
            return [{"step": "dial-back", "address": "there"}, *self._admit()]
        if path.endswith("/claim"):
            self.claimed.update(raw)
        return [self._claim()]

    def _challenge(self) -> dict[str, Any]:
        return {
            "format": 1,
            "nonce": secrets.token_hex(32),
            "name": self.server.name,
            "release": "0.1.0",
            "now": time.time(),
            "seen": "127.0.0.1",
            "guests": list(self.guests),
        }

    def _claim(self) -> dict[str, Any]:
        """Say what fits any request of a joiner: its claim is recorded, and all is well."""
        members = [
            {
                "name": server.name,
                "address": server.address,
                "door_port": server.port,
                "peer_port": server.peer_port,
            }
            for server in self.members
        ]
        strength = {"voters": 2, "answering": 2}
        return {
            "format": 1,
            "findings": [],
            "members": members,
            "role": "voter",
            "forecast": {"before": strength, "after": {"voters": 3, "answering": 3}},
            "claimed": True,
            "claimed_by": self.claimed.get("certificate", ""),
            # To a member that asks what is remembered of it, and who was deleted: nothing.
            **{"member_id": "", "term": 0, "index": 0, "serials": []},
        }

    def _admit(self) -> list[dict[str, Any]]:
        name = str(self.claimed.get("name", ""))
        host, port = self.claimed.get("addresses", [""])[0], self.claimed.get("peer_port", 0)
        cluster = f"evil=https://{ELSEWHERE}:{port},{name}=https://{host}:{port}"
        leaf = self.authority.pem
        with suppress(KeyError, ValueError):
            leaf = self.authority.sign_request(self.claimed["csr"].encode(), name)
        result = {
            "format": 1,
            "leaf": leaf.decode(),
            "ca": self.authority.pem.decode(),
            "crl": self.authority.empty_list().hex(),
            "trusted": self.authority.pem.decode(),
            "cluster_token": self.cluster_token,
            "member_id": "00000000000000ff",
            "initial_cluster": cluster,
        }
        return [{"step": "add", "member_id": "00000000000000ff"}, {"result": result}]
