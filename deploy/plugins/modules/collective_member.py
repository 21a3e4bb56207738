#!/usr/bin/python
# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Make a server a member of a collective, or put one out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: collective_member
short_description: Make a server a member of a collective, or put one out
version_added: 0.1.0
description:
  - Runs the C(collective) command on the host, which must have C(collectived) running.
  - O(state=invited) and O(state=absent), and O(state=present) without O(sponsor), are for a
    member, about the server O(name). O(state=present) with O(sponsor) is for the server that is to
    join.
options:
  name:
    description:
      - The server that this is about. May be left out where O(sponsor) is given.
    type: str
  state:
    description:
      - With V(present) the server is a member, and votes or does not, as O(voting) says.
      - With V(invited) it is a member already, or RV(token) lets it in once.
      - With V(absent) it is no member, and no door of the collective opens to it any more.
    type: str
    choices: [present, invited, absent]
    default: present
  voting:
    description:
      - Whether the server counts in the quorum. A member that does not do as this says is promoted
        or demoted. When it is left out, a new member votes, and others stay what they are.
    type: bool
  sponsor:
    description:
      - Name of the member that takes this server in.
    type: str
  address:
    description:
      - Where the sponsor is reached, with an optional port, when its name does not resolve.
    type: str
  token:
    description:
      - What O(state=invited) returned. It goes to the command over standard input.
    type: str
  replace:
    description:
      - Invite in the place of a dead member of the same name, which was installed anew.
    type: bool
    default: false
  force:
    description:
      - Also put out a member that is alive.
    type: bool
    default: false
  ttl:
    description:
      - How long the invitation is good, such as V(10m).
    type: str
attributes:
  check_mode:
    support: full
    description: The command's own C(--dry-run) refuses what the command would refuse.
  diff_mode:
    support: full
    description: The members before and after.
notes:
  - Give a task that invites, or that has a token, C(no_log=true).
author:
  - The Confluent collective developers (@xcat2)
"""

EXAMPLES = r"""
- name: Invite mgt2
  confluent.collective.collective_member:
    name: mgt2
    state: invited
  delegate_to: mgt1
  register: invited
  no_log: true

- name: Join
  confluent.collective.collective_member:
    sponsor: mgt1
    token: "{{ invited.token }}"
  no_log: true

- name: Put mgt3 out
  confluent.collective.collective_member:
    name: mgt3
    state: absent
    force: true
"""

RETURN = r"""
token:
  description: The invitation's token; a secret.
  returned: with O(state=invited), when one was made
  type: str
done:
  description: What was needed.
  returned: always
  type: str
  sample: join
remaining:
  description: >-
    Who is still a member, as C(collective delete --json) told it, each with the fingerprints that
    the others trust. Compare it with whom you know.
  returned: with O(state=absent), when somebody was put out
  type: list
  elements: dict
  sample: [{name: mgt1, role: voter, fingerprints: [3b1f]}]
unconfirmed:
  description: Members that have not told yet that their doors are closed to who was put out.
  returned: with O(state=absent), when somebody was put out
  type: list
  elements: str
said:
  description: What the command told people, such as the forecast of the quorum.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.confluent.collective.plugins.module_utils import (  # noqa: E402
    members as wishes,
)
from ansible_collections.confluent.collective.plugins.module_utils.command import (  # noqa: E402
    Command,
)

_SPEC = {
    "name": {"type": "str"},
    "state": {
        "type": "str",
        "choices": ["present", "invited", "absent"],
        "default": "present",
    },
    "voting": {"type": "bool"},
    "sponsor": {"type": "str"},
    "address": {"type": "str"},
    "token": {"type": "str", "no_log": True},
    "replace": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "ttl": {"type": "str"},
}


def _arguments(need, params, name):
    """Return the words of the command that does what is needed."""
    if need == wishes.INVITE:
        words = ["invite", name]
        words += ["-n"] if params["voting"] is False else []
        words += ["--replace"] if params["replace"] else []
        return words + (["--ttl", params["ttl"]] if params["ttl"] else [])
    if need in (wishes.JOIN, wishes.FINISH):
        return ["join", params["address"] or params["sponsor"], "-i", "-"]
    if need == wishes.DELETE:
        return ["delete", name] + (["--force"] if params["force"] else [])
    return [need, name]


def _role_after(need, params):
    if need == wishes.DELETE:
        return None
    if need in (wishes.PROMOTE, wishes.DEMOTE):
        return wishes.role_of(need == wishes.PROMOTE)
    return wishes.role_of(params["voting"] is not False)


def _need(module, document):
    """Return the server that this is about, and what is needed."""
    params = module.params
    if params["sponsor"]:
        own = document["name"]
        if params["name"] not in (None, own):
            module.fail_json(msg="this host is {}, not {}".format(own, params["name"]))
        return own, wishes.needs_here(document, params["sponsor"], params["voting"])
    name, state = params["name"], params["state"]
    if state == "invited" and params["replace"]:
        return name, wishes.INVITE
    return name, wishes.needs_there(document, name, state, params["voting"])


def main():
    """Look, decide, act."""
    module = AnsibleModule(
        argument_spec=_SPEC,
        required_one_of=[("name", "sponsor")],
        required_if=[("state", "invited", ["name"]), ("state", "absent", ["name"])],
        supports_check_mode=True,
    )
    command = Command(module)
    document = command.show()
    if document is None:
        module.fail_json(msg="collectived does not run here; see journalctl -u collectived")
    try:
        name, need = _need(module, document)
    except wishes.WishError as error:
        module.fail_json(msg=str(error))
    result = {"changed": need != wishes.NOTHING, "done": need, "said": []}
    if need in (wishes.JOIN, wishes.FINISH) and not module.params["token"]:
        if not module.check_mode:
            module.fail_json(
                msg=f"{name} is no member, and no token was given. Where the others list a member "
                "of its name, this host was installed anew: run the playbook replace"
            )
    elif result["changed"]:
        _act(module, command, _arguments(need, module.params, name), result)
    if result["changed"] and need != wishes.INVITE:
        after = wishes.listing(
            wishes.with_member(document, name, _role_after(need, module.params))
        )
        if need in (wishes.JOIN, wishes.FINISH):
            # Who else is there only the sponsor knows.
            after += "with {} and its collective\n".format(module.params["sponsor"])
        result["diff"] = {"before": wishes.listing(document), "after": after}
    module.exit_json(**result)


def _act(module, command, words, result):
    """Run the command, with --dry-run in check mode; end the module where it fails."""
    dry = ["--dry-run"] if module.check_mode else []
    outcome = command.run(words + dry, module.params["token"] or "")
    result["said"] = outcome.told
    if outcome.code != 0:
        module.fail_json(msg=outcome.error, said=result["said"], exit_status=outcome.code)
    for key in ("token", "remaining", "unconfirmed"):
        if key in outcome.document:
            result[key] = outcome.document[key]


if __name__ == "__main__":
    main()
