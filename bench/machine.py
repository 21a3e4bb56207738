"""Where this ran, without the name of the host, and how busy it was.

It changes nothing.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import threading
from pathlib import Path

from tools.etcd_versions import Etcd

_QUIET = 0.10
_LOOK_SECONDS = 1.0


def describe(etcd: Etcd) -> str:
    """Return one sentence: processor, cores, kernel, Python, etcd and etcdctl."""
    cores = len(os.sched_getaffinity(0))
    return (
        f"{_processor()}, {cores} cores; Linux {platform.release()}; "
        f"Python {platform.python_version()}; etcd {etcd.version_text} ({etcd.source}), "
        f"etcdctl {_etcdctl_version(etcd)}; all servers on this one machine"
    )


def wait_until_quiet(patience: float) -> float:
    """Wait until others leave the machine alone.

    Args:
        patience: for how long to wait at most, seconds.

    Returns:
        The share of all processor time that was taken in the last second, 0 to 1.
    """
    waited = 0.0
    while (busy := _busy_share()) > _QUIET and waited < patience:
        waited += _LOOK_SECONDS
    return busy


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
