"""A process that connects, reads all that there is, and says how long that took and what it holds.

``python -m bench.fresh ROOT``; a child of the bench, so that its memory is nobody else's.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

import collective
import collective.handle  # what it imports is not to be counted


def resident() -> int:
    """Return the bytes of memory that this process holds (proc(5), VmRSS)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no VmRSS")


def main(root: str) -> None:
    """Measure, and print JSON."""
    before = resident()
    begun = time.perf_counter()
    with collective.connect(root, seconds=60.0) as handle:
        for entry in handle.store.range().entries:
            assert handle.store.get(entry.key) == entry.value
        seconds = time.perf_counter() - begun
        gc.collect()
        print(json.dumps({"seconds": seconds, "bytes": resident() - before}))


if __name__ == "__main__":
    main(sys.argv[1])
