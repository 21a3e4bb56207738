# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What is wrong with the hosts that are to be a collective, looked at all together.

It runs nothing, and imports nothing of Ansible: the project's unit tests try it as it is.
"""

from __future__ import annotations

from typing import Any

OLDEST_PYTHON = (3, 10)


def problems(hosts: list[dict[str, Any]], clock_seconds: int) -> list[str]:
    """Return a sentence for each thing that is wrong; nothing is to be changed then.

    Args:
        hosts: one dictionary a host: host (its name in the inventory), name, address, port,
            peer_port, clock (seconds that it is ahead of the controller), python (such as
            "3.11.2", or ""), listening (port: program) and collective (what 'show' told, or {}).
        clock_seconds: how far two clocks may be apart.
    """
    return (
        _twice(hosts)
        + _pythons(hosts)
        + _clocks(hosts, clock_seconds)
        + _ports(hosts)
        + _mixed(hosts)
    )


def warnings(hosts: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for what is not wise, and no reason to stop.

    Args:
        hosts: as for problems, each with voting.
    """
    voters = sum(1 for host in hosts if host["voting"])
    if not voters or voters % 2:
        return []
    fewer = "one alone does" if voters == 2 else f"{voters - 1} do"
    return [
        f"{voters} voters survive the loss of {(voters - 1) // 2}, as {fewer} too: add one, or "
        "let one not vote (collective_voting: false)"
    ]


def _twice(hosts: list[dict[str, Any]]) -> list[str]:
    names: dict[str, list[str]] = {}
    ports: dict[tuple[str, int], list[str]] = {}
    for host in hosts:
        names.setdefault(host["name"], []).append(host["host"])
        for port in sorted({host["port"], host["peer_port"]}):
            ports.setdefault((host["address"], port), []).append(host["host"])
    found = [
        "{} have the name {} in common; give each its own collective_name".format(
            " and ".join(users), name
        )
        for name, users in names.items()
        if len(users) > 1
    ]
    shared: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (address, port), users in ports.items():
        if len(users) > 1:
            shared.setdefault((address, tuple(users)), []).append(str(port))
    found += [
        f"{' and '.join(users)} have the address {address} in common, with port "
        f"{' and '.join(numbers)}; give each its own collective_address"
        for (address, users), numbers in shared.items()
    ]
    return found + [
        "{}: collective_port and collective_peer_port are both {}".format(h["host"], h["port"])
        for h in hosts
        if h["port"] == h["peer_port"]
    ]


def _pythons(hosts: list[dict[str, Any]]) -> list[str]:
    found = []
    for host in hosts:
        version = tuple(int(part) for part in host["python"].split(".")[:2] if part.isdigit())
        if version < OLDEST_PYTHON:
            found.append(
                "{}: collective_python is {}, and 3.10 or newer is needed".format(
                    host["host"], host["python"] or "not there"
                )
            )
    return found


def _clocks(hosts: list[dict[str, Any]], most: int) -> list[str]:
    slow = min(hosts, key=lambda h: h["clock"])
    fast = max(hosts, key=lambda h: h["clock"])
    apart = fast["clock"] - slow["clock"]
    if apart <= most:
        return []
    return [
        f"the clocks of {slow['host']} and {fast['host']} are {apart:.0f} s apart, at most {most} "
        "s are good: certificates would not be valid yet, or any more; set them by NTP"
    ]


def _ports(hosts: list[dict[str, Any]]) -> list[str]:
    found = []
    for host in hosts:
        if host["collective"]:
            continue
        for port in (host["port"], host["peer_port"]):
            program = host["listening"].get(str(port))
            if program is not None:
                found.append(
                    "{}: port {} is in use by {}; stop that, or choose another port".format(
                        host["host"], port, program or "another program"
                    )
                )
    return found


def _mixed(hosts: list[dict[str, Any]]) -> list[str]:
    # Two servers are in one collective when they know one etcd member in common: names may be
    # the same in two, the ids of members are not.
    groups: list[dict[str, Any]] = []
    for host in hosts:
        members = host["collective"].get("members") or []
        ids = {member["id"] for member in members if member.get("id")}
        if len(members) < 2 or not ids:
            continue
        same = [group for group in groups if group["ids"] & ids]
        groups = [group for group in groups if group not in same]
        groups.append(
            {
                "ids": ids.union(*(group["ids"] for group in same)),
                "hosts": [h for group in same for h in group["hosts"]] + [host["host"]],
                "names": sorted({m["name"] for m in members}),
            }
        )
    if len(groups) < 2:
        return []
    said = ["{} (of {})".format(", ".join(g["hosts"]), ", ".join(g["names"])) for g in groups]
    return [
        "these hosts are in different collectives: {}; take those of all but one out first, with "
        "'collective delete' on each".format("; and ".join(said))
    ]
