"""A false sponsor: it shows a genuine certificate of the collective, and takes joiners elsewhere.

It answers whatever a joiner asks as if all were well. What it hands out leads into a collective of
its own, which does not exist: who goes there has lost what it had.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks.hostile import MEMBERS, fingerprint
from tests.attacks.stand import Heard, Said, Stand
from tests.harness import Server

#: Where its collective is said to be: on an address that nobody has.
ELSEWHERE = "127.0.0.14"
_ID = "00000000000000ff"


def challenge(name: str, guests: Collection[str]) -> dict[str, Any]:
    """Return what a stranger is told first.

    Args:
        name: of the server that says it.
        guests: fingerprints of the guest list that it claims.
    """
    return {
        "format": 1,
        "nonce": secrets.token_hex(32),
        "name": name,
        "release": "0.1.0",
        "now": time.time(),
        "seen": "127.0.0.1",
        "guests": [dict.fromkeys(guests, name)],
    }


def prospect(members: Sequence[Server]) -> dict[str, Any]:
    """Return what a joiner is told of a claim, rehearsed or made: all is well."""
    told = [
        {
            "name": server.name,
            "address": server.address,
            "door_port": server.port,
            "peer_port": server.peer_port,
            "fingerprint": fingerprint(server),
        }
        for server in members
    ]
    before, after = ({"voters": n, "answering": n} for n in (2, 3))
    return {
        "format": 1,
        "members": told,
        "role": "voter",
        "pauses": 0,
        "certify": None,
        "findings": [
            {"check": check, "ok": True, "message": "all is well"}
            for check in ("invitation", "loopback", "dial-back")
        ],
        "forecast": {"before": before, "after": after},
    }


def admission(
    asked: Mapping[str, Any],
    collective: str,
    records: Mapping[str, Mapping[str, Any]],
    in_etcd: Collection[str],
) -> dict[str, Any]:
    """Return what a joiner is given in the end.

    Args:
        asked: its claim.
        collective: the id of the one that it is led into.
        records: of the members there, by name.
        in_etcd: those that etcd knows, besides the joiner.
    """
    name = str(asked["name"])
    taken_in = {
        "format": 1,
        "name": name,
        "member_id": _ID,
        "role": "learner",
        "address": asked["addresses"][0],
        "door_port": asked["door_port"],
        "peer_port": asked["peer_port"],
        "certificates": [asked["certificate"]],
        "joined": time.time(),
        "target": "voter",
        "fallback": None,
    }
    members: dict[str, Mapping[str, Any]] = {**records, name: taken_in}
    items = {MEMBERS + who: [json.dumps(each), 5] for who, each in members.items()}
    view = {"format": 1, "collective": collective, "revision": 1, "items": items}
    urls = (
        f"{who}=https://{members[who]['address']}:{members[who]['peer_port']}"
        for who in (*in_etcd, name)
    )
    return {
        "format": 1,
        "cluster_token": collective,
        "member_id": _ID,
        "initial_cluster": ",".join(urls),
        "view": json.dumps(view),
    }


@dataclass
class FalseSponsor:
    """What it says, and what it heard.

    Attributes:
        server: whose certificate it shows, where it stands, and under whose name.
        pem: that key and certificate, and whatever it shows after it.
        guests: the guest list that it claims.
        members: of the genuine collective, for who asks whom it must reach.
        collective: the one that it takes joiners into.
        claimed: what a joiner has said of itself.
        requests: that came, in order: of joiners, and of members that know the server.
    """

    server: Server
    pem: Path
    guests: Sequence[str]
    members: Sequence[Server]
    collective: str = field(default_factory=lambda: secrets.token_hex(16))
    requests: list[Heard] = field(default_factory=list)
    claimed: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def standing(self) -> Iterator[FalseSponsor]:
        """Stand at the server's own door, which must be free."""
        place = (self.server.address, self.server.port)
        with Stand(place, self.pem, self._say, self.requests).standing():
            yield self

    def _say(self, path: str, raw: dict[str, Any]) -> Said:
        if path.endswith("/challenge"):
            return Said((challenge(self.server.name, self.guests),))
        if path.endswith("/claim"):
            self.claimed.update(raw)
            return Said((prospect(self.members),))
        if path.endswith("/admit"):
            return Said.one(result=self._admission())
        # To a guest or a member that asks: whatever it wants to hear, and nobody was deleted.
        agreed: dict[str, Any] = {"claimed": True, "collective": self.collective, "voters": []}
        return Said.one(deleted=False, steps=[], wants="", member_id="", term=0, index=0, **agreed)

    def _admission(self) -> dict[str, Any]:
        evil = {
            "format": 1,
            "name": "evil",
            "member_id": "00000000000000fe",
            "role": "voter",
            "address": ELSEWHERE,
            "door_port": self.server.port,
            "peer_port": self.claimed["peer_port"],
            "certificates": [_certificate(self.pem)],
            "joined": time.time(),
            "target": "voter",
            "fallback": None,
        }
        return admission(self.claimed, self.collective, {"evil": evil}, ["evil"])


def _certificate(pem: Path) -> str:
    text = pem.read_text()
    return text[text.index("-----BEGIN CERTIFICATE-----") :]
