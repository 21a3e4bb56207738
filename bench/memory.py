"""Row 9: the memory of a daemon, without its etcd, after a minute of work.

Pss counts what processes share in parts, Rss in full in each; the bar is held against Rss, the
larger one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from bench.place import Place, rest, say
from bench.report import Row
from bench.sample import MEBIBYTES, Sample
from bench.timing import checked
from tests.harness import Cluster, Server

_SECONDS = 60.0
_SHOW_EVERY_SECONDS = 2.0
_BAR_BYTES = 60 * 1024**2


def measure(place: Place) -> Iterator[Row]:
    """Measure the row."""
    with place.collective() as cluster:
        servers = list(cluster.servers.values())
        _work(cluster, servers)
        rss = Sample.of((_bytes(server, "status", "VmRSS") for server in servers), MEBIBYTES)
        pss = Sample.of((_bytes(server, "smaps_rollup", "Pss") for server in servers), MEBIBYTES)
    say(f"memory: Rss {rss}, Pss {pss}")
    yield Row(
        "9",
        f"memory of a daemon without etcd, VmRSS, {_SECONDS:.0f} s after the joins",
        rss,
        "60 MiB",
        max(rss.values) <= _BAR_BYTES,
        notes=(f"Pss {pss}",),
    )


def _work(cluster: Cluster, servers: list[Server]) -> None:
    """Join a fourth server and have it leave, and run ``show`` and ``invite`` for a minute."""
    end = time.monotonic() + _SECONDS
    (guest,) = cluster.add_running(1)
    cluster.join(guest, servers[0])
    checked(guest, "delete")
    guest.stop()
    number = 0
    while time.monotonic() < end:
        checked(servers[number % len(servers)], "show")
        checked(servers[number % len(servers)], "invite", "mgt9")
        number += 1
        rest(_SHOW_EVERY_SECONDS)


def _bytes(server: Server, file: str, key: str) -> float:
    """Return a line of proc(5) that is in kB."""
    text = Path(f"/proc/{server.pid}/{file}").read_text()
    match = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024.0
