#!/usr/bin/python
# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Tell what a server knows of its collective, and what of the host matters to it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: collective_info
short_description: Tell what a server knows of its collective
version_added: 0.1.0
description:
  - Runs C(collective show --json) on the host and returns what it told.
  - It changes nothing, and does not fail where the package or the daemon is not there yet.
options:
  read:
    description:
      - Files that the daemon reads, or runs, when it starts. RV(stale) names those that were
        changed since it was started.
    type: list
    elements: path
    default: []
  python:
    description: A Python, whose version is returned.
    type: path
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: There is no change to show.
author:
  - The Confluent collective developers (@xcat2)
"""

EXAMPLES = r"""
- name: Ask the server
  confluent.collective.collective_info:
  register: asked

- name: Stop where a voter is missing
  ansible.builtin.assert:
    that: asked.collective.answering == asked.collective.voters
"""

RETURN = r"""
installed:
  description: Whether the command is there.
  returned: always
  type: bool
running:
  description: Whether the daemon answers.
  returned: always
  type: bool
collective:
  description: >-
    What C(collective show --json) told, as collective(1) has it; empty where nobody answers.
  returned: always
  type: dict
  sample:
    name: mgt1
    quorum: true
    leader: mgt1
    members: [{name: mgt1, role: voter, state: active}]
stale:
  description: Those of O(read) that were changed since the daemon was started.
  returned: always
  type: list
  elements: str
listening:
  description: TCP ports that are in use on the host, each with the name of the program.
  returned: always
  type: dict
python:
  description: The version of O(python), empty where it is not there.
  returned: always
  type: str
epoch:
  description: The host's clock, in seconds since 1970.
  returned: always
  type: float
"""

import time  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.confluent.collective.plugins.module_utils import (  # noqa: E402
    host,
)
from ansible_collections.confluent.collective.plugins.module_utils.command import (  # noqa: E402
    Command,
)

_UNIT = "collectived.service"
_VERSION = "import platform; print(platform.python_version())"


def _began(module):
    """Return when the daemon was started, in seconds since the epoch, or None."""
    systemctl = module.get_bin_path("systemctl")
    if systemctl is None:
        return None
    words = [systemctl, "show", _UNIT, "--property=ExecMainStartTimestampMonotonic", "--value"]
    code, out, _said = module.run_command(words)
    return host.began_at(int(out)) if code == 0 and out.strip().isdigit() else None


def _python(module, path):
    """Return the version of a Python, or nothing."""
    if not path:
        return ""
    code, out, _said = module.run_command([path, "-c", _VERSION], handle_exceptions=False)
    return out.strip() if code == 0 else ""


def main():
    """Ask, and tell."""
    module = AnsibleModule(
        argument_spec={
            "read": {"type": "list", "elements": "path", "default": []},
            "python": {"type": "path"},
        },
        supports_check_mode=True,
    )
    command = Command(module)
    document = command.show() if command.path else None
    times = [(path, host.changed_at(path)) for path in module.params["read"]]
    try:
        python = _python(module, module.params["python"])
    except OSError:
        python = ""
    module.exit_json(
        changed=False,
        installed=command.path is not None,
        running=document is not None,
        collective=document or {},
        stale=host.changed_since(_began(module) if document else None, times),
        listening=host.take_listening(),
        python=python,
        epoch=time.time(),
    )


if __name__ == "__main__":
    main()
