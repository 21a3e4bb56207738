"""The API under eventlet and gevent, all patched: for embedders that run on greenlets."""

from __future__ import annotations

import os
import subprocess

import pytest

from collective.model.layout import ROOT_VARIABLE
from tests.harness import Cluster
from tests.harness.server import CHECKOUT

pytestmark = pytest.mark.integration

#: A Python that has both; none of our own environment's, since etcd3gw's helpers take them up.
PYTHON = os.environ.get("COLLECTIVE_GREEN", "")
PATCHED = {
    "eventlet": "import eventlet; eventlet.monkey_patch()",
    "gevent": "from gevent import monkey; monkey.patch_all()",
}
CODE = """
import threading, time
import collective

ticks, told = [], []

def tick():
    while not done.is_set():
        ticks.append(time.monotonic())
        time.sleep(0.01)

done = threading.Event()
handle = collective.connect()
threading.Thread(target=tick, daemon=True).start()
watch = handle.store.watch("n/", told.append)
for number in range(100):
    handle.store.put(f"n/{number}", b"x")
assert handle.store.get("n/99") == b"x"
handle.check_quorum()
with handle.lock("x") as hold:
    handle.store.put("b", b"", when=[hold.fence])
service = handle.serve("echo", lambda call: call.receive().upper())
assert handle.ask(handle.name, "echo", b"pong") == b"PONG"
deadline = time.monotonic() + 20
while len(told) < 100 and time.monotonic() < deadline:
    time.sleep(0.01)
assert len(told) == 100
done.set()
begun = time.monotonic()
handle.close()
assert time.monotonic() - begun < 5
print("longest pause", max(b - a for a, b in zip(ticks, ticks[1:])))
"""


@pytest.mark.parametrize("kind", PATCHED)
def test_all_of_the_api_works_where_everything_is_patched(cluster: Cluster, kind: str) -> None:
    """Writes, watches, locks and calls; other greenlets go on, and ``close`` returns."""
    if not PYTHON:
        pytest.skip("no Python with eventlet and gevent is named by COLLECTIVE_GREEN")
    (mgt1,) = cluster.add_running(1)
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", f"{PATCHED[kind]}\n{CODE}"],
        env={ROOT_VARIABLE: str(mgt1.root), "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pause = float(done.stdout.rpartition(" ")[2])
    assert pause < 2.0, "a greenlet waited for what another one did"
