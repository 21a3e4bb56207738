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
  etcd_program:
    description:
      - An etcd that would run, for RV(etcd). V(search) is the first one where systemd looks for
        programs. Without it the settings of the daemon say which.
    type: str
  etcd_package:
    description:
      - The name of a package of etcd, for RV(etcd), as the host's repositories would bring it, or
        as it is installed where O(etcd_latest) does not ask for more.
    type: str
  etcd_latest:
    description: Whether one that is installed would be replaced by a newer one.
    type: bool
    default: false
  etcd_files:
    description: Files of packages of etcd on the host, for RV(etcd).
    type: list
    elements: path
    default: []
  links:
    description: Paths at which the role puts links, for RV(not_links).
    type: list
    elements: path
    default: []
  asked:
    description: The controller's clock when it asks, for RV(ahead).
    type: float
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
etcd:
  description: >-
    The version of the etcd that the daemon would run if it were started now, or, with
    O(etcd_package) or O(etcd_files), of what these would install; empty where there is none, or
    nobody knows.
  returned: always
  type: str
  sample: 3.5.16
etcd_step:
  description: >-
    Why there is no RV(etcd), or what is wrong with changing the running etcds to it; empty where
    nothing is.
  returned: always
  type: str
etcd_service:
  description: Whether the distribution's own service C(etcd) is running.
  returned: always
  type: bool
not_links:
  description: Those of O(links) that are there and are no links.
  returned: always
  type: list
  elements: str
packaged:
  description: Whether the distribution's package manager has installed the service collectived.
  returned: always
  type: bool
firewalls:
  description: Those of C(firewalld) and C(ufw) that are on.
  returned: always
  type: list
  elements: str
epoch:
  description: The host's clock, in seconds since 1970.
  returned: always
  type: float
ahead:
  description: Seconds that the host's clock is ahead of O(asked), at most.
  returned: always
  type: float
"""

import os  # noqa: E402
import time  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.confluent.collective.plugins.module_utils import (  # noqa: E402
    fitness,
    host,
)
from ansible_collections.confluent.collective.plugins.module_utils.command import (  # noqa: E402
    PLACES,
    Command,
)

_UNIT = "collectived.service"
# Where packages put it; what the role and deploy/install.sh write is in /etc.
_PACKAGED_UNIT = "/usr/lib/systemd/system/collectived.service"
# Where systemd looks for programs, see systemd.exec(5).
_UNIT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RPM_VERSION = ("--queryformat", "%{VERSION}\\n")
_DNF_VERSION = ("--queryformat", "%{version}\\n")
_VERSION = "import platform; print(platform.python_version())"


def _told(module, words):
    """Return what a command printed; nothing where it failed, or is not there."""
    path = module.get_bin_path(words[0])
    if path is None:
        return ""
    code, out, _said = module.run_command([path, *words[1:]], environ_update={"LC_ALL": "C"})
    return out if code == 0 else ""


def _property(module, unit, name):
    """Return what systemd says of a unit; nothing where there is no systemd."""
    return _told(module, ["systemctl", "show", unit, f"--property={name}", "--value"]).strip()


def _began(module):
    """Return when the daemon was started, in seconds since the epoch, or None."""
    began = _property(module, _UNIT, "ExecMainStartTimestampMonotonic")
    return host.began_at(int(began)) if began.isdigit() else None


def _etcd(module):
    """Return the version of the etcd that would run, and why none would; one of them is empty."""
    path = {"PATH": _UNIT_PATH}
    program = module.params["etcd_program"]
    if program:
        code, out, said = module.run_command(
            ["etcd" if program == "search" else program, "--version"],
            environ_update=path,
            handle_exceptions=False,
        )
        found = host.etcd_version(out)
        return found, "" if found else f"{program} is no etcd: it ended with {code}: {said}"
    daemon = module.get_bin_path("collectived", required=False, opt_dirs=PLACES)
    if daemon is None:
        return "", ""
    code, out, said = module.run_command([daemon, "--check"], environ_update=path)
    return host.etcd_version(out), "" if code == 0 else " ".join(said.split())


def _offered(module):
    """Return the version of etcd that a package would bring, as far as the host knows."""
    for path in module.params["etcd_files"]:
        if path.endswith(".deb"):
            said = _told(module, ["dpkg-deb", "--field", path, "Version"])
        else:
            said = _told(module, ["rpm", "--query", "--package", *_RPM_VERSION, path])
        if host.package_version(said):
            return host.package_version(said)
    name, latest = module.params["etcd_package"], module.params["etcd_latest"]
    if not name:
        return ""
    said = _told(module, ["apt-cache", "policy", name])
    if not said and not latest:
        said = _told(module, ["rpm", "--query", *_RPM_VERSION, name])
    if not said:
        said = _told(
            module, ["dnf", "--quiet", "repoquery", "--latest-limit=1", *_DNF_VERSION, name]
        )
    if not said:
        said = _told(module, ["zypper", "--non-interactive", "info", name])
    return host.package_version(said, present=not latest)


def _is_active(module, unit):
    """Whether a service runs, or is about to: etcd's waits so for its quorum."""
    return _property(module, unit, "ActiveState") not in ("", "inactive", "failed")


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
            "etcd_program": {"type": "str"},
            "etcd_package": {"type": "str"},
            "etcd_latest": {"type": "bool", "default": False},
            "etcd_files": {"type": "list", "elements": "path", "default": []},
            "links": {"type": "list", "elements": "path", "default": []},
            "asked": {"type": "float"},
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
    try:
        if module.params["etcd_package"] or module.params["etcd_files"]:
            etcd, unfit = _offered(module), ""
        else:
            etcd, unfit = _etcd(module)
    except OSError as error:
        etcd, unfit = "", f"etcd does not run: {error.strerror}"
    now = time.time()
    module.exit_json(
        changed=False,
        etcd=etcd,
        etcd_step=unfit or fitness.etcd_step(etcd, document or {}),
        etcd_service=_is_active(module, "etcd.service"),
        not_links=host.not_links(module.params["links"]),
        packaged=os.path.exists(_PACKAGED_UNIT),
        firewalls=["firewalld"] * _is_active(module, "firewalld.service") + host.take_ufw(),
        installed=command.path is not None,
        running=document is not None,
        collective=document or {},
        stale=host.changed_since(_began(module) if document else None, times, now),
        listening=host.take_listening(),
        python=python,
        epoch=now,
        ahead=now - (module.params["asked"] or now),
    )


if __name__ == "__main__":
    main()
