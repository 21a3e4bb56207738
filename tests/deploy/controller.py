"""The controller: it plays playbooks at the hosts, and reads the recap.

Invariants:
  * Every play is added to the log whole, under a title, so that the log tells what was tried.
"""

from __future__ import annotations

import os
import re
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
    """Ansible, with an inventory of the hosts."""

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
            variables: that hold for all hosts.
            check: whether it must succeed.
        """
        folder = self._hosts.folder
        (folder / "inventory.ini").write_text(self._inventory())
        words = [
            str(self._ansible / "ansible-playbook"),
            f"--inventory={folder / 'inventory.ini'}",
            f"confluent.collective.{playbook}",
            *options,
        ]
        for key, value in (variables or {}).items():
            words += ["--extra-vars", f'{{"{key}": {_json(value)}}}']
        done = subprocess.run(
            [*self._hosts.network[CONTROLLER].prefix, *words],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=self._environment(),
            cwd=folder,
            timeout=_SECONDS,
            check=False,
        )
        out = done.stdout + done.stderr
        with self._log.open("a") as log:
            log.write(f"\n######## {title}\n{out}")
        recap = {
            host: {k: int(v) for k, v in (pair.split("=") for pair in counts.split())}
            for host, counts in _RECAP.findall(out)
        }
        for host, counts in recap.items():
            print(f"{title}: {host} {' '.join(f'{k}={v}' for k, v in counts.items())}")
        assert not check or done.returncode == 0, f"{title}: ended with {done.returncode}\n{out}"
        return Played(done.returncode, out, recap)

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
            "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        }


def _json(value: object) -> str:
    import json

    return json.dumps(value)
