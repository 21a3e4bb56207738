"""The controller: it plays playbooks at the hosts, and reads the recap.

Invariants:
  * Every play is added to the log whole, under a title, so that the log tells what was tried.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.hosts import CONTROLLER, Hosts

_RECAP = re.compile(r"^(\S+)\s+: (ok=\d+.*)$", re.MULTILINE)
_SECONDS = 480.0


@dataclass(frozen=True)
class Played:
    """How a play ended.

    Attributes:
        code: exit status of ansible-playbook.
        out: all that it printed.
        recap: for each host, what the recap counts, such as changed.
    """

    code: int
    out: str
    recap: Mapping[str, Mapping[str, int]]

    @property
    def changed(self) -> int:
        """How many tasks have changed something, on all hosts."""
        return sum(counts["changed"] for counts in self.recap.values())

    @property
    def failures(self) -> str:
        """What was printed of tasks that failed, in one line."""
        lines = [line for line in self.out.splitlines() if line.startswith(("fatal:", "failed:"))]
        return " ".join(lines)


class Controller:
    """Ansible, with an inventory of the hosts.

    Attributes:
        inventory: for each host in it, its own variables.
        variables: that hold for all hosts.
    """

    def __init__(self, hosts: Hosts, collections: Path, ansible: Path, log: Path) -> None:
        """Prepare.

        Args:
            hosts: that are played at.
            collections: folder of Ansible's collections.
            ansible: folder of Ansible's programs.
            log: where every play is added.
        """
        self._hosts = hosts
        self._collections = collections
        self._ansible = ansible
        self._log = log
        self.inventory: dict[str, dict[str, str]] = {}
        self.variables: dict[str, object] = {}

    def play(
        self,
        title: str,
        playbook: str,
        *options: str,
        variables: Mapping[str, object] | None = None,
        check: bool = True,
    ) -> Played:
        """Play a playbook of the collection.

        Args:
            title: for the log.
            playbook: its name, without that of the collection.
            options: of ansible-playbook.
            variables: more of them, for all hosts.
            check: whether it must succeed.
        """
        with self.begin(playbook, *options, variables=variables) as child:
            try:
                out, _ = child.communicate(timeout=_SECONDS)
            except BaseException:
                stop(child)
                raise
        self.note(title, out)
        recap = {
            host: {k: int(v) for k, v in (pair.split("=") for pair in counts.split())}
            for host, counts in _RECAP.findall(out)
        }
        for host, counts in recap.items():
            print(f"{title}: {host} {' '.join(f'{k}={v}' for k, v in counts.items())}")
        assert not check or child.returncode == 0, f"{title}: ended with {child.returncode}\n{out}"
        return Played(child.returncode, out, recap)

    def refused(
        self,
        title: str,
        playbook: str,
        said: str,
        *options: str,
        variables: Mapping[str, object] | None = None,
    ) -> None:
        """Play one that must stop before it changes anything, with a sentence that has this."""
        played = self.play(title, playbook, *options, variables=variables, check=False)
        assert played.code != 0
        assert played.changed == 0
        assert said in played.failures

    def begin(
        self, playbook: str, *options: str, variables: Mapping[str, object] | None = None
    ) -> subprocess.Popen[str]:
        """Begin to play; all that it prints can be read from its standard output."""
        folder = self._hosts.folder
        (folder / "inventory.ini").write_text(self._inventory())
        return subprocess.Popen(
            [
                *self._hosts.network[CONTROLLER].prefix,
                str(self._ansible / "ansible-playbook"),
                f"--inventory={folder / 'inventory.ini'}",
                f"confluent.collective.{playbook}",
                f"--extra-vars={json.dumps({**self.variables, **(variables or {})})}",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
            cwd=folder,
            start_new_session=True,
        )

    def note(self, title: str, text: str = "done\n") -> None:
        """Add something that was tried to the log."""
        with self._log.open("a") as log:
            log.write(f"\n######## {title}\n{text}")

    def _inventory(self) -> str:
        lines = ["[collective]"]
        for name, variables in self.inventory.items():
            given = {"ansible_host": self._hosts.address(name), **variables}
            lines.append(" ".join([name, *(f"{k}={v}" for k, v in given.items())]))
        return "\n".join([*lines, ""])

    def _environment(self) -> dict[str, str]:
        folder = self._hosts.folder
        return {
            "PATH": f"{self._ansible}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(self._collections),
            "ANSIBLE_REMOTE_USER": "root",
            "ANSIBLE_PRIVATE_KEY_FILE": str(self._hosts.key),
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
            "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        }


def stop(child: subprocess.Popen[str]) -> None:
    """End a play at once, with all that belongs to it."""
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
