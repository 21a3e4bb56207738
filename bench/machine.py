"""Where this ran, without the name of the host, and how busy it was.

It changes nothing.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import threading
from pathlib import Path

from tools.etcd_versions import Etcd

# The idle servers of a measurement take some of it themselves.
_QUIET = 0.15
_LOOK_SECONDS = 0.2


def describe(etcd: Etcd) -> str:
    """Return one sentence: processor, cores, kernel, Python, etcd and etcdctl."""
    cores = len(os.sched_getaffinity(0))
    return (
        f"{_processor()}, {cores} cores; Linux {platform.release()}; "
        f"Python {platform.python_version()}; etcd {etcd.version_text} ({etcd.source}), "
        f"etcdctl {_etcdctl_version(etcd)}; all servers on this one machine"
    )


class Quiet:
    """Waits, before each round of a measurement, until others leave the machine alone.

    Invariants:
      * It waits no longer, over all rounds, than its patience lasts.
    """

    def __init__(self, patience: float) -> None:
        """Prepare.

        Args:
            patience: for how long to wait at most, seconds; a first short look is free.
        """
        self._patience = patience
        self._shares: list[float] = []

    def wait(self) -> None:
        """Return when the machine is quiet, or the patience is gone."""
        while (share := _busy_share()) > _QUIET and self._patience > 0:
            self._patience -= _LOOK_SECONDS
        self._shares.append(share)

    @property
    def typical(self) -> float | None:
        """The share of processor time that was in use before a round, 0 to 1: the median."""
        return statistics.median(self._shares) if self._shares else None


def _busy_share() -> float:
    before = _ticks()
    threading.Event().wait(_LOOK_SECONDS)
    busy, total = (now - then for now, then in zip(_ticks(), before, strict=True))
    return busy / total if total else 0.0


def _ticks() -> tuple[int, int]:
    """Return ticks in use and all ticks since the start of the machine (proc(5))."""
    line = Path("/proc/stat").read_text().split("\n", 1)[0]
    ticks = [int(word) for word in line.split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _etcdctl_version(etcd: Etcd) -> str:
    if etcd.etcdctl is None:
        return "missing"
    done = subprocess.run(
        [str(etcd.etcdctl), "version"],
        env={"ETCDCTL_API": "3"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=10.0,
        check=False,
    )
    match = re.search(r"etcdctl version: (\S+)", done.stdout)
    return match[1] if match else "unknown"
