#!/usr/bin/python
# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Tell what is wrong with the hosts of a collective, looked at all together."""

from __future__ import annotations

DOCUMENTATION = r"""
module: collective_check
short_description: Tell what is wrong with the hosts of a collective, looked at all together
version_added: 0.1.0
description:
  - Fails with one sentence for each thing that is wrong, and warns of what is not wise, such as an
    even number of voters, or clocks that are apart. It looks at what it is given alone, so it can
    run on the controller.
  - The role's entry point C(check) gives it what M(confluent.collective.collective_info) found.
options:
  hosts:
    description: What is known of each host.
    type: list
    elements: dict
    required: true
    suboptions:
      host: {description: Its name in the inventory., type: str, required: true}
      name: {description: Its name in the collective., type: str, required: true}
      address: {description: Where others reach it., type: str, required: true}
      port: {description: TCP port of the daemon., type: int, required: true}
      peer_port: {description: TCP port of its etcd., type: int, required: true}
      voting: {description: Whether it is to vote., type: bool, required: true}
      clock_low:
        description: Seconds that its clock is ahead of the controller's, at least.
        type: float
        required: true
      clock_high: {description: The same at most., type: float, required: true}
      python: {description: Version of its Python., type: str, required: true}
      listening:
        description: Ports that are in use, each with the name of a program.
        type: dict
        required: true
      collective: {description: What C(collective show) told., type: dict, required: true}
      etcd_service: {description: Whether a service C(etcd) runs., type: bool, required: true}
      etcd_source: {description: Where etcd is to be from., type: str, required: true}
      packaged:
        description: Whether a package has installed the service collectived.
        type: bool
        required: true
      not_links:
        description: What is where links are to be.
        type: list
        elements: str
        required: true
  clock_seconds:
    description: How far two clocks may be apart before it is warned of.
    type: int
    default: 30
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
- name: Look before anything is changed
  ansible.builtin.import_role:
    name: confluent.collective.collective
    tasks_from: check
"""

RETURN = r"""
sponsor:
  description: Who takes the others in, with its name and its door.
  returned: always
  type: dict
  sample: {host: mgt1.example.org, name: mgt1, door: "10.0.0.1:13002"}
order:
  description: The hosts in the order of an upgrade.
  returned: always
  type: list
  elements: str
warnings:
  description: What is not wise.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.confluent.collective.plugins.module_utils import (  # noqa: E402
    fitness,
)
from ansible_collections.confluent.collective.plugins.module_utils import (  # noqa: E402
    host as host_module,
)

_HOST = {
    "host": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "peer_port": {"type": "int", "required": True},
    "voting": {"type": "bool", "required": True},
    "clock_low": {"type": "float", "required": True},
    "clock_high": {"type": "float", "required": True},
    "python": {"type": "str", "required": True},
    "listening": {"type": "dict", "required": True},
    "collective": {"type": "dict", "required": True},
    "etcd_service": {"type": "bool", "required": True},
    "etcd_source": {"type": "str", "required": True},
    "packaged": {"type": "bool", "required": True},
    "not_links": {"type": "list", "elements": "str", "required": True},
}


def main():
    """Look, and tell."""
    module = AnsibleModule(
        argument_spec={
            "hosts": {"type": "list", "elements": "dict", "required": True, "options": _HOST},
            "clock_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    hosts = module.params["hosts"]
    for sentence in fitness.warnings(hosts, module.params["clock_seconds"]):
        module.warn(sentence)
    found = fitness.problems(hosts)
    if found:
        module.fail_json(msg="; ".join(found), problems=found)
    by_name = {host["host"]: host for host in hosts}
    chosen = by_name[fitness.sponsor(hosts)]
    module.exit_json(
        changed=False,
        sponsor={
            "host": chosen["host"],
            "name": chosen["name"].lower(),
            "door": host_module.door(chosen["address"], chosen["port"]),
        },
        order=fitness.order(hosts),
    )


if __name__ == "__main__":
    main()
