#!/usr/bin/python
# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Give a server of a collective a new key and certificate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: collective_certificate
short_description: Give a server of a collective a new key and certificate
version_added: 0.1.0
description:
  - Runs C(collective gencert) on the host. Every voter takes the new certificate up in its turn,
    then the server shows it, and then the old one is revoked. No server is left out meanwhile.
  - It is an action. It makes a new one each time that it is run, and reports a change each time.
  - No certificate has to be renewed by time. This is for a key that somebody else may have.
attributes:
  check_mode:
    support: partial
    description: It says that there would be a change, and makes none.
    details: Whether the collective would allow it is not asked, as the command has no way to.
  diff_mode:
    support: full
    description: The fingerprints before and after. In check mode nobody knows the one after.
author:
  - The Confluent collective developers (@xcat2)
"""

EXAMPLES = r"""
- name: A new key and certificate for this server
  confluent.collective.collective_certificate:
"""

RETURN = r"""
fingerprint:
  description: The SHA-256 of the new certificate, in hex.
  returned: when one was made
  type: str
serial:
  description: The serial number of the new certificate, in hex.
  returned: when one was made
  type: str
replaced:
  description: The certificate that was in use before, in hex; none where there was none.
  returned: when one was made
  type: str
said:
  description: What the command told people.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.confluent.collective.plugins.module_utils import (  # noqa: E402
    members,
)
from ansible_collections.confluent.collective.plugins.module_utils.command import (  # noqa: E402
    Command,
)

_TOLD = ("fingerprint", "serial", "replaced")


def main():
    """Look whether there is a certificate to replace, and replace it."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    command = Command(module)
    document = command.show() or {}
    # A server that rests would begin a collective of its own with the new certificate.
    if document.get("mode") not in ("member", "nonvoting"):
        module.fail_json(msg="this host is in no collective, or its collectived does not run")
    before = members.fingerprint_of(document, document["name"])
    if module.check_mode:
        module.exit_json(changed=True, said=[], diff=_diff(before, "not made yet"))
    outcome = command.run(["gencert"])
    if outcome.code != 0:
        module.fail_json(msg=outcome.error, said=outcome.told, exit_status=outcome.code)
    made = {key: outcome.document.get(key) for key in _TOLD}
    diff = _diff(before, made["fingerprint"])
    module.exit_json(changed=True, said=outcome.told, diff=diff, **made)


def _diff(before, after):
    return {"before": f"{before or 'none'}\n", "after": f"{after}\n"}


if __name__ == "__main__":
    main()
