"""``make sandbox``: a collective of three that goes on running, to play with.

``python -m sandbox.sandbox`` starts it, and ``python -m sandbox.sandbox stop`` ends it. Its files
are in a temporary folder with a short path (sockets cannot have long ones); ``.sandbox/`` in the
checkout has small programs to talk to the servers with, and a link to that folder.

Invariants:
  * There is one sandbox for each checkout: starting and stopping hold a lock.
  * A start that fails or is interrupted leaves nothing behind.
  * Stopping ends what runs in the sandbox's folder and nothing else.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox.choice import (
    DEFAULT_PORTS,
    SERVERS,
    NoEtcdError,
    about_etcd,
    about_ports,
    choose_etcd,
)
from sandbox.interrupts import INTERRUPTED, interruptible
from tests.harness import Cluster, HarnessError, wait_until
from tests.harness.folders import lasting_folder, remove_folder
from tests.harness.processes import processes_in, send
from tests.harness.server import CHECKOUT, Server
from tools.etcd_versions import Etcd

PLACE = CHECKOUT / ".sandbox"
_LINK = PLACE / "files"
_LOCK = CHECKOUT / ".cache" / "sandbox.lock"
_STOP_SECONDS = 20.0


def main(arguments: list[str] | None = None) -> int:
    """Start or stop the sandbox; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.sandbox")
    parser.add_argument("action", nargs="?", choices=("start", "stop"), default="start")
    action = parser.parse_args(arguments).action
    try:
        with interruptible(), _locked():
            return stop() if action == "stop" else start()
    except (HarnessError, NoEtcdError) as error:
        print(f"error: the sandbox did not {action}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def start() -> int:
    """Start a sandbox, unless one runs, and say how to talk to it."""
    folder = _folder()
    if folder is not None and processes_in(folder):
        print("The sandbox is already running.\n")
        explain(folder)
        return 0
    _remove()
    folder = lasting_folder("cls-")
    try:
        PLACE.mkdir()
        _LINK.symlink_to(folder)
        _fill(folder, choose_etcd())
    except BaseException:
        _remove()
        remove_folder(folder)
        raise
    explain(folder)
    return 0


def stop() -> int:
    """End the sandbox's servers, as systemd would, and remove all its files."""
    folder = _folder()
    if folder is None:
        print("No sandbox is running.")
        return 0
    for name in SERVERS:
        daemons = processes_in(folder / name, below=False)
        send(daemons, signal.SIGTERM)
        send(daemons, signal.SIGCONT)  # one that somebody stopped to see what happens
    with suppress(HarnessError):  # what does not end is killed
        wait_until(lambda: not processes_in(folder), _STOP_SECONDS, "end of the servers")
    _remove()
    print("The sandbox is stopped and removed.")
    return 0


def explain(folder: Path) -> None:
    """Say how to talk to the servers of the sandbox."""
    print("Talk to a server by its name, for example:")
    print("  .sandbox/mgt1 collective show")
    print("  .sandbox/mgt2 collective show --json")
    print("  .sandbox/mgt3 etcdctl endpoint status")
    print("  .sandbox/mgt1 sh              a shell in which all commands are mgt1's")
    print("Lose one, and bring it back:")
    print(f"  kill -9 {_pid(folder, 'mgt1')}")
    print("  .sandbox/mgt1 collectived >> .sandbox/files/mgt1/log 2>&1 &")
    print("Files and logs are in .sandbox/files/mgt1 and so on. Stop it all with:")
    print("  .sandbox/stop                 or: make sandbox-stop")


def _fill(folder: Path, etcd: Etcd) -> None:
    """Start the servers and write the programs to talk to them with."""
    cluster = Cluster(folder, etcd.etcd, preferred_ports=DEFAULT_PORTS, outlive=True)
    print(f"{about_etcd(etcd)}\n{about_ports(cluster)}")
    try:
        servers = cluster.grow(len(SERVERS))
    finally:
        cluster.ports.release()
    _write_programs(etcd)
    for server in servers:
        _write_entry(server)
    print(f"Three servers run: {', '.join(SERVERS)}.\n")


def _write_programs(etcd: Etcd) -> None:
    """Write the programs that all entries share; they go by COLLECTIVE_ROOT."""
    python = f"PYTHONPATH={shlex.quote(str(CHECKOUT))} exec {shlex.quote(sys.executable)}"
    programs = {
        "bin/collective": f'{python} -m collective.cli.main "$@"',
        # In its folder, so that stop finds it.
        "bin/collectived": f'cd "$COLLECTIVE_ROOT" && {python} -m collective.daemon.main "$@"',
        "stop": f"cd {shlex.quote(str(CHECKOUT))} && {python} -m sandbox.sandbox stop",
    }
    if etcd.etcdctl is not None:
        etcdctl = shlex.quote(str(etcd.etcdctl))
        programs["bin/etcdctl"] = (
            'cd "$COLLECTIVE_ROOT/run/etcd" && '
            f'ETCDCTL_API=3 exec {etcdctl} --endpoints=unix://etcd:1 "$@"'
        )
    for name, line in programs.items():
        _write_program(PLACE / name, line)


def _write_entry(server: Server) -> None:
    root, programs = shlex.quote(str(server.root)), shlex.quote(str(PLACE / "bin"))
    line = f'COLLECTIVE_ROOT={root} PATH={programs}:"$PATH" exec "$@"'
    usage = '[ $# -gt 0 ] || { echo "usage: $0 COMMAND..., such as collective show" >&2; exit 2; }'
    _write_program(PLACE / server.name, f"{usage}\n{line}")


def _write_program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _pid(folder: Path, name: str) -> int | str:
    """Return the process id of a server's daemon, for the explanation."""
    return next(iter(processes_in(folder / name, below=False)), "PID")


def _folder() -> Path | None:
    """Return the folder of the sandbox, None if there is no sandbox."""
    try:
        return Path(os.readlink(_LINK))
    except OSError:
        return None


def _remove() -> None:
    folder = _folder()
    if folder is not None:
        remove_folder(folder)
    shutil.rmtree(PLACE, ignore_errors=True)


@contextmanager
def _locked() -> Iterator[None]:
    _LOCK.parent.mkdir(exist_ok=True)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
