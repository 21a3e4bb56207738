"""Real daemons for tests and the sandbox: servers, clusters, and what they need.

::

    with temporary_folder() as folder, Cluster(folder, etcd) as cluster:
        mgt1, mgt2, mgt3 = cluster.grow(3)        # three joined servers, mgt1 leads
        mgt1.kill()                               # SIGKILL; its etcd dies with it
        leader = cluster.wait_for_leader(of=[mgt2, mgt3], other_than=mgt1)
        result = mgt2.run("show")                 # .code .out .err .seconds

``cluster.py`` has Cluster, ``server.py`` Server and Result, ``processes.py`` how processes are
started and ended, ``ports.py`` free ports, ``folders.py`` short folders, ``waiting.py`` deadlines,
``failpoints.py`` FailPoints, which hold a server right after a step, ``health.py`` what a whole
collective is.
In tests, take the fixtures of ``tests/conftest.py`` instead of making these.

It judges nothing: tests do. It imports no pytest, since the sandbox uses it too.

Invariants:
  * Nothing is left behind, also when the process that uses it is killed: no process, folder or
    lock. What that cannot mean at once (a folder after SIGKILL) the next use removes.
  * Runs at the same time do not disturb each other.
"""

from tests.harness.cluster import Cluster
from tests.harness.folders import temporary_folder
from tests.harness.server import CommandError, Result, Server
from tests.harness.waiting import HarnessError, wait_until

__all__ = [
    "Cluster",
    "CommandError",
    "HarnessError",
    "Result",
    "Server",
    "temporary_folder",
    "wait_until",
]
