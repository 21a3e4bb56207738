"""What a short run leaves out: of the slow tests, each is done with one version of etcd.

The contract tests, which hold etcd to what we rely on, and all others that are quick are done with
every version. ``COLLECTIVE_FULL=1`` has everything done.
"""

from __future__ import annotations

import os
import re
import zlib

_SLOW = re.compile(r"tests/(?:attacks/|integration/|faults/|confluent/test_whole)")
_VERSION = re.compile(r"\betcd-([\d.]+)-?")


def is_full() -> bool:
    """Tell whether everything is to be done."""
    return bool(os.environ.get("COLLECTIVE_FULL"))


def is_left_out(nodeid: str, versions: list[str]) -> bool:
    """Tell whether a short run does a test with another version of etcd.

    Args:
        nodeid: of the test.
        versions: of etcd, all that are here.
    """
    found = _VERSION.search(nodeid)
    if found is None or not _SLOW.match(nodeid):
        return False
    same = _VERSION.sub("", nodeid)
    return found.group(1) != versions[zlib.crc32(same.encode()) % len(versions)]
