"""``make demo``: a collective of three servers at work, on this machine, step by step.

Prints every command as one would type it on the server that is named in front, and what it
printed. It judges each step: one that does not do what it should ends the demo.

Invariants:
  * Everything runs under one temporary folder, without root rights, and is gone at the end,
    also after Ctrl-C.
  * The exit status is 0 only if every step did what it should; else the logs are printed.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sandbox.choice import DEFAULT_PORTS, NoEtcdError, about_etcd, about_ports, choose_etcd
from sandbox.interrupts import INTERRUPTED, interruptible
from sandbox.knock import knock
from tests.harness import Cluster, HarnessError, Result, Server, temporary_folder, wait_until

_REFUSED, _REMOVED, _BAD_INVITATION = 4, 6, 8
_REMOVED_SECONDS = 5.0


class Demo:
    """The steps of the demo, on the servers of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._servers = [cluster.add() for _ in range(3)]
        self._token = ""

    def run(self) -> None:
        """Take all steps.

        Raises:
            HarnessError: one of them did not do what it should.
        """
        self._three_alone()
        self._two()
        self._three()
        leader = self._lose_the_leader()
        self._bring_back(leader)
        self._delete_mgt3()
        self._locked_out()
        self._two_remain()

    def _three_alone(self) -> None:
        title("Three servers, each a collective of one")
        for server in self._servers:
            say_typed(server, "collectived &")
        self._cluster.start_all(self._servers)
        for server in self._servers:
            server.wait_for_quorum()
        self._show(self._servers[0], leader="mgt1", active=[])

    def _two(self) -> None:
        title("mgt1 invites mgt2")
        mgt1, mgt2, _ = self._servers
        self._join(mgt2, via=mgt1)
        leader = self._cluster.wait_for_leader(of=[mgt1, mgt2])
        self._show(mgt1, leader=leader.name, active=["mgt1", "mgt2"])

    def _three(self) -> None:
        title("mgt2 invites mgt3: any member will do")
        _, mgt2, mgt3 = self._servers
        self._token = self._join(mgt3, via=mgt2)
        # For each join a leader hands over before its etcd is restarted.
        leader = self._cluster.wait_for_leader().name
        others = [server.name for server in self._servers if server.name != leader]
        self._show(mgt3, leader=leader, active=others)

    def _join(self, server: Server, via: Server) -> str:
        """Have a server join, and return the token that it used."""
        invited = self._run(via, "invite", server.name)
        token = invited.out.strip()
        joined = self._run(server, "join", via.door_name, "-i", "-", token=token)
        expect(joined.out == "Success\n", f"{server.name} joined")
        return token

    def _lose_the_leader(self) -> Server:
        title("The leader is killed")
        leader = self._cluster.wait_for_leader()
        survivors = [server for server in self._servers if server is not leader]
        say_typed(leader, f"kill -9 {leader.pid}")
        begun = time.monotonic()
        leader.kill()
        new = self._cluster.wait_for_leader(of=survivors, other_than=leader)
        say(f"{new.name} leads {time.monotonic() - begun:.2f} s later")
        other = next(server for server in survivors if server is not new)
        self._show(other, leader=new.name, active=[other.name], offline=[leader.name])
        return leader

    def _bring_back(self, lost: Server) -> None:
        title(f"{lost.name} comes back")
        say_typed(lost, "collectived &")
        lost.start()
        self._cluster.wait_until_all_active(lost, self._servers)
        leader = self._cluster.wait_for_leader()
        others = [server.name for server in self._servers if server is not leader]
        self._show(lost, leader=leader.name, active=others)

    def _delete_mgt3(self) -> None:
        title("mgt3 is deleted; it is running, so that takes --force")
        mgt1 = self._servers[0]
        self._run(mgt1, "delete", "mgt3", code=_REFUSED)
        deleted = self._run(mgt1, "delete", "mgt3", "--force")
        expect(deleted.out == "mgt3 is deleted\n", "mgt3 was deleted")
        remain = [line.split()[1] for line in deleted.err.splitlines() if " (voter) " in line]
        expect(remain == ["mgt1", "mgt2"], "who remains is listed")

    def _locked_out(self) -> None:
        title("mgt3 is locked out: it knows, its certificate opens no door, its token is spent")
        mgt1, mgt2, mgt3 = self._servers
        wait_until(lambda: mgt3.is_removed, _REMOVED_SECONDS, "mgt3 knows that it was deleted")
        self._run(mgt3, "show", code=_REMOVED)
        now, before = Path(mgt2.layout.pki), former_pki(mgt3)
        for folder, opens in ((now, True), (before, False)):
            by = mgt2 if opens else mgt3
            self._knock(by, f"{mgt1.address}:{mgt1.port}", "/v1/status", folder, opens)
            self._knock(by, f"{mgt1.address}:{mgt1.peer_port}", "/version", folder, opens)
        self._run(mgt3, "join", mgt1.door_name, "-i", "-", token=self._token, code=_BAD_INVITATION)

    def _two_remain(self) -> None:
        title("What remains")
        leader = self._cluster.wait_for_leader(of=self._servers[:2])
        others = [server.name for server in self._servers[:2] if server is not leader]
        self._show(self._servers[1], leader=leader.name, active=others)

    def _run(self, server: Server, *arguments: str, token: str = "", code: int = 0) -> Result:
        """Run a command, print it and what it printed, and check its exit status."""
        typed = shlex.join(["collective", *arguments])
        say_typed(server, f"echo {token} | {typed}" if token else typed)
        result = server.run(*arguments, input=f"{token}\n" if token else None)
        # Steps come before the result, remarks after it.
        for text in (result.err, result.out) if token else (result.out, result.err):
            print(text, end="", flush=True)
        if result.code != 0:
            say(f"exit status {result.code}")
        expect(result.code == code, f"'{typed}' ends with {code}, and not with {result.code}")
        return result

    def _show(
        self, server: Server, leader: str, active: Sequence[str], offline: Sequence[str] = ()
    ) -> None:
        """Run show, and check every line but the last, which is for people."""
        wanted = ["Quorum: True", f"Leader: {leader}", "Active collective members:"]
        wanted += [f"  {name}" for name in active if name != leader]
        if offline:
            wanted += ["Offline collective members:", *(f"  {name}" for name in offline)]
        shown = self._run(server, "show")
        expect(shown.lines[:-1] == wanted, f"show prints {wanted}")

    def _knock(self, by: Server, door: str, path: str, folder: Path, opens: bool) -> None:
        where = shlex.quote(str(folder))
        say_typed(by, f"python -m sandbox.knock {door} {path} {where}")
        opened, text = knock(door, path, folder)
        print(f"{'the door opened' if opened else 'refused'}: {text}", flush=True)
        expect(opened is opens, f"{door} {'lets' if opens else 'does not let'} {by.name} in")


def former_pki(server: Server) -> Path:
    """Return the folder of the certificates that a deleted server had as a member."""
    document = server.show_json()
    places = [Path(place) for place in document["set_aside"]]
    return next(place for place in reversed(places) if place.name == "pki")


def expect(holds: bool, what: str) -> None:
    """Raise HarnessError unless something holds."""
    if not holds:
        raise HarnessError(f"expected: {what}")


def title(text: str) -> None:
    """Print the beginning of a part."""
    print(f"\n== {text}", flush=True)


def say(text: str) -> None:
    """Print a remark of the demo itself."""
    print(f"-- {text}", flush=True)


def say_typed(server: Server, command: str) -> None:
    """Print a command as one would type it on a server."""
    print(f"[{server.name}]# {command}", flush=True)


def main() -> int:
    """Run the demo; return the exit status."""
    begun = time.monotonic()
    try:
        with interruptible():
            etcd = choose_etcd()
            with (
                temporary_folder() as folder,
                Cluster(folder, etcd.etcd, preferred_ports=DEFAULT_PORTS) as cluster,
            ):
                say(f"{about_etcd(etcd)}")
                say(f"{about_ports(cluster)}; all files are in {folder}, until the end")
                run_and_explain(cluster)
    except (HarnessError, NoEtcdError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything is stopped and removed.", file=sys.stderr)
        return INTERRUPTED
    say(f"everything is stopped and removed, after {time.monotonic() - begun:.1f} s")
    print("The demo ran through.")
    return 0


def run_and_explain(cluster: Cluster) -> None:
    """Run the demo; if a step fails, print the log of every server before it is gone."""
    try:
        Demo(cluster).run()
    except HarnessError:
        for name, log in cluster.logs().items():
            print(f"\n-- log of {name}\n{log}", file=sys.stderr)
        raise


if __name__ == "__main__":
    sys.exit(main())
