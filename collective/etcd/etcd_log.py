"""What etcd writes to its log: its warnings and errors go into ours, and the last ones are kept.

etcd 3.4 and 3.5 write an object of JSON a line (``--logger=zap``). What is not JSON is a usage
error, a panic with its stack, or a line of a library.

Invariants:
  * Whatever etcd writes, and however often, it makes at most one line a minute above debug level
    for each kind of message, and ``_MOST_KINDS`` kinds of them.
  * A line stays one line, whatever is in it.
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

log = logging.getLogger(__name__)

#: Between two lines of one kind.
QUIET_SECONDS = 60.0
_MOST_KINDS = 64
_WORDS_KEPT = 12
_MOST_LETTERS = 300
_LEVELS = {
    "warn": logging.WARNING,
    **dict.fromkeys(("error", "dpanic", "panic", "fatal"), logging.ERROR),
}
# Besides the message: what took long, how much, and what went wrong.
_FACTS = ("took", "expected-duration", "exceeded-duration", "clock-drift", "remote-addr")
_NUMBER = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")
# What etcd says at each start, and of a member that is away, which the daemon tells in a line.
_NOISE = (
    "running http and grpc server on single port",
    "simple token is not cryptographically signed",
    "prober detected unhealthy status",
    "lost tcp streaming connection with remote peer",
    "closed tcp streaming connection with remote peer",
    "peer became inactive",
    "failed to reach the peer url",
    "failed to get version",
    "failed to dial stream with remote peer",
    "failed to publish local member",
    "request sent was ignored by remote peer",
    "waiting for readindex response took too long",
    "timed out waiting for read index response",
    "stepped down to follower since quorum is not active",
    "rejected connection on peer endpoint",
    "request stats",
)


@dataclass(frozen=True)
class Entry:
    """One line of etcd's log.

    Attributes:
        level: of Python's ``logging``; DEBUG for what etcd says all the time.
        kind: the message without what differs from one time to the next.
        text: the message with the facts that matter, in one line.
        failed: whether it may say why etcd ended.
    """

    level: int
    kind: str
    text: str
    failed: bool = False


def read_entry(line: bytes, first: bool = False) -> Entry:
    """Read a line.

    Args:
        line: as etcd wrote it.
        first: whether nothing was said before that may say why etcd ended. After a panic come
            lines of its stack, which say less.
    """
    text = line.decode("utf-8", "replace").strip()
    try:
        raw = json.loads(text)
        level, said = _LEVELS.get(str(raw["level"]), logging.DEBUG), str(raw.get("msg", ""))
    except (ValueError, KeyError, TypeError, RecursionError):
        # A line of a library, with a time; only where etcd ends does it matter.
        return Entry(logging.DEBUG, "", _one_line(text), failed=first and bool(text))
    noise = said.lower().find
    if level == logging.WARNING and any(noise(each) >= 0 for each in _NOISE):
        level = logging.DEBUG
    told = _one_line(said + _facts(raw))
    return Entry(
        level, _NUMBER.sub("#", said[:_MOST_LETTERS]), told, failed=level is logging.ERROR
    )


def _facts(raw: Mapping[str, object]) -> str:
    found = [str(raw["error"])] if raw.get("error") else []
    found += [f"{key}={raw[key]}" for key in _FACTS if raw.get(key) not in (None, "")]
    return f" ({' '.join(found)})" if found else ""


def _one_line(text: str) -> str:
    whole = " ".join(text.split())[:_MOST_LETTERS]
    return "".join(letter if letter.isprintable() else "?" for letter in whole)


class EtcdLog:
    """What one run of etcd has said."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._words: deque[str] = deque(maxlen=_WORDS_KEPT)
        #: When each kind was told last, and how often it was said since.
        self._told: dict[str, tuple[float, int]] = {}

    @property
    def last_words(self) -> str:
        """The last that may say why etcd ended, or ""."""
        return self._words[-1] if self._words else ""

    def take(self, line: bytes) -> None:
        """Pass a line on, and keep it if it may be the last words."""
        entry = read_entry(line, first=not self._words)
        if entry.failed:
            self._words.append(entry.text)
        level, more = entry.level, 0
        if level > logging.DEBUG:
            level, more = self._limited(entry)
        again = f" times={more + 1}" if more else ""
        log.log(level, "etcd says: %s%s", entry.text, again)

    def _limited(self, entry: Entry) -> tuple[int, int]:
        """Return the level to tell at, and how often the same was left out before."""
        now = self._clock()
        when, left_out = self._told.get(entry.kind, (float("-inf"), 0))
        full = entry.kind not in self._told and len(self._told) >= _MOST_KINDS
        if full or now - when < QUIET_SECONDS:
            if not full:
                self._told[entry.kind] = (when, left_out + 1)
            return logging.DEBUG, 0
        self._told[entry.kind] = (now, 0)
        return entry.level, left_out
