"""Who may come in at a door, how many at once and how often: the limits, and the books for them.

It does not touch a socket and does not read a clock: callers say what time it is, and a guest
is anything with an address, a time since which it waits, and an ``abort``.

Invariants:
  * A guest that is being served is never put out to make room for another.
  * Handshakes, strangers, members and unix sockets have separate places, so a full house of one
    kind never keeps out another kind.
  * No member has more than its part of what members share: places, threads, streams and bytes.
  * Every table has a fixed greatest size, whatever the network sends.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from collective.protocol.shares import Shares
from collective.protocol.web import Handler

_MOST_BUCKETS = 4096


@dataclass(frozen=True)
class Limits:
    """What a door lets one peer, and all of them, take. Times are in seconds.

    Attributes:
        header_bytes: the request line and headers of one request.
        body_bytes: the body of one request.
        member_body_bytes: that of a member: what etcd takes (1.5 MiB), in base64.
        member_bytes: the bodies of all members' requests that are received or answered at a time.
        bytes_per_member: those of one member. JSON takes a multiple of it while it is looked at.
        request_seconds: from the first byte of a request until it is whole, without the time that
            it waits for room.
        handshake_seconds: from the accept until TLS is up.
        idle_seconds: between requests, for strangers.
        member_idle_seconds: between requests, for members and on a unix socket.
        write_seconds: how long a peer may leave unread what was written to it.
        anonymous_connections: open connections of strangers; as many again may be in a handshake.
        anonymous_per_address: open connections of strangers from one address.
        member_connections: open connections of members, and as many of unix sockets.
        connections_per_member: those of one member: its calls (64, see ``listeners.calls``), its
            streams, and what it asks meanwhile.
        member_calls: requests of members that are handled at a time, each by a thread.
        calls_per_member: those of one member, until the answer is written.
        waiting_per_member: requests of one member that wait until others of it are answered, and
            as many that wait for room for their body.
        waiting_seconds: how long one waits.
        streams: open streams of members, or of one door's unix socket.
        streams_per_member: those of one member, or of one user.
        anonymous_requests_per_second: requests of strangers from one address, in the long run.
        anonymous_burst: how many of these may come at once.
    """

    header_bytes: int = 16384
    body_bytes: int = 65536
    member_body_bytes: int = 3 << 20
    member_bytes: int = 24 << 20
    bytes_per_member: int = 6 << 20
    request_seconds: float = 10.0
    handshake_seconds: float = 5.0
    idle_seconds: float = 30.0
    member_idle_seconds: float = 120.0
    write_seconds: float = 10.0
    anonymous_connections: int = 128
    anonymous_per_address: int = 32
    member_connections: int = 512
    connections_per_member: int = 160
    member_calls: int = 16
    calls_per_member: int = 4
    waiting_per_member: int = 64
    waiting_seconds: float = 10.0
    streams: int = 512
    streams_per_member: int = 64
    anonymous_requests_per_second: float = 20.0
    anonymous_burst: int = 40


class Guest(Protocol):
    """What the books need to know of a connection."""

    origin: str
    waiting_since: float | None

    def abort(self) -> None:
        """Cut the connection at once."""


class Places:
    """A number of places for guests, the longest waiting of whom makes way when all are taken."""

    def __init__(self, total: int, per_origin: int | None = None) -> None:
        self._total = total
        self._per_origin = per_origin
        self._guests: set[Guest] = set()

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: Guest) -> bool:
        """Give the guest a place, if need be that of a guest who only waits.

        Returns:
            False if there is no place and every guest is being served.
        """
        full = self._crowd(guest.origin)
        if full is not None:
            waiting = [other for other in full if other.waiting_since is not None]
            if not waiting:
                return False
            oldest = min(waiting, key=lambda other: other.waiting_since or 0.0)
            self._guests.discard(oldest)
            oldest.abort()
        self._guests.add(guest)
        return True

    def leave(self, guest: Guest) -> None:
        """Free the guest's place, if it still has one."""
        self._guests.discard(guest)

    def make_room(self) -> None:
        """Put out the guest that has waited longest, if any waits."""
        waiting = [guest for guest in self._guests if guest.waiting_since is not None]
        if waiting:
            oldest = min(waiting, key=lambda guest: guest.waiting_since or 0.0)
            self._guests.discard(oldest)
            oldest.abort()

    def _crowd(self, origin: str) -> list[Guest] | None:
        """Return those among whom one has to make way for a newcomer, or None if there is room.

        When all places are taken, it is one of the origin that waits in most of them: so who
        floods from one address drives out itself, not the others.
        """
        if self._per_origin is not None:
            same = [guest for guest in self._guests if guest.origin == origin]
            if len(same) >= self._per_origin:
                return same
        if len(self._guests) < self._total:
            return None
        waiting = Counter(g.origin for g in self._guests if g.waiting_since is not None)
        if not waiting:
            return []
        most = waiting.most_common(1)[0][0]
        return [guest for guest in self._guests if guest.origin == most]


class RateLimit:
    """A token bucket per origin; the least recently seen origin is forgotten first.

    It may be used from any thread.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def allow(self, origin: str, now: float) -> bool:
        """Take one token of the origin's, if it has one."""
        with self._lock:
            return self._allow(origin, now)

    def _allow(self, origin: str, now: float) -> bool:
        tokens, then = self._buckets.pop(origin, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - then) * self._per_second)
        allowed = tokens >= 1.0
        self._buckets[origin] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > _MOST_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return allowed


class Door:
    """One way in: what answers there, and the books of who is inside.

    It may listen in several places at once; the limits hold for all of them together.
    """

    def __init__(
        self,
        name: str,
        handler: Handler,
        limits: Limits | None = None,
        *,
        kind: str | None = None,
    ) -> None:
        """Make a door.

        Args:
            name: how logs call it.
            handler: called in a worker thread for each request; what it raises is answered.
            limits: None takes the defaults.
            kind: of the worker threads; None goes by who asks.
        """
        self.name = name
        self.kind = kind
        self.handler = handler
        self.limits = limits = limits or Limits()
        self.handshakes = Places(limits.anonymous_connections)
        self.strangers = Places(limits.anonymous_connections, limits.anonymous_per_address)
        self.members = Places(limits.member_connections, limits.connections_per_member)
        self.locals = Places(limits.member_connections)
        self.calls = Shares(
            limits.member_calls, limits.calls_per_member, limits.waiting_per_member
        )
        self.streams = Shares(limits.streams, limits.streams_per_member)
        self.bytes = Shares(
            limits.member_bytes, limits.bytes_per_member, limits.waiting_per_member
        )
        self.rate = RateLimit(limits.anonymous_requests_per_second, limits.anonymous_burst)


def origin_of(address: str) -> str:
    """Return what counts as one origin: an IPv4 address, or the /64 that an IPv6 one is in."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(parsed.ipv4_mapped or ipaddress.IPv6Address(int(parsed) >> 64 << 64))
