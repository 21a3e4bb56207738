"""Which of some servers another one talks to most, from the kernel's table of connections."""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.harness import HarnessError, Server

_ESTABLISHED = "01"


def most_used(server: Server, others: Sequence[Server]) -> Server:
    """Return the server to whose door another one's daemon has most connections.

    Every member keeps one to each other to ask how it is; who does not vote has more to the voter
    that it uses: a watch, and those of its calls.

    Raises:
        HarnessError: there is no such server, or there are two.
    """
    ends = _remote_ends(server)
    counts = {other.name: ends[_end(other)] for other in others}
    first, second, *_ = sorted(others, key=lambda other: counts[other.name], reverse=True)
    if counts[first.name] == counts[second.name]:
        raise HarnessError(f"{server.name} uses nobody more than others: {counts}")
    return first


def _remote_ends(server: Server) -> Counter[str]:
    """Count a daemon's TCP connections by where they lead, as proc(5) writes it."""
    own = set()
    for entry in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            own.add(os.readlink(entry))
    table = Path(f"/proc/{server.pid}/net/tcp").read_text().splitlines()
    ends: Counter[str] = Counter()
    for words in (line.split() for line in table[1:]):
        if words[3] == _ESTABLISHED and f"socket:[{words[9]}]" in own:
            ends[words[2]] += 1
    return ends


def _end(server: Server) -> str:
    number = int.from_bytes(socket.inet_aton(server.address), sys.byteorder)
    return f"{number:08X}:{server.port:04X}"
