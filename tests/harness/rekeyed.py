"""Wait for the end of a re-keying, as the store tells it."""

from __future__ import annotations

import json

from tests.harness.server import Server
from tests.harness.waiting import wait_until

ENOUGH = 60.0


def is_rekeyed(server: Server, number: int = 1) -> bool:
    """Tell whether a server knows that a re-keying, and all that were to follow, are done."""
    found = server.etcdctl("get", "collective/v1/rekey", "--print-value-only", check=False)
    if found.code or not found.out.strip():
        return False
    record = json.loads(found.out)
    done: bool = record["phase"] == "done" and record["number"] >= number and not record["again"]
    return done


def wait_until_rekeyed(server: Server, number: int = 1) -> None:
    """Wait for the end of a re-keying."""
    wait_until(lambda: is_rekeyed(server, number), ENOUGH, f"{server.name} is re-keyed")
