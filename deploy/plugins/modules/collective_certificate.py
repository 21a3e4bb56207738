#!/usr/bin/python
# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Make a new certificate of a server, or a new certificate authority of the collective."""

from __future__ import annotations

DOCUMENTATION = r"""
module: collective_certificate
short_description: Make a new certificate of a server, or a new authority of the collective
version_added: 0.1.0
description:
  - Runs C(collective gencert), or C(collective rotate-ca), on the host. Servers that run take it
    up without an outage.
  - It makes a new one each time that it is run.
options:
  renew:
    description:
      - With V(server) the certificate of this server, with V(authority) the one certificate
        authority of the collective, and with it every certificate.
      - V(authority) waits until every server has changed to it.
    type: str
    choices: [server, authority]
    default: server
attributes:
  check_mode:
    support: full
    description: It says that there would be a change, and makes none.
  diff_mode:
    support: none
    description: Keys and certificates are not shown.
author:
  - The Confluent collective developers (@xcat2)
"""

EXAMPLES = r"""
- name: A new certificate for this server
  confluent.collective.collective_certificate:

- name: A new authority for all servers
  confluent.collective.collective_certificate:
    renew: authority
  run_once: true
"""

RETURN = r"""
said:
  description: What the command told people.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.confluent.collective.plugins.module_utils.command import (  # noqa: E402
    Command,
)

_COMMANDS = {"server": "gencert", "authority": "rotate-ca"}


def main():
    """Run the command."""
    module = AnsibleModule(
        argument_spec={
            "renew": {"type": "str", "choices": list(_COMMANDS), "default": "server"},
        },
        supports_check_mode=True,
    )
    command = Command(module)
    document = command.show() or {}
    # A server that rests would begin a collective of its own with the new certificate.
    if document.get("mode") not in ("member", "nonvoting"):
        module.fail_json(msg="this host is in no collective, or its collectived does not run")
    if module.check_mode:
        module.exit_json(changed=True, said=[])
    outcome = command.run([_COMMANDS[module.params["renew"]]], told=False)
    said = outcome.told
    if outcome.code != 0:
        module.fail_json(msg=outcome.error, said=said, exit_status=outcome.code)
    module.exit_json(changed=True, said=said)


if __name__ == "__main__":
    main()
