"""Raft messages as a member's etcd sends them, built by hand: protobuf over HTTP over TLS.

etcd takes them at its peer port, ``POST /raft``, from whoever passes TLS there. The numbers of the
fields are those of raft/raftpb/raft.proto and api/etcdserverpb (etcd 3.4 and 3.5). It knows only
what the attacks need, and sends nothing; ``hostile`` does.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass

from tests.harness import Server

#: Types of messages that are used here.
_PROPOSAL, _APPEND = 2, 3
#: Neither a request of etcd's store, nor one of its older store: nobody can apply it.
GARBAGE = b"\xff" * 16
PATH = "/raft"


@dataclass(frozen=True)
class Cluster:
    """What a member of an etcd cluster knows, and whoever was one.

    Attributes:
        cluster_id: every message names it.
        ids: etcd ids, by name of the server.
        term, index: of the newest entry in the log of the one that was asked.
    """

    cluster_id: int
    ids: Mapping[str, int]
    term: int
    index: int

    @classmethod
    def seen_by(cls, server: Server) -> Cluster:
        """Ask a server's etcd."""
        (shown,) = json.loads(server.etcdctl("endpoint", "status", "-w", "json").out)
        status = shown["Status"]
        listed = json.loads(server.etcdctl("member", "list", "-w", "json").out)
        return cls(
            status["header"]["cluster_id"],
            {member["name"]: member["ID"] for member in listed["members"]},
            status["raftTerm"],
            status["raftIndex"],
        )

    def headers(self, sender: str, to: str) -> dict[str, str]:
        """Return the headers of a message.

        Args:
            sender: the voter that it is to come from; etcd believes it.
            to: the voter that it goes to.
        """
        return {
            "Content-Type": "application/protobuf",
            "X-Etcd-Cluster-ID": f"{self.cluster_id:x}",
            "X-Server-From": f"{self.ids[sender]:x}",
            "X-Raft-To": f"{self.ids[to]:x}",
            "X-Server-Version": "3.4.0",
            "X-Min-Cluster-Version": "3.0.0",
        }

    def proposal(self, sender: str, to: str, data: bytes) -> bytes:
        """Return a MsgProp: who leads writes it into the log, who follows passes it on."""
        return _message(_PROPOSAL, self.ids[to], self.ids[sender], _field(7, _entry(data)))

    def append(self, sender: str, to: str, after: int, data: bytes) -> bytes:
        """Return a MsgApp, as if its sender led in the next term: one entry, committed at once.

        Args:
            sender, to: voters.
            after: index of the entry before.
            data: of the entry.
        """
        term = self.term + 1
        entry = _entry(data) + _field(2, term) + _field(3, after + 1)
        before = _field(5, self.term) + _field(
            6, after
        )  # term and index, called logTerm and index
        rest = _field(4, term) + before + _field(7, entry) + _field(8, after + 1)
        return _message(_APPEND, self.ids[to], self.ids[sender], rest)


def put(key: str, value: str) -> bytes:
    """Return an InternalRaftRequest that puts a key: what an entry of etcd's log holds."""
    request = _field(1, key.encode()) + _field(2, value.encode())
    header = _field(1, random.getrandbits(63))
    return _field(4, request) + _field(100, header)


def _message(kind: int, to: int, sender: int, rest: bytes) -> bytes:
    return _field(1, kind) + _field(2, to) + _field(3, sender) + rest


def _entry(data: bytes) -> bytes:
    return _field(1, 0) + _field(4, data)


def _field(number: int, value: int | bytes) -> bytes:
    """Return one field: a varint, or octets with their length (protobuf, "Encoding")."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
