"""Runs a program and says how long the whole process took.

It uses the installed ``collective`` script, which is what an administrator types; the harness
runs the module instead.

Invariants:
  * Our command and etcdctl are started in the same way, with the same few variables.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collective.model.layout import ROOT_VARIABLE
from tests.harness import HarnessError, Server
from tests.harness.server import CHECKOUT
from tools.etcd_versions import Etcd

_SCRIPT = Path(sys.executable).with_name("collective")
_SECONDS = 120.0


@dataclass(frozen=True)
class Timed:
    """How a process ended.

    Attributes:
        seconds: from before its start until it had ended.
        code: exit status.
        out, err: what it printed.
    """

    seconds: float
    code: int
    out: str
    err: str

    def value_of(self, label: str) -> str | None:
        """Return what follows ``label: `` on a line of its own, as ``show`` prints it."""
        for line in self.out.splitlines():
            if line.startswith(f"{label}: "):
                return line.removeprefix(f"{label}: ")
        return None


def collective(server: Server, *arguments: str, input: str = "") -> Timed:
    """Run ``collective`` on a server."""
    command = [str(_SCRIPT)]
    if not _SCRIPT.exists():  # not installed, which is a little slower to start
        command = [sys.executable, "-m", "collective.cli.main"]
    # The code of this checkout, wherever what is installed lies.
    variables = {ROOT_VARIABLE: str(server.root), "PYTHONPATH": str(CHECKOUT)}
    return _run([*command, *arguments], variables, None, input)


def checked(server: Server, *arguments: str, input: str = "") -> Timed:
    """Run ``collective`` on a server.

    Raises:
        HarnessError: it failed.
    """
    timed = collective(server, *arguments, input=input)
    if timed.code != 0:
        raise HarnessError(
            f"collective {arguments[0]} on {server.name} ended with {timed.code}: {timed.err}"
        )
    return timed


def endpoint_status(etcd: Etcd, servers: Sequence[Server]) -> Timed:
    """Run ``etcdctl endpoint status`` for the etcds of some servers, over their sockets.

    Raises:
        HarnessError: it failed, so that its time says nothing.
    """
    folder = servers[0].root.parent
    sockets = [os.path.relpath(server.layout.etcd_socket, folder) for server in servers]
    endpoints = ",".join(f"unix://{socket}" for socket in sockets)
    command = [str(etcd.etcdctl), f"--endpoints={endpoints}", "endpoint", "status"]
    timed = _run(command, {"ETCDCTL_API": "3"}, folder, "")
    if timed.code != 0:
        raise HarnessError(f"etcdctl ended with {timed.code}: {timed.err}")
    return timed


def _run(
    command: Sequence[str], more: Mapping[str, str], folder: Path | None, input: str
) -> Timed:
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**kept, **more},
            input=input,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        typed = " ".join([Path(command[0]).name, *command[1:]])
        raise HarnessError(f"{typed} did not end in {_SECONDS:.0f} s") from None
    return Timed(time.monotonic() - begun, done.returncode, done.stdout, done.stderr)
