"""``make sandbox``: a collective of three that goes on running, to play with.

``python -m sandbox.sandbox`` starts it, and ``python -m sandbox.sandbox stop`` ends it. Its files
are in a temporary folder with a short path (sockets cannot have long ones); ``.sandbox/`` in the
checkout has small programs to talk to the servers with, and a link to that folder.

Invariants:
  * There is one sandbox in each place: starting and stopping hold the folder above it
    locked.
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
_STOP_SECONDS = 20.0


def main(arguments: list[str] | None = None) -> int:
    """Start or stop the sandbox; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.sandbox")
    parser.add_argument("action", nargs="?", choices=("start", "stop"), default="start")
    parser.add_argument("--place", type=Path, default=PLACE, help="the folder to make")
    options = parser.parse_args(arguments)
    sandbox = Sandbox(options.place.absolute())
    try:
        with interruptible(), sandbox.locked():
            print(sandbox.stop() if options.action == "stop" else sandbox.start())
    except (HarnessError, NoEtcdError) as error:
        print(f"error: the sandbox did not {options.action}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


class Sandbox:
    """The sandbox in one place."""

    def __init__(self, place: Path) -> None:
        """Look at nothing yet.

        Args:
            place: the folder for programs and link; it is made and removed.
        """
        self._place = place
        self._link = place / "files"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from starting or stopping the same sandbox meanwhile."""
        lock = os.open(self._place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def start(self) -> str:
        """Start the servers, unless they run, and return how to talk to them."""
        folder = self._folder()
        if folder is not None and processes_in(folder):
            return f"The sandbox is already running.\n\n{self._explanation(folder)}"
        self._remove()
        folder = lasting_folder("cls-")
        try:
            self._place.mkdir()
            self._link.symlink_to(folder)
            self._fill(folder, choose_etcd())
        except BaseException:
            self._remove()
            remove_folder(folder)
            raise
        return f"Three servers run: {', '.join(SERVERS)}.\n\n{self._explanation(folder)}"

    def stop(self) -> str:
        """End the servers, as systemd would, remove all files, and return what happened."""
        folder = self._folder()
        if folder is None:
            return "No sandbox is running."
        for name in SERVERS:
            send(processes_in(folder / name), signal.SIGCONT)  # where somebody stopped one
            send(processes_in(folder / name, below=False), signal.SIGTERM)
        with suppress(HarnessError):  # what does not end is killed
            wait_until(lambda: not processes_in(folder), _STOP_SECONDS, "end of the servers")
        self._remove()
        return "The sandbox is stopped and removed."

    def _fill(self, folder: Path, etcd: Etcd) -> None:
        """Start the servers and write the programs to talk to them with."""
        cluster = Cluster(folder, etcd.etcd, preferred_ports=DEFAULT_PORTS, outlive=True)
        print(f"{about_etcd(etcd)}\n{about_ports(cluster)}", flush=True)
        try:
            servers = cluster.grow(len(SERVERS))
        finally:
            cluster.ports.release()
        for name, text in shared_programs(etcd, self._place).items():
            write_program(self._place / name, text)
        for server in servers:
            write_program(self._place / server.name, entry(server, self._place))

    def _explanation(self, folder: Path) -> str:
        here = os.path.relpath(self._place)
        daemons = processes_in(folder / SERVERS[0], below=False)
        return f"""Talk to a server by its name, for example:
  {here}/mgt1 collective show
  {here}/mgt2 collective show --json
  {here}/mgt3 etcdctl endpoint status     where etcdctl came with etcd
  {here}/mgt1 sh                          a shell, where all commands are mgt1's
Lose one, and bring it back:
  kill -9 {daemons[0] if daemons else "PID"}
  {here}/mgt1 collectived >> {here}/files/mgt1/log 2>&1 &
Files and logs are in {here}/files/mgt1 and so on. Stop and remove it all with:
  {here}/stop"""

    def _folder(self) -> Path | None:
        """Return the folder of the servers, None if there is no sandbox."""
        try:
            return Path(os.readlink(self._link))
        except OSError:
            return None

    def _remove(self) -> None:
        folder = self._folder()
        if folder is not None:
            remove_folder(folder)
        shutil.rmtree(self._place, ignore_errors=True)


def shared_programs(etcd: Etcd, place: Path) -> dict[str, str]:
    """Return the shell programs of a sandbox by name; those in bin go by COLLECTIVE_ROOT."""
    python = f"PYTHONPATH={shlex.quote(str(CHECKOUT))} exec {shlex.quote(sys.executable)}"
    stop = f"-m sandbox.sandbox stop --place {shlex.quote(str(place))}"
    programs = {
        "bin/collective": f'{python} -m collective.cli.main "$@"',
        # In its folder, so that stop finds it.
        "bin/collectived": f'cd "$COLLECTIVE_ROOT" && {python} -m collective.daemon.main "$@"',
        "stop": f"{python} {stop}",
    }
    if etcd.etcdctl is not None:
        etcdctl = f"{shlex.quote(str(etcd.etcdctl))} --endpoints=unix://etcd:1"
        folder = '"$COLLECTIVE_ROOT/run/etcd"'
        programs["bin/etcdctl"] = f'cd {folder} && ETCDCTL_API=3 exec {etcdctl} "$@"'
    return programs


def entry(server: Server, place: Path) -> str:
    """Return the shell program that runs a command as on one server."""
    usage = '[ $# -gt 0 ] || { echo "usage: $0 COMMAND..., such as collective show" >&2; exit 2; }'
    root, programs = shlex.quote(str(server.root)), shlex.quote(str(place / "bin"))
    return f'{usage}\nCOLLECTIVE_ROOT={root} PATH={programs}:"$PATH" exec "$@"'


def write_program(path: Path, text: str) -> None:
    """Write a shell program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
